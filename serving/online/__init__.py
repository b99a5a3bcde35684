"""Features online: a store that is fed by events and knows what a request needs.

The same definitions as in the jobs, by the same code where it can be: rows are typed
and refused by `pipelines.validation`, counters are those of `ctr_tf.computed`, and
`serving.online.replay` holds the answers against the records of a prepared data set.
"""
