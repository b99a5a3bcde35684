"""A trained run becomes a SavedModel that scores raw requests.

A version is written beside its place, reloaded, held against the model's own scores,
warmed up as a server does it, and then renamed: a server that watches the folder sees a
whole version or none. The command is `ctr_tf.commands.export`, which tells what a
version holds.
"""

import argparse
import contextlib
import dataclasses
import glob
import json
import logging
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import tensorflow as tf

from ctr_tf.data.prepared import PreparedData
from ctr_tf.errors import UserError
from ctr_tf.models.ranker import Ranker
from ctr_tf.schema.vocabulary import content_hash
from ctr_tf.storage import as_path, check_store, files, is_remote
from ctr_tf.storage.folders import upload
from serving.defaults import (
    BATCH_SIZES,
    GOLDEN_SAMPLES,
    SLATE_SIZES,
    VERIFY_SAMPLES,
)
from serving.describe import describe, describe_state, readme
from serving.exported import (
    EXAMPLE_REQUEST,
    EXTRA,
    GOLDEN,
    SCHEMA,
    SIGNATURE,
    WARMUP,
    Exported,
    version_folders,
)
from serving.golden import (
    TOLERANCE,
    check_export,
    example_request,
    golden_requests,
    read_samples,
)
from serving.self_test import replay_warmup
from serving.signatures import ServingModule
from serving.sizes import (
    check_sizes,
    default_history_lengths,
    export_history_lengths,
)
from serving.warmup import write_warmup

_EXAMPLE_CANDIDATES = 50
_POOL = 200  # samples whose candidates example and warm-up may take

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """How a model is exported.

    Args:
        history_lengths: sizes that histories are padded to, ascending; of a longer
            history the latest behaviors count. Empty: the schema's `history_length`
            and its halves.
        slate_sizes: sizes that slates are padded to, ascending.
        batch_sizes: users in one batch that a server should form, ascending.
        state_dtype: of the floating tensors of the state, `"float32"` or
            `"bfloat16"`.
        xla: whether the dense computation asks for XLA. Not for stock TF Serving.
        samples: held-out samples whose scores are compared before publication.
    """

    history_lengths: Sequence[int] = ()
    slate_sizes: Sequence[int] = SLATE_SIZES
    batch_sizes: Sequence[int] = BATCH_SIZES
    state_dtype: str = "float32"
    xla: bool = False
    samples: int = GOLDEN_SAMPLES

    def __post_init__(self) -> None:
        for name in ("history_lengths", "slate_sizes", "batch_sizes"):
            sizes = getattr(self, name)
            if sizes or name != "history_lengths":
                check_sizes(name, sizes)
        if self.samples < 1:
            raise UserError(f"`samples` must be positive. Received: {self.samples}")


def export_ranker(
    ranker: Ranker,
    data: PreparedData,
    output: str | Path,
    options: ExportOptions | None = None,
) -> Path:
    """Writes, checks and publishes the next version of an exported model.

    Args:
        ranker: built and trained.
        data: it was trained on, or others read as those (`PreparedData.read_as`);
            some of the samples check the export.
        output: folder of versions, `1`, `2`, …
        options: sizes and formats.

    Returns:
        The folder of the new version.

    Raises:
        RuntimeError: if the export does not score like the model.
    """
    output, options = check_store(output), options or ExportOptions()
    histories = tuple(options.history_lengths) or default_history_lengths(
        data.schema.history_length
    )
    version = max([0, *versions(output)]) + 1
    with _work_folder(output, version) as work:
        temporary, vocabularies = work / "model", work / "vocabularies"
        data.vocabularies.save(vocabularies)
        module = ServingModule(
            ranker,
            vocabularies,
            histories,
            options.slate_sizes,
            options.state_dtype,
            options.xla,
        )
        signatures = module.signatures()
        tf.saved_model.save(module, str(temporary), signatures)
        tolerance = TOLERANCE[ranker.compute_dtype]
        exported = Exported(
            name=data.schema.name,
            history_lengths=histories,
            slate_sizes=tuple(options.slate_sizes),
            batch_sizes=tuple(options.batch_sizes),
            precision=ranker.compute_dtype,
            xla=options.xla,
            tolerance=tolerance,
            state_tolerance=max(tolerance, TOLERANCE[options.state_dtype]),
            state=module.layout,
            content_hash=content_hash(data.schema, data.vocabularies),
        )
        samples = read_samples(data, max(_POOL, options.samples))
        golden = golden_requests(ranker, histories[-1], samples[:GOLDEN_SAMPLES], data)
        request = example_request(samples[:_POOL], data, _EXAMPLE_CANDIDATES)
        _write_extra(temporary, data, exported, signatures, request, golden)
        model = tf.saved_model.load(str(temporary))
        held_out = samples[: options.samples]
        difference = check_export(temporary, model.signatures, ranker, held_out, data)
        _log.info(
            "Reloaded and checked: the scores of %d samples differ by at most %.1e.",
            len(held_out),
            difference,
        )
        warmup = temporary / EXTRA / WARMUP
        write_warmup(warmup, model.signatures, exported, samples[:_POOL], data)
        records = replay_warmup(warmup, model.signatures)
        _log.info("Warm-up: %d requests, all answered.", records)
        _log.info("State of a user: %s.", describe_state(exported))
        _publish(temporary, output / str(version))
    return output / str(version)


