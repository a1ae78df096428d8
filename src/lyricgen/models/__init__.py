"""Networks, n-gram models, and their files."""
