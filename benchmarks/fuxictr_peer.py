"""fuxictr's own DIN, trained in an environment of its own.

    PYTHON -I benchmarks/fuxictr_peer.py SETTINGS.json

PYTHON is that of an environment with PyTorch and fuxictr and nothing of this project;
`-I` keeps this folder's `fuxictr.py` from passing for the package. Model, loader,
optimizer and training loop are fuxictr's. This file sets their options, reads the
clock, and writes `result.json` and, for every candidate of the test split in the order
of its file, `scores.npy`.
"""

import json
import logging
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from fuxictr.features import FeatureMap
from fuxictr.pytorch.torch_utils import seed_everything
from model_zoo.LongCTR.DIN.DIN import DIN
from model_zoo.LongCTR.longctr_dataloader import LongCTRDataLoader


class TimedDIN(DIN):
    """Their DIN with a clock, which leaves out the first step and evaluations."""

    seconds = input_seconds = 0.0
    candidates = steps = 0

    def get_inputs(self, inputs, feature_source=None):
        """Theirs, with a row's numbers out of their units."""
        row, item, mask = super().get_inputs(inputs, feature_source)
        for key, values in row.items():
            row[key] = values * self.feature_map.features[key].get("unit", 1)
        return row, item, mask

    def train_epoch(self, data_generator):
        """One pass; the loader's start counts."""
        self._ended = time.perf_counter()
        super().train_epoch(data_generator)

    def train_step(self, batch_data):
        """One step, and the wait for its batch before."""
        begins = time.perf_counter()
        loss = super().train_step(batch_data)
        ends = time.perf_counter()
        if self.steps:
            self.seconds += ends - self._ended
            self.input_seconds += begins - self._ended
            self.candidates += len(batch_data[2])
        self.steps += 1
        self._ended = ends
        return loss


def _loader(settings: dict, feature_map: FeatureMap, name: str, shuffle: bool):
    data = Path(settings["data"])
    return LongCTRDataLoader(
        feature_map,
        str(data / f"{name}.parquet"),
        str(data / "user_info.parquet"),
        str(data / "item_info.parquet"),
        batch_size=settings["batch_size"],
        shuffle=shuffle,
        max_len=settings["history_length"],
    )


def _model(settings: dict, feature_map: FeatureMap, output: Path) -> TimedDIN:
    seed_everything(settings["seed"])
    model = TimedDIN(
        feature_map,
        model_root=str(output),
        optimizer="adam",
        loss="binary_crossentropy",
        metrics=["AUC", "logloss"],
        monitor="AUC",
        early_stop_patience=settings["epochs"] + 1,
        reduce_lr_on_plateau=False,
        verbose=0,
        **settings["model"],
    )
    if settings["table_deviation"]:
        for table in _tables(model):
            torch.nn.init.normal_(table.weight, std=settings["table_deviation"])
            table.weight.data[table.padding_idx] = 0
    Path(model.model_dir).mkdir(parents=True)
    return model


def _tables(model: TimedDIN) -> list[torch.nn.Embedding]:
    return [part for part in model.modules() if isinstance(part, torch.nn.Embedding)]


def main(path: str) -> None:
    """Trains, scores and times by a file of settings."""
    settings = json.loads(Path(path).read_text("utf-8"))
    data, output = Path(settings["data"]), Path(path).parent
    feature_map = FeatureMap(data.name, str(data))
    parameters = {"embedding_dim": settings["model"]["embedding_dim"]}
    feature_map.load(str(data / "feature_map.json"), parameters)
    model = _model(settings, feature_map, output)
    model.fit(
        _loader(settings, feature_map, "train", shuffle=True),
        settings["epochs"],
        _loader(settings, feature_map, "valid", shuffle=False),
        max_gradient_norm=settings["max_gradient_norm"],
    )
    test = _loader(settings, feature_map, "test", shuffle=False)
    np.save(output / "scores.npy", model.predict(test))
    tables = sum(table.weight.numel() for table in _tables(model))
    every = sum(weight.numel() for weight in model.parameters())
    result = {
        "validation_auc": model._best_metric,
        "steps": model.steps,
        "seconds": model.seconds,
        "candidates_per_second": model.candidates / model.seconds,
        "input_wait_share": model.input_seconds / model.seconds,
        "parameters": {"network": every - tables, "tables": tables},
        "versions": {name: version(name) for name in ("fuxictr", "torch")},
    }
    (output / "result.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s  %(message)s")
    main(sys.argv[1])
