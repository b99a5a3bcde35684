"""A SavedModel as TensorFlow has it: its message read, its signatures called."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from ctr_tf.storage import as_path
from ctr_tf.storage.folders import reading

# Of a loaded SavedModel, by their names.
Signatures = Mapping[str, tf.types.experimental.ConcreteFunction]

_OWN_WORDS = re.compile(r"<stack traces unavailable>\n(.*?)(?:\n\t \[\[|$)", re.DOTALL)


def read_meta_graph(folder: str | Path) -> MetaGraphDef:
    """The graph and the signatures of a version folder, which has one of each."""
    path = as_path(folder) / "saved_model.pb"
    (meta_graph,) = SavedModel.FromString(path.read_bytes()).meta_graphs
    return meta_graph


def load(folder: str | Path) -> Any:
    """The SavedModel of a version folder, as `tf.saved_model.load` makes it."""
    with reading(folder) as here:
        return tf.saved_model.load(str(here))


def call(
    signature: tf.types.experimental.ConcreteFunction, tensors: dict
) -> dict[str, tf.Tensor]:
    """Calls a signature with those of the tensors that it takes.

    Args:
        signature: of `tf.saved_model.load`.
        tensors: name → array or tensor.
    """
    specs = signature.structured_input_signature[1]
    return signature(
        **{
            name: tf.convert_to_tensor(tensors[name], spec.dtype)
            for name, spec in specs.items()
        }
    )


def own_words(message: str) -> str:
    """What an operation says, without the lines that TensorFlow puts around it."""
    found = _OWN_WORDS.search(message)
    return found[1] if found else message
