"""`ctr-tf synthesize`: raw logs of a made-up world whose click probability is known.

Writes a folder of raw tables, as a shop would have them, not samples:

* `exposures`: request_id, user_id, time, item_id, click, position, device,
  behavior_action, true_probability
* `behaviors`: user_id, time, item_id, action; what users did outside the slates shown
* `users`: user_id, age_group, city
* `items`: item_id, category, brand, price
* `meta.json`: the settings, the counts, and the best AUC that any model can reach

Times are seconds, rows are in the order of time. `ctr_tf.synthetic.world` tells
how the world works. The same options give the same logs.

With `--item_days 3 --one_click` the logs are like a news site's: an item lives for
days, and a user takes one of each slate.

With `--plant` the world is that of `ctr_tf.synthetic.plants`, in which what models
claim to exploit can be planted one by one.

`--world fresh_titles` is a world for language models, told in
`ctr_tf.synthetic.fresh_titles.world`; `--world fresh_titles --help` has its options:

* `exposures`: request_id, user_id, time, item_id, click, true_probability, and the best
  guesses without the behaviors' ages, `ordered_probability`, and without their order as
  well, `blind_probability`
* `behaviors`: user_id, time, item_id
* `items`: item_id, title
* `schema.yaml`, which `ctr-tf prepare` takes by itself, and `language_model`, a small
  one without weights for its `--tokenizer`
* `meta.json`: the best AUC of each guess as well, exactly and on these clicks
"""

import argparse
import dataclasses
import json
import logging
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv, parquet

from ctr_tf.commands.arguments import Parser
from ctr_tf.errors import UserError, unknown_name
from ctr_tf.storage import as_local
from ctr_tf.synthetic.auc import weighted_auc
from ctr_tf.synthetic.config import PLANTS, START, WorldConfig
from ctr_tf.synthetic.fresh_titles import raw_folder
from ctr_tf.synthetic.fresh_titles.config import FreshTitlesConfig
from ctr_tf.synthetic.fresh_titles.world import make_tables
from ctr_tf.synthetic.news import NewsCatalog
from ctr_tf.synthetic.plants import (
    PlantedCatalog,
    PlantedRequests,
    PlantedSessions,
)
from ctr_tf.synthetic.requests import DEVICES, Requests, World
from ctr_tf.synthetic.world import AGE_GROUPS, Catalog, Sessions, Users

WORLDS = {"shop": WorldConfig, "fresh_titles": FreshTitlesConfig}
FORMATS = ("parquet", "jsonl", "csv")
TABLES = ("exposures", "behaviors", "users", "items")
_ROWS_PER_GROUP = 1 << 17

_log = logging.getLogger(__name__)


def synthesize(config: WorldConfig) -> dict[str, pa.Table]:
    """Makes the raw tables.

    Args:
        config: of the world.

    Returns:
        Table name → table, one for each of `TABLES`.

    Raises:
        UserError: if so few users come so rarely that nothing is shown.
    """
    rng = np.random.default_rng(config.seed)
    make_sessions, make_requests = Sessions, Requests
    catalog: Catalog
    if config.plant:
        make_sessions, make_requests = PlantedSessions, PlantedRequests
        catalog = PlantedCatalog(config.items, rng)
    elif config.item_days:
        catalog = NewsCatalog(config, rng)
    else:
        catalog = Catalog(config.items, rng)
    users = Users(config, rng)
    sessions = make_sessions(config, users, rng)
    behaviors = sessions.behaviors(catalog, rng)
    _log.info(
        "%s behaviors in %s sessions",
        f"{len(behaviors['time']):,}",
        f"{len(sessions):,}",
    )
    world = World(config, catalog, users, sessions, behaviors)
    requests = make_requests(world, rng)
    _log.info("%s slates shown", f"{len(requests.time):,}")
    return {
        "exposures": _exposures(requests),
        "behaviors": _behaviors(behaviors, sessions),
        "users": pa.table(
            {
                "user_id": np.arange(1, config.users + 1),
                "age_group": _words(users.age, AGE_GROUPS),
                "city": _names("city", users.city),
            }
        ),
        "items": pa.table(
            {
                "item_id": np.arange(1, config.items + 1),
                "category": _names("category", catalog.category),
                "brand": _names("brand", catalog.brand),
                "price": catalog.price,
            }
        ),
    }


def _exposures(requests: Requests) -> pa.Table:
    count, candidates = requests.item.shape
    row = np.repeat(np.arange(count), candidates)
    request_id = pa.array([f"r{index:08d}" for index in range(count)])
    return pa.table(
        {
            "request_id": request_id.take(pa.array(row)),
            "user_id": requests.user[row] + 1,
            "time": requests.time[row],
            "item_id": requests.item.ravel() + 1,
            "click": requests.click.ravel().astype(np.int8),
            "position": np.tile(np.arange(candidates), count),
            "device": _words(requests.device[row], DEVICES),
            "behavior_action": pa.repeat("click", len(row)),
            "true_probability": requests.probability.ravel(),
        }
    )


def _behaviors(behaviors: dict, sessions: Sessions) -> pa.Table:
    user = sessions.user[behaviors["session"]]
    order = np.lexsort((user, behaviors["time"]))
    return pa.table(
        {
            "user_id": user[order] + 1,
            "time": behaviors["time"][order],
            "item_id": behaviors["item"][order] + 1,
            "action": _words(behaviors["action"][order], sessions.actions),
        }
    )


