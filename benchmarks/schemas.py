"""The schema of the benchmarks' random samples."""

from ctr_tf.schema import Feature, Schema


def bench_schema(history_length: int) -> Schema:
    """A schema with a feature of every role, histories kept to this length."""
    return Schema(
        name="bench",
        features=(
            Feature("item_id", "item", "categorical", dtype="int64"),
            Feature("category", "item", "categorical"),
            Feature("age", "user", "bucketized", boundaries=(18, 25, 35, 50)),
            Feature("device", "context", "categorical"),
            Feature("action", "behavior", "categorical"),
            Feature(
                "position", "candidate", "bucketized", num_values=32, dtype="int64"
            ),
        ),
        history_length=history_length,
    )
