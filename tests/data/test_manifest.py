"""The manifest: its text and back, and a wrong one told by file, key and value."""

import dataclasses
import json

import pytest

from ctr_tf.data.manifest import (
    Counts,
    Manifest,
    RecordFile,
    Split,
    TableCounts,
)
from ctr_tf.data.negatives import Negatives

SHA256_OF_ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
TEXT = """{
  "format_version": 4,
  "folder": "",
  "name": "größe",
  "compression": "gzip",
  "content_hash": "abc",
  "content": {
    "schema.yaml": "def"
  },
  "events": {
    "exposures": {
      "read": 5,
      "kept": 3,
      "merged": 1,
      "rejected": {
        "odd": 1
      }
    }
  },
  "clicks": {
    "read": 2,
    "kept": 1
  },
  "out_of_vocabulary": {
    "train": {
      "user_age": 0.25
    }
  },
  "joins": {
    "users known": 1
  },
  "splits": {
    "train": {
      "samples": 2,
      "candidates": 3,
      "max_candidates": 2,
      "clicks": 1,
      "behaviors": 7,
      "begins": null,
      "time_range": [
        10,
        20
      ]
    },
    "test": {
      "samples": 0,
      "candidates": 0,
      "max_candidates": 0,
      "clicks": 0,
      "behaviors": 0,
      "begins": 30,
      "time_range": null
    }
  },
  "files": [
    {
      "path": "train/part-00000-of-00001.tfrecord.gz",
      "samples": 2,
      "bytes": 3,
      "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
      "index_sha256": "0"
    }
  ],
  "negatives": {
    "each": 4,
    "by": "popularity",
    "within": null,
    "window": "30d",
    "seed": 0
  }
}
"""
MANIFEST = Manifest(
    name="größe",
    compression="gzip",
    content_hash="abc",
    content={"schema.yaml": "def"},
    events={"exposures": TableCounts(5, 3, 1, {"odd": 1})},
    clicks=Counts(2, 1),
    out_of_vocabulary={"train": {"user_age": 0.25}},
    joins={"users known": 1},
    splits={
        "train": Split(2, 3, 2, 1, 7, None, (10, 20)),
        "test": Split(0, 0, 0, 0, 0, 30, None),
    },
    files=(
        RecordFile("train/part-00000-of-00001.tfrecord.gz", 2, 3, SHA256_OF_ABC, "0"),
    ),
    negatives=Negatives(4, "popularity", window="30d"),
)


def test_the_text_and_back(tmp_path):
    assert MANIFEST.to_json() == TEXT
    path = tmp_path / "manifest.json"
    path.write_text(TEXT, "utf-8")
    assert Manifest.load(path) == MANIFEST
    assert [file.samples for file in MANIFEST.files_of("train")] == [2]
    assert MANIFEST.files_of("test") == []


def test_what_was_lost():
    lost = {name: count.lost for name, count in MANIFEST.counts.items()}
    assert lost == {"exposures": {"odd": 1}, "clicks": {"": 1}}


def changed(*path, value):
    values = json.loads(TEXT)
    *parents, last = path
    inner = values
    for key in parents:
        inner = inner[key]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return values


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            ["x"],
            "must have format_version 4; what it tells of must be prepared again. ",
        ),
        (changed("splits", value=...), "`manifest` lacks splits."),
        (changed("splits", "test", "clicks", value=...), "`splits.test` lacks clicks."),
        (
            changed("splits", "test", "clicks", value="1"),
            "`splits.test.clicks` must be an integer. Received: '1'",
        ),
        (
            changed("splits", "test", "click", value=1),
            "Unknown manifest key 'splits.test.click'. Did you mean "
            "'splits.test.clicks'? ",
        ),
        (
            changed("splits", "test", "time_range", value=[1]),
            "`time_range` must be two times. Received: time_range=[1]",
        ),
        (
            changed("files", 0, "bytes", value=1.5),
            "`files[0].bytes` must be an integer. Received: 1.5",
        ),
        (changed("files", value={}), "`files` must be a list. Received: {}"),
        (
            changed("joins", value=3),
            "`joins` must hold keys and values. Received: 3",
        ),
        (
            changed("compression", value="zip"),
            "`compression` must be one of none, gzip. Received: 'zip'",
        ),
        (
            changed("splits", "train", "samples", value=3),
            "`splits.train.samples` must be those of its files, 2. Received: 3",
        ),
    ],
)
def test_a_wrong_one(tmp_path, values, message):
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(values), "utf-8")
    with pytest.raises(ValueError) as error:
        Manifest.load(path)
    assert str(path) in str(error.value)
    assert message in str(error.value)


def test_without_draws_the_text_is_as_it_always_was(tmp_path):
    plain = dataclasses.replace(MANIFEST, negatives=None)
    start, _, _ = TEXT.partition(',\n  "negatives"')
    assert plain.to_json() == start + "\n}\n"
    (tmp_path / "manifest.json").write_text(plain.to_json(), "utf-8")
    assert Manifest.load(tmp_path / "manifest.json") == plain
