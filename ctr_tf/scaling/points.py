"""From finished runs to the points that laws are fitted to."""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence

import numpy as np

from ctr_tf.compare.results import replicate_runs
from ctr_tf.scaling.grid import Cell


@dataclasses.dataclass
class Point:
    """A cell of the grid, measured.

    Args:
        cell: grade and share.
        samples: of the training, each counted once.
        flops: of one request.
        latency_ms: of one request, median over the seeds.
        network: weights outside tables.
        tables: weights of embedding tables.
        aucs: of each seed.
        replicates: AUC of each seed on every draw of users, float64 `[S, R]`.
        limit: AUC of the true probabilities; None where they are not known.
    """

    cell: Cell
    samples: int
    flops: int
    latency_ms: float
    network: int
    tables: int
    aucs: list[float]
    replicates: np.ndarray
    limit: float | None

    @property
    def auc(self) -> float:
        """Mean over the seeds."""
        return statistics.fmean(self.aucs)

    @property
    def spread(self) -> float | None:
        """Standard deviation (n - 1) over the seeds; None for one."""
        return statistics.stdev(self.aucs) if len(self.aucs) > 1 else None

    def resampled(self, random: np.random.Generator) -> np.ndarray:
        """Mean AUC over seeds drawn with replacement, for every draw of users `[R]`.

        Drawn from S seeds, a mean varies too little, by a factor (S - 1) / S in
        variance: three seeds would make a band a fifth too narrow. That is made up for.
        """
        seeds = len(self.aucs)
        drawn = random.integers(seeds, size=self.replicates.shape)
        mean = self.replicates.mean(0)
        luck = np.take_along_axis(self.replicates, drawn, 0).mean(0) - mean
        return mean + luck * (seeds / max(seeds - 1, 1)) ** 0.5


def make_points(
    cells: Mapping[str, Cell],
    finished: Mapping[str, Sequence[dict]],
    samples: Mapping[float, int],
    replicates: int,
) -> list[Point]:
    """What was measured of every cell that has a finished run.

    Args:
        cells: variant's name → its cell.
        finished: variant's name → results of `read_finished`, one a seed.
        samples: share → training samples.
        replicates: draws of users; fewer where there are many.

    Raises:
        UserError: if the runs were evaluated on different candidates.
    """
    measured = replicate_runs(finished, next(iter(finished)), replicates)
    points = []
    for name, runs in finished.items():
        cost, values = runs[0]["cost"], np.stack([run["auc"] for run in measured[name]])
        points.append(
            Point(
                cells[name],
                samples[cells[name].share],
                cost["flops"],
                statistics.median(run["cost"]["latency_ms"] for run in runs),
                cost["parameters"]["network"],
                cost["parameters"]["tables"],
                [run["quality"]["auc"] for run in runs],
                values[:, 1:],
                runs[0]["quality"].get("reachable", {}).get("auc"),
            )
        )
    return points


def seed_noise(points: Sequence[Point]) -> float | None:
    """Standard deviation of one training, pooled over points; None with one seed each.

    Two or three seeds tell little of one point's own.
    """
    freedom = sum(len(point.aucs) - 1 for point in points)
    if not freedom:
        return None
    squares = sum((auc - point.auc) ** 2 for point in points for auc in point.aucs)
    return float(np.sqrt(squares / freedom))
