"""A run's folder: where training leaves what evaluation and export need.

config.yaml  schema.yaml  vocabularies/  checkpoints/  logs/  metrics.json  plots/
language_model/config.json, of a model that reads texts
baseline.json, where `ctr-tf train` has fitted one (`ctr_tf.evaluation.baseline_line`)
"""

import contextlib
import dataclasses
import datetime
import hashlib
import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import yaml

from ctr_tf import __version__
from ctr_tf import config as configs
from ctr_tf.data.prepared import PreparedData
from ctr_tf.errors import UserError
from ctr_tf.layers.text.lm_config import LM_CONFIG
from ctr_tf.models import MODELS, Ranker, build_ranker
from ctr_tf.models.sizes import TOWER
from ctr_tf.schema import Schema
from ctr_tf.schema.vocabulary import Vocabularies, content_hash
from ctr_tf.storage import as_path, check_store, files, is_remote
from ctr_tf.storage.folders import writing
from ctr_tf.tables.shard import Shard
from ctr_tf.training.checkpoints import load_weights
from ctr_tf.training.config import Config
from ctr_tf.training.distribution import named, texts_of_all, wait_for_all

_log = logging.getLogger(__name__)
METRICS = "metrics.json"  # written when a training has come to its end
LOGS = "logs"  # TensorBoard's
_CONFIG = "config.yaml"
_SCHEMA = "schema.yaml"
_VOCABULARIES = "vocabularies"
_LANGUAGE_MODEL = "language_model"  # its config.json, of a model that reads texts
# Keys of a recipe in which one training may differ: a run may be moved.
_OF_NO_TRAINING = ("run", "tune", "recipe")


@dataclasses.dataclass
class Run:
    """A trained model and what it was made from.

    Args:
        folder: of the run.
        config: the resolved recipe.
        schema: of the data.
        vocabularies: of the data.
        ranker: with its trained weights.
    """

    folder: Path
    config: Config
    schema: Schema
    vocabularies: Vocabularies
    ranker: Ranker


def load_run(
    folder: str | Path, weights: str = "best", shard: Shard | None = None
) -> Run:
    """Reads a run.

    Args:
        folder: of the run.
        weights: `"best"`, by validation, or `"last"`.
        shard: of the rows of its tables, that which is read; None: all of them.

    Raises:
        FileNotFoundError: if the folder is no run, or lacks a file or the checkpoint.
        UserError: if schema and vocabularies do not fit the checkpoint.
    """
    folder = check_store(folder)
    config = read_config(folder)
    schema, vocabularies = read_content(folder)
    ranker = build_ranker(
        model_of(folder, config),
        schema,
        vocabularies.table_sizes(schema),
        dtype=config.training.precision,
        texts=vocabularies.texts,
        shard=shard,
    )
    content = content_hash(schema, vocabularies)
    load_weights(checkpoint_folder(folder), ranker, weights, content)
    return Run(folder, config, schema, vocabularies, ranker)


def model_of(folder: str | Path, config: Config) -> Any:
    """The section `model` of a run's recipe, whose weights are in its checkpoints.

    A language model is made by the config.json that the run has kept.
    """
    if not hasattr(config.model, "texts"):
        return config.model
    kept = str(as_path(folder) / _LANGUAGE_MODEL)
    return config.model.with_texts(language_model=kept, pretrained=False)


def is_run(folder: str | Path) -> bool:
    """Whether a folder is that of a run."""
    return (as_path(folder) / _CONFIG).is_file()


def read_config(folder: str | Path) -> Config:
    """Reads the resolved recipe of a run.

    Raises:
        FileNotFoundError: if the folder is no run.
    """
    if not is_run(folder):
        raise FileNotFoundError(
            f"'{folder}' is not the folder of a run: it has no {_CONFIG}."
        )
    return configs.parse(Config, as_begun(configs.read(as_path(folder) / _CONFIG)))


def as_begun(values: Mapping) -> dict:
    """A resolved recipe, in which rankers of before they had a tower have none.

    Args:
        values: nested keys and values, all that there were when a run was begun.
    """
    result = {
        key: as_begun(value) if isinstance(value, Mapping) else value
        for key, value in values.items()
    }
    model = MODELS.get(str(result.get("name")))
    if model is not None and TOWER not in result:
        fields = {field.name for field in dataclasses.fields(model.config_class)}
        result |= {TOWER: []} if TOWER in fields else {}
    return result


