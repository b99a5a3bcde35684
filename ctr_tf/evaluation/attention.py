"""Where a language model looks while it reads a user's texts: sinks, behaviors, others.

Shape suffixes: `B` batch, `N` behaviors, `H` heads, `L` tokens, `J` tokens as keys.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import tensorflow as tf
from matplotlib import pyplot
from matplotlib.axes import Axes

from ctr_tf.data.batches import BatchReader
from ctr_tf.data.prepared import PreparedData
from ctr_tf.data.text_inputs import TextInputs
from ctr_tf.data.text_tables import table
from ctr_tf.data.writing import serialize
from ctr_tf.errors import UserError
from ctr_tf.evaluation.plots import BLUE, GRAY, ORANGE, STYLE
from ctr_tf.models.texts_part import TextsPart
from ctr_tf.storage import as_path
from ctr_tf.storage.folders import writing
from ctr_tf.training.run import Run, load_run

KINDS = ("sinks", "behaviors", "others")
_COLORS = (ORANGE, BLUE, GRAY)
_NAMES = ("history", "negative history")


@dataclasses.dataclass(frozen=True)
class Attention:
    """How the tokens of one text of a user spend their attention.

    Args:
        run: name of the run.
        text: which text.
        tokens: how many the text has of each kind, in the order of `KINDS`.
        shares: `[layers, 3]`, of the attention of all tokens, mean of the heads; what
            is left of 1 went nowhere.
    """

    run: str
    text: str
    tokens: tuple[int, int, int]
    shares: np.ndarray


def attention_of(
    folder: str | Path, data: PreparedData, sample: Mapping[str, np.ndarray]
) -> list[Attention]:
    """What a run's language model looks at in one user's texts.

    Args:
        folder: of the run.
        data: the sample is from.
        sample: record key → values.

    Returns:
        One a text of the user.

    Raises:
        UserError: if the run's model reads no texts, or the data are others.
    """
    run = load_run(folder)
    if not run.ranker.reads_texts:
        raise UserError(
            f"`--attention` looks into a model that reads texts. Received: '{folder}', "
            f"a run of '{run.config.model.name}'"
        )
    read = data.read_as(run.schema, run.vocabularies)
    inputs = _inputs(run, read, sample)
    groups = run.ranker.embedding.assemble(inputs, run.ranker.lookup(inputs))
    part: TextsPart = run.ranker.texts
    told = part.told(groups["behaviors"], inputs["request_time"])
    found = []
    for name, (text, signal) in zip(_NAMES, told, strict=False):
        kinds_JK = _kinds(text)
        if not kinds_JK[:, KINDS.index("behaviors")].any():
            continue  # a user without such a behavior has no such text
        watch = _Watch(kinds_JK)
        part.read(text, signal, watch=watch)
        sinks, behaviors, others = kinds_JK.sum(0).tolist()
        counts = (sinks, behaviors, others)
        shares = np.stack(watch.layers)
        found.append(Attention(as_path(folder).resolve().name, name, counts, shares))
    return found


class _Watch:
    """Keeps what the tokens of one text spend on each kind, layer by layer."""

    def __init__(self, kinds_JK: np.ndarray):
        self._kinds_JK = kinds_JK
        self.layers: list[np.ndarray] = []

    def __call__(self, _: int, weights_BHLJ: Any) -> None:
        paid_LJ = np.asarray(weights_BHLJ, np.float32)[0].mean(0)
        asks_L = self._kinds_JK.any(1)
        self.layers.append(paid_LJ[asks_L].mean(0) @ self._kinds_JK)


def _inputs(run: Run, data: PreparedData, sample: Mapping) -> dict[str, tf.Tensor]:
    reader = BatchReader(
        run.schema,
        run.ranker.num_chunks,
        run.schema.history_length,
        with_labels=False,
        texts=TextInputs.of_tokens(data.vocabularies.texts),
    )
    (inputs,) = reader.read(tf.constant([serialize(data.map_ids(sample))]))
    return inputs


def _kinds(text: Any) -> np.ndarray:
    """`[J, 3]`: which tokens are sinks, behaviors' and others; none of padding."""
    mask, owner, place = (
        np.asarray(value)[0] for value in (text.mask, text.behavior, text.sink_place)
    )
    is_sink = np.zeros(len(mask), bool)
    is_sink[place[place >= 0]] = True
    of_behaviors = mask & (owner >= 0)
    others = mask & ~is_sink & ~of_behaviors
    return np.stack([is_sink, of_behaviors, others], axis=1)


def describe_attention(found: Sequence[Attention]) -> str:
    """A table: of each run and text, how much of its attention a kind gets by layer."""
    rows = []
    for one in found:
        counts = [f"{count:,}" for count in one.tokens]
        rows.append([one.run, one.text, "tokens", *counts])
        for layer, shares in enumerate(one.shares):
            percent = [f"{100 * share:.1f} %" for share in shares]
            rows.append([one.run, one.text, str(layer), *percent])
    header = ["run", "text", "layer", *KINDS]
    right = [False, False, True, True, True, True]
    return "\n".join(table(header, rows, right))


def plot_attention(found: Sequence[Attention], title: str, path: str | Path) -> None:
    """Draws them beside one another, a bar a layer.

    Args:
        found: of `attention_of`, of one run or more.
        title: of the picture.
        path: of the PNG file; its folder is made.
    """
    matplotlib.use("Agg")
    with matplotlib.rc_context(STYLE):
        figure, axes = pyplot.subplots(
            1,
            len(found),
            figsize=(1.6 + 3.4 * len(found), 3.8),
            layout="constrained",
            sharey=True,
            squeeze=False,
        )
        for axis, one in zip(axes[0], found, strict=True):
            _draw(axis, one)
        axes[0, 0].set_ylabel("share of attention, %")
        figure.legend(
            *axes[0, 0].get_legend_handles_labels(), loc="outside right center"
        )
        figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
        path = as_path(path)
        with writing(path.parent) as folder:
            figure.savefig(folder / path.name, dpi=120)
        pyplot.close(figure)


def _draw(axis: Axes, one: Attention) -> None:
    layers = np.arange(len(one.shares))
    below = np.zeros(len(layers))
    for kind, color, shares in zip(KINDS, _COLORS, 100 * one.shares.T, strict=True):
        axis.bar(layers, shares, 0.7, bottom=below, color=color, label=kind)
        for layer, share in zip(layers, shares, strict=True):
            if share >= 8:
                middle = below[layer] + share / 2
                axis.text(
                    layer, middle, f"{share:.0f}", ha="center", va="center", c="white"
                )
        below += shares
    sinks, behaviors, others = one.tokens
    tokens = f"{sinks} sinks, {behaviors} tokens of behaviors, {others} others"
    axis.set_title(f"{one.run}: {one.text}")
    axis.set(xlabel=f"layer\n{tokens}", ylim=(0, 100), xticks=layers)
