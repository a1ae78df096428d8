"""From a text to batches of character ids."""
