"""The report on many runs: it reads, groups, compares and shows them."""
