"""Puts `tests/` on the path (`import helpers`), and makes a small world for tests."""

import ctypes
import gc
import os
import sys
import uuid
from pathlib import Path

import pytest

# Files that take a minute or more, of which two workers begin with: the last file that
# is begun is to be a short one.
LONGEST_FIRST = (
    "test_readme.py",
    "test_engines.py",
    "test_on_a_store.py",
    "test_replays.py",
    "test_invariants.py",
    "test_sharded_training.py",
    "test_launch.py",
    "test_training_on_streams.py",
    "test_contract.py",
    "test_export_models.py",
    "test_distillation.py",
    "test_items_read_once.py",
    "test_honest_training.py",
    "test_texts_training.py",
    "test_distribution.py",
    "test_scaling.py",
    "test_java.py",
    "test_trainer.py",
    "test_train.py",
    "test_listwise.py",
    "test_extending.py",
    "test_installed.py",
    "test_end_to_end.py",
    "test_portable.py",
    "test_tfrs_peer.py",
    "test_compare.py",
    "test_tune.py",
)

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Two workers share the machine: threads of their own are in each other's way.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
# Traced graphs are objects by the million that stay: to look for garbage among them
# as often as Python does took a tenth of the tests' time.
gc.set_threshold(100_000, 20, 20)


def pytest_collection_modifyitems(items):
    """Puts the longest files first; the others stay in their order."""
    places = {name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(Path(item.path).name, len(places)))


@pytest.fixture(autouse=True, scope="module")
def memory():
    """Gives back what the models of a file hold, before the next file's are made."""
    yield
    if "keras" in sys.modules:
        sys.modules["keras"].backend.clear_session()
        if sys.modules["keras"].backend.backend() == "jax":
            sys.modules["jax"].clear_caches()
    gc.collect()
    # TensorFlow keeps what was traced; whoever looks for garbage need not look there.
    gc.freeze()
    if sys.platform == "linux":  # freed by Python is not yet given back to the machine
        ctypes.CDLL(None).malloc_trim(0)


@pytest.fixture(autouse=True)
def same_kernels():
    """Keeps a choice of kernels from reaching the processes of later tests.

    Benchmarks of serving choose others than training does; weights of two processes
    would then not be equal to the bit.
    """
    before = os.environ.get("TF_ENABLE_ONEDNN_OPTS")
    yield
    os.environ.pop("TF_ENABLE_ONEDNN_OPTS", None)
    if before is not None:
        os.environ["TF_ENABLE_ONEDNN_OPTS"] = before


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """The main job, small: a folder with raw/, data/ and run/ (with run/export/1)."""
    from small_run import NO_BASELINE

    from ctr_tf.commands.main import main

    folder = tmp_path_factory.mktemp("world")
    raw, data, run = (str(folder / name) for name in ("raw", "data", "run"))
    sizes = "--users=120 --days=8 --requests_per_user=6 --behaviors_per_user=60"
    recipe = ["--config", "sparsectr_synthetic"]
    settings = ["data.batch_size=32", "training.epochs=1", "training.log_every=10"]
    settings.append("model.num_blocks=1")  # half the graph to trace, again and again
    settings.append(NO_BASELINE)
    padded = ["--slate_sizes", "10,50", "--history_lengths", "64,128"]
    for words in (
        ["synthesize", "--output", raw, *sizes.split()],
        ["prepare", "--source", "synthetic", "--input", raw, "--output", data],
        ["train", *recipe, f"run={run}", f"data.path={data}", *settings],
        ["evaluate", "--run", run],
        ["export", "--run", run, *padded],
    ):
        assert main(words) == 0
    return folder


@pytest.fixture(scope="session")
def s3(tmp_path_factory):
    """An S3 server."""
    from s3_server import S3

    server = S3(tmp_path_factory.mktemp("s3") / "log.txt")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def bucket(s3, monkeypatch):
    """Name of an empty bucket; the environment says where it is."""
    import boto3
    import s3fs

    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    name = f"bucket-{uuid.uuid4().hex}"
    boto3.client("s3").create_bucket(Bucket=name)
    yield name
    s3fs.S3FileSystem.clear_instance_cache()
