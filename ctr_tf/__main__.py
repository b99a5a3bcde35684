"""`python -m ctr_tf`, the same as `ctr-tf`."""

from ctr_tf.commands.main import run

if __name__ == "__main__":
    run()
