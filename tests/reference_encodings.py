"""Relative encodings as their papers write them: one query and one key at a time."""

import datetime
import math

import numpy as np


def weekend(time, zone):
    local = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=int(time) + zone)
    return local.weekday() >= 5


def relation(name, query_time, key_time, zone):
    elapsed = abs(int(query_time) - int(key_time))
    if name == "time":
        return max(elapsed, 1).bit_length() - 1
    if name == "hour":
        return np.sin(np.pi * ((elapsed // 3600) % 24) / 24)
    return float(weekend(query_time, zone) != weekend(key_time, zone))


def temporal_bias(layer, query_time, key_time, zone=0):
    """`[H]`: RelTemporal's bias of one query and one key."""
    bias = np.zeros(layer.num_heads)
    scales = np.asarray(layer.scale, np.float64)
    for scale, name in zip(scales, layer.relations, strict=True):
        bias -= relation(name, query_time, key_time, zone) * scale
    return bias


def hstu_bias(layer, query_time, key_time, distance):
    elapsed = max(abs(int(query_time) - int(key_time)), 1)
    bucket = min(int(math.log(elapsed) / 0.301), 128)
    position, time = np.asarray(layer.position), np.asarray(layer.time)
    return np.array([float(position[distance]) + float(time[bucket])])


def t5_bucket(distance, num_buckets=32, max_distance=128):
    """The causal branch of the published `_relative_position_bucket`."""
    exact = num_buckets // 2
    if distance < exact:
        return distance
    large = math.log(distance / exact) / math.log(max_distance / exact)
    return min(exact + int(large * (num_buckets - exact)), num_buckets - 1)


def t5_bias(layer, distance):
    return np.asarray(layer.table, np.float64)[t5_bucket(distance)]


def alibi_bias(num_heads, distance):
    """Slopes as the paper gives them for powers of two: 1/2, 1/4, … 1/256 for 8."""
    return np.array(
        [-distance / 2 ** (8 / num_heads * h + 8 / num_heads) for h in range(num_heads)]
    )


def turn(row, num_heads, position, base=10_000.0):
    """RoPE of one row by complex numbers, channel k with channel k + K/2."""
    heads = np.asarray(row, np.float64).reshape(num_heads, 2, -1)
    half = heads.shape[-1]
    angle = position * base ** (-2 * np.arange(half) / (2 * half))
    turned = (heads[:, 0] + 1j * heads[:, 1]) * np.exp(1j * angle)
    return np.stack([turned.real, turned.imag], axis=1).reshape(-1)


def place(layer, key, query_time, key_time, distance, zone=0):
    """The key as a query sees it that stays unturned, and its bias, `[H]` or `[1]`."""
    kind = type(layer).__name__
    if kind == "RelTemporal":
        return key, temporal_bias(layer, query_time, key_time, zone)
    if kind == "HSTUBias":
        return key, hstu_bias(layer, query_time, key_time, distance)
    if kind == "T5Bias":
        return key, t5_bias(layer, distance)
    if kind == "Alibi":
        return key, alibi_bias(layer.num_heads, distance)
    return turn(key, layer.num_heads, -distance, layer.base), np.zeros(1)
