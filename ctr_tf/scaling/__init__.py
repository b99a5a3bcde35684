"""What a model costs: the arithmetic of a forward pass."""
