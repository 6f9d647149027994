"""Keeping: a vault checked, swept, and moved between machines."""
