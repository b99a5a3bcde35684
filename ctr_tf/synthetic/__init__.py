"""The worlds: raw logs whose click probability is known, and random samples."""
