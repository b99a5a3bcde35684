"""The samples of a log, computed row by row in plain Python, from the contract.

Slow and obvious on purpose, and independent of `pipelines`: nothing is sorted by keys
that are packed together, no window is a range of anything.
"""

import datetime
import math
import zoneinfo
from collections import Counter

import numpy as np

from ctr_tf.schema import MISSING, Schema, parse_duration


def _content(row, names):
    """What orders rows whose other keys are equal: their values, null first."""
    return [(row.get(name) is not None, row.get(name)) for name in names]


def _known(row, schema):
    """When the click of a row could be known."""
    if row.get("click_time") is not None:
        return row["click_time"]
    delay = parse_duration(schema.feedback_delay, may_be_zero=True)
    return row["time"] + delay * schema.ticks


def _since(now, schema):
    """From when on what happened counts, in ticks."""
    if schema.horizon is None:
        return 0
    day = 86_400 * schema.ticks
    begin = now - parse_duration(schema.horizon) * schema.ticks
    return begin - begin % day


def _merged(rows, names, schema: Schema):
    """Rows of one slate and item as one exposure."""
    first = min(rows, key=lambda r: (r["time"], _content(r, names)))
    largest = {label: max(r[label] for r in rows) for label in schema.labels}
    clicks = [r for r in rows if r[schema.labels[0]] == 1]
    if not clicks:
        return first | largest | {"known": None}
    click = min(
        clicks, key=lambda r: (_known(r, schema), r["time"], _content(r, names))
    )
    of_click = {n: click.get(n) for n in names if n.startswith("behavior_")}
    return first | largest | of_click | {"known": _known(click, schema)}


def slates(exposures, schema: Schema):
    """Lists of exposures that were shown together, by (user, request id)."""
    gap = parse_duration(schema.session_gap) * schema.ticks
    names = sorted({name for row in exposures for name in row})
    groups, result = {}, {}
    for row in sorted(exposures, key=lambda r: (r["time"], r["item_id"])):
        groups.setdefault((row["user_id"], row.get("request_id")), []).append(row)
    for (user, request), rows in groups.items():
        slate, key = [], None
        for row in rows:
            far = slate and row["time"] - slate[-1]["time"] >= gap
            again = request is None and any(
                r["item_id"] == row["item_id"] and r["time"] < row["time"]
                for r in slate
            )
            if not slate or far or again:
                slate = []
                if request is None:
                    key = f"{user}:{row['time']}"
                elif key is None:
                    key = str(request)
                else:
                    key = f"{request}@{row['time'] // schema.ticks}"
                result[user, key] = slate
            slate.append(row)
    for key, rows in result.items():
        by_item = {}
        for row in rows:
            by_item.setdefault(row["item_id"], []).append(row)
        merged = [_merged(same, names, schema) for same in by_item.values()]
        result[key] = sorted(merged, key=lambda r: (r["time"], r["item_id"]))
    return result


def exposures_of(log, schema: Schema):
    """All exposures, each once."""
    return [row for rows in slates(log["exposures"], schema).values() for row in rows]


def timelines(behaviors, exposures, schema: Schema):
    """User → behaviors, clicks included, oldest first."""
    events = [(False, row) for row in behaviors]
    for row in exposures:
        if row["known"] is not None:
            click = {k: v for k, v in row.items() if not k.startswith("behavior_")}
            click |= {
                k.removeprefix("behavior_"): v
                for k, v in row.items()
                if k.startswith("behavior_")
            }
            events.append((True, click | {"time": row["known"]}))
    own = [f.name for f in schema.of("behavior") if not f.computed]
    items = [f.name for f in schema.of("item")]
    merged = {}
    for is_click, row in sorted(
        events, key=lambda event: (event[0], _content(event[1], items))
    ):
        identity = (row["user_id"], row["time"], row["item_id"])
        merged.setdefault((identity, tuple(_content(row, own))), (is_click, row))
    result = {}
    for _, (_, row) in sorted(
        merged.items(), key=lambda entry: (entry[0], entry[1][0])
    ):
        result.setdefault(row["user_id"], []).append(row)
    return result


def _features(role, schema):
    return [f for f in schema.of(role) if not f.computed]


def _item_value(row, feature, items):
    value = row.get(feature.name)
    if value is None:
        value = items.get(row["item_id"], {}).get(feature.name)
    return value


