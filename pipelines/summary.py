"""What the listwise job says of a data set when it has published it."""

from ctr_tf.data.manifest import SPLITS, Manifest
from pipelines.sources.source import Shard

_MANY_UNKNOWN = 0.2  # share of rows or values that is told
_MANY_TWICE = 0.1  # share of clicks that are told again that is told


def folder_notes(ignored: list[str], shards: list[Shard]) -> list[str]:
    """What of the input folder is not used, one line each."""
    notes = [f"not read: {', '.join(ignored)}"] if ignored else []
    empty = sorted({shard.path for shard in shards if shard.is_empty})
    if empty:
        notes.append(f"empty files, {len(empty):,}: {', '.join(empty)}")
    for table, unused in sorted({(s.table, s.unused) for s in shards if s.unused}):
        notes.append(f"columns of {table} that are not used: {', '.join(unused)}")
    return notes


def summary(manifest: Manifest, notes: list[str], seconds: float, path: str) -> str:
    """What was read and what became of it, for people.

    Args:
        manifest: of the data set.
        notes: further lines.
        seconds: that the job took.
        path: of the data set.
    """
    events = manifest.events
    head = f"{'table':<12}{'read':>13}{'kept':>13}{'merged':>13}{'rejected':>13}"
    lines = ["", head]
    for table, count in events.items():
        rejected = sum(count.rejected.values())
        numbers = (count.read, count.kept, count.merged, rejected)
        lines.append(f"{table:<12}" + "".join(f"{n:>13,}" for n in numbers))
        for reason, number in count.rejected.items():
            lines.append(f"  {number:>10,} {reason}")
    lines.append(f"{'split':<12}{'samples':>13}{'candidates':>13}{'clicks':>13}")
    for name, split in manifest.splits.items():
        sizes = (split.samples, split.candidates, split.clicks)
        lines.append(f"{name:<12}" + "".join(f"{n:>13,}" for n in sizes))
    lines += [f"{name:<50}{count:>13,}" for name, count in manifest.joins.items()]
    lines += [f"WARNING: {warning}" for warning in _warnings(manifest)]
    lines += notes
    total = events["exposures"].read + events["behaviors"].read
    lines.append(
        f"{total:,} events in {seconds:.1f} s, {total / seconds:,.0f}/s → {path}"
    )
    return "\n".join(lines)


def _warnings(manifest: Manifest) -> list[str]:
    """What looks as if the tables, or the vocabularies and the log, do not fit."""
    joins, warnings = manifest.joins, []
    for known, unknown, what in (
        ("users known", "users unknown", "users with requests have no row in users"),
        *(
            (f"{rows} with item row", f"{rows} without item row", f"{rows} {lack}")
            for rows, lack in (
                ("candidates", "are of items that have no row in items"),
                ("behaviors", "are of items that have no row in items"),
            )
        ),
    ):
        missing, all_rows = joins.get(unknown, 0), joins.get(known, 0)
        all_rows += missing
        if missing > _MANY_UNKNOWN * all_rows:
            warnings.append(f"{missing:,} of {all_rows:,} {what}")
    again, clicks = joins.get("clicks again in behaviors", 0), joins.get("clicks", 0)
    if again > _MANY_TWICE * clicks:
        warnings.append(
            f"{again:,} of {clicks:,} clicks stand again in the behaviors within an "
            "hour: histories hold them twice"
        )
    in_train = manifest.out_of_vocabulary[SPLITS[0]]
    for split in SPLITS[1:]:
        for name, share in manifest.out_of_vocabulary[split].items():
            if share > max(_MANY_UNKNOWN, 2 * in_train.get(name, 0)):
                warnings.append(f"{share:.0%} of {name} in {split} are unknown")
    return warnings
