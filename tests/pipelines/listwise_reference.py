"""The samples of a log, computed row by row in plain Python, from the contract.

Slow and obvious on purpose, and independent of `pipelines`: nothing is sorted by keys
that are packed together, no window is a range of anything.
"""

from collections import Counter

from ctr_tf.schema import Schema, parse_duration


def _first(rows):
    return min(rows, key=lambda pair: (pair[1]["time"], pair[0]))


def deduplicated(exposures):
    """Exposures without repeats of (user, request, item), in the order of the log."""
    groups = {}
    for number, row in enumerate(exposures):
        request = row.get("request_id")
        key = (row["user_id"], request, row["item_id"])
        if request is None:
            key += (row["time"],)
        groups.setdefault(key, []).append((number, row))
    return [row for _, row in sorted(_first(rows) for rows in groups.values())]


def slates(exposures, schema: Schema):
    """Lists of exposures that were shown together, by (user, request id)."""
    result, gap = {}, parse_duration(schema.session_gap)
    for row in exposures:
        if row.get("request_id") is not None:
            key = (row["user_id"], str(row["request_id"]))
            result.setdefault(key, []).append(row)
    for user in {row["user_id"] for row in exposures}:
        rows = [
            r for r in exposures if r["user_id"] == user and r.get("request_id") is None
        ]
        rows.sort(key=lambda r: (r["time"], r["item_id"]))
        slate = []
        for row in rows:
            far = slate and row["time"] - slate[-1]["time"] >= gap
            if slate and (far or row["item_id"] in [r["item_id"] for r in slate]):
                slate = []
            if not slate:
                result[user, f"{user}:{row['time']}"] = slate
            slate.append(row)
    for rows in result.values():
        rows.sort(key=lambda r: (r["time"], r["item_id"]))
    return result


def timelines(behaviors, exposures, schema: Schema):
    """User → behaviors, clicks included, oldest first."""
    clicks = []
    for row in exposures:
        if row[schema.labels[0]] == 1:
            click = {k: v for k, v in row.items() if not k.startswith("behavior_")}
            click |= {
                k.removeprefix("behavior_"): v
                for k, v in row.items()
                if k.startswith("behavior_")
            }
            clicks.append(click)
    merged = {}
    for row in [*behaviors, *clicks]:
        merged.setdefault((row["user_id"], row["time"], row["item_id"]), row)
    result = {}
    for _, row in sorted(merged.items(), key=lambda entry: entry[0]):
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
    exposures = deduplicated(log["exposures"])
    items = {row["item_id"]: row for row in reversed(log.get("items", []))}
    users = {row["user_id"]: row for row in reversed(log.get("users", []))}
    shown = slates(exposures, schema)
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
        entries = vocabulary[feature.vocabulary]
        return entries.index(str(value)) + 2 if str(value) in entries else 1
    if value is None or value != value:
        return 0 if feature.kind == "numeric" else -1
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
    exposures = deduplicated(log["exposures"])
    items = {row["item_id"]: row for row in reversed(log.get("items", []))}
    users = {row["user_id"]: row for row in reversed(log.get("users", []))}
    histories = timelines(log.get("behaviors", []), exposures, schema)
    label = schema.labels[0]
    result = {}
    for (user, request), slate in slates(exposures, schema).items():
        now = min(row["time"] for row in slate)
        sample = {
            "request_id": [request.encode()],
            "user_id": [str(user).encode()],
            "request_time": [now],
            "context_hour": [_hour(now, schema)],
            "context_weekend": [_weekend(now, schema)],
            "context_slate_size": [len(slate)],
            "label": [row[label] for row in slate],
        }
        for name in schema.labels[1:]:
            sample[f"label_{name}"] = [row[name] for row in slate]
        for f in schema.user:
            value = users.get(user, {}).get(f.name)
            sample[f"user_{f.name}"] = _listed(f, value, vocabulary)
        for f in _features("context", schema):
            value = slate[0].get(f.name)
            sample[f"context_{f.name}"] = _listed(f, value, vocabulary)
        past = [row for row in histories.get(user, []) if row["time"] < now]
        past = past[-schema.history_length :]
        times = [row["time"] for row in past]
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
        before = [row for row in exposures if row["time"] < now]
        counted = [
            _counters(r["item_id"], user, before, now, schema, label) for r in slate
        ]
        for name in counted[0]:
            sample[f"candidate_{name}"] = [c[name] for c in counted]
        if any("true_probability" in row for row in exposures):
            sample["true_probability"] = [row["true_probability"] for row in slate]
        result[str(user), request] = sample
    return result


def _listed(feature, value, vocabulary):
    if feature.length == 1:
        return [_stored(feature, value, vocabulary)]
    return [_stored(feature, v, vocabulary) for v in (value or [])[: feature.length]]


def _counters(item, user, before, now, schema, label):
    counters = {}
    shown = [row for row in before if row["item_id"] == item]
    for window in schema.counter_windows:
        since = now - parse_duration(window)
        recent = [row for row in shown if row["time"] >= since]
        counters[f"impressions_{window}"] = len(recent)
        counters[f"clicks_{window}"] = sum(row[label] for row in recent)
    own = [row for row in shown if row["user_id"] == user]
    clicked = [row for row in own if row[label]]
    counters["user_impressions"] = len(own)
    counters["user_clicks"] = len(clicked)
    for name, rows, choose in (
        ("since_shown", own, max),
        ("since_clicked", clicked, max),
        ("item_age", shown, min),
    ):
        times = [row["time"] for row in rows]
        counters[name] = now - choose(times) if times else -1
    return counters


def _hour(time, schema):
    return (time + schema.utc_offset) // 3600 % 24


def _weekend(time, schema):
    return int(((time + schema.utc_offset) // 86400 + 4) % 7 in (0, 6))
