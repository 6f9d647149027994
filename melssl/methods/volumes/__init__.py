"""Pretext tasks of volumes alone; `melssl/methods/__init__.py` lists them with the others."""
