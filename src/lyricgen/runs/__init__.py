"""The directory of a run: its lock, records, checkpoints and signals."""