def vocabularies(log, schema: Schema, validation_start):
    """Vocabulary → values, most frequent first."""
    exposures = exposures_of(log, schema)
    items = {row["item_id"]: row for row in reversed(log.get("items", []))}
    users = {row["user_id"]: row for row in reversed(log.get("users", []))}
    shown = slates(log["exposures"], schema)
    validation_start *= schema.ticks
    early = [
        rows
        for rows in shown.values()
        if min(r["time"] for r in rows) < validation_start
    ]
    raw = timelines(log.get("behaviors", []), [], schema)
    behaviors = [
        row for rows in raw.values() for row in rows if row["time"] < validation_start
    ]
    counts = {name: Counter() for name in schema.vocabularies()}
    for name, features in schema.vocabularies().items():
        for f in features:
            values = []
            if f.role == "item":
                rows = [r for slate in early for r in slate] + behaviors
                values = [_item_value(r, f, items) for r in rows]
            elif f.role == "candidate":
                values = [r.get(f.name) for slate in early for r in slate]
            elif f.role == "context":
                values = [slate[0].get(f.name) for slate in early]
            elif f.role == "behavior":
                timeline = timelines(log.get("behaviors", []), exposures, schema)
                values = [
                    r.get(f.name)
                    for rows in timeline.values()
                    for r in rows
                    if r["time"] < validation_start
                ]
            elif f.role == "user":
                for user in {slate[0]["user_id"] for slate in early}:
                    value = users.get(user, {"user_id": user}).get(f.name)
                    value = value if isinstance(value, list) else [value]
                    values += value[: f.length]
            counts[name].update(str(v) for v in values if v is not None)
    result = {}
    for name, features in schema.vocabularies().items():
        least = max(f.min_count for f in features)
        most = min((f.max_size for f in features if f.max_size), default=None)
        entries = [(-c, v) for v, c in counts[name].items() if c >= least]
        entries.sort(key=lambda e: (e[0], e[1].encode()))
        result[name] = [v for _, v in entries][:most]
    return result


def _stored(feature, value, vocabulary):
    if feature.kind == "categorical":
        entries = vocabulary[feature.vocabulary_name]
        return entries.index(str(value)) + 2 if str(value) in entries else 1
    if value is None or value != value:
        return feature.stored_missing
    return value


def chunks(times, num_chunks):
    """Cuts at the largest gaps; of equal gaps the later cuts first."""
    gaps = [(times[i] - times[i - 1], i) for i in range(1, len(times))]
    cuts = {i for _, i in sorted(gaps, reverse=True)[: num_chunks - 1]}
    ids, chunk = [], 1
    for i in range(len(times)):
        chunk += i in cuts
        ids.append(chunk)
    return ids


