"""Sweeps that Optuna searches."""
