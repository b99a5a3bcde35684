"""What an export takes where the user says nothing, apart from TensorFlow."""

SLATE_SIZES = (10, 50, 100, 200, 500, 1_000)
BATCH_SIZES = (1, 2, 4, 8, 16, 32)
STATE_DTYPES = ("float32", "bfloat16")
GOLDEN_SAMPLES = 8  # that every export is held against
VERIFY_SAMPLES = 1_000  # with `--verify`
SCORE_FORMATS = ("parquet", "jsonl")  # of `ctr-tf batch-score`
MODES = ("full", "cached")  # of `ctr-tf loadtest`
