"""Vocabularies of an earlier data set, which those of a later one go on from."""

import hashlib

from ctr_tf.data.manifest import MANIFEST, Manifest
from ctr_tf.errors import UserError
from ctr_tf.schema import Schema
from ctr_tf.schema.vocabulary import different_line
from ctr_tf.storage import check_store
from pipelines.vocabulary import FOLDER

_SCHEMA = "schema.yaml"  # of a run as of a data set


def find_vocabularies(folder: str, schema: Schema) -> str:
    """The folder of vocabularies that a later data set can go on from.

    Args:
        folder: of a run, or of a prepared data set.
        schema: of the later data set.

    Raises:
        FileNotFoundError: if the folder is neither, or lacks a vocabulary.
        UserError: if it is of another schema, but for the limits of vocabularies, or a
            vocabulary is not the one that was published.
    """
    place, content = check_store(folder), {}
    if (place / MANIFEST).is_file():
        manifest = Manifest.load(place / MANIFEST)
        place, content = place / manifest.folder, manifest.content
    if not (place / _SCHEMA).is_file() or not (place / FOLDER).is_dir():
        raise FileNotFoundError(
            f"`--vocabularies` must be a run or a prepared data set. Received: {folder}"
        )
    if different := different_line(Schema.load(place / _SCHEMA), schema):
        there, here = different
        raise UserError(
            f"Ids of '{folder}' mean nothing to another schema: '{there}' there, "
            f"'{here}' here"
        )
    for name in schema.vocabularies():
        path = place / FOLDER / f"{name}.txt"
        if not path.is_file():
            raise FileNotFoundError(f"There is no vocabulary '{path}'.")
        expected = content.get(f"{FOLDER}/{name}.txt")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if expected is not None and digest != expected:
            raise UserError(
                f"'{path}' is not what {MANIFEST} says: it must have the SHA-256 "
                f"{expected}. Received: {digest}"
            )
    return str(place / FOLDER)
