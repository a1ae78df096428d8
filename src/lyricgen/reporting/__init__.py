"""Reports that compare many runs in tables and plots."""
