"""Beam jobs: raw logs in, prepared data sets out."""
