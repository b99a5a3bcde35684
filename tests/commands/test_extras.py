"""What each extra of the package brings, and that its part needs no more."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

from ctr_tf.commands import extras
from ctr_tf.commands.main import VERBS, main

ROOT = Path(__file__).parents[2]
MODULES = {  # where a package's is not called as the package is
    "apache-beam": "apache_beam",
    "grpcio": "grpc",
    "pyyaml": "yaml",
    "scikit-learn": "sklearn",
    "universal-pathlib": "upath",
}
PARTS = {
    "": "import ctr_tf.schema.vocabulary, ctr_tf.commands.init, ctr_tf.synthetic.auc",
    "client": "import serving.client, serving.check, serving.load, serving.online.rank",
    "beam": "import pipelines.listwise, pipelines.sources.source, pipelines.texts",
    "layers": "import ctr_tf.models\nfrom ctr_tf.layers import *",
}
ASKED_FOR = {  # by packages of the part, or by JAX
    "beam": {"grpcio", "protobuf", "requests"},
    "layers": {"ml-dtypes", "scipy"},
}


@pytest.fixture(scope="module")
def declared():
    """What setup.py says: extra → packages, those without an extra under ''."""
    with mock.patch("setuptools.setup") as setup:
        runpy.run_path(str(ROOT / "setup.py"))
    words = setup.call_args.kwargs
    return {"": words["install_requires"], **words["extras_require"]}


def test_keras_hub_is_said_to_be_installed_as_setup_pins_it(declared):
    (pin,) = (line for line in declared["train"] if line.startswith("keras-hub"))
    pin = pin.partition(";")[0]
    error = ModuleNotFoundError("No module named 'keras_hub'", name="keras_hub")
    said = extras.missing_package(error, "train")
    assert said.endswith(f"keras_hub: pip install --no-deps {pin}")
    for name in ("Makefile", "docs/install.md"):
        assert f" {pin}" in (ROOT / name).read_text("utf-8")


def names(requirements):
    return {line.partition("==")[0].lower() for line in requirements}


def test_all_is_all_and_every_version_is_one(declared):
    parts = [declared[name] for name in ("client", "beam", "layers", "train")]
    assert set(declared["all"]) == {line for part in parts for line in part}
    assert set(declared["all"]) <= set(declared["test"])
    pins = {line for packages in declared.values() for line in packages}
    assert len(names(pins)) == len(pins)
    marker = r"(; python_version (<|>=) \"3.12\")?"
    assert all(re.fullmatch(rf"[\w.\[\]-]+==[\w.]+{marker}", pin) for pin in pins)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_needs_no_package_of_another(part, declared):
    own = names(declared[""]) | names(declared[part])
    own |= ASKED_FOR.get(part, set())
    hidden = {MODULES.get(n, n.replace("-", "_")) for n in names(declared["all"]) - own}
    assert "tensorflow" in hidden
    program = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({sorted(hidden)}))\n"
        f"{PARTS[part]}\n"
    )
    backend = {"KERAS_BACKEND": "jax"} if part == "layers" else {}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **backend, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_every_verb_says_what_it_needs_and_so_does_the_page():
    assert set(extras.NEEDS) == set(VERBS)
    page = (ROOT / "docs" / "install.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| (?:`(\w+)`|none) \| .* \| (.*) \|$", page, re.M))
    for extra in ("", "client", "beam", "train"):
        needed = {
            v for v, e in extras.NEEDS.items() if (extra in e if extra else not e)
        }
        assert set(re.findall(r"`([\w-]+)`", rows[extra])) == needed, extra


@pytest.mark.parametrize(
    ("verb", "shut_out", "expected"),
    [
        ("train", "tensorflow", "the extra `train`: pip install 'ctr-tf[train]'"),
        ("prepare", "apache_beam", "the extra `beam`: pip install 'ctr-tf[beam]'"),
        ("check", "msgpack", "the extra `client`: pip install 'ctr-tf[client]'"),
        (
            "day",
            "apache_beam tensorflow",
            "the extras `beam` and `train`: pip install 'ctr-tf[beam,train]'",
        ),
    ],
)
def test_a_verb_without_its_extra_says_so(
    verb, shut_out, expected, monkeypatch, capsys
):
    monkeypatch.setattr(extras, "is_installed", lambda name: name not in shut_out)
    assert main([verb, "--nonsense"]) == 2
    assert (
        capsys.readouterr().err == f"ctr-tf: error: `ctr-tf {verb}` needs {expected}\n"
    )
    with pytest.raises(SystemExit, match="0"):  # what it does, it says all the same
        main([verb, "--help"])


def test_a_package_that_only_some_words_need(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "lmdb", None)
    assert main(["ingest", "--store", str(tmp_path / "store")]) == 2
    assert capsys.readouterr().err == (
        "ctr-tf: error: `ctr-tf ingest` came upon a package that is not installed, "
        "lmdb: pip install 'ctr-tf[all]'\n"
    )


def test_what_is_installed_by_itself_has_one_version_wherever_it_stands():
    setup = (ROOT / "setup.py").read_text("utf-8")
    (version,) = set(re.findall(r"keras-hub==([\d.]+)", setup))
    for path in ("Makefile", "docs/install.md", "ctr_tf/commands/extras.py"):
        text = (ROOT / path).read_text("utf-8")
        assert set(re.findall(r"keras-hub==([\d.]+)", text)) == {version}, path
