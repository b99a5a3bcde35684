"""What a process tells of its memory."""

import subprocess
import sys

import numpy as np

TELL = "from ctr_tf.process_memory import peak_bytes; print(peak_bytes())"


KEEP = """
import numpy as np
from ctr_tf.process_memory import peak_bytes

before = peak_bytes()
held = np.ones(2 * before // 8)
del held
print(peak_bytes() / before)
"""


def run(program):
    """What a process of its own prints: one that runs tests may be gigabytes large."""
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True
    )
    assert told.returncode == 0, told.stderr
    return float(told.stdout)


def test_peak_is_kept():
    assert 2 <= run(KEEP) < 4


def test_a_process_does_not_tell_its_parents_peak():
    held = np.ones(2**30 // 8)  # a gigabyte
    told = run(TELL)
    del held
    assert 2**20 < told < 2**29