def _publish(folder: Path, version: Path) -> None:
    """A server that finds a version in a store loads it once its graph is there."""
    if is_remote(version):
        upload(folder, version, last=["saved_model.pb"])
    else:
        files.sync(folder)
        folder.rename(version)


@contextlib.contextmanager
def _work_folder(output: Path, version: int) -> Iterator[Path]:
    """Beside the versions; it is gone afterwards, also what a killed export left."""
    if is_remote(output):
        with tempfile.TemporaryDirectory(prefix="ctr-tf-") as temporary:
            yield Path(temporary)
        return
    output.mkdir(parents=True, exist_ok=True)
    for left in files.remove_left(f"{glob.escape(str(output))}/.[0-9]*.unfinished"):
        _log.warning("An earlier export was killed: removed '%s'.", left)
    work = output / f".{version}.{uuid.uuid4().hex}.unfinished"
    work.mkdir()
    try:
        with files.held(work):
            yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def versions(output: Path) -> list[int]:
    """Versions in a folder that may be there, ascending."""
    return list(version_folders(output)) if output.is_dir() else []


def _write_extra(
    folder: Path,
    data: PreparedData,
    exported: Exported,
    signatures: dict,
    request: dict,
    golden: list[dict],
) -> None:
    extra, schema = folder / EXTRA, data.schema
    extra.mkdir()
    schema.save(extra / SCHEMA)
    if data.vocabularies.texts:
        data.vocabularies.texts.save(extra)
    exported.save(folder)
    described = describe(schema, signatures)
    for name, value in (
        (SIGNATURE, described),
        (EXAMPLE_REQUEST, request),
        (GOLDEN, golden),
    ):
        text = json.dumps(value, indent=1, ensure_ascii=False)
        (extra / name).write_text(text + "\n", "utf-8")
    (extra / "README.md").write_text(readme(schema, exported, described), "utf-8")


def export(arguments: argparse.Namespace) -> Path:
    """Exports a run.

    Args:
        arguments: of the command.

    Returns:
        The folder of the version.

    Raises:
        RuntimeError: if the export does not score as the run does; see `export_ranker`.
    """
    from ctr_tf.training.run import load_run

    run = load_run(arguments.run)
    data = PreparedData.load(arguments.data or run.config.data.path)
    data = data.read_as(run.schema, run.vocabularies)
    trained = run.config.data.history_lengths or (data.schema.history_length,)
    samples = arguments.samples
    if samples is None:
        samples = VERIFY_SAMPLES if arguments.verify else GOLDEN_SAMPLES
    options = ExportOptions(
        history_lengths=export_history_lengths(arguments.history_lengths, trained),
        slate_sizes=arguments.slate_sizes,
        batch_sizes=arguments.batch_sizes,
        state_dtype=arguments.state_dtype,
        xla=arguments.xla,
        samples=samples,
    )
    output = arguments.output or as_path(arguments.run) / "export"
    with files.naming(output):
        folder = export_ranker(run.ranker, data, output, options)
    _log.info("Published %s", folder)
    return folder
