"""`ctr-tf export`: a trained run becomes a SavedModel that scores raw requests.

    <output>/<version>/saved_model.pb  variables/  assets/<vocabulary>.txt
                       assets.extra/signature.json  README.md  schema.yaml
                                    example_request.json

A version is written beside its place, reloaded, held against the model's own scores,
and then renamed: a server that watches the folder sees a whole version or none.
"""

import argparse
import json
import logging
import shutil
import uuid
from pathlib import Path

import tensorflow as tf

from ctr_tf.data.dataset import history_lengths
from ctr_tf.data.prepared import PreparedData
from ctr_tf.models.ranker import Ranker
from ctr_tf.schema import Schema
from serving.golden import check_export, example_request, read_samples
from serving.inputs import Input, candidate_inputs, user_inputs
from serving.signatures import ServingModule

EXTRA = "assets.extra"
SIGNATURE = "signature.json"
SCHEMA = "schema.yaml"
EXAMPLE_REQUEST = "example_request.json"
_EXAMPLE_CANDIDATES = 50

_log = logging.getLogger(__name__)


def export_ranker(
    ranker: Ranker,
    data: PreparedData,
    output: str | Path,
    history_length: int | None = None,
) -> Path:
    """Writes, checks and publishes the next version of an exported model.

    Args:
        ranker: built and trained.
        data: it was trained on; some of its samples check the export.
        output: folder of versions, `1`, `2`, …
        history_length: N; of a longer history the latest N behaviors count. The
            schema's by default.

    Returns:
        The folder of the new version.

    Raises:
        RuntimeError: if the export does not score like the model.
    """
    output = Path(output)
    history_length = history_length or data.schema.history_length
    output.mkdir(parents=True, exist_ok=True)
    version = max([0, *versions(output)]) + 1
    temporary = output / f".{version}.{uuid.uuid4().hex}"
    try:
        module = ServingModule(ranker, data.folder / "vocabularies", history_length)
        signatures = module.signatures()
        tf.saved_model.save(module, str(temporary), signatures)
        samples = read_samples(data)
        _write_extra(
            temporary / EXTRA,
            data.schema,
            signatures,
            example_request(samples, data, _EXAMPLE_CANDIDATES),
        )
        difference = check_export(temporary, ranker, history_length, samples, data)
        _log.info("Reloaded and checked: scores differ by at most %.1e.", difference)
        temporary.rename(output / str(version))
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return output / str(version)


def versions(output: Path) -> list[int]:
    """Versions in a folder, ascending."""
    return sorted(int(path.name) for path in output.glob("[0-9]*") if path.is_dir())


def _write_extra(folder: Path, schema: Schema, signatures: dict, request: dict) -> None:
    folder.mkdir()
    schema.save(folder / SCHEMA)
    described = describe(schema, signatures)
    for name, value in ((SIGNATURE, described), (EXAMPLE_REQUEST, request)):
        text = json.dumps(value, indent=1, ensure_ascii=False)
        (folder / name).write_text(text + "\n", "utf-8")
    (folder / "README.md").write_text(_readme(schema, described), "utf-8")


def describe(schema: Schema, signatures: dict) -> dict:
    """Signature name → its inputs and outputs: name, dtype, shape, meaning."""
    raw = {i.name: i for i in [*user_inputs(schema), *candidate_inputs(schema)]}
    return {
        name: {
            "inputs": {
                spec.name: _describe(spec, raw.get(spec.name))
                for spec in function.structured_input_signature[1].values()
            },
            "outputs": {
                key: _describe(spec, None)
                for key, spec in function.structured_outputs.items()
            },
        }
        for name, function in signatures.items()
    }


def _describe(spec, raw: Input | None) -> dict:
    if raw is not None:
        return raw.describe()
    shape = ["batch", *("any" if n is None else n for n in spec.shape[1:])]
    return {"dtype": spec.dtype.name, "shape": shape}


def _readme(schema: Schema, described: dict) -> str:
    lines = [
        f"# A ranking model of `{schema.name}`",
        "",
        "Inputs are raw values, as the log has them: the vocabularies are inside.",
        "Rows of different length are padded on the right with anything; the length",
        "inputs say how many places count. An unknown id is no error. `missing` is",
        "what stands for a value that is not known.",
        "",
        f"`{EXAMPLE_REQUEST}` is a request for `ctr-tf score --model … --request …`,",
        f"`{SIGNATURE}` holds these tables for programs.",
    ]
    for name, signature in described.items():
        lines += ["", f"## `{name}`", "", "| input | dtype | shape | meaning |"]
        lines += ["|---|---|---|---|"]
        for key, value in signature["inputs"].items():
            shape = ", ".join(map(str, value["shape"]))
            meaning = value.get("meaning", "from `encode_user`")
            if name == "serialized_examples":
                meaning = "samples in the record format of training"
            lines.append(f"| `{key}` | {value['dtype']} | [{shape}] | {meaning} |")
        lines += ["", "Outputs: " + ", ".join(f"`{k}`" for k in signature["outputs"])]
    return "\n".join(lines) + "\n"


def main(argv: list[str]) -> int:
    """Exports a run."""
    parser = argparse.ArgumentParser(
        prog="ctr-tf export", description="Write a SavedModel for TF Serving."
    )
    parser.add_argument("--run", required=True, help="folder of the run")
    parser.add_argument(
        "--output", help="folder of versions; default: export/ of the run"
    )
    parser.add_argument(
        "--data", help="prepared data set; default: the one the run was trained on"
    )
    options = parser.parse_args(argv)
    for chatty in ("absl", "tensorflow"):  # names of tensors, for nobody's use
        logging.getLogger(chatty).setLevel(logging.WARNING)
    from ctr_tf.training.run import load_run

    run = load_run(options.run)
    data = PreparedData.load(options.data or run.config.data.path)
    if data.schema != run.schema:
        raise ValueError(
            "The data set's schema must be that of the run. "
            f"Received: --data {data.folder}"
        )
    folder = export_ranker(
        run.ranker,
        data,
        options.output or Path(options.run) / "export",
        history_lengths(data, run.config.data)[-1],
    )
    _log.info("Published %s", folder)
    print(folder)
    return 0
