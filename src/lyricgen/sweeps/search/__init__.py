"""Sweeps whose settings Optuna searches."""
