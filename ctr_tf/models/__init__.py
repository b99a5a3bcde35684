"""The models by name."""

from typing import Any

from ctr_tf.errors import UserError, unknown_name
from ctr_tf.models.bst import BST
from ctr_tf.models.can import CAN
from ctr_tf.models.ctr_sink import CTRSink
from ctr_tf.models.din import DIN
from ctr_tf.models.eta import ETA
from ctr_tf.models.eta_gap import ETAGAP
from ctr_tf.models.gap import GAP
from ctr_tf.models.hstu import HSTU
from ctr_tf.models.light_suan import LightSUAN
from ctr_tf.models.longer import LONGER
from ctr_tf.models.ranker import Ranker
from ctr_tf.models.sdim import SDIM
from ctr_tf.models.sdim_gap import SDIMGAP
from ctr_tf.models.sim_hard import SIMHard
from ctr_tf.models.sim_soft import SIMSoft
from ctr_tf.models.sparse_ctr import SparseCTR
from ctr_tf.models.suan import SUAN
from ctr_tf.models.texts_part import read_prompts
from ctr_tf.models.tower import TowerRanker
from ctr_tf.models.twin_v2 import TwinV2
from ctr_tf.models.with_texts import WithTexts
from ctr_tf.schema import Schema
from ctr_tf.schema.texts import Texts
from ctr_tf.tables.shard import Shard

MODELS: dict[str, type[Ranker]] = {
    model.config_class.name: model
    for model in (
        BST,
        CAN,
        CTRSink,
        DIN,
        GAP,
        ETA,
        ETAGAP,
        HSTU,
        LightSUAN,
        LONGER,
        SDIM,
        SDIMGAP,
        SIMHard,
        SIMSoft,
        SparseCTR,
        SUAN,
        TowerRanker,
        TwinV2,
        WithTexts,
    )
}


def build_ranker(
    config: Any,
    schema: Schema,
    table_sizes: dict[str, int],
    dtype: Any = None,
    shares_with: Ranker | None = None,
    texts: Texts | None = None,
    shard: Shard | None = None,
) -> Ranker:
    """Makes the model that a config describes, with all its weights.

    Args:
        config: a `config_class` of one of `MODELS`; its `name` selects.
        schema: of the data.
        table_sizes: embedding table name → rows (`Vocabularies.table_sizes`).
        dtype: precision policy, such as `"mixed_bfloat16"`; Keras' global one if None.
        shares_with: a ranker whose features' tables it takes, instead of its own.
        texts: of the data, for a model that reads texts.
        shard: of the rows of tables, that which is here; None: all of them.

    Returns:
        The built model.

    Raises:
        UserError: for an unknown name, tables to be shared that differ in width.
    """
    ranker = make_ranker(config, schema, table_sizes, dtype, shares_with, texts)
    if shard is not None:
        ranker.embedding.cut(shard)
    ranker.build()
    return ranker


def make_ranker(
    config: Any,
    schema: Schema,
    table_sizes: dict[str, int],
    dtype: Any = None,
    shares_with: Ranker | None = None,
    texts: Texts | None = None,
) -> Ranker:
    """As `build_ranker`, but without weights yet: it takes no memory."""
    if config.name not in MODELS:
        raise UserError(unknown_name("model", config.name, MODELS))
    model, options = MODELS[config.name], dict[str, Any]()
    if model.reads_texts:
        options["prompts"] = read_prompts(config.texts, schema, texts)
    ranker = model(schema, table_sizes, config, dtype=dtype, **options)
    if shares_with is not None:
        ranker.embedding.share(shares_with.embedding)
    return ranker
