"""Records ⇄ tensors: prepared data sets, tf.data input, the synthetic log generator."""
