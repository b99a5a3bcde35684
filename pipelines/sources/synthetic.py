"""Logs of `ctr-tf synthesize`: a made-up world whose click probability is known.

Obtained: `ctr-tf synthesize --output LOGS`.

Licence: the project's own.

Read: the folder's exposures, behaviors, users and items in the general format (see
`pipelines.sources.jsonl`), whichever of Parquet, JSON lines and CSV they are in. The
schema is the source's own, or the one in the folder (of `--world fresh_titles`, whose
language model lies there, too, and is not read but where `--tokenizer` names it).

What becomes what: columns are taken by name. `position` is read over: where an item
stood in its slate weighs in the click probability, but it is not known when a slate is
scored. `true_probability` travels along for evaluation only. `ordered_probability` and
`blind_probability` are read over as well.

```
ctr-tf prepare --source synthetic --input LOGS --output PREPARED
ctr-tf prepare --source synthetic --input LOGS --output PREPARED --tokenizer LM
```
"""

import pyarrow as pa

from ctr_tf.schema import Schema
from pipelines.sources.jsonl import Jsonl
from pipelines.sources.source import Source


class Synthetic(Jsonl):
    """The general format with the schema of the synthetic world; see the module."""

    name = "synthetic"
    ignored = ("meta.json", "language_model")
    user_id_type = pa.int64()

    def schema(self, folder: str | None = None) -> Schema:
        """The schema that comes with the source."""
        return Source.schema(self)
