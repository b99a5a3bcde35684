"""What a data set holds: the one description that jobs, input, models, serving read."""

from ctr_tf.schema.feature import (
    FIRST_ID,
    ITEM_KEY,
    MISSING,
    OUT_OF_VOCABULARY_ID,
    PADDING_ID,
    USER_KEY,
    Feature,
)
from ctr_tf.schema.kinds.bucketized import Bucketized
from ctr_tf.schema.kinds.categorical import Categorical
from ctr_tf.schema.kinds.numeric import Numeric
from ctr_tf.schema.kinds.text import Text
from ctr_tf.schema.positive import Positive
from ctr_tf.schema.schema import RESERVED_KEYS, TIME_UNITS, Schema
from ctr_tf.time import parse_duration

__all__ = [
    "FIRST_ID",
    "ITEM_KEY",
    "MISSING",
    "OUT_OF_VOCABULARY_ID",
    "PADDING_ID",
    "RESERVED_KEYS",
    "TIME_UNITS",
    "USER_KEY",
    "Bucketized",
    "Categorical",
    "Feature",
    "Numeric",
    "Positive",
    "Schema",
    "Text",
    "parse_duration",
]
