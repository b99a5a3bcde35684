"""Puts `tests/` on the path, so that every test can `import helpers`."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
