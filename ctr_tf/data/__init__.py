"""Records ⇄ tensors: writing, reading, the manifest, prepared data sets, batches."""
