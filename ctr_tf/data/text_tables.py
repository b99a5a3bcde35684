"""Aligned plain text for people: tables within a width, times, counts."""

import datetime
from collections.abc import Sequence

import numpy as np

from ctr_tf import time as times

WIDTH = 100
_GAP = "  "
_LEAST = 4  # characters a column keeps when a table must shrink


def local_time(seconds: int, zone: int | str) -> str:
    """Such as ``Thu 2023-03-02 08:12:33``.

    Args:
        seconds: since 1970, UTC.
        zone: of local time; see `ctr_tf.time.local_time`.
    """
    local = times.local_time(np.array(seconds, np.int64), zone)
    moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=int(local))
    return f"{moment:%a %Y-%m-%d %H:%M:%S}"


def plural(count: int, noun: str) -> str:
    """Such as ``1 click`` or ``2,000 clicks``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    right: Sequence[bool],
    width: int = WIDTH,
    whole: int = 0,
) -> list[str]:
    """Lines of an aligned table, cut until it fits: names first, then wide columns.

    Args:
        header: names of the columns.
        rows: cells; the number of columns is that of the header.
        right: whether a column is aligned to the right.
        width: most characters a line may have.
        whole: how many of the first columns are not to be cut.
    """
    lines = [header, *rows]
    least = [max([_LEAST, *(len(row[k]) for row in rows)]) for k in range(len(header))]
    sizes = [max(len(line[k]) for line in lines) for k in range(len(header))]
    while total_width(sizes) > width and max(sizes[whole:]) > _LEAST:
        long_names = [k for k in range(whole, len(sizes)) if sizes[k] > least[k]]
        widest = max(long_names or range(whole, len(sizes)), key=sizes.__getitem__)
        sizes[widest] -= 1
    return [
        _GAP.join(
            _cut(cell, size).rjust(size) if to_right else _cut(cell, size).ljust(size)
            for cell, size, to_right in zip(line, sizes, right, strict=True)
        ).rstrip()
        for line in lines
    ]


def bands(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    right: Sequence[bool],
    keys: int,
    width: int = WIDTH,
) -> list[list[str]]:
    """A table that may be too wide, as several tables that share their first columns.

    Args:
        header: names of the columns.
        rows: cells.
        right: whether a column is aligned to the right.
        keys: how many of the first columns every part repeats.
        width: most characters a line may have.
    """
    sizes = [max(len(line[k]) for line in [header, *rows]) for k in range(len(header))]
    fixed = list(range(keys))
    parts: list[list[int]] = [[]]
    for column in range(keys, len(header)):
        chosen = fixed + parts[-1] + [column]
        if parts[-1] and total_width([sizes[k] for k in chosen]) > width:
            parts.append([])
        parts[-1].append(column)
    return [
        table(
            [header[k] for k in fixed + part],
            [[row[k] for k in fixed + part] for row in rows],
            [right[k] for k in fixed + part],
            width,
        )
        for part in parts
    ]


def paragraph(title: str, items: Sequence[str], width: int = WIDTH) -> list[str]:
    """A title and items beside it, wrapped."""
    indent = " " * 12
    lines = [title.ljust(len(indent))]
    for item in items or ["-"]:
        if len(lines[-1]) > len(indent) and len(lines[-1]) + len(item) + 3 > width:
            lines.append(indent)
        lines[-1] += item if lines[-1].rstrip() in ("", title) else f"   {item}"
    return lines


def total_width(sizes: Sequence[int]) -> int:
    """Characters of a line with columns of these sizes."""
    return sum(sizes) + len(_GAP) * (len(sizes) - 1)


def _cut(cell: str, size: int) -> str:
    return cell if len(cell) <= size else cell[: size - 1] + "…"
