"""Scaling laws: a model in many sizes, what it reaches, and what more would bring."""
