"""What was run: where the figures of a report come from."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ctr_tf.storage import as_path, files

if TYPE_CHECKING:
    from ctr_tf.data.prepared import PreparedData
    from ctr_tf.training.run import Run

BASELINE = "baseline.json"  # in a run's folder; see `ctr_tf.evaluation.baseline_line`
_NAMED = 12  # letters of a hash that tell data apart for people


def origin_of_data(data: "PreparedData", split: str) -> dict[str, Any]:
    """What is measured on, and when: `data` and `measured`.

    Args:
        data: the data set.
        split: of it.
    """
    from ctr_tf.training.run import fingerprint, made_now

    about = {
        "name": data.manifest.name,
        "path": str(data.folder),
        "split": split,
        "samples": data.num_samples(split),
        "hash": fingerprint(data),
    }
    if data.manifest.negatives is not None:
        about["drawn"] = data.manifest.negatives.described
    return {"data": about, "measured": made_now()}


def origin_of_run(run: "Run", data: "PreparedData", split: str) -> dict[str, Any]:
    """What was run, and measured on what.

    Args:
        run: that was evaluated.
        data: on which.
        split: of them.

    Returns:
        `data` and `measured` of `origin_of_data`; `run`, its folder; `model`; `recipe`:
        the whole of it; `trained`: what its `metrics.json` says of steps, seconds, date
        and versions, {} where it has none; `baseline`: what `ctr-tf train` has told
        beside it, None where it has told nothing.
    """
    from ctr_tf import config as configs
    from ctr_tf.training.run import METRICS

    told = ("steps", "best_step", "seconds", "date", "versions", "validation")
    trained = _read(as_path(run.folder) / METRICS) or {}
    return {
        **origin_of_data(data, split),
        "run": str(run.folder),
        "model": run.config.model.name,
        "recipe": configs.to_mapping(run.config),
        "trained": {key: trained[key] for key in told if key in trained},
        "baseline": _read(as_path(run.folder) / BASELINE),
    }


def _read(path: Path) -> dict | None:
    return files.read_json(path) if path.is_file() else None


def rows(origin: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was run, as label and text; what nobody noted is said to be unknown.

    Args:
        origin: of `origin_of_run` or `origin_of_data`.
    """
    data, measured = origin["data"], origin["measured"]
    where = f"{data['name']}, {data['split']} of {data['path']}"
    found = [
        ("data", f"{where} ({data['hash'][:_NAMED]})"),
        ("measured", f"{measured['date']}, {_versions(measured)}"),
    ]
    if "drawn" in data:
        law = f"drawn, beside the clicked ones: {data['drawn']}; figures compare with "
        found.insert(1, ("candidates", law + "those of the same draws alone"))
    if "model" not in origin:
        return found
    recipe, trained = origin["recipe"], origin["trained"]
    on = recipe["data"]["path"]
    by = "of an unknown name" if not recipe.get("recipe") else recipe["recipe"]
    when = "an unknown date, by unknown versions"
    if "date" in trained:
        when = f"{trained['date']}, {_versions(trained)}"
    found = [
        ("model", origin["model"]),
        ("run", origin["run"]),
        *found[:-1],
        ("recipe", f"{by}, seed {recipe['training']['seed']}"),
        ("trained", f"{_how_long(trained)}, {when}"),
        *found[-1:],
    ]
    if on != data["path"]:
        found.insert(3, ("trained on", on))
    if trained.get("validation"):
        found.insert(-1, ("validation", _validation(trained, origin["baseline"])))
    return found


def recipe_text(origin: Mapping[str, Any]) -> str:
    """The whole recipe, as YAML; "" where nothing was trained by one."""
    recipe = origin.get("recipe")
    return yaml.safe_dump(recipe, sort_keys=False, width=88) if recipe else ""


def _versions(made: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {number}" for name, number in made["versions"].items())


def _how_long(trained: Mapping[str, Any]) -> str:
    if "steps" not in trained:
        return "not to its end"
    text = f"{trained['steps']:,} steps"
    if trained.get("best_step") not in (None, trained["steps"]):
        text += f" (the best: {trained['best_step']:,})"
    return f"{text}, {trained['seconds']:,.0f} s in the process that ended it"


def _validation(trained: Mapping[str, Any], baseline: Mapping | None) -> str:
    text = ", ".join(f"{k} {v:.4f}" for k, v in trained["validation"].items())
    if baseline is None:
        return text
    beside = ", ".join(
        f"{key} {value:.4f}"
        for key, value in baseline["validation"].items()
        if value is not None
    )
    return f"{text}; logistic regression: {beside}"
