"""Which grade to take for a budget: said of what was measured, of nothing else."""

from collections.abc import Sequence

from ctr_tf.scaling.points import Point

COSTS = {"flops": (1e6, "MFLOP a request"), "latency_ms": (1, "ms a request")}


def of_most_samples(points: Sequence[Point]) -> list[Point]:
    """The points to choose from: a model is trained on all that there is."""
    most = max(point.samples for point in points)
    return [point for point in points if point.samples == most]


def pareto_front(points: Sequence[Point], cost: str) -> list[Point]:
    """The points that no cheaper or equally dear one reaches, ascending.

    Args:
        points: measured.
        cost: a key of `COSTS`.
    """
    front: list[Point] = []
    for point in sorted(points, key=lambda p: (getattr(p, cost), -p.auc)):
        if not front or point.auc > front[-1].auc:
            front.append(point)
    return front


def advice(points: Sequence[Point], cost: str, budget: float) -> str:
    """One sentence: the best grade within the budget, and what the next would bring.

    Args:
        points: measured.
        cost: a key of `COSTS`.
        budget: in the cost's own unit.
    """
    unit, words = COSTS[cost]
    front = pareto_front(points, cost)
    within = [point for point in front if getattr(point, cost) <= budget]
    told = f"For a budget of {budget / unit:.4g} {words}"
    if not within:
        cheapest = front[0]
        return (
            f"{told} no grade was measured: the cheapest, {cheapest.cell}, takes "
            f"{getattr(cheapest, cost) / unit:.4g}."
        )
    best = within[-1]
    told += (
        f" the best measured is {best.cell}: AUC {best.auc:.4f} for "
        f"{getattr(best, cost) / unit:.4g}."
    )
    if len(within) == len(front):
        return f"{told} Nothing dearer was better."
    dearer = front[len(within)]
    ratio = getattr(dearer, cost) / getattr(best, cost)
    return (
        f"{told} The next, {dearer.cell}, brings {dearer.auc - best.auc:+.4f} AUC for "
        f"{ratio:.2g} times as much."
    )
