"""The report on many runs: read, grouped by what varies, compared, and shown."""
