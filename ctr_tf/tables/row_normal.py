"""Normal numbers for new rows, each by its row's number alone.

A table starts with the same rows however it is cut, and a part of it is made without
the rest. Bits are those of SplitMix64 (Steele, Lea and Flood, 2014), normal numbers
those of Box and Muller.
"""

import math

import numpy as np

_BLOCK = 1 << 20  # pairs of numbers made at once
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def row_normal(rows: range, width: int, stddev: float, seed: int) -> np.ndarray:
    """Normal numbers around 0.

    Args:
        rows: their numbers.
        width: of a row.
        stddev: standard deviation.
        seed: of the table.

    Returns:
        float32 `[len(rows), width]`.
    """
    pairs = -(-width // 2)
    found = np.empty((len(rows), width), np.float32)
    block = max(_BLOCK // pairs, 1)
    for start in range(0, len(rows), block):
        part = rows[start : start + block]
        numbers = np.arange(part.start, part.stop, part.step, dtype=np.uint64)
        counters = numbers[:, None] * np.uint64(pairs) + np.arange(pairs, dtype="u8")
        normal = _normal(
            _mixed(counters * _GOLDEN + _mixed(np.array([seed], np.uint64)))
        )
        found[start : start + block] = stddev * normal[:, :width]
    return found


def _mixed(bits: np.ndarray) -> np.ndarray:
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def _normal(bits: np.ndarray) -> np.ndarray:
    """From 64 bits two numbers, side by side."""
    low = (bits & np.uint64(0xFFFFFFFF)).astype(np.float32)
    radius = (bits >> np.uint64(32)).astype(np.float32)
    radius = np.sqrt(-2 * np.log((radius + np.float32(0.5)) * np.float32(2**-32)))
    angle = low * np.float32(2 * math.pi * 2**-32)
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
