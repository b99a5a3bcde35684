"""Sources of raw logs: one file a data set, see `pipelines.sources.source`."""
