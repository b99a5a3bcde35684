"""`python -m ctr_tf`, the same as `ctr-tf`."""

import sys

from ctr_tf.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
