"""The models by name."""

from ctr_tf.errors import unknown_name
from ctr_tf.models.bst import BST, BSTConfig
from ctr_tf.models.can import CAN, CANConfig
from ctr_tf.models.din import DIN, DINConfig
from ctr_tf.models.eta import ETA, ETAConfig
from ctr_tf.models.eta_gap import ETAGAP, ETAGAPConfig
from ctr_tf.models.gap import GAP, GAPConfig
from ctr_tf.models.hstu import HSTU, HSTUConfig
from ctr_tf.models.longer import LONGER, LONGERConfig
from ctr_tf.models.ranker import Ranker
from ctr_tf.models.sdim import SDIM, SDIMConfig
from ctr_tf.models.sdim_gap import SDIMGAP, SDIMGAPConfig
from ctr_tf.models.sim_hard import SIMHard, SIMHardConfig
from ctr_tf.models.sim_soft import SIMSoft, SIMSoftConfig
from ctr_tf.models.sparse_ctr import SparseCTR
from ctr_tf.models.sparse_ctr_config import SparseCTRConfig
from ctr_tf.models.twin_v2 import TwinV2, TwinV2Config
from ctr_tf.schema import Schema

MODELS: dict[str, tuple[type, type[Ranker]]] = {
    "bst": (BSTConfig, BST),
    "can": (CANConfig, CAN),
    "din": (DINConfig, DIN),
    "din_gap": (GAPConfig, GAP),
    "eta": (ETAConfig, ETA),
    "eta_gap": (ETAGAPConfig, ETAGAP),
    "hstu": (HSTUConfig, HSTU),
    "longer": (LONGERConfig, LONGER),
    "sdim": (SDIMConfig, SDIM),
    "sdim_gap": (SDIMGAPConfig, SDIMGAP),
    "sim_hard": (SIMHardConfig, SIMHard),
    "sim_soft": (SIMSoftConfig, SIMSoft),
    "sparsectr": (SparseCTRConfig, SparseCTR),
    "twin_v2": (TwinV2Config, TwinV2),
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
