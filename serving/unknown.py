"""Which ids of a request are in no vocabulary of a model: to it, all of these are one.

What else it knows of them still counts: a title, a price, a category.
"""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ctr_tf.schema import MISSING, OUT_OF_VOCABULARY_ID, Schema
from ctr_tf.schema.vocabulary import Vocabularies

_SHOWN = 5


def unknown_values(
    tensors: Mapping[str, np.ndarray], schema: Schema, vocabularies: Vocabularies
) -> list[str]:
    """Of each feature with a vocabulary, what of the request is not in it.

    Args:
        tensors: of one request, see `request_to_tensors`.
        schema: of the model.
        vocabularies: of the model.

    Returns:
        One line a feature: ``candidate item_id: 2 of 5 are unknown to the model: 77,
        78``. What is missing is not told.
    """
    lines = []
    for group, features in schema.groups().items():
        for feature in features:
            raw = tensors.get(f"{group}_{feature.name}")
            if raw is None or not feature.vocabulary_name:
                continue
            values = pa.array(raw.ravel())
            values = values.filter(pc.not_equal(values, MISSING[feature.dtype]))
            is_unknown = vocabularies.encode(feature, values) == OUT_OF_VOCABULARY_ID
            found = [str(value) for value in values.filter(pa.array(is_unknown))]
            if found:
                shown = ", ".join(list(dict.fromkeys(found))[:_SHOWN])
                more = ", …" if len(set(found)) > _SHOWN else ""
                lines.append(
                    f"{group} {feature.name}: {len(found)} of {len(values)} are "
                    f"unknown to the model: {shown}{more}"
                )
    return lines
