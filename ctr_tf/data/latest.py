"""The latest of a batch's behaviors, as if no more had been kept."""

from typing import Any

from ctr_tf import time_ops


def latest_behaviors(inputs: dict, count: int, num_chunks: int) -> dict[str, Any]:
    """Leaves out all behaviors but the latest, and cuts these into chunks.

    Args:
        inputs: encoded features of a batch (`ctr_tf.data.dataset`), `[B, N]` those of
            behaviors; `behavior_chunk` may be absent.
        count: behaviors that stay, where there are more.
        num_chunks: P of the model that reads them.

    Returns:
        The inputs, `[B, min(count, N)]` those of behaviors.
    """
    latest = {
        key: value[:, -count:] if key.startswith("behavior_") else value
        for key, value in inputs.items()
    }
    time_BN = latest["behavior_time"]
    latest["behavior_chunk"] = time_ops.chunk_ids(time_BN, time_BN > 0, num_chunks)
    return latest
