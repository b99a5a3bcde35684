"""Commands that measure; what they showed is in RESULTS.md."""
