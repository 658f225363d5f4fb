"""Reports that callers ask for and workers write."""
