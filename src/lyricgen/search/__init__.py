"""Searching for good settings with Optuna; imported only where a search is asked for."""
