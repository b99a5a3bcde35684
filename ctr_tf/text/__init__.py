"""Texts for language models: their tokens, and how those become one sequence."""
