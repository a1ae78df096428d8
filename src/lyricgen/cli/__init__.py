"""Typed arguments, one-line errors and Hydra's composition.

All ordinary commands share `command_line`. The other modules serve training and sweeps alone.
"""
