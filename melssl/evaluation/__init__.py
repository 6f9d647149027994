"""Protocols, predictions, metrics and their uncertainty."""
