"""Layers on `keras.ops`: one idea of a paper a file."""
