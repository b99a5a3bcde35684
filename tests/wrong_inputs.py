"""Inputs that are wrong, made from the small world of `conftest.world`.

Each maker gets the world and an empty folder, and returns the words after `ctr-tf`.
"""

import json
import shutil

import tensorflow as tf

CONFIG = ("--config", "sparsectr_synthetic")


def train_with(*overrides):
    """`ctr-tf train` on the world with these settings."""

    def make(world, tmp):
        return ["train", *CONFIG, f"run={tmp}/run", f"data.path={world}/data"] + [
            word.format(tmp=tmp, world=world) for word in overrides
        ]

    return make


def words(text):
    """A command line that needs no files of its own."""
    return lambda world, tmp: text.format(world=world, tmp=tmp).split()


def file_with(name, text, command):
    """A command on a file with this text."""

    def make(world, tmp):
        (tmp / name).write_text(text, "utf-8")
        return command.format(world=world, tmp=tmp).split()

    return make


def prepare_with_schema(old, new):
    """`ctr-tf prepare` by a changed schema."""

    def make(world, tmp):
        text = (world / "data" / "schema.yaml").read_text("utf-8")
        assert old in text
        (tmp / "schema.yaml").write_text(text.replace(old, new, 1), "utf-8")
        command = f"prepare --source synthetic --input {world}/raw --output {tmp}/out"
        return [*command.split(), "--schema", f"{tmp}/schema.yaml"]

    return make


def prepare_rows(*rows):
    """`ctr-tf prepare` on exposures in JSON lines."""

    def make(world, tmp):
        (tmp / "raw").mkdir()
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        (tmp / "raw" / "exposures.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
        schema = (
            "name: shop\nfeatures:\n"
            "  - {name: item_id, role: item, kind: categorical, dtype: int64}\n"
        )
        (tmp / "raw" / "schema.yaml").write_text(schema, "utf-8")
        return f"prepare --source jsonl --input {tmp}/raw --output {tmp}/out".split()

    return make


def exposure(**changes):
    """A good raw row, changed."""
    row = {"user_id": "u", "time": 1_700_000_000, "item_id": 7, "click": 1}
    return {key: v for key, v in (row | changes).items() if v is not ...}


def broken_data(break_it):
    """`ctr-tf train` on a copy of the prepared data that is broken."""

    def make(world, tmp):
        shutil.copytree(world / "data", tmp / "data")
        break_it(tmp / "data")
        return ["train", *CONFIG, f"run={tmp}/run", f"data.path={tmp}/data"]

    return make


def remove(name):
    """Removes a file or a folder's first file."""
    return lambda data: sorted(data.glob(name))[0].unlink()


def flip_a_byte(data):
    """Damages the first record of a training file."""
    path = sorted((data / "train").iterdir())[0]
    content = bytearray(path.read_bytes())
    content[40] ^= 0xFF
    path.write_bytes(content)


def rewrite(change):
    """Changes the first training example, with correct checksums."""

    def break_it(data):
        path = sorted((data / "train").iterdir())[0]
        records = [r.numpy() for r in tf.data.TFRecordDataset(str(path))]
        example = tf.train.Example.FromString(records[0])
        change(example.features.feature)
        records[0] = example.SerializeToString()
        with tf.io.TFRecordWriter(str(path)) as writer:
            for record in records:
                writer.write(record)
        manifest = json.loads((data / "manifest.json").read_text("utf-8"))
        for file in manifest["files"]:
            file["bytes"] = (data / file["path"]).stat().st_size
        (data / "manifest.json").write_text(json.dumps(manifest), "utf-8")

    return break_it


def float_items(feature):
    """Item ids as floats."""
    values = list(feature["behavior_item_id"].int64_list.value)
    feature["behavior_item_id"].Clear()
    feature["behavior_item_id"].float_list.value.extend(values)


def short_column(feature):
    """One price too few."""
    del feature["candidate_price"].float_list.value[-1]


def request_with(change):
    """`ctr-tf score` on the export's example request, changed."""

    def make(world, tmp):
        model = world / "run" / "export" / "1"
        example = model / "assets.extra" / "example_request.json"
        request = json.loads(example.read_text("utf-8"))
        request = change(request) or request
        (tmp / "request.json").write_text(json.dumps(request), "utf-8")
        return f"score --export {model} --request {tmp}/request.json".split()

    return make


def set_at(*path, value):
    """Sets a value in a nested request; `...` removes it."""

    def change(request):
        *parents, last = path
        for key in parents:
            request = request[key]
        if value is ...:
            del request[last]
        else:
            request[last] = value

    return change
