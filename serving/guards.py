"""What the exported graph refuses and mends by itself, whoever calls it.

A client in any language can be wrong: the times of a request must be plausible seconds,
or it is refused by name; behaviors may come in any order and twice, and are sorted and
merged as the job does it.

Shape suffixes: `B` batch, `N` behaviors, `F` features.
"""

import tensorflow as tf

from ctr_tf.time import MAX_TIME
from serving import inputs as names

_SECONDS = "must be seconds since 1970-01-01 UTC, before the year 2242. Received:"
_LARGEST = 2**63 - 1
_MIX = -0x61C8864680B583EB  # the golden ratio's odd number, as int64


def checked_user(raw: dict, has_slate_size: bool) -> dict:
    """The inputs that describe user and request, behind checks of their times.

    Args:
        raw: the inputs of a signature.
        has_slate_size: whether the model asks for `slate_size`.

    Raises:
        tf.errors.InvalidArgumentError: while running, names the input and a value.
    """
    time_BN = raw[names.BEHAVIOR_TIME]
    given = given_behaviors(raw)
    now = raw[names.REQUEST_TIME]
    checks = [
        _refuse(f"`{names.REQUEST_TIME}` {_SECONDS}", now, ~_is_time(now)),
        _refuse(
            f"`{names.BEHAVIOR_TIME}` {_SECONDS}", time_BN, given & ~_is_time(time_BN)
        ),
    ]
    if has_slate_size:
        size = raw[names.SLATE_SIZE]
        message = (
            f"`{names.SLATE_SIZE}` must state how many candidates are shown. Received:"
        )
        checks.append(_refuse(message, size, size < 1))
    with tf.control_dependencies(checks):
        return {name: tf.identity(value) for name, value in raw.items()}


def given_behaviors(raw: dict) -> tf.Tensor:
    """Which places hold a behavior, bool `[B, N]`."""
    time_BN = raw[names.BEHAVIOR_TIME]
    return tf.sequence_mask(raw[names.BEHAVIOR_LENGTH], tf.shape(time_BN)[1])


def first_of_equals(time_BN: tf.Tensor, identity: dict[str, tf.Tensor]) -> tf.Tensor:
    """False for behaviors that stand a second time, in time and identity.

    Args:
        time_BN: int64.
        identity: raw values `[B, N]` or `[B, N, F]` of all that tells two behaviors of
            one time apart; padding of lists must be equal.

    Returns:
        Bool `[B, N]`. Of equal ones the first counts.
    """
    code_BN = _mixed(time_BN, tf.zeros_like(time_BN))
    for name in sorted(identity):
        value = identity[name]
        if value.shape.rank == 2:
            value = value[..., None]
        for each_BN in tf.unstack(_as_int64(value), axis=-1):
            code_BN = _mixed(each_BN, code_BN)
    order_BN = tf.argsort(code_BN, axis=1, stable=True)
    sorted_BN = tf.gather(code_BN, order_BN, batch_dims=1)
    same_BN = tf.pad(sorted_BN[:, 1:] == sorted_BN[:, :-1], [[0, 0], [1, 0]])
    return ~tf.gather(same_BN, tf.argsort(order_BN, axis=1), batch_dims=1)


def _refuse(message: str, value: tf.Tensor, is_wrong: tf.Tensor) -> tf.Operation:
    wrong = tf.boolean_mask(value, is_wrong)[:1]
    return tf.raw_ops.Assert(
        condition=~tf.reduce_any(is_wrong), data=[message, wrong], summarize=1
    )


def _is_time(time: tf.Tensor) -> tf.Tensor:
    return (time > 0) & (time < MAX_TIME)


def _as_int64(value: tf.Tensor) -> tf.Tensor:
    if value.dtype == tf.string:
        return tf.strings.to_hash_bucket_fast(value, _LARGEST)
    if value.dtype.is_floating:
        value = tf.where(tf.math.is_nan(value), tf.constant(float("nan")), value)
        return tf.cast(tf.bitcast(value, tf.int32), tf.int64)
    return value


def _mixed(value: tf.Tensor, code: tf.Tensor) -> tf.Tensor:
    """A hash of a code and a value more; int64 products wrap."""
    xor, factor = tf.bitwise.bitwise_xor, tf.constant(_MIX, tf.int64)
    mixed = xor(code, value) * factor
    shifted = tf.bitwise.right_shift(mixed, tf.constant(29, tf.int64))
    return xor(mixed, shifted) * factor + code
