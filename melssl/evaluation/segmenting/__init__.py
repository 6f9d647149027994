"""Segmenting: an encoder, a decoder above it, crops to train them on, and whole volumes after."""
