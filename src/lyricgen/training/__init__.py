"""A training run: its options, model, observers and results."""
