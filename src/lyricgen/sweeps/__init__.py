"""Sweeps: many runs, planned, launched and watched."""
