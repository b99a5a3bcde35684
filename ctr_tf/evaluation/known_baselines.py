"""What `ctr-tf baselines` has left, to be shown beside a run."""

import logging
from pathlib import Path

from ctr_tf.data.prepared import PreparedData
from ctr_tf.evaluation.origin import origin_of_data
from ctr_tf.storage import as_path, files

_log = logging.getLogger(__name__)


def default_output(folder: str | Path) -> Path:
    """Where the reports on a data set go if nothing else is said."""
    return Path("runs") / f"baselines-{as_path(folder).resolve().name}"


def known_baselines(
    data: PreparedData, split: str, folder: str | Path | None = None
) -> dict[str, dict]:
    """What baselines reach on a split.

    Args:
        data: the data set.
        split: of it.
        folder: of the reports; that of `default_output` where None.

    Returns:
        Baseline's name → its `metrics.json`, by ascending AUC; {} where there is none
        of this split of these data.

    Raises:
        FileNotFoundError: if the folder that is given has no report at all.
    """
    of_data = origin_of_data(data, split)["data"]
    place = as_path(folder or default_output(data.folder))
    found = {}
    for path in sorted(place.glob("*/metrics.json")):
        metrics = files.read_json(path)
        if "origin" in metrics:  # else it is a training's, such as the tower's
            found[path.parent.name] = metrics
    if folder is not None and not found:
        raise FileNotFoundError(
            f"There is no report of a baseline in '{place}': `ctr-tf baselines "
            "--output` writes them."
        )
    fit = {
        name: metrics
        for name, metrics in found.items()
        if all(metrics["origin"]["data"][k] == of_data[k] for k in ("hash", "split"))
    }
    if len(fit) < len(found):
        _log.info(
            "baselines in '%s' that are of other data or another split are left out: "
            "%s",
            place,
            ", ".join(sorted(found.keys() - fit.keys())),
        )
    return dict(sorted(fit.items(), key=lambda item: item[1]["auc"]))
