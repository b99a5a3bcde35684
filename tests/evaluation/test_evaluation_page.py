"""The page docs/evaluation.md: every command of it is known, with its options."""

import re
import shlex
from pathlib import Path

import pytest

from ctr_tf.commands.main import resolve
from ctr_tf.evaluation import baseline_line, bootstrap, importance
from ctr_tf.training import projector

PAGE = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text("utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
LINES = "".join(BLOCKS).splitlines()


@pytest.mark.parametrize("line", LINES)
def test_commands_exist(line):
    program, *words = shlex.split(line)
    assert program == "ctr-tf"
    module, rest = resolve(words)
    _, unknown = module.parser().parse_known_intermixed_args(rest)
    assert not unknown


def test_numbers_are_those_of_the_code():
    assert f"{importance.REQUESTS:,} requests" in PAGE
    assert f"{baseline_line.SAMPLES:,} training samples" in PAGE
    assert f"{projector.ITEMS:,} most frequent items" in PAGE
    assert f"more than {bootstrap.MAX_CANDIDATES:,} candidates" in PAGE
    assert f"fewer than {bootstrap.MIN_USERS} users has no interval" in PAGE
    for group in ("history", "user features", "context features", "counters"):
        assert f"| {group} " in PAGE
