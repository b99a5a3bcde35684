"""GAP-Net: gates on attention, query and fusion over three views of the history.

Shape suffixes: `B` batch, `M` behaviors of a view, `C` candidates, `D` model width.
"""

import dataclasses
from typing import Any

import keras
from keras import ops

from ctr_tf.errors import UserError, unknown_name
from ctr_tf.layers.asga import ACTIVATIONS, ASGA
from ctr_tf.layers.context_gated_fusion import ContextGatedFusion
from ctr_tf.layers.gated_query_calibration import GatedQueryCalibration
from ctr_tf.layers.history_views import VIEWS, HistoryViews, check_limits
from ctr_tf.layers.pafs import PAFS
from ctr_tf.layers.state_spec import StateSpec, history
from ctr_tf.layers.tower_head import TowerHead
from ctr_tf.models.ranker import Ranker
from ctr_tf.models.sizes import TowerSizes
from ctr_tf.schema import Schema
from ctr_tf.tensors import Tensor

GATES = ("pafs", "qaog", "gcqc", "cgdf")
CONTEXTS = {"minimal": (), "full": ("user", "context"), "purified": ("context",)}


@dataclasses.dataclass(frozen=True)
class GAPConfig(TowerSizes):
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

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "gates", tuple(self.gates))
        chosen: list[tuple[str, str, Any]] = [
            ("gate", gate, GATES) for gate in self.gates
        ]
        chosen.append(("attention", self.attention, ACTIVATIONS))
        chosen.append(("fusion context", self.fusion_context, CONTEXTS))
        for what, value, known in chosen:
            if value not in known:
                raise UserError(unknown_name(what, value, known))
        limits = check_limits(self.view_cut, self.view_limits)
        object.__setattr__(self, "view_limits", limits)

    @property
    def unread(self) -> tuple[str, ...]:
        """What only CGDF reads, where it is left out."""
        return () if "cgdf" in self.gates else ("fusion_context",)


