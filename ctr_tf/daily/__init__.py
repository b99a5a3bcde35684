"""Training day after day: what `ctr-tf day` does, and the record that it keeps."""
