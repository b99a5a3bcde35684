"""What a process tells of its memory."""

import subprocess
import sys

import numpy as np

from ctr_tf.process_memory import peak_bytes

TELL = "from ctr_tf.process_memory import peak_bytes; print(peak_bytes())"


def test_peak_is_kept():
    before = peak_bytes()
    held = np.ones(2 * before // 8)
    del held
    assert peak_bytes() >= 2 * before


def test_a_process_does_not_tell_its_parents_peak():
    held = np.ones(2**30 // 8)  # a gigabyte
    told = subprocess.run([sys.executable, "-c", TELL], capture_output=True, text=True)
    del held
    assert 2**20 < int(told.stdout) < 2**29
