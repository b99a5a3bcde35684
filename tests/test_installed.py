"""The wheel alone: every stage from an empty folder, without the checkout.

It is built from a copy of the source, without an index and from what is installed, and
so are its commands run: past `site`, whose links to a checkout would fill any gap.
"""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

ROOT = Path(__file__).parent.parent
PACKAGES = ("ctr_tf", "pipelines", "serving")
COPIED = ("setup.py", "pyproject.toml", "README.md", *PACKAGES, "benchmarks", "tests")
WORLD = "--users=60 --days=8 --requests_per_user=4 --behaviors_per_user=20"


def run(command, folder, **environment):
    result = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    text = result.stdout + result.stderr
    return result.returncode, text


def pip(folder, *words):
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *words]
    status, text = run(command, folder)
    assert status == 0, text[-3000:]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in COPIED:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, source / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, source)
    options = ("--no-deps", "--no-index", "--no-build-isolation", "--quiet")
    pip(source, "wheel", ".", *options, "--wheel-dir", folder)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def ctr_tf(wheel, tmp_path_factory):
    """Runs `python -m ctr_tf` of the installed wheel in an empty folder."""
    folder = tmp_path_factory.mktemp("installed")
    target, work = folder / "target", folder / "work"
    work.mkdir()
    options = ("--no-deps", "--no-index", "--quiet")
    pip(work, "install", *options, "--target", target, wheel)
    others = [path for path in sys.path if path.endswith("-packages")]
    path = os.pathsep.join([str(target), *others])

    def run_it(*words, program=("-m", "ctr_tf")):
        command = [sys.executable, "-S", *program, *words]
        return run(command, work, PYTHONPATH=path, PYTHONDONTWRITEBYTECODE="1")

    run_it.target = target
    run_it.work = work
    return run_it


def test_the_wheel_holds_every_file_of_the_packages_and_no_other_package(wheel):
    expected = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert "ctr_tf/recipes/sparsectr_synthetic.yaml" in expected
    names = set(zipfile.ZipFile(wheel).namelist())
    about = {name for name in names if name.split("/")[0].endswith(".dist-info")}
    assert names - about == expected


def test_the_script_and_the_module_tell_the_same(ctr_tf):
    expected = ctr_tf("--help")
    assert expected[0] == 0 and expected[1].startswith("usage: ctr-tf VERB")
    assert ctr_tf(program=(ctr_tf.target / "bin" / "ctr-tf",)) == expected


def test_recipes_are_those_of_the_installed_package(ctr_tf):
    status, text = ctr_tf("recipes")
    assert status == 0, text
    assert "\nsparsectr_synthetic " in text
    assert text.endswith(f"\nThey lie in {ctr_tf.target / 'ctr_tf' / 'recipes'}.\n")


def test_benches_ask_for_a_checkout(ctr_tf):
    status, text = ctr_tf("bench", "attention", "--help")
    assert status == 2
    assert text.startswith(
        "ctr-tf: error: Benches are run from a checkout of the source"
    )
    assert text.endswith("Received: bench 'attention'\n") and text.count("\n") == 1
    status, text = ctr_tf("bench", "atention")
    assert status == 2 and "Did you mean 'attention'?" in text


@pytest.mark.study
def test_every_stage_runs_in_an_empty_folder(ctr_tf):
    for words in (
        f"synthesize --output raw {WORLD}",
        "prepare --source synthetic --input raw --output data --num_buckets=2",
        "train --config sparsectr_synthetic run=run data.path=data "
        "training.max_steps=2",
        "evaluate --run run",
        "export --run run --history_lengths 128 --slate_sizes 10",
        "score --export run/export --request run/export/1/assets.extra/"
        "example_request.json --json",
    ):
        status, text = ctr_tf(*words.split())
        assert status == 0, f"{words}\n{text[-3000:]}"
    left = {path.name for path in ctr_tf.work.iterdir()}
    assert left == {"raw", "data", "run"}
    answer = json.loads(text[text.index("{") :])
    assert len(answer["candidates"]) == 50
