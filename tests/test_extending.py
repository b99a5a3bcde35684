"""The page docs/extending.md, taken by its word: its files, its changes, its commands.

Each walk begins with the packages as they are, in a folder of its own, and touches
nothing but what the page says.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import helpers
import numpy as np
import pytest
import yaml

from ctr_tf.synthetic.random_samples import (
    random_sample,
    random_vocabularies,
    write_prepared,
)

pytestmark = pytest.mark.study

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
START = 1_700_000_000
MINE = {
    "model": {"name": "din", "dim": 8, "num_heads": 2, "head_units": [8]},
    "data": {"batch_size": 8},
    "training": {"max_steps": 2},
}


def walk(title: str) -> list[tuple[str, str]]:
    """Kind and text of the blocks of one of the page's walks."""
    text = (ROOT / "docs" / "extending.md").read_text("utf-8")
    (section,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    return BLOCK.findall(section)


def apply(tree: Path, text: str) -> str:
    """Writes or changes the file that a block names; returns its path."""
    first, _, body = text.partition("\n")
    path = first.removeprefix("# ")
    file = tree / path
    lines = body.splitlines()
    if not any(line.startswith("+") for line in lines):
        assert not file.exists(), f"the page writes {path} anew"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(body, "utf-8")
        return path
    there, place = file.read_text("utf-8").splitlines(), None
    for line in lines:
        if line.startswith("+"):
            place += 1
            there.insert(place, line[1:])
        else:
            assert there.count(line) == 1, f"{path} has not one line {line!r}"
            place = there.index(line)
    file.write_text("\n".join(there) + "\n", "utf-8")
    return path


class Walk:
    """A walk in a copy of the packages.

    Args:
        folder: to work in.
        title: of the walk.
        places: capitals in its commands → folder or file.
    """

    def __init__(self, folder: Path, title: str, places: dict[str, Path]):
        self.tree, self.places, self.written = folder / "tree", places, []
        for package in ("ctr_tf", "pipelines", "serving"):
            shutil.copytree(
                ROOT / package,
                self.tree / package,
                ignore=shutil.ignore_patterns("__pycache__"),
            )
        self.commands = []
        for kind, text in walk(title):
            if kind == "console":
                self.commands += text.splitlines()
            elif text.startswith("# LOGS/"):
                name, _, body = text.partition("\n")
                (places["LOGS"] / name.removeprefix("# LOGS/")).write_text(body)
            else:
                self.written.append(apply(self.tree, text))

    def run(self) -> str:
        """Runs the commands; returns what they print."""
        printed = ""
        for command in self.commands:
            words = [self._placed(word) for word in shlex.split(command)]
            assert words[0] == "ctr-tf"
            done = subprocess.run(
                [sys.executable, "-m", "ctr_tf", *words[1:]],
                cwd=self.places["RUN"].parent,
                env={**os.environ, "PYTHONPATH": str(self.tree)},
                capture_output=True,
                text=True,
                timeout=400,
            )
            assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
            printed += done.stdout + done.stderr
        return printed

    def _placed(self, word: str) -> str:
        for name, place in self.places.items():
            word = re.sub(rf"\b{re.escape(name)}\b", str(place), word)
        return word


@pytest.fixture
def places(tmp_path):
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(MINE))
    (tmp_path / "logs").mkdir()
    names = {"LOGS": "logs", "PREPARED": "prepared", "DATA": "data", "RUN": "run"}
    found = {name: tmp_path / folder for name, folder in names.items()}
    return found | {"mine.yaml": tmp_path / "mine.yaml"}


def write_data(folder: Path) -> None:
    """A prepared data set of the schema that other tests use."""
    schema, random = helpers.make_schema(), np.random.default_rng(0)
    vocabularies = random_vocabularies(schema, 20)
    samples = [
        random_sample(schema, vocabularies, random, int(n), 5)
        for n in random.integers(0, 17, 72)
    ]
    splits = {"train": samples, "validation": samples[:8], "test": samples[:8]}
    write_prepared(folder, schema, vocabularies, splits)


def test_a_model(tmp_path, places):
    write_data(places["DATA"])
    model = Walk(tmp_path, "A model", places)
    assert model.written == [
        "ctr_tf/models/mean_pooling.py",
        "ctr_tf/models/__init__.py",
        "ctr_tf/recipes/mean_pooling.yaml",
    ]
    model.run()
    run = places["RUN"]
    metrics = json.loads((run / "evaluation" / "test" / "metrics.json").read_text())
    assert metrics["samples"] == 8 and np.isfinite(metrics["log_loss"])
    exported = json.loads((run / "export/1/assets.extra/export.json").read_text())
    tensors = {tensor["name"]: tensor for tensor in exported["state"]["tensors"]}
    assert tensors["mean"]["shape"] == [16]


def test_a_source(tmp_path, places):
    rows = [
        f"u{u},p{u}.{p},{10 + p * 3 + i},{START + 1_000 * p + u},{int(i == 1)}"
        for u in range(6)
        for p in range(8)
        for i in range(3)
    ]
    text = "\n".join(["visitor,page,product,when,bought", *rows, "u1,p,x,1,0", ""])
    (places["LOGS"] / "views.csv").write_text(text)
    source = Walk(tmp_path, "A source", places)
    assert source.written == [
        "pipelines/sources/views.py",
        "pipelines/sources/views.yaml",
        "pipelines/sources/source.py",
    ]
    source.run()
    prepared = places["PREPARED"]
    manifest = json.loads((prepared / "manifest.json").read_text())
    splits = manifest["splits"].values()
    assert sum(split["samples"] for split in splits) == 48
    files = [f for f in (prepared / "rejected").rglob("*") if f.is_file()]
    rejected = "".join(file.read_text() for file in files)
    assert "views.csv:146" in rejected


def test_a_kind(tmp_path, places):
    tables = {
        "exposures": [
            {"user_id": f"u{u}", "request_id": f"r{u}.{r}", "item_id": 10 * r + i}
            | {"time": START + 1_000 * r + u, "click": int(i == 1)}
            for u in range(6)
            for r in range(8)
            for i in range(3)
        ],
        "users": [{"user_id": "u0", "balance": -5}, {"user_id": "u1", "balance": 0}],
        "items": [{"item_id": i, "trend": [i - 11, 11 - i]} for i in range(80)],
    }
    for name, rows in tables.items():
        text = "".join(f"{json.dumps(row)}\n" for row in rows)
        (places["LOGS"] / f"{name}.jsonl").write_text(text)
    kind = Walk(tmp_path, "A kind of feature", places)
    assert kind.written == ["ctr_tf/schema/kinds/sign.py"]
    kind.run()
    assert (places["RUN"] / "metrics.json").is_file()


def test_a_loss(tmp_path, places):
    write_data(places["DATA"])
    loss = Walk(tmp_path, "A loss", places)
    assert loss.written == ["ctr_tf/losses/pairwise.py", "ctr_tf/losses/__init__.py"]
    printed = loss.run()
    assert re.search(r"step 2/2  loss [\d.]+  log_loss [\d.]+  pairwise [\d.]", printed)
    metrics = json.loads((places["RUN"] / "metrics.json").read_text())["validation"]
    assert metrics["loss"] == pytest.approx(
        metrics["log_loss"] + 0.5 * metrics["pairwise"], rel=1e-5
    )
