"""The table of a comparison: for readers (Markdown), programs (JSON), sheets (CSV)."""

import csv
import dataclasses
import io
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from ctr_tf.compare.results import QUALITY, Row
from ctr_tf.evaluation.bootstrap import MAX_CANDIDATES
from ctr_tf.storage import as_path
from ctr_tf.tuning.space import shown

_TITLES = {
    "auc": "AUC",
    "gauc_user": "GAUC",
    "ndcg@10": "NDCG@10",
    "map": "MAP",
    "log_loss": "log loss",
}
_COSTS = {
    "flops": "MFLOPs",
    "latency_ms": "latency, ms",
    "examples_per_second": "examples/s",
}
_LESS_IS_BETTER = ("log_loss", "flops", "latency_ms")


def write_table(rows: Sequence[Row], about: dict, folder: Path) -> None:
    """Writes `table.md`, `table.json` and `table.csv`.

    Args:
        rows: of the table.
        about: `data`, `split`, `base`, `budget` (a recipe's sections), `exceptions`
            from it (`name:key=value`), `tuned` (model → a `Tuned` as a dict),
            `behaviors` and `candidates` of the request whose cost was measured.
        folder: to write to.
    """
    (folder / "table.md").write_text(markdown(rows, about), "utf-8")
    text = json.dumps({**about, "rows": [_plain(row) for row in rows]}, indent=1)
    (folder / "table.json").write_text(text + "\n", "utf-8")
    (folder / "table.csv").write_text(_csv(rows), "utf-8")


def markdown(rows: Sequence[Row], about: dict) -> str:
    """The table with a note on how to read it; the best of a column is bold.

    A row of fewer seeds than others have says so, and is never the best.
    """
    titles = ["model", *_TITLES.values(), "RelaImpr", "p", "network", "tables"]
    titles += _COSTS.values()
    seeds = max(row.seeds for row in rows)
    whole = [row for row in rows if row.seeds == seeds]
    best = {key: _best(whole, key) for key in (*_TITLES, *_COSTS)}
    lines = [
        f"# {as_path(about['data']).resolve().name}, {about['split']} split",
        "",
        "| " + " | ".join(titles) + " |",
        "|---" + "|---:" * (len(titles) - 1) + "|",
    ]
    for row in rows:
        cells = [_name(row, seeds)]
        cells += [_bold(_quality(row, key), row is best[key]) for key in _TITLES]
        cells += [_shown(row.rela_impr, _percent), _p_value(row)]
        cells += [_shown(row.network, _integer), _shown(row.tables, _integer)]
        for key, form in (
            ("flops", lambda flops: f"{flops / 1e6:,.1f}"),
            ("latency_ms", lambda ms: f"{ms:,.1f}"),
            ("examples_per_second", _integer),
        ):
            cells.append(_bold(_shown(getattr(row, key), form), row is best[key]))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *_notes(rows, about), ""])


def _name(row: Row, seeds: int) -> str:
    if row.seeds == seeds:
        return row.name
    left = f"{row.seeds} of {seeds} seeds" if row.seeds else "failed"
    return f"{row.name} ({left})"


def _rates(optimizer: dict) -> str:
    """Of the network, and of what has a rate of its own."""
    others = {
        "tables": optimizer["table_learning_rate"],
        "language models": optimizer["language_model_learning_rate"],
    }
    own = [f"of {name} {rate:g}" for name, rate in others.items() if rate is not None]
    return ", ".join([f"{optimizer['learning_rate']:g}", *own])


def _ends(training: dict) -> str:
    """What makes a training longer or shorter than its epochs."""
    told = {
        "min_steps": "at least {:,} steps",
        "max_steps": "at most {:,} steps",
        "patience": "until {:,} validations bring no new best",
    }
    ends = [words.format(training[key]) for key, words in told.items() if training[key]]
    return "".join(f", {end}" for end in ends)


