"""One run in several processes: how they start, agree and end."""
