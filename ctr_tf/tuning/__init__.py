"""Values for a recipe's keys, sought by validation."""
