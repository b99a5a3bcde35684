"""Exit statuses of a training, apart from what takes long to import."""

MISTAKE = 2  # of the user, see `ctr_tf.commands.main`: he would make it again
LEFT = 75  # EX_TEMPFAIL of sysexits.h: call again
