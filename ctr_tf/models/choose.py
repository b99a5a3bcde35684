"""Which config the section of a recipe is that describes a model."""

from typing import Any

from ctr_tf.errors import UserError, unknown_name
from ctr_tf.models import MODELS
from ctr_tf.models.sparse_ctr_config import SparseCTRConfig


def choose_model(values: Any) -> type:
    """The config's class, by the section's `name`; SparseCTR's where it has none.

    Raises:
        UserError: for an unknown name.
    """
    name = values.get("name") if isinstance(values, dict) else None
    name = name or SparseCTRConfig.name
    if name not in MODELS:
        raise UserError(unknown_name("model", name, MODELS))
    return MODELS[name].config_class
