"""Pages of the Python interface, for mkdocstrings, which reads the source alone."""

from collections.abc import Callable

from ctr_tf.layers import _MODULES as LAYERS

_LAYERS = """# Layers

Keras layers that take and give tensors; [a page](../layers.md) makes a model of some.
`from ctr_tf.layers import …` imports the file of a layer and no other.
"""
_LOSSES = """# Losses

Terms of a recipe's [objective](../recipe_keys.md); [extending](../extending.md) adds
one.
"""
_MODELS = """# Models

What every model is, and the models by name; [their pages](../models/index.md) have the
equations. `build_ranker` makes one by its config.
"""
_SCHEMA = """# Schema

[The schema's keys](../schema.md) have a page of their own; this is what Python sees.
"""
_STAGES = """# Stages from Python

What the verbs of the [command line](../command_line.md) call. A recipe is read by
`load_recipe`, whose second argument sets keys as the command line does.
"""
_SERVING = """# Serving

The client imports neither TensorFlow nor Keras.
"""
_MODEL_NAMES = {
    "sparse_ctr": "SparseCTR",
    "gap": "GAP",
    "eta_gap": "ETAGAP",
    "sdim_gap": "SDIMGAP",
    "suan": "SUAN",
    "light_suan": "LightSUAN",
    "ctr_sink": "CTRSink",
    "with_texts": "WithTexts",
    "din": "DIN",
    "can": "CAN",
    "sim_soft": "SIMSoft",
    "sim_hard": "SIMHard",
    "eta": "ETA",
    "sdim": "SDIM",
    "twin_v2": "TwinV2",
    "bst": "BST",
    "hstu": "HSTU",
    "longer": "LONGER",
    "tower": "TowerRanker",
}


def _page(head: str, paths: dict[str, bool]) -> Callable[[], str]:
    """A page.

    Args:
        head: its first lines.
        paths: dotted path → whether its public methods are told, too.
    """

    def make() -> str:
        parts = [head]
        for path, with_members in paths.items():
            members = "" if with_members else "    options:\n      members: false\n"
            parts.append(f"::: {path}\n{members}")
        return "\n".join(parts)

    return make


PAGES = {
    "api/stages.md": _page(
        _STAGES,
        {
            "ctr_tf.recipes.read.load_recipe": False,
            "ctr_tf.recipes.find.find_recipe": False,
            "pipelines.listwise.run": False,
            "ctr_tf.data.prepared.PreparedData": True,
            "ctr_tf.data.dataset.dataset": False,
            "ctr_tf.training.train.train": False,
            "ctr_tf.training.run.load_run": False,
            "ctr_tf.evaluation.evaluate.evaluate_run": False,
            "serving.export.export_ranker": False,
        },
    ),
    "api/layers.md": _page(
        _LAYERS,
        {f"ctr_tf.layers.{file}.{name}": False for name, file in LAYERS.items()},
    ),
    "api/models.md": _page(
        _MODELS,
        {
            "ctr_tf.models.ranker.Ranker": True,
            "ctr_tf.models.build_ranker": False,
            **{f"ctr_tf.models.{f}.{name}": False for f, name in _MODEL_NAMES.items()},
        },
    ),
    "api/losses.md": _page(
        _LOSSES,
        {
            "ctr_tf.losses.loss.Loss": True,
            "ctr_tf.losses.log_loss.LogLoss": False,
            "ctr_tf.losses.listwise.ListwiseSoftmax": False,
            "ctr_tf.losses.auxiliary.AuxiliaryLoss": False,
            "ctr_tf.losses.distillation.DistillationLoss": False,
        },
    ),
    "api/schema.md": _page(
        _SCHEMA,
        {
            "ctr_tf.schema.schema.Schema": True,
            "ctr_tf.schema.feature.Feature": True,
            "ctr_tf.schema.kinds.categorical.Categorical": False,
            "ctr_tf.schema.kinds.numeric.Numeric": False,
            "ctr_tf.schema.kinds.bucketized.Bucketized": False,
            "ctr_tf.schema.kinds.text.Text": False,
            "ctr_tf.schema.positive.Positive": False,
            "ctr_tf.computed.counters.CounterChoice": False,
            "ctr_tf.schema.vocabulary.Vocabularies": True,
        },
    ),
    "api/serving.md": _page(
        _SERVING,
        {
            "serving.client.Client": True,
            "serving.messages.Scores": False,
            "serving.retry.Retry": False,
            "serving.state_cache.StateCache": True,
            "serving.state_cache.RedisStateCache": True,
            "serving.online.store.OnlineStore": True,
            "serving.request.request_to_tensors": False,
            "serving.request.request_from_sample": False,
            "serving.score.Scorer": True,
        },
    ),
}
