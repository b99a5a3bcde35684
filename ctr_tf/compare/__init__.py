"""Many models under one budget: their runs, one table, one plot."""
