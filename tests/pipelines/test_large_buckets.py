"""What one worker must hold of the largest users and items fits into two gigabytes."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long


@pytest.mark.parametrize("what", ["item", "user"])
def test_memory(what):
    program = Path(__file__).with_name("large_bucket.py")
    done = subprocess.run(
        [sys.executable, str(program), what], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    gibibytes = float(done.stdout)
    print(f"{what}: {gibibytes:.2f} GiB")
    assert 0.1 < gibibytes < 2
