"""Command lines, one-line errors and Hydra's composition.

All commands except train use `command_line`. The other modules serve training and sweeps.
"""
