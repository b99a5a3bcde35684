"""The README's commands: those of `console` blocks run, all others exist."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from ctr_tf.commands import compare as compare_command
from ctr_tf.commands import scaling as scaling_command
from ctr_tf.commands import train as train_command
from ctr_tf.commands import tune as tune_command
from ctr_tf.commands.main import resolve
from ctr_tf.compare import compare
from ctr_tf.recipes.find import find_recipe
from ctr_tf.recipes.read import load_recipe
from ctr_tf.scaling import scaling
from ctr_tf.tuning import tune

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```console\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
SHELL = "\n".join(re.findall(r"^```sh\n(.*?)^```", README, re.DOTALL | re.MULTILINE))


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(block, marks=[pytest.mark.long] if "synthesize" in block else [])
        for block in BLOCKS
    ],
    ids=lambda block: block.split("\n")[0][:40],
)
def test_console_blocks_run(block, tmp_path):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    result = subprocess.run(
        ["bash", "-e", "-c", block],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    if "score" in block:
        assert "probability" in result.stdout
    else:
        assert "hats" in result.stdout


def check_options(module, verb, words, line):
    """Raises where a verb does not know an option of a line."""
    if verb in ("prepare", "batch-score", "day"):  # those of Beam come behind
        module.parser().parse_known_args(words)
    elif hasattr(module, "parser"):
        options = module.parser().parse_known_intermixed_args(words)
        assert not options[1], line
    else:
        assert module.main, line


def test_other_verbs_recipes_and_targets_exist():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for line in filter(None, SHELL.splitlines()):
        program, verb, *rest = shlex.split(line)
        if program == "make":
            assert re.search(rf"^{verb}:", makefile, re.MULTILINE), line
        elif program == "ctr-tf":
            module, rest = resolve([verb, *rest])
            if verb == "launch":
                verb, *rest = rest[rest.index("--") + 1 :]
                assert verb == "train", line
                module = train_command
            check_options(module, verb, rest, line)
            if verb in ("train", "plan") and not rest[1].startswith("runs/"):
                keys = [word for word in rest[2:] if "=" in word]
                load_recipe(find_recipe(rest[1]), keys)
            if verb == "tune":
                options = tune_command.parser().parse_intermixed_args(rest)
                assert tune.chosen(options, schema="synthetic").space, line
            if verb == "compare":
                assert compare.chosen(
                    compare_command.parser().parse_intermixed_args(rest)
                ), line
            if verb == "scaling":
                assert scaling.chosen(
                    scaling_command.parser().parse_intermixed_args(rest), history=128
                ), line


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert (ROOT / target).exists(), target
