"""Sweeps: plan, launch and watch many runs."""
