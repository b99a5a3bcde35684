"""Runs the real listwise job on small files of a source, and reads what it wrote."""

import csv
import dataclasses
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

from job_helpers import read_samples  # noqa: E402

from ctr_tf.data.manifest import Manifest  # noqa: E402
from pipelines import listwise  # noqa: E402
from pipelines.sources.source import get_source  # noqa: E402


def write_csv(path, header, *rows):
    """Writes a CSV file; rows are lists of values, or lines as they shall stand."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for row in rows:
            if isinstance(row, str):
                file.write(row + "\n")
            else:
                writer.writerow(row)


@dataclasses.dataclass
class Result:
    """What the job made of a folder.

    Args:
        manifest: of the data set.
        samples: (user id, request id) → split and sample, ids replaced by the words
            of the vocabularies.
        rejected: table → reason → rows.
    """

    manifest: Manifest
    samples: dict
    rejected: dict


def prepare(name, folder, output, *options, **keys):
    """Runs the job with the source's schema, these keys changed, rare values kept."""
    schema = get_source(name).schema(str(folder)).without_texts()
    features = [f.without_limits() for f in schema.features]
    schema = dataclasses.replace(schema, features=tuple(features), **keys)
    path = output.with_suffix(".yaml")
    schema.save(path)
    manifest = listwise.run(
        [
            *("--source", name, "--input", str(folder), "--output", str(output)),
            *("--schema", str(path), "--num_buckets", "2", "--num_shards", "1"),
            *("--max_rejected_fraction", "1", *options),
        ]
    )
    words = {}
    for prefix, features in schema.groups().items():
        for feature in features:
            if feature.vocabulary_name:
                lines = (
                    output / "vocabularies" / f"{feature.vocabulary_name}.txt"
                ).read_text()
                words[f"{prefix}_{feature.name}"] = ["", "?", *lines.splitlines()]
    samples = {
        key: (
            split,
            {
                feature: [words[feature][i] for i in values]
                if feature in words
                else values
                for feature, values in sample.items()
            },
        )
        for key, (split, sample) in read_samples(output).items()
    }
    rejected = {t: e.rejected for t, e in manifest.events.items() if e.rejected}
    return Result(manifest, samples, rejected)
