"""What one worker must hold of the largest users and items, in gibibytes."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long


@pytest.mark.parametrize(("what", "most"), [("item", 0.8), ("page", 0.8), ("user", 2)])
def test_memory(what, most):
    program = Path(__file__).with_name("large_bucket.py")
    done = subprocess.run(
        [sys.executable, str(program), what], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    gibibytes = float(done.stdout)
    print(f"{what}: {gibibytes:.2f} GiB")
    assert 0.1 < gibibytes < most
