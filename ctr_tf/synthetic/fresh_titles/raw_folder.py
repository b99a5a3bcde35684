"""What lies in the folder of the raw logs beside the tables."""

from importlib import resources
from pathlib import Path

import pyarrow as pa

from ctr_tf.synthetic.fresh_titles.language_model import write_language_model
from ctr_tf.synthetic.fresh_titles.limits import exact_limits, found_limits


def about(exposures: pa.Table) -> dict:
    """What `meta.json` holds of this world alone.

    Args:
        exposures: of `make_tables`.
    """
    return {
        "world": "fresh_titles",
        "exact_limits": exact_limits(),
        "limits": found_limits(exposures),
    }


def write_beside(folder: Path) -> None:
    """Writes the schema, and the language model that is to read the titles.

    Args:
        folder: of the raw logs.
    """
    schema = resources.files(__package__) / "schema.yaml"
    (folder / "schema.yaml").write_text(schema.read_text("utf-8"), "utf-8")
    write_language_model(folder / "language_model")
