"""Scripts that measure, run from a checkout; what they showed is in RESULTS.md."""