def _notes(rows: Sequence[Row], about: dict) -> list[str]:
    seeds = max(row.seeds for row in rows)
    fewer = any(0 < row.seeds < seeds for row in rows)
    of_fewer = ", of rows with all seeds; the other runs failed" if fewer else ""
    optimizer, training = (about["budget"][k] for k in ("optimizer", "training"))
    batch = about["budget"]["data"]["batch_size"]
    objective = about["budget"]["objective"]
    terms = ", ".join(f"{name} {weight:g}" for name, weight in objective.items())
    exceptions = ", ".join(f"`{word}`" for word in about["exceptions"])
    except_for = f", except {exceptions}" if exceptions else ""
    return [
        f"* Budget of every model: epochs: {training['epochs']}{_ends(training)}, "
        f"batches of {batch} requests, learning rate {_rates(optimizer)}{except_for}. "
        f"Objective: {terms}. "
        f"Seeds: {seeds}, ± their standard deviation. Best by column in bold"
        f"{of_fewer}.",
        *_of_tuning(about["tuned"]),
        f"* RelaImpr: (AUC - 0.5) / (AUC of {about['base']} - 0.5) - 1.",
        f"* p: of AUC against {about['base']}, {_of_test(rows)}.",
        "* network, tables: trained weights. MFLOPs, latency: of one request with "
        f"{about['behaviors']:,} behaviors and {about['candidates']:,} candidates; "
        f"latency is a median on {len(os.sched_getaffinity(0))} cores, examples/s "
        "(requests) are of training, the median seed's.",
    ]


def _of_test(rows: Sequence[Row]) -> str:
    replicates = [row.test["auc"]["replicates"] for row in rows if "auc" in row.test]
    if not replicates:
        return (
            "is there where both have runs, and the split has at most "
            f"{MAX_CANDIDATES:,} candidates"
        )
    return (
        "two-sided, by a paired bootstrap that draws users and seeds "
        f"({max(replicates):,} replicates), corrected for the number of models (Holm)"
    )


def _of_tuning(tuned: dict) -> list[str]:
    """What each model, and its variants, has instead of the budget's values."""
    lines = []
    for model, found in tuned.items():
        failed = f", {found['failed']} failed" if found["failed"] else ""
        head = f"* {model}, tuned by {found['trials']} trials{failed}: "
        if found["best"] is None:
            lines.append(f"{head}none came to its end, so the recipe is as it is.")
            continue
        values = ", ".join(
            f"`{key}={shown(value)}`" for key, value in found["values"].items()
        )
        as_it_is = ", the recipe as it is" if found["best"] == 1 else ""
        lines.append(
            f"{head}{values} (trial {found['best']}{as_it_is}; {found['monitor']} "
            f"{found['value']:.4f} on validation)."
        )
    return lines


def _best(rows: Sequence[Row], key: str) -> Row | None:
    known = [(value, row) for row in rows if (value := _value(row, key))]
    choose = min if key in _LESS_IS_BETTER else max
    return choose(known, key=lambda pair: pair[0])[1] if known else None


def _value(row: Row, key: str) -> float | None:
    return row.mean(key) if key in QUALITY else getattr(row, key)


def _quality(row: Row, key: str) -> str:
    mean, spread = row.mean(key), row.spread(key)
    text = _shown(mean, "{:.4f}".format)
    return text if spread is None else f"{text} ± {spread:.4f}"


def _p_value(row: Row) -> str:
    if "auc" not in row.test:
        return "–"
    p = row.test["auc"]["p_holm"]
    return "< .01" if p < 0.01 else f"{p:.2f}"


def _shown(value: float | None, form: Callable[[float], str]) -> str:
    return form(value) if value is not None else "–"


def _integer(value: float) -> str:
    return f"{value:,.0f}"


def _percent(value: float) -> str:
    return f"{value:+.1%}".replace("%", " %")


def _bold(text: str, is_best: bool) -> str:
    return f"**{text}**" if is_best else text


def _plain(row: Row) -> dict:
    values = dataclasses.asdict(row)
    values["quality"] = {
        key: {"mean": row.mean(key), "spread": row.spread(key), "seeds": seeds}
        for key, seeds in row.quality.items()
    }
    return values


def _csv(rows: Sequence[Row]) -> str:
    costs = ("network", "tables", *_COSTS)
    header = ["model", "seeds"]
    header += [f"{key}{end}" for key in QUALITY for end in ("", "_spread")]
    header += ["rela_impr", "p_auc", "p_gauc_user", *costs]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        values = [row.name, row.seeds]
        values += [v for key in QUALITY for v in (row.mean(key), row.spread(key))]
        values.append(row.rela_impr)
        values += [row.test.get(k, {}).get("p_holm") for k in ("auc", "gauc_user")]
        writer.writerow([*values, *(getattr(row, key) for key in costs)])
    return stream.getvalue()
