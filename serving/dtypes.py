"""Types of tensors that are served, apart from TensorFlow: names, numbers, NumPy's."""

import ml_dtypes
import numpy as np

# As TensorFlow names them → as its messages number them.
NUMBERS = {
    "float32": 1,
    "float64": 2,
    "int32": 3,
    "uint8": 4,
    "int16": 5,
    "int8": 6,
    "string": 7,
    "int64": 9,
    "bool": 10,
    "bfloat16": 14,
    "uint16": 17,
    "float16": 19,
    "uint32": 22,
    "uint64": 23,
}
NAMES = {number: name for name, number in NUMBERS.items()}
# As messages name those whose name is another there.
IN_MESSAGES = {"float32": "FLOAT", "float64": "DOUBLE", "float16": "HALF"}


def numpy_dtype(name: str) -> np.dtype:
    """NumPy's type; strings are objects."""
    if name == "bfloat16":
        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(object if name == "string" else name)


def name_of(dtype: np.dtype) -> str:
    """The name of an array's type; objects are strings."""
    return "string" if dtype.kind == "O" else dtype.name
