"""What an export tells people and programs about its signatures, sizes and state."""

import collections

import tensorflow as tf

from ctr_tf.schema import Schema
from serving.defaults import STATE_DTYPES
from serving.exported import (
    EXAMPLE_REQUEST,
    EXPORT,
    GOLDEN,
    SIGNATURE,
    WARMUP,
    Exported,
)
from serving.inputs import Input, candidate_inputs, user_inputs
from serving.saved_model import Signatures
from serving.state import STATE, StateLayout


def describe(schema: Schema, signatures: Signatures) -> dict:
    """Signature name → its inputs and outputs: name, dtype, shape, meaning."""
    raw = {i.name: i for i in [*user_inputs(schema), *candidate_inputs(schema)]}
    return {
        name: {
            "inputs": {
                spec.name: _describe(spec, raw.get(spec.name), schema)
                for spec in function.structured_input_signature[1].values()
            },
            "outputs": {
                key: _describe(spec, None, schema)
                for key, spec in function.structured_outputs.items()
            },
        }
        for name, function in signatures.items()
    }


def _describe(spec: tf.TensorSpec, raw: Input | None, schema: Schema) -> dict:
    if raw is not None:
        return raw.describe(schema)
    shape = ["batch", *("any" if n is None else n for n in spec.shape[1:])]
    return {"dtype": spec.dtype.name, "shape": shape}


def readme(schema: Schema, exported: Exported, described: dict) -> str:
    """The export in words and tables, for `assets.extra/README.md`.

    Args:
        schema: of the model.
        exported: sizes and state.
        described: by `describe`.
    """
    histories = ", ".join(map(str, exported.history_lengths))
    slates = ", ".join(map(str, exported.slate_sizes))
    lines = [
        f"# A ranking model of `{schema.name}`",
        "",
        "Inputs are raw values, as the log has them: the vocabularies are inside.",
        "Rows of different length are padded on the right with anything; the length",
        "inputs say how many places count. An unknown id is no error. `missing` is",
        f"what stands for a value that is not known; in `{SIGNATURE}` an input has",
        "the `null_values` of the log, for which it stands, too.",
        "",
        f"Histories are padded to {histories} behaviors, and of a longer one the",
        f"latest {exported.history_lengths[-1]} count; slates to {slates} candidates.",
        f"`{WARMUP}` warms up all of these. In a batch of several",
        "users the outputs are as wide as its largest slate: places behind a row's",
        "own candidates mean nothing.",
        "",
        f"The state of a user has {describe_state(exported)}.",
        "`encode_user` gives it packed, `score_candidates` takes it so, and",
        "`serving/state.py` turns it into bytes and back. In it stand side by side:",
        "",
        "| columns of | from | tensor of the model | shape |",
        "|---|---|---|---|",
        *_state_rows(exported.state),
        "",
        f"`{EXAMPLE_REQUEST}` is a request for `ctr-tf score --export … --request …`,",
        f"`{GOLDEN}` holds requests and their right answers, `{SIGNATURE}` and",
        f"`{EXPORT}` hold what stands here for programs.",
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


def _state_rows(state: StateLayout) -> list[str]:
    """The state's tensors and their first columns, as rows of a table."""
    columns: collections.Counter[str] = collections.Counter()
    rows = []
    for tensor in state.tensors:
        start = columns[tensor.dtype]
        columns[tensor.dtype] += tensor.size
        rows.append(
            f"| `{STATE}{tensor.dtype}` | {start} | {tensor.name} | "
            f"{list(tensor.shape)} |"
        )
    return rows


def describe_state(exported: Exported) -> str:
    """The state's size, format and model, in words."""
    state = exported.state
    floats = {t.dtype for t in state.tensors} & set(STATE_DTYPES)
    return (
        f"{state.num_bytes:,} bytes ({', '.join(sorted(floats))}), layout "
        f"{state.version} of model {state.fingerprint}"
    )
