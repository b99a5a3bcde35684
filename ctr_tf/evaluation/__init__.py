"""Metrics of scored slates, the report on them, and the baselines to beat."""
