"""`python -m serving.server`: what `ctr-tf serve` does."""

import logging
import os
import sys

from serving.server.serve import main

if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s  %(message)s", datefmt="%H:%M:%S"
    )
    sys.exit(main(sys.argv[1:]))
