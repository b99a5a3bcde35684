"""Where files lie: this machine's disk, or a store such as `s3://bucket/key`.

Jobs, training and serving name every place by `as_path` and read and write it through
this package:

* `paths`: names, and whether a store answers;
* `files`: files that are whole or not there;
* `folders`: folders that TensorFlow or a plotting library reads and writes, which know
  this machine's disk only;
* `tensorflow_stores`: what TensorFlow itself reads from a store, sample by sample.

A store has no rename. What is written there lies in its place at once, and one file,
written last, says what belongs together.
"""

from ctr_tf.storage.paths import as_local, as_path, check_store, is_remote

__all__ = ["as_local", "as_path", "check_store", "is_remote"]
