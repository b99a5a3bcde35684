"""GAP-Net: gates on attention, query and fusion over three views of the history.

Shape suffixes: `B` batch, `M` behaviors of a view, `C` candidates, `D` model width.
"""

import dataclasses

import keras
from keras import ops

from ctr_tf.errors import unknown_name
from ctr_tf.layers.asga import ACTIVATIONS, ASGA
from ctr_tf.layers.context_gated_fusion import ContextGatedFusion
from ctr_tf.layers.gated_query_calibration import GatedQueryCalibration
from ctr_tf.layers.history_views import VIEWS, HistoryViews, check_limits
from ctr_tf.layers.pafs import PAFS
from ctr_tf.models.target_ranker import TargetRanker, TargetRankerConfig

GATES = ("pafs", "qaog", "gcqc", "cgdf")
CONTEXTS = {"minimal": (), "full": ("user", "context"), "purified": ("context",)}


@dataclasses.dataclass(frozen=True)
class GAPConfig(TargetRankerConfig):
    """Sizes and variants of `GAP`.

    The gates are the paper's. Micro level, which together are its ASGA: `"pafs"`,
    pre-attention feature sifting, and `"qaog"`, query-guided adaptive output gating.
    Meso level: `"gcqc"`, gated cascading query calibration. Macro level: `"cgdf"`,
    context-gated denoising fusion. The rows of its tables 3 and 4 are

        baseline  ()                +GCQC  ("gcqc",)   ASGA without PAFS  ("qaog",)
        +ASGA     ("pafs", "qaog")  +CGDF  ("cgdf",)   ASGA without QGG   ("pafs",)

    and the naive sigmoid is the baseline with `attention="sigmoid"`.

    Args:
        gates: the gates to use, out of `GATES`.
        attention: activation of the target attention, see `ASGA`.
        fusion_context: what CGDF sees beside target and views: nothing (`"minimal"`),
            user and request context as they are (`"full"`), or the request context,
            filtered with all the rest (`"purified"`).
        view_cut: whether `"age"` or `"count"` cuts the views, see `HistoryViews`.
        view_limits: where, see `HistoryViews`.
    """

    name: str = "din_gap"
    gates: tuple[str, ...] = GATES
    attention: str = "softmax"
    fusion_context: str = "purified"
    view_cut: str = "age"
    view_limits: tuple[int, ...] | None = None

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "gates", tuple(self.gates))
        chosen = [("gate", gate, GATES) for gate in self.gates]
        chosen.append(("attention", self.attention, ACTIVATIONS))
        chosen.append(("fusion context", self.fusion_context, CONTEXTS))
        for what, value, known in chosen:
            if value not in known:
                raise ValueError(unknown_name(what, value, known))
        limits = check_limits(self.view_cut, self.view_limits)
        object.__setattr__(self, "view_limits", limits)


@keras.saving.register_keras_serializable(package="ctr_tf")
class GAP(TargetRanker):
    """DIN with GAP: target attention on three views of the history, triply gated.

        t, e     = PAFS(target), PAFS(behaviors)
        H_rt     = ASGA(t, e of the real-time view)
        q        = (1 - z) t + z H_rt                     (GCQC)
        H_st     = ASGA(q, e of the short-term view)
        H_lt     = ASGA(q, e of the long-term view)
        interest = concat of α_k H_k                      (CGDF)

    Each view has an attention of its own (ours). Without gates this is the baseline
    that the paper starts from: target attention on the views, concatenated. Subclasses
    put another search into the place of the long-term view's attention.

    State: that of `TargetRanker`, the behaviors already sifted.

    Reference:
        GAP-Net, section 3; variants: section 4.3.
    """

    config_class = GAPConfig

    def build_interest(self, dim):
        """Makes the layers of the gates that are used."""
        config, policy = self.config, self.dtype_policy
        rows, views = (None, None, dim), (None, len(VIEWS))
        self.views = HistoryViews(config.view_cut, config.view_limits, name="views")
        if "pafs" in config.gates:
            self.target_sifting = PAFS(dtype=policy, name="target_sifting")
            self.behavior_sifting = PAFS(dtype=policy, name="behavior_sifting")
            self.target_sifting.build(rows)
            self.behavior_sifting.build(rows)
        self.real_time = self.make_attention("real_time")
        self.short_term = self.make_attention("short_term")
        self.build_long_term(dim)
        if "gcqc" in config.gates:
            self.calibration = GatedQueryCalibration(dtype=policy, name="calibration")
            self.calibration.build(rows, rows)
        if "cgdf" in config.gates:
            purified = config.fusion_context == "purified"
            self.fusion = ContextGatedFusion(purified, dtype=policy, name="fusion")
            width = sum(map(self.embedding.width, CONTEXTS[config.fusion_context]))
            self.fusion.build(rows, (None, width), (None, *views, dim), views)
        return len(VIEWS) * dim

    def make_attention(self, view: str) -> ASGA:
        """The target attention of a view, built."""
        config = self.config
        layer = ASGA(
            config.num_heads,
            "qaog" in config.gates,
            config.attention,
            dtype=self.dtype_policy,
            name=view,
        )
        layer.build((None, None, config.dim), (None, None, config.dim))
        return layer

    def build_long_term(self, dim: int) -> None:
        """Makes what `search_long_term` needs."""
        self.long_term = self.make_attention("long_term")

    def search_long_term(self, query_BCD, state: dict, view: tuple):
        """What the queries find in the long-term view, `[B, C, D]`.

        Args:
            query_BCD: the queries, calibrated.
            state: from `encode`.
            view: the long-term view of `HistoryViews`.
        """
        return self._attend(self.long_term, query_BCD, state, view)

    def encode(self, user, behaviors, context, training=False) -> dict:
        """The user's state; see the class."""
        state = super().encode(user, behaviors, context, training)
        if "pafs" in self.config.gates:
            state["behaviors"] = self.behavior_sifting(state["behaviors"])
        return state

    def cut_views(self, state: dict) -> dict:
        """The views of `HistoryViews`, from a state."""
        return self.views(state["time"], state["mask"], state["request_time"])

    def interest(self, target_BCD, state, training=False):
        """The views side by side, weighed."""
        gates = self.config.gates
        if "pafs" in gates:
            target_BCD = self.target_sifting(target_BCD)
        views = self.cut_views(state)
        found_BCD = self._attend(self.real_time, target_BCD, state, views["real_time"])
        query_BCD = target_BCD
        if "gcqc" in gates:
            query_BCD = self.calibration(target_BCD, found_BCD)
        found = [
            found_BCD,
            self._attend(self.short_term, query_BCD, state, views["short_term"]),
            self.search_long_term(query_BCD, state, views["long_term"]),
        ]
        if "cgdf" in gates:
            return self._fuse(target_BCD, found, views, state)
        return ops.concatenate(found, axis=-1)

    def _attend(self, attention, query_BCD, state, view):
        positions, visible_BM = view
        return attention(query_BCD, state["behaviors"][:, positions], visible_BM)

    def _fuse(self, target_BCD, found, views, state):
        keys = CONTEXTS[self.config.fusion_context]
        vectors = [state["user"][:, :0], *(state[key] for key in keys)]
        present = [ops.any(views[view][1], axis=-1) for view in VIEWS]
        return self.fusion(
            target_BCD,
            ops.concatenate(vectors, axis=-1),
            ops.stack(found, axis=-2),
            ops.stack(present, axis=-1),
        )
