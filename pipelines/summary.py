"""What the listwise job says of a data set when it has published it."""

from collections.abc import Collection, Mapping

from ctr_tf.data.manifest import SPLITS, Manifest
from ctr_tf.data.negatives import UNIFORM, Negatives
from pipelines.sources.source import Shard
from pipelines.splits import date_of

_MANY_UNKNOWN = 0.2  # share of rows or values that is told
_MOST_UNKNOWN = 0.5  # share of the training's own values that is told
_MANY_TWICE = 0.1  # share of clicks that stand there twice that is told
_FEW_CLICKS = 20  # of a split that is told
_MANY_OF_ONE = 0.1  # difference of shares of clicks and negatives that is told
_MANY_LACKING = 0.01  # share of negatives that could not be drawn that is told


def folder_notes(ignored: list[str], shards: list[Shard]) -> list[str]:
    """What of the input folder is not used, one line each."""
    notes = [f"not read: {', '.join(ignored)}"] if ignored else []
    empty = sorted({shard.path for shard in shards if shard.is_empty})
    if empty:
        notes.append(f"empty files, {len(empty):,}: {', '.join(empty)}")
    for table, unused in sorted({(s.table, s.unused) for s in shards if s.unused}):
        notes.append(f"columns of {table} that are not used: {', '.join(unused)}")
    return notes


def empty_splits(manifest: Manifest, meant: Collection[str]) -> list[str]:
    """What is told of splits that nobody meant to be empty, one line each.

    Args:
        manifest: of the data set.
        meant: splits that may be.
    """
    ranges = [split.time_range for split in manifest.splits.values()]
    known = [time_range for time_range in ranges if time_range]
    notes = []
    for name, split in manifest.splits.items():
        if split.samples or name in meant:
            continue
        begins = split.begins
        told = "" if begins is None else f", which begins at {date_of(begins)}"
        line = f"WARNING: there is no sample in the split '{name}'{told}"
        if known:
            first, last = min(r[0] for r in known), max(r[1] for r in known)
            line += f"; all are of {date_of(first)} to {date_of(last)}"
        notes.append(line)
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
        if count.older:
            lines.append(f"  {count.older:>10,} older than what any sample knows")
    lines.append(f"{'split':<12}{'samples':>13}{'candidates':>13}{'clicks':>13}")
    for name, split in manifest.splits.items():
        sizes = (split.samples, split.candidates, split.clicks)
        times = split.time_range
        ends = f"   {date_of(times[0])} to {date_of(times[1])}" if times else ""
        lines.append(f"{name:<12}" + "".join(f"{n:>13,}" for n in sizes) + ends)
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
    for part, found in manifest.splits.items():
        if found.samples and found.clicks < _FEW_CLICKS:
            warnings.append(
                f"{part} has {found.clicks:,} clicks: nothing can be told by so few"
            )
    for known, unknown, what in (
        ("users known", "users unknown", "users with requests have no row in users"),
        *(
            (f"{rows} with item row", f"{rows} without item row", f"{rows} {lack}")
            for rows, lack in (
                ("candidates", "are of items that have no row in items"),
                ("behaviors", "are of items that have no row in items"),
            )
        ),
        (
            "behaviors of users with requests",
            "behaviors of users without requests",
            "behaviors are of users without requests: no history holds them",
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
    late = joins.get("clicks of items just shown unclicked", 0)
    if late > _MANY_TWICE * clicks:
        warnings.append(
            f"{late:,} of {clicks:,} clicks have no request id and are of items shown "
            "unclicked within `session_gap` before: a click that is a row of its own "
            "needs the `request_id` of what was shown"
        )
    if manifest.negatives is not None:
        warnings += _negatives_warnings(joins, manifest.negatives)
    in_train = manifest.out_of_vocabulary[SPLITS[0]]
    for name, share in in_train.items():
        if share > _MOST_UNKNOWN:
            warnings.append(
                f"{share:.0%} of {name} are unknown in the training itself: the "
                "vocabulary lacks them. `min_count` and `max_size` say what it holds"
            )
    for split in SPLITS[1:]:
        for name, share in manifest.out_of_vocabulary[split].items():
            if share > max(_MANY_UNKNOWN, 2 * in_train.get(name, 0)):
                warnings.append(
                    f"{share:.0%} of {name} in {split} are unknown: the training lacks "
                    "them. `training.unknown_values` teaches what to make of such"
                )
    return warnings


def _negatives_warnings(joins: Mapping[str, int], negatives: Negatives) -> list[str]:
    """What makes drawn candidates other than those that might have been shown."""
    warnings = []
    drawn, lacking = (joins.get(f"negatives {k}", 0) for k in ("drawn", "lacking"))
    if lacking > _MANY_LACKING * (drawn + lacking):
        warnings.append(
            f"{lacking:,} of {drawn + lacking:,} negatives could not be drawn: the log "
            "had shown too few items by then that the user did not take"
        )
    clicks = joins.get("clicks", 0)
    more = "; --negatives_by=popularity draws what is new, too"
    for what, way in (
        (
            "taken before",
            "; a shorter --negatives_window draws what was taken long ago",
        ),
        ("not shown before", more if negatives.by == UNIFORM else ""),
    ):
        shares = [
            joins.get(f"{kind} of items {what}", 0) / max(count, 1)
            for kind, count in (("clicks", clicks), ("negatives", drawn))
        ]
        if abs(shares[0] - shares[1]) > _MANY_OF_ONE:
            warnings.append(
                f"{shares[0]:.0%} of the clicks are of items {what}, and "
                f"{shares[1]:.0%} of the negatives: a model can tell them apart by "
                f"that alone{way}"
            )
    some = "items with several values of "
    for name, count in joins.items():
        items = joins.get("items in the exposures", 0)
        if name.startswith(some) and count > _MANY_OF_ONE * items:
            feature = name.removeprefix(some)
            warnings.append(
                f"{count:,} of {items:,} items have several values of '{feature}' in "
                "the exposures: drawn candidates have one of them, clicked ones that "
                f"of the day. Leave it out, or put one '{feature}' an item into items"
            )
    return warnings
