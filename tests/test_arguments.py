"""The command line: one word for one thing, and an answer at once."""

import argparse
import subprocess
import sys

import pytest

from ctr_tf.commands.arguments import Parser, recipe_words, sizes
from ctr_tf.commands.main import VERBS, main, resolve
from ctr_tf.errors import UserError

HEAVY = ("tensorflow", "keras", "apache_beam", "sklearn", "pandas", "matplotlib")
PARSERS = [
    module.parser() for verb in VERBS if hasattr(module := resolve([verb])[0], "parser")
]


def test_help_of_every_verb_loads_nothing_heavy():
    program = (
        "import sys\n"
        "from ctr_tf.commands.main import VERBS, resolve\n"
        "for verb in VERBS:\n"
        "    try: resolve([verb])[0].main(['--help'])\n"
        "    except SystemExit as end: assert not end.code, verb\n"
        f"    assert not set({HEAVY}) & set(sys.modules), verb\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("usage: ctr-tf ") == len(VERBS)


def test_every_option_is_explained():
    assert len(PARSERS) > 15
    for parser in PARSERS:
        for action in parser._actions:
            assert action.help or action.dest == "command", (parser.prog, action.dest)


def test_defaults_are_told():
    parser = Parser("verb", None)
    parser.add_argument("--many", type=sizes, default=(1, 20), help="sizes")
    parser.add_argument("--own", default="a", help="a letter; default: that of the run")
    parser.add_argument("--switch", action="store_true", help="something")
    parser.add_argument("--rate", type=float, default=0.5, help="a second")
    lines = [" ".join(line.split()) for line in parser.format_help().splitlines()]
    assert "--many MANY sizes; default: 1,20" in lines
    assert "--own OWN a letter; default: that of the run" in lines
    assert "--switch something" in lines
    assert "--rate RATE a second; default: 0.5" in lines


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("inspect data", "That is `--data PREPARED` now. Received: data"),
        (
            "score --model m --example_request",
            "`--export EXPORT` now. Received: --model m",
        ),
        (
            "check --rest a:1 --model_dir m",
            "`--export EXPORT` now. Received: --model_dir m",
        ),
        (
            "evaluate --run run --base other",
            "`--against RUN` now. Received: --base other",
        ),
        ("day --export", "`--with_export` now. Received: --export"),
        ("export --run run --slate_sizes 10 50", "listed with commas, .*Received: 50"),
        (
            "export --run run --slate_sizes 10,x",
            "commas between. Received: '10,x'",
        ),
        (
            "train --config din --from one training.start_from=two",
            "`--from` and `training.start_from` are one. Received: --from one and",
        ),
        (
            "train --config din --data one data.path=two",
            "`--data` and `data.path` are one. Received: --data one and data.path=two",
        ),
    ],
)
def test_old_spellings_tell_the_new_ones(line, message, capsys):
    assert main(line.split()) == 2
    told = capsys.readouterr().err
    with pytest.raises(UserError, match=message):
        raise UserError(told)
    assert told.count("\n") == 1


def test_options_set_keys_of_the_recipe():
    options = argparse.Namespace(
        overrides=["training.epochs=2"], data="s3://b/d", model=None, topics=["a", "b"]
    )
    keys = {"data": "data.path", "model": "model.name", "topics": "stream.topics"}
    assert recipe_words(options, keys) == [
        "training.epochs=2",
        'data.path="s3://b/d"',
        'stream.topics=["a", "b"]',
    ]


def test_a_run_is_no_export(tmp_path, capsys):
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    for verb in ("serve", "score --example_request"):
        assert main([*verb.split(), "--export", str(run)]) == 2
        assert "is made by `ctr-tf export`. Received: " in capsys.readouterr().err
    (run / "export").mkdir()
    assert main(["serve", "--export", str(run)]) == 2
    assert f"That is a run, whose export is '{run}/export'" in capsys.readouterr().err
