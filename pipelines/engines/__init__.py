"""Flink and Spark clusters of this machine, to try a Beam job on; see `engine`."""
