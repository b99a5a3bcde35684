"""The models by name."""

from ctr_tf.errors import unknown_name
from ctr_tf.models.din import DIN, DINConfig
from ctr_tf.models.ranker import Ranker
from ctr_tf.models.sparse_ctr import SparseCTR, SparseCTRConfig
from ctr_tf.schema import Schema

MODELS: dict[str, tuple[type, type[Ranker]]] = {
    "din": (DINConfig, DIN),
    "sparsectr": (SparseCTRConfig, SparseCTR),
}


def build_ranker(
    config, schema: Schema, table_sizes: dict[str, int], dtype=None
) -> Ranker:
    """Makes the model that a config describes, with all its weights.

    Args:
        config: one of the config dataclasses of `MODELS`; its `name` selects.
        schema: of the data.
        table_sizes: embedding table name → rows (`Vocabularies.table_sizes`).
        dtype: precision policy, such as `"mixed_bfloat16"`; Keras' global one if None.

    Returns:
        The built model.

    Raises:
        ValueError: for an unknown name.
    """
    if config.name not in MODELS:
        raise ValueError(unknown_name("model", config.name, MODELS))
    _, ranker_class = MODELS[config.name]
    ranker = ranker_class(schema, table_sizes, config, dtype=dtype)
    ranker.build()
    return ranker
