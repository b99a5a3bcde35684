"""The schema of the benchmarks' random samples."""

from ctr_tf.schema import Bucketized, Categorical, Schema


def bench_schema(history_length: int) -> Schema:
    """A schema with a feature of every role, histories kept to this length."""
    return Schema(
        name="bench",
        features=(
            Categorical("item_id", "item", dtype="int64"),
            Categorical("category", "item"),
            Bucketized("age", "user", boundaries=(18, 25, 35, 50)),
            Categorical("device", "context"),
            Categorical("action", "behavior"),
            Bucketized("position", "candidate", num_values=32, dtype="int64"),
        ),
        history_length=history_length,
    )
