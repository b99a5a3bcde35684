"""Variables in a file, by their names."""

from collections.abc import Mapping
from pathlib import Path

import tensorflow as tf

from ctr_tf.errors import UserError, storage_trouble
from ctr_tf.storage import as_path

_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"


class SavedVariables:
    """Reads and writes variables, and compares what is there with what is wanted.

    Args:
        file: name of the file (a prefix, as TensorFlow's checkpoints have it).
        parts: name of a part → name of a variable → variable.
    """

    def __init__(self, file: str, parts: Mapping[str, Mapping[str, tf.Variable]]):
        self.file = file
        self.parts = {part: dict(variables) for part, variables in parts.items()}

    def write(self, folder: str | Path) -> None:
        """Writes all parts.

        Raises:
            OSError: if the disk does not take them; says why.
        """
        try:
            tf.train.Checkpoint(**self.parts).write(str(as_path(folder) / self.file))
        except tf.errors.OpError as error:
            # Of a full disk it is "out of range", which Keras takes for the data's end.
            raise OSError(storage_trouble(error) or str(error)) from error

    def read(self, folder: str | Path) -> None:
        """Reads the parts; the file may hold others beside them.

        Raises:
            UserError: names the first variable that the file lacks, has beyond those
                that are wanted, or has in another shape.
        """
        path = as_path(folder) / self.file
        self._check(path)
        status = tf.train.Checkpoint(**self.parts).read(str(path))
        status.assert_existing_objects_matched().expect_partial()

    def _check(self, path: Path) -> None:
        there = tf.train.load_checkpoint(str(path)).get_variable_to_shape_map()
        wanted = {
            part: {name: v.shape.as_list() for name, v in variables.items()}
            for part, variables in self.parts.items()
        }
        check_shapes(path, there, wanted)


def check_shapes(
    path: Path,
    there: Mapping[str, list[int]],
    wanted: Mapping[str, Mapping[str, list[int]]],
) -> None:
    """Compares the shapes that are there with those that are wanted.

    Args:
        path: to be named.
        there: key, see `key_of` → shape.
        wanted: name of a part → name of a variable → shape.

    Raises:
        UserError: see `SavedVariables.read`.
    """
    for part, shapes in wanted.items():
        own = {key_of(part, name): (name, shape) for name, shape in shapes.items()}
        for key, (name, shape) in own.items():
            if key not in there:
                raise UserError(
                    f"'{path}' does not fit: it has no '{name}', of shape {shape}, "
                    f"among its {part}."
                )
            if there[key] != shape:
                raise UserError(
                    f"'{path}' does not fit: '{name}' must have the shape {shape}. "
                    f"Received: {there[key]}"
                )
        more = {k for k in there if k.startswith(f"{part}/")} - own.keys()
        for key in sorted(more):
            if key.endswith(_VALUE):
                name = _plain(key.removeprefix(f"{part}/").removesuffix(_VALUE))
                raise UserError(
                    f"'{path}' does not fit: its '{name}' of {part}, of shape "
                    f"{there[key]}, is nothing that is wanted here."
                )


def key_of(part: str, name: str) -> str:
    """Of a variable, in TensorFlow's checkpoint."""
    return f"{part}/{_escaped(name)}{_VALUE}"


def _escaped(name: str) -> str:
    """As TensorFlow writes a name of its own into a path."""
    return name.replace(".", "..").replace("/", ".S")


def _plain(name: str) -> str:
    return name.replace(".S", "/").replace("..", ".")