def samples(log, schema: Schema, validation_start, vocabulary=None):
    """Every sample, by (user id, request id), as key → list of values."""
    if vocabulary is None:
        vocabulary = vocabularies(log, schema, validation_start)
    exposures = exposures_of(log, schema)
    items = {row["item_id"]: row for row in reversed(log.get("items", []))}
    users = {row["user_id"]: row for row in reversed(log.get("users", []))}
    histories = timelines(log.get("behaviors", []), exposures, schema)
    raw = timelines(log.get("behaviors", []), [], schema)
    raw = [row for rows in raw.values() for row in rows]
    label = schema.labels[0]
    result = {}
    for (user, request), slate in slates(log["exposures"], schema).items():
        raw_now = min(row["time"] for row in slate)
        now = raw_now // schema.ticks
        sample = {
            "request_id": [request.encode()],
            "user_id": [str(user).encode()],
            "request_time": [now],
            "context_hour": [_hour(now, schema)],
            "context_weekend": [_weekend(now, schema)],
            "label": [row[label] for row in slate],
        }
        if schema.slate_size:
            sample["context_slate_size"] = [len(slate)]
        for name in schema.labels[1:]:
            sample[f"label_{name}"] = [row[name] for row in slate]
        for f in schema.user:
            value = users.get(user, {}).get(f.name)
            sample[f"user_{f.name}"] = _listed(f, value, vocabulary)
        for f in _features("context", schema):
            value = slate[0].get(f.name)
            sample[f"context_{f.name}"] = _listed(f, value, vocabulary)
        past = [
            row
            for row in histories.get(user, [])
            if _since(raw_now, schema) <= row["time"] < raw_now
        ]
        past = past[-schema.history_length :]
        times = [row["time"] // schema.ticks for row in past]
        sample["behavior_time"] = times
        sample["behavior_chunk"] = chunks(times, schema.num_chunks)
        sample["behavior_hour"] = [_hour(t, schema) for t in times]
        sample["behavior_weekend"] = [_weekend(t, schema) for t in times]
        for prefix, rows in (("behavior", past), ("candidate", slate)):
            for f in _features("item", schema):
                sample[f"{prefix}_{f.name}"] = [
                    _stored(f, _item_value(row, f, items), vocabulary) for row in rows
                ]
            for f in _features(prefix, schema):
                sample[f"{prefix}_{f.name}"] = [
                    _stored(f, row.get(f.name), vocabulary) for row in rows
                ]
        counted = [
            _counters(row, exposures, raw, raw_now, schema, items, users)
            for row in slate
        ]
        for name in counted[0]:
            sample[f"candidate_{name}"] = [c[name] for c in counted]
        for name in schema.places:
            places = _places([c[name] for c in counted])
            for form, values in places.items():
                sample[f"candidate_{name}_{form}"] = values
        if any("true_probability" in row for row in exposures):
            sample["true_probability"] = [row["true_probability"] for row in slate]
        result[str(user), request] = sample
    return result


def _listed(feature, value, vocabulary):
    if feature.length == 1:
        return [_stored(feature, value, vocabulary)]
    return [_stored(feature, v, vocabulary) for v in (value or [])[: feature.length]]


def _key(row, name, schema, items, users):
    """What an exposure is counted by."""
    if name == "user_id":
        return row["user_id"]
    feature = next(f for f in schema.features if f.name == name)
    if feature.role == "item":
        return _item_value(row, feature, items)
    if feature.role == "user":
        return users.get(row["user_id"], {}).get(name)
    return row.get(name)


def _counters(row, exposures, behaviors, now, schema, items, users):
    counters = {}
    seconds = parse_duration(schema.counter_resolution, may_be_zero=True)
    bucket = max(seconds * schema.ticks, 1)
    until = now - now % bucket
    for choice in schema.counters:
        user, _, other = choice.by.rpartition(" x ")
        key = _key(row, other, schema, items, users)
        of_behaviors = choice.source == "behaviors"
        same = [
            e
            for e in (behaviors if of_behaviors else exposures)
            if _key(e, other, schema, items, users) == key
            and (not user or e["user_id"] == row["user_id"])
        ]
        begin = _since(until, schema)
        shown = [e["time"] for e in same if begin <= e["time"] < until]
        clicked = [e["known"] for e in same if e.get("known") is not None]
        clicked = [time for time in clicked if begin <= time < until]
        middle = "" if other == "item_id" else f"{other}_"
        alone = "user_id" in choice.by
        default = ("all",) if alone else schema.counter_windows
        for window in choice.windows or default:
            since, suffix = 0, ""
            if window != "all":
                since = until - parse_duration(window) * schema.ticks
                suffix = f"_{window}"
            counted = (("impressions", shown), ("clicks", clicked))
            for what, times in (("behaviors", shown),) if of_behaviors else counted:
                name = f"{'user_' if user else ''}{middle}{what}{suffix}"
                number = sum(time >= since for time in times)
                counters[name] = MISSING["int64"] if key is None else number
        ages = []
        if of_behaviors:
            ages = [(f"since_{middle}behavior", shown, max)] if user else []
        elif user:
            ages = [
                (f"since_{middle}shown", shown, max),
                (f"since_{middle}clicked", clicked, max),
            ]
        elif other == "item_id":
            ages = [("item_age", shown, min)]
            first = min(shown, default=now)
            if schema.horizon is not None and shown:
                first -= first % bucket
            hours = (now - first) // schema.ticks / 3600
            if schema.newness:
                counters["newness"] = np.float32(-math.log1p(hours))
        for name, times, choose in ages:
            known = times and key is not None
            event = choose(times) if known else 0
            if name == "item_age" and schema.horizon is not None:
                event -= event % bucket
            age = (now - event) // schema.ticks if known else None
            counters[name] = MISSING["int64"] if age is None else age
    return counters


def _places(counts):
    """Where each candidate stands within its slate."""
    known = [c for c in counts if c != MISSING["int64"]]
    places = {"rank": [], "share": [], "ratio": []}
    for count in counts:
        if count == MISSING["int64"]:
            for values in places.values():
                values.append(math.nan)
            continue
        less = sum(c < count for c in known)
        ties = sum(c == count for c in known) - 1
        others = len(known) - 1
        places["rank"].append((less + ties / 2) / others if others else 0.5)
        places["share"].append(count / max(known) if max(known) else 0.0)
        mean = sum(known) / len(known)
        places["ratio"].append(math.log((1 + count) / (1 + mean)))
    return {form: np.float32(values).tolist() for form, values in places.items()}


def _local(time, schema):
    if schema.time_zone:
        return datetime.datetime.fromtimestamp(
            time, zoneinfo.ZoneInfo(schema.time_zone)
        )
    zone = datetime.timezone(datetime.timedelta(hours=schema.utc_offset_hours))
    return datetime.datetime.fromtimestamp(time, zone)


def _hour(time, schema):
    return _local(time, schema).hour


def _weekend(time, schema):
    return int(_local(time, schema).weekday() >= 5)
