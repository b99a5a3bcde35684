"""Large tables on huge pages of memory: half the time of a step with ten million rows.

The rows of a batch lie scattered over gigabytes. With pages of 4 KiB nearly every row
costs a miss of the processor's address cache beside the miss of its data; with pages of
2 MiB it does not. Linux gives huge pages to memory that asks for them, but TensorFlow
does not ask.
"""

import ctypes
import logging
import sys
from collections.abc import Iterable

import keras
import numpy as np
import tensorflow as tf

_log = logging.getLogger(__name__)

_PAGE = 1 << 21
_SMALLEST = 1 << 26  # bytes; smaller variables fit the caches well enough
_MADV_HUGEPAGE, _MADV_COLLAPSE = 14, 25  # linux/mman.h; the latter since Linux 6.1


def use_huge_pages(variables: Iterable[keras.Variable]) -> int:
    """Moves the memory of large variables to huge pages, where the system can.

    Values do not change. An assignment of a whole variable, such as restoring a
    checkpoint, takes other memory, so this comes after it. Variables on accelerators
    are left alone.

    Args:
        variables: of a model or an optimizer.

    Returns:
        Bytes that lie on huge pages now; 0 where the system has none to give.
    """
    if not sys.platform.startswith("linux"):
        return 0
    moved = 0
    for variable in variables:
        size = int(np.prod(variable.shape)) * np.dtype(variable.dtype).itemsize
        if size >= _SMALLEST:
            native = variable.value
            for part in getattr(native, "values", [native]):
                moved += _collapse(part)
    if moved:
        _log.info("%.1f GiB of tables lie on huge pages", moved / 2**30)
    return moved


def _collapse(variable: tf.Variable) -> int:
    if "CPU" not in variable.device:
        return 0
    values = np.asarray(variable.read_value())  # a view, no copy
    address = values.__array_interface__["data"][0]
    begin = -(-address // _PAGE) * _PAGE
    length = (address + values.nbytes) // _PAGE * _PAGE - begin
    madvise = ctypes.CDLL(None, use_errno=True).madvise
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    for advice in (_MADV_HUGEPAGE, _MADV_COLLAPSE):
        if madvise(begin, length, advice):
            return 0
    return length