@keras.saving.register_keras_serializable(package="ctr_tf")
class GAP(Ranker):
    """DIN with GAP: target attention on three views of the history, triply gated.

        t, e     = PAFS(target), PAFS(behaviors)
        H_rt     = ASGA(t, e of the real-time view)
        q        = (1 - z) t + z H_rt                     (GCQC)
        H_st     = ASGA(q, e of the short-term view)
        H_lt     = ASGA(q, e of the long-term view)
        interest = concat of α_k H_k                      (CGDF)

    Each view has an attention of its own (ours). Without gates this is the baseline
    that the paper starts from: target attention on the views, concatenated. The state
    holds the behaviors, already sifted. Subclasses put another search into the place of
    the long-term view's attention, by the methods whose names end in `long_term`.

    Reference:
        GAP-Net, section 3; variants: section 4.3.
    """

    config_class = GAPConfig
    ablations = {
        "baseline": {"gates": []},
        "asga": {"gates": ["pafs", "qaog"]},
        "gcqc": {"gates": ["gcqc"]},
        "cgdf": {"gates": ["cgdf"]},
        "asga_without_pafs": {"gates": ["qaog"]},
        "asga_without_gate": {"gates": ["pafs"]},
        "naive_sigmoid": {"gates": [], "attention": "sigmoid"},
        "minimal_context": {"fusion_context": "minimal"},
        "full_context": {"fusion_context": "full"},
    }

    def __init__(
        self,
        schema: Schema,
        table_sizes: dict[str, int],
        config: GAPConfig | None = None,
        **kwargs: Any,
    ):
        super().__init__(schema, table_sizes, config, **kwargs)
        config, policy = self.config, self.dtype_policy
        self.behavior_projection = self.dense(config.dim, "behavior")
        self.candidate_projection = self.dense(config.dim, "candidate")
        self.views = HistoryViews(config.view_cut, config.view_limits, name="views")
        if "pafs" in config.gates:
            self.target_sifting = PAFS(dtype=policy, name="target_sifting")
            self.behavior_sifting = PAFS(dtype=policy, name="behavior_sifting")
        self.real_time = self.attention("real_time")
        self.short_term = self.attention("short_term")
        self.make_long_term()
        if "gcqc" in config.gates:
            self.calibration = GatedQueryCalibration(dtype=policy, name="calibration")
        if "cgdf" in config.gates:
            purified = config.fusion_context == "purified"
            self.fusion = ContextGatedFusion(purified, dtype=policy, name="fusion")
        self.head = TowerHead(config.head_units, self.tasks, dtype=policy, name="head")

    def attention(self, view: str) -> ASGA:
        """The target attention of a view."""
        config = self.config
        return ASGA(
            config.num_heads,
            "qaog" in config.gates,
            config.attention,
            dtype=self.dtype_policy,
            name=view,
        )

    def build_parts(self) -> None:
        """Builds projections, gates, attentions and the head."""
        config, width, dim = self.config, self.embedding.width, self.config.dim
        rows, views = (None, None, dim), (None, len(VIEWS))
        self.behavior_projection.build((None, None, width("behavior")))
        self.candidate_projection.build((None, None, width("candidate")))
        if "pafs" in config.gates:
            self.target_sifting.build(rows)
            self.behavior_sifting.build(rows)
        self.real_time.build(rows, rows)
        self.short_term.build(rows, rows)
        self.build_long_term(rows)
        if "gcqc" in config.gates:
            self.calibration.build(rows, rows)
        if "cgdf" in config.gates:
            context = sum(map(width, CONTEXTS[config.fusion_context]))
            self.fusion.build(rows, (None, context), (None, *views, dim), views)
        self.head.build_for(self.embedding, dim, len(VIEWS) * dim)

    def make_long_term(self) -> None:
        """Makes the layers that search the long-term view."""
        self.long_term: keras.layers.Layer = self.attention("long_term")

    def build_long_term(self, rows: tuple) -> None:
        """Builds them.

        Args:
            rows: shape of queries and behaviors.
        """
        self.long_term.build(rows, rows)

    def long_term_spec(self) -> dict:
        """What the search adds to the state, declared."""
        return {}

    def encode_long_term(self, behaviors_BMD: Tensor, visible_BM: Tensor) -> dict:
        """What the search adds to the state.

        Args:
            behaviors_BMD: of the long-term view.
            visible_BM: bool, those that are in it.
        """
        return {}

    def search_long_term(
        self, query_BCD: Tensor, behaviors_BMD: Tensor, visible_BM: Tensor, state: dict
    ) -> Tensor:
        """What the queries find in the long-term view, `[B, C, D]`.

        Args:
            query_BCD: the queries, calibrated.
            behaviors_BMD: of the long-term view.
            visible_BM: bool, those that are in it.
            state: from `encode`.
        """
        return self.long_term(query_BCD, behaviors_BMD, visible_BM)

    def state_spec(self) -> dict:
        """User and request; the behaviors and their times; what the search adds."""
        return {
            **self.request_spec(),
            "time": StateSpec((history,), "int64"),
            "mask": StateSpec((history,), "bool"),
            "behaviors": StateSpec((history, self.config.dim)),
            **self.long_term_spec(),
        }

    def encode(
        self,
        user: dict,
        behaviors: dict,
        context: dict,
        training: bool = False,
    ) -> dict:
        """Projects and sifts the behaviors."""
        rows_BND = self.behavior_projection(behaviors["embedding"])
        if "pafs" in self.config.gates:
            rows_BND = self.behavior_sifting(rows_BND)
        state = {
            **self.request_state(user, context),
            "time": behaviors["time"],
            "mask": behaviors["mask"],
            "behaviors": rows_BND,
        }
        positions, visible_BM = self._cut_views(state)["long_term"]
        return state | self.encode_long_term(rows_BND[:, positions], visible_BM)

    def history_logits(
        self, state: dict, candidates: dict, training: bool = False
    ) -> Tensor:
        """Logits `[B, C, T]` float32."""
        target_BCD = self.candidate_projection(candidates["embedding"])
        interest_BCI = self._interest(target_BCD, state)
        return self.head(target_BCD, state["user"], state["context"], interest_BCI)

    def _cut_views(self, state: dict) -> dict:
        """The views of `HistoryViews`, from a state."""
        return self.views(state["time"], state["mask"], state["request_time"])

    def _interest(self, target_BCD, state):
        """The views side by side, weighed."""
        gates = self.config.gates
        if "pafs" in gates:
            target_BCD = self.target_sifting(target_BCD)
        views = self._cut_views(state)
        found_BCD = self._attend(self.real_time, target_BCD, state, views["real_time"])
        query_BCD = target_BCD
        if "gcqc" in gates:
            query_BCD = self.calibration(target_BCD, found_BCD)
        positions, visible_BM = views["long_term"]
        behaviors_BMD = state["behaviors"][:, positions]
        found = [
            found_BCD,
            self._attend(self.short_term, query_BCD, state, views["short_term"]),
            self.search_long_term(query_BCD, behaviors_BMD, visible_BM, state),
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
