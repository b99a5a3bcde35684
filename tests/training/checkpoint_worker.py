"""One of two workers that save and restore under trouble; see test_worker_checkpoints.

Prints a line of JSON: name of a case → what came of it here.
"""

import json
import logging
import resource
import sys
import threading
from pathlib import Path

import keras
import numpy as np
from helpers import make_schema, make_table_sizes, make_trainer

from ctr_tf.models import build_ranker
from ctr_tf.models.sdim import SDIMConfig
from ctr_tf.training import checkpoints
from ctr_tf.training.checkpoints import Checkpoints, Progress
from ctr_tf.training.distribution import (
    make_strategy,
    shard_of,
    told_by_all,
    wait_for_all,
    worker,
)

SCHEMA = make_schema()
CONFIG = SDIMConfig(dim=8, candidate_tower=())


class Cases:
    def __init__(self, strategy, folder):
        self.strategy = strategy
        self.folder = folder
        self.index = worker(strategy)[0]
        self.trainers = {}
        for tables in ("replicated", "sharded"):
            keras.utils.set_random_seed(0)
            with strategy.scope():
                shard = shard_of(tables, strategy)
                sizes = make_table_sizes(SCHEMA)
                ranker = build_ranker(CONFIG, SCHEMA, sizes, shard=shard)
                self.trainers[tables] = make_trainer(ranker)

    def checkpoints(self, tables, name, keep=9):
        return Checkpoints(self.folder / name, self.trainers[tables], keep)

    def marked(self, tables, value):
        """Tables whose every number is the row's own, beyond `value`."""
        for table in self.trainers[tables].tables.values():
            rows = np.array(table.shard.rows(table.rows), np.float32)
            whole = np.broadcast_to(rows[:, None] + 1000 * value, table.table.shape)
            table.table.assign(whole)
        return self.trainers[tables]

    def mark(self, tables):
        """Of which call of `marked` the tables are; None if rows are not their own."""
        found = set()
        for table in self.trainers[tables].tables.values():
            rows = np.array(table.shard.rows(table.rows), np.float32)
            found |= set((table.table.numpy() - rows[:, None]).ravel().tolist())
        return found.pop() / 1000 if len(found) == 1 else None

    def save(self, tables, name, step, **options):
        self.marked(tables, step)
        self.checkpoints(tables, name, **options).save(Progress(step=step))

    def restore(self, tables, name):
        self.marked(tables, 0)
        step = self.checkpoints(tables, name).restore().step
        return step, self.mark(tables)

    def shared(self):
        for step in (1, 2, 3):
            self.save("sharded", "shared", step, keep=2)
        restored = self.restore("sharded", "shared")
        files = sorted(path.name for path in (self.folder / "shared").iterdir())
        return files, restored

    def other_kind(self):
        return self.restore("replicated", "shared")

    def and_back(self):
        self.save("replicated", "back", 7)
        return self.restore("sharded", "back")

    def damaged(self):
        if self.index:
            name = "step-00000003/tables-00001-of-00002.data-00000-of-00001"
            file = self.folder / "shared" / name
            file.write_bytes(file.read_bytes()[:100])
        return self.restore("sharded", "shared")

    def _full(self, worker, save):
        """On one worker no file can grow beyond a few bytes."""
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        if self.index == worker:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
        try:
            return save()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    def full_disk_of_a_shard(self):
        return self._full(1, lambda: self.save("sharded", "full", 1))

    def full_disk_of_the_first(self):
        return self._full(0, lambda: self.save("replicated", "full", 2))

    def full_disk_of_another(self):
        self._full(1, lambda: self.save("replicated", "full", 3))
        return self.restore("replicated", "full")

    def after_the_full_disk(self):
        self.save("sharded", "full", 4)
        return self.restore("sharded", "full")

    def apart_saving(self):
        return self.save("sharded", f"apart-{self.index}", 1)

    def apart_restoring(self):
        self.save("replicated", f"apart-{self.index}", 5)
        return self.restore("replicated", f"apart-{self.index}")

    def seen_late(self):
        self.save("sharded", "late-0", 6)
        if self.index:  # as a listing that a file system has kept for a while
            late = self.folder / "late-1"
            threading.Timer(1, lambda: late.symlink_to(self.folder / "late-0")).start()
        return self.restore("sharded", f"late-{self.index}")

    def run(self, name):
        checkpoints._SECONDS_TO_SEE = 1.0 if name.startswith("apart") else 60.0
        try:
            found = getattr(self, name)()
        except (ValueError, OSError) as error:
            found = f"{type(error).__name__}: {error}"
        told_by_all(self.strategy, [0])  # nobody begins with the next before
        return found


if __name__ == "__main__":
    logging.disable()
    cases = Cases(make_strategy("multi_worker"), Path(sys.argv[1]))
    found = {name: cases.run(name) for name in sys.argv[2:]}
    print(json.dumps(found))
    wait_for_all(cases.strategy)
