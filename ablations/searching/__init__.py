"""Searching: Optuna within one outer fold, over the vault, in any number of processes."""
