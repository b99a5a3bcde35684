"""Language models that read users' histories: backbone, sinks, pooling, head."""
