"""What an export says of itself, for everybody who serves, calls or configures it.

`assets.extra/export.json` of a version folder. Needs neither TensorFlow nor Keras.
"""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

from ctr_tf.errors import UserError
from ctr_tf.schema import Schema
from ctr_tf.storage import as_path, check_store, files
from serving.state import StateLayout

if TYPE_CHECKING:
    from ctr_tf.schema.vocabulary import Vocabularies

EXTRA = "assets.extra"
EXPORT = "export.json"
SIGNATURE = "signature.json"
SCHEMA = "schema.yaml"
EXAMPLE_REQUEST = "example_request.json"
GOLDEN = "golden.json"
WARMUP = "tf_serving_warmup_requests"


@dataclasses.dataclass(frozen=True)
class Exported:
    """An export's sizes and state.

    Args:
        name: of the schema.
        history_lengths: sizes that histories are padded to, ascending; of a longer
            history the latest behaviors count.
        slate_sizes: sizes that slates are padded to, ascending; a larger slate is
            scored as it is, but was not warmed up.
        batch_sizes: users in one batch that a server should form, ascending.
        precision: the model's `"float32"`, `"bfloat16"` or `"float16"`.
        xla: whether the dense computation asks for XLA.
        tolerance: by how much a served probability may differ from the model's own.
        state_tolerance: the same for `encode_user` and `score_candidates` in sequence,
            between which the state may have lost precision.
        state: tensors and bytes of the state.
        content_hash: of schema and vocabularies (`ctr_tf.schema.vocabulary`).
    """

    name: str
    history_lengths: tuple[int, ...]
    slate_sizes: tuple[int, ...]
    batch_sizes: tuple[int, ...]
    precision: str
    xla: bool
    tolerance: float
    state_tolerance: float
    state: StateLayout
    content_hash: str = ""

    def save(self, folder: str | Path) -> None:
        """Writes to a version folder."""
        value = dataclasses.asdict(self) | {"state": self.state.to_json()}
        text = json.dumps(value, indent=1)
        (as_path(folder) / EXTRA / EXPORT).write_text(text + "\n", "utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> "Exported":
        """Reads from a version folder.

        Raises:
            FileNotFoundError: if no export is there.
        """
        path = as_path(folder) / EXTRA / EXPORT
        if not path.is_file():
            raise FileNotFoundError(
                f"'{folder}' is not a model written by `ctr-tf export`: it has no "
                f"{EXTRA}/{EXPORT}."
            )
        value = files.read_json(path)
        for key in ("history_lengths", "slate_sizes", "batch_sizes"):
            value[key] = tuple(value[key])
        return cls(**value | {"state": StateLayout.from_json(value["state"])})


def load_content(folder: str | Path) -> tuple[Schema, "Vocabularies"]:
    """Schema and vocabularies of a version folder.

    Raises:
        FileNotFoundError: names what is missing.
        UserError: if they are not those that were exported.
    """
    from ctr_tf.schema.vocabulary import Vocabularies, content_hash  # and pyarrow

    folder = as_path(folder)
    schema = Schema.load(folder / EXTRA / SCHEMA)
    vocabularies = Vocabularies.load(folder / "assets", schema, folder / EXTRA)
    expected = Exported.load(folder).content_hash
    found = content_hash(schema, vocabularies)
    if found != expected:
        raise UserError(
            f"'{folder}' is not as it was exported: schema and vocabularies must have "
            f"the content hash {expected!r}. Received: {found!r}"
        )
    return schema, vocabularies


def check_is_no_run(folder: Path) -> None:
    """Raises UserError for the folder of a run, and says where its export is."""
    if not (folder / "checkpoints").is_dir():
        return
    export = folder / "export"
    there = f"is '{export}'" if export.is_dir() else "is made by `ctr-tf export`"
    raise UserError(f"That is a run, whose export {there}. Received: '{folder}'")


def version_number(folder: Path) -> int | None:
    """The number of a version, by its folder's name; None of any other folder."""
    name = folder.name
    return int(name) if name.isascii() and name.isdigit() else None


def version_folders(folder: Path) -> dict[int, Path]:
    """The versions that lie in a folder, number → folder, ascending."""
    found = {version_number(path): path for path in folder.iterdir() if path.is_dir()}
    numbers = sorted(number for number in found if number is not None)
    return {number: found[number] for number in numbers}


def find_version(model: str | Path) -> Path:
    """The folder of an export: the given one, or the latest version in it.

    Raises:
        FileNotFoundError: names what is missing.
        UserError: if it is a run.
    """
    model = check_store(model)
    if not model.is_dir():
        raise FileNotFoundError(f"There is no exported model: no folder '{model}'.")
    check_is_no_run(model)
    folder = [model, *version_folders(model).values()][-1]
    for name in ("saved_model.pb", f"{EXTRA}/{SCHEMA}"):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"'{folder}' is not a model written by `ctr-tf export`: it has no "
                f"{name}."
            )
    return folder