def _words(index: np.ndarray, words: Sequence[str]) -> pa.Array:
    return pa.array(words).take(pa.array(index))


def _names(prefix: str, index: np.ndarray) -> pa.Array:
    return _words(index, [f"{prefix}_{k}" for k in range(index.max() + 1)])


def reachable_auc(exposures: pa.Table) -> float:
    """AUC of the true probability against the clicks: no model gets above it for long.

    Args:
        exposures: a table with `click` and `true_probability`.
    """
    click = exposures["click"].to_numpy()
    return weighted_auc(exposures["true_probability"].to_numpy(), click, 1 - click)


def write(
    config: WorldConfig | FreshTitlesConfig,
    output: str | Path,
    file_format: str = "parquet",
    overwrite: bool = False,
) -> dict:
    """Makes the raw logs and publishes their folder by one rename.

    Args:
        config: of the world.
        output: folder to make.
        file_format: one of `FORMATS`.
        overwrite: replace a folder that is there.

    Returns:
        What `meta.json` holds.

    Raises:
        UserError: if the format is unknown.
        FileExistsError: if `output` exists and is not to be overwritten.
    """
    if file_format not in FORMATS:
        raise UserError(unknown_name("format", file_format, FORMATS))
    output = as_local(output, "`--output`")
    if output.exists() and not overwrite:
        raise FileExistsError(
            f"'{output}' exists; `--overwrite` replaces it, or give another `--output`."
        )
    if isinstance(config, WorldConfig):
        tables = synthesize(config)
    else:
        tables = make_tables(config)
    meta = _meta(config, tables, file_format)
    part = output.with_name(f".{output.name}.part-{os.getpid()}")
    part.mkdir(parents=True)
    try:
        for name, table in tables.items():
            _write_table(table, part / f"{name}.{file_format}")
            _log.info("%s: %s rows", name, f"{table.num_rows:,}")
        if isinstance(config, FreshTitlesConfig):
            raw_folder.write_beside(part)
        (part / "meta.json").write_text(json.dumps(meta, indent=2) + "\n", "utf-8")
        if output.exists():
            _remove(output)
        part.rename(output)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return meta


def _meta(
    config: WorldConfig | FreshTitlesConfig, tables: dict, file_format: str
) -> dict:
    exposures = tables["exposures"]
    meta = {
        "settings": dataclasses.asdict(config),
        "format": file_format,
        "rows": {name: table.num_rows for name, table in tables.items()},
        "time_unit": "seconds",
        "behaviors_from": START,
        "exposures_from": config.exposure_start,
        "until": config.end,
        "click_rate": float(exposures["click"].to_numpy().mean()),
        "reachable_auc": reachable_auc(exposures),
    }
    if isinstance(config, FreshTitlesConfig):
        meta |= raw_folder.about(exposures)
    return meta


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _write_table(table: pa.Table, path: Path) -> None:
    if path.suffix == ".parquet":
        parquet.write_table(table, path, row_group_size=_ROWS_PER_GROUP)
    elif path.suffix == ".csv":
        csv.write_csv(table, path)
    else:
        with path.open("w", encoding="utf-8") as file:
            for batch in table.to_batches(max_chunksize=_ROWS_PER_GROUP):
                rows = map(json.dumps, batch.to_pylist())
                file.writelines(f"{row}\n" for row in rows)


def main(argv: Sequence[str]) -> int:
    """Runs the verb.

    Args:
        argv: words after `ctr-tf synthesize`.

    Returns:
        0.
    """
    first = argparse.ArgumentParser(
        prog="ctr-tf synthesize", add_help=False, allow_abbrev=False
    )
    first.add_argument("--world", default="shop", help=" | ".join(WORLDS))
    world = first.parse_known_args(argv)[0].world
    if world not in WORLDS:
        raise UserError(unknown_name("world", world, WORLDS))
    parser = Parser("synthesize", __doc__, abbreviated=False, parents=[first])
    parser.add_argument("--output", required=True, help="folder to make")
    parser.add_argument("--format", default="parquet", help=" | ".join(FORMATS))
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the folder if it is there"
    )
    make_config = WORLDS[world]
    _add_sizes(parser, make_config)
    arguments = vars(parser.parse_args(argv))
    started = time.perf_counter()
    output, file_format = arguments.pop("output"), arguments.pop("format")
    overwrite, _ = arguments.pop("overwrite"), arguments.pop("world")
    meta = write(make_config(**arguments), output, file_format, overwrite)
    _log.info(
        "%s: %s events in %.1f s; click rate %.3f, reachable AUC %.4f",
        output,
        f"{meta['rows']['exposures'] + meta['rows']['behaviors']:,}",
        time.perf_counter() - started,
        meta["click_rate"],
        meta["reachable_auc"],
    )
    return 0


def _add_sizes(parser: argparse.ArgumentParser, config: type) -> None:
    """An option for each field of a world's config."""
    for field in dataclasses.fields(config):
        if field.name == "plant":
            told = "; ".join(f"{name}: {text}" for name, text in PLANTS.items())
            parser.add_argument(
                "--plant",
                type=lambda names: tuple(names.split(",")),
                default=(),
                metavar="NAME,…",
                help=f"structures to plant in the click probability. {told}",
            )
        elif field.name == "one_click":
            what = "a user takes exactly one item of each slate"
            parser.add_argument(f"--{field.name}", action="store_true", help=what)
        else:
            parser.add_argument(
                f"--{field.name}",
                type=field.type,
                default=field.default,
                help=f"default: {field.default:,}",
            )
