"""Hydra sweepers that keep a record of what they do; Hydra finds them by this place."""