def open_run(config: Config, data: PreparedData) -> Path:
    """Makes the folder of a run, or goes on in the one that is there.

    Args:
        config: the recipe.
        data: the prepared data set.

    Returns:
        The folder.

    Raises:
        UserError: if the folder holds something else, or a run by another recipe or
            of other data.
    """
    folder = check_store(config.run)
    if (folder / _CONFIG).is_file():
        mappings = [configs.to_mapping(c) for c in (read_config(folder), config)]
        for mapping in mappings:
            for key in _OF_NO_TRAINING:
                del mapping[key]
            # Where it is trained, and what is told at its end.
            for key in ("distribution", "tables", "baseline"):
                del mapping["training"][key]
            if mapping["stream"]:  # where it comes from, and how far it is followed
                del mapping["stream"]["broker"], mapping["stream"]["to_end"]
                del mapping["training"]["max_steps"]
        changed = configs.differences(mappings[0], mappings[1])
        if changed:
            raise UserError(
                f"Run '{folder}' exists and was made by another recipe. Choose another "
                "folder (run=…), or remove it. The two differ in "
                f"{', '.join(changed)}."
            )
        _check_content(folder, data)
        return folder
    begun = (_SCHEMA, _VOCABULARIES, _LANGUAGE_MODEL) if is_remote(folder) else ()
    if folder.exists() and not _holds_only(folder, begun):
        raise UserError(
            f"'{folder}' exists and is not the folder of a run. Received: run={folder}"
        )
    if is_remote(folder):
        with writing(folder, last=[_CONFIG]) as here:
            _begin(here, config, data)
        return folder
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    if unfinished.exists():
        _log.info("removed '%s', of a training that was killed", unfinished)
        shutil.rmtree(unfinished)
    unfinished.mkdir(parents=True)
    _begin(unfinished, config, data)
    files.sync(unfinished)
    unfinished.rename(folder)
    return folder


def check_workers(
    strategy: tf.distribute.Strategy, config: Config, data: PreparedData
) -> None:
    """Looks whether all workers are to train alike; all must come to this place.

    Data may lie elsewhere on each, as a run may.

    Raises:
        UserError: on all of them, names those that differ from the first, and in what.
    """
    recipe = configs.to_mapping(config)
    for key in _OF_NO_TRAINING:
        del recipe[key]
    del recipe["data"]["path"]
    own = {**recipe, "data set": fingerprint(data), "versions": made_now()["versions"]}
    first, *others = map(json.loads, texts_of_all(strategy, json.dumps(own)))
    found = ["", *(", ".join(configs.differences(first, other)) for other in others)]
    if different := sorted({told for told in found if told}):
        wait_for_all(strategy)
        raise UserError(
            "All workers train by one recipe, on the same data, with the same "
            "versions. Received, beside worker 0: "
            + "; ".join(
                f"{named(np.array([told == each for told in found]))}: {each}"
                for each in different
            )
        )


@contextlib.contextmanager
def held_run(folder: str | Path, worker: int = 0) -> Iterator[None]:
    """Keeps other processes from training in a run's folder; in a store it cannot.

    Args:
        folder: of the run.
        worker: index of this one; the first holds the folder for all.

    Raises:
        UserError: if another process trains there.
    """
    if worker or is_remote(as_path(folder)):
        yield
        return
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(files.held(folder))
        except BlockingIOError as error:
            raise UserError(f"Another process trains in '{folder}'.") from error
        yield


def _holds_only(folder: Path, names: Sequence[str]) -> bool:
    return folder.is_dir() and all(path.name in names for path in folder.iterdir())


def _begin(folder: Path, config: Config, data: PreparedData) -> None:
    data.schema.save(folder / _SCHEMA)
    data.vocabularies.save(folder / _VOCABULARIES)
    configs.dump(config, folder / _CONFIG)
    if hasattr(config.model, "texts"):
        (folder / _LANGUAGE_MODEL).mkdir()
        original = as_path(config.model.texts.language_model) / LM_CONFIG
        shutil.copy(original, folder / _LANGUAGE_MODEL)


def read_content(folder: str | Path) -> tuple[Schema, Vocabularies]:
    """Schema and vocabularies of a run.

    Raises:
        FileNotFoundError: names the file that is missing.
    """
    schema = Schema.load(as_path(folder) / _SCHEMA)
    return schema, Vocabularies.load(as_path(folder) / _VOCABULARIES, schema)


def _check_content(folder: Path, data: PreparedData) -> None:
    found = content_hash(*read_content(folder))
    if found != data.content_hash:
        raise UserError(
            f"Run '{folder}' exists and was begun with other data than '{data.folder}' "
            "holds now: schema or vocabularies differ. Choose another folder (run=…), "
            f"or remove it. The data have the content hash {data.content_hash}. "
            f"Received: {found}"
        )


def checkpoint_folder(folder: str | Path) -> Path:
    """Where a run's checkpoints lie."""
    return as_path(folder) / "checkpoints"


def made_now() -> dict[str, Any]:
    """When something is made, and by what: what `metrics.json` of a run says of it.

    Returns:
        `date`, ISO 8601 in UTC, and `versions` of packages.
    """
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    packages = {"ctr_tf": __version__, "tensorflow": tf.__version__}
    return {"date": now, "versions": {**packages, "keras": keras.__version__}}


def fingerprint(data: PreparedData) -> str:
    """Identifies a data set by its manifest."""
    text = yaml.safe_dump(data.manifest.to_mapping(), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
