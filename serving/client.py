"""A client of a served model: TF Serving, `ctr-tf serve`, or what else speaks its API.

    client = Client("localhost:8500", model_dir="runs/demo/export", store="runs/store")
    best = client.rank("u17", [7, 9, 12])          # by ids: the store knows the rest
    scores = client.score(request)                 # one pass
    scores = client.score(request, user="u17")     # the user's state is kept

A request is checked before it leaves, by the schema of the export and by the signature
that the server itself describes. Calls that find the server unavailable are repeated a
few times, later each time, within the deadline; other errors are the caller's at once.

With a user's name, the state of `encode_user` is kept in a cache under the model, its
version and the user, and later requests only score their candidates on it. A kept state
is as of the request that made it: its time, history, context and slate size. Call
`forget` when the user has done something that should count at once.
"""

import collections
import dataclasses
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ctr_tf.errors import UserError, unknown_name
from ctr_tf.schema import ITEM_KEY, Schema
from serving.errors import INVALID_ARGUMENT, NOT_FOUND, UNAVAILABLE, ServingError
from serving.exported import (
    EXTRA,
    SCHEMA,
    Exported,
    find_version,
    version_number,
)
from serving.fit import SignatureSchema, check_signature
from serving.inputs import RequestSchema, candidate_inputs, user_inputs
from serving.messages import Request, Scores, ranked
from serving.request import request_to_tensors
from serving.retry import Deadline, Retry
from serving.specs import Signature
from serving.state import STATE, STATE_VERSION, StateLayout, StateTensor
from serving.state_cache import RedisStateCache, StateCache
from serving.transport import TRANSPORTS

if TYPE_CHECKING:
    from serving.online.store import OnlineStore

SIGNATURES = ("serving_default", "encode_user", "score_candidates")
_AVAILABLE = "AVAILABLE"  # a version's state
_MAX_CANDIDATES = 1_000
_CANDIDATE = "candidate_"
_CANDIDATE_LENGTH = "candidate_length"


class Client:
    """Scores requests on a server.

    Args:
        target: `host:port` of gRPC or of REST.
        model: name under which the server has the model.
        transport: `"grpc"` or `"rest"`.
        model_dir: the export, a version or a folder of versions: its schema says what
            fits a request, its largest slate how many candidates one call takes.
            Without it, the server's own signature says what fits; every feature must
            then be given, counters too.
        timeout: seconds a `score` may take, repeated calls and all.
        retry: of calls that find the server unavailable.
        cache: of users' states; none are kept by default.
        max_candidates: of one call; a larger slate is split. Default: see `model_dir`,
            else 1,000.
        store: of events (`serving.online`), where `rank` finds what a request needs:
            a folder, `redis://…`, or an open one.
        version_ttl: seconds for which the server's newest version is taken as known.
    """

    def __init__(
        self,
        target: str,
        model: str = "ctr",
        transport: str = "grpc",
        *,
        model_dir: str | Path | None = None,
        timeout: float = 1.0,
        retry: Retry | None = None,
        cache: StateCache | RedisStateCache | None = None,
        max_candidates: int | None = None,
        store: "str | Path | OnlineStore | None" = None,
        version_ttl: float = 5.0,
    ):
        if transport not in TRANSPORTS:
            raise UserError(unknown_name("transport", transport, TRANSPORTS))
        if not timeout > 0:
            raise UserError(f"`timeout` must be positive. Received: {timeout!r}")
        if max_candidates is not None and max_candidates < 1:
            raise UserError(
                f"`max_candidates` must be positive. Received: {max_candidates!r}"
            )
        self.model = model
        self.transport = TRANSPORTS[transport](target, model)
        self.timeout = timeout
        self.retry = retry or Retry()
        self.cache = cache
        self.counts: collections.Counter[str] = collections.Counter()
        self.max_candidates = max_candidates or _MAX_CANDIDATES
        self._schema: Schema | None = None
        self._layouts: dict[int, StateLayout] = {}
        if model_dir is not None:
            folder = find_version(model_dir)
            exported = Exported.load(folder)
            self._schema = Schema.load(folder / EXTRA / SCHEMA)
            self.max_candidates = max_candidates or exported.slate_sizes[-1]
            number = version_number(folder)
            if number is not None:
                self._layouts[number] = exported.state
        self._owns_store = isinstance(store, str | Path)
        self._store = self._open_store(store)
        self._version_ttl = version_ttl
        self._version: tuple[int, float] | None = None
        self._schemas: dict[int, RequestSchema] = {}
        self._lock = threading.Lock()

    def score(
        self,
        request: Request | Mapping,
        user: str | None = None,
        timeout: float | None = None,
    ) -> Scores:
        """Scores a request's candidates.

        Args:
            request: or its form in JSON.
            user: name under which the user's state is kept, where there is a cache.
            timeout: seconds; the client's by default.

        Returns:
            Scores in the order of the candidates.

        Raises:
            UserError: names what does not fit in the request.
            ServingError: of the server, or `DEADLINE_EXCEEDED`.
        """
        if not isinstance(request, Request):
            request = Request.from_json(request)
        deadline = self._deadline(timeout)
        for swapped in (False, True):
            version = self._current(deadline, fresh=swapped)
            try:
                schema = self._fitting_schema(deadline, version)
                if user is None or self.cache is None:
                    return self._score_once(deadline, version, schema, request)
                return self._score_kept(deadline, version, schema, request, user)
            except ServingError as error:  # the version may have been unloaded
                if swapped or error.status != NOT_FOUND:
                    raise
                self.counts["version gone"] += 1
        raise AssertionError("The second round returns or raises.")

    def rank(
        self,
        user: object,
        candidates: Sequence,
        context: Mapping | None = None,
        *,
        time: int | None = None,
        slate_size: int | None = None,
        timeout: float | None = None,
    ) -> list[dict]:
        """Ranks items for a user, with what the store knows of both.

        Args:
            user: id.
            candidates: ids of items, or objects with the candidates' own features.
            context: features of the request.
            time: of the request, in the log's unit; now by default.
            slate_size: how many are shown, of a model with that feature.
            timeout: seconds; the client's by default.

        Returns:
            One `{"item_id", "probability", "logit", "position"}` a candidate, the most
            probable first; the position is the one in `candidates`.

        Raises:
            UserError: without a store, or for what does not fit; names it.
            ServingError: of the server, or `DEADLINE_EXCEEDED`.
        """
        if self._store is None:
            raise UserError("`rank` needs a store of events: Client(…, store=…).")
        request = self._store.request(
            user, candidates, context, time=time, slate_size=slate_size
        )
        scores = self.score(request, timeout=timeout)
        items = [candidate[ITEM_KEY] for candidate in request["candidates"]]
        return ranked(items, scores.probability, scores.logit)

    def forget(self, user: str) -> None:
        """Drops the user's kept states, of every version that the server knows.

        Raises:
            ServingError: if the server tells no version; then nothing is dropped.
        """
        if self.cache is None:
            return
        versions = self._deadline().call(self.transport.versions)
        if not versions:
            raise ServingError(UNAVAILABLE, f"No version of '{self.model}' is known.")
        for version in versions:
            self.cache.delete(self._key(user, version))

    def version(self) -> int:
        """The newest version that the server has available."""
        return self._current(self._deadline(), fresh=True)

    def signatures(self, version: int | None = None) -> dict[str, Signature]:
        """The signatures that the server describes."""
        return self._deadline().call(self.transport.signatures, version=version)

    def schema(self) -> RequestSchema:
        """What a request must give, checked against the newest version.

        Raises:
            UserError: names the input in which server and schema differ.
        """
        deadline = self._deadline()
        return self._fitting_schema(deadline, self._current(deadline))

    def close(self) -> None:
        """Closes the connection, and the store that it opened."""
        self.transport.close()
        if self._owns_store and self._store is not None:
            self._store.close()

    def _open_store(self, store: Any) -> "OnlineStore | None":
        if not self._owns_store:
            return store
        from serving.online.store import OnlineStore

        return OnlineStore.open_filled(store, self._schema)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _score_once(
        self,
        deadline: Deadline,
        version: int,
        schema: RequestSchema,
        request: Request,
    ) -> Scores:
        tensors = request_to_tensors(request.to_json(), schema)
        if len(request.candidates) > self.max_candidates:
            state = self._encode(deadline, version, schema, tensors)
            return self._score_state(deadline, version, state, tensors)
        outputs = self._predict(deadline, version, "serving_default", tensors)
        return _scores([(outputs, len(request.candidates))], version)

    def _score_kept(
        self,
        deadline: Deadline,
        version: int,
        schema: RequestSchema,
        request: Request,
        user: str,
    ) -> Scores:
        key = self._key(user, version)
        state = self._kept_state(key, version)
        if state is not None:
            tensors = request_to_tensors(request.to_json(False), schema)
            try:
                scores = self._score_state(deadline, version, state, tensors)
                return dataclasses.replace(scores, from_cache=True)
            except ServingError as error:  # another model under the same version
                if error.status != INVALID_ARGUMENT:
                    raise
                self._states().counts.refused += 1
        tensors = request_to_tensors(request.to_json(), schema)
        state = self._encode(deadline, version, schema, tensors)
        self._states().put(key, self._layouts[version].serialize(state))
        return self._score_state(deadline, version, state, tensors)

    def _encode(
        self,
        deadline: Deadline,
        version: int,
        schema: RequestSchema,
        tensors: dict,
    ) -> dict:
        names = [i.name for i in user_inputs(schema)]
        tensors = {name: tensors[name] for name in names}
        state = self._predict(deadline, version, "encode_user", tensors)
        self._layouts[version] = layout_of(state)
        return state

    def _score_state(
        self, deadline: Deadline, version: int, state: dict, tensors: dict
    ) -> Scores:
        """Scores the candidates on a state, in as many calls as they need."""
        columns = {n: v for n, v in tensors.items() if n.startswith(_CANDIDATE)}
        total, most = int(columns.pop(_CANDIDATE_LENGTH)[0]), self.max_candidates
        parts = []
        for start in range(0, total, most):
            count = min(most, total - start)
            part = {n: v[:, start : start + most] for n, v in columns.items()}
            part |= state | {_CANDIDATE_LENGTH: np.array([count])}
            outputs = self._predict(deadline, version, "score_candidates", part)
            parts.append((outputs, count))
        return _scores(parts, version)

    def _states(self) -> StateCache | RedisStateCache:
        assert self.cache is not None  # `_score_kept` is for clients that have one
        return self.cache

    def _kept_state(self, key: str, version: int) -> dict | None:
        if version not in self._layouts:  # nobody has encoded yet
            return None
        serialized = self._states().get(key)
        if serialized is None:
            return None
        try:
            return self._layouts[version].deserialize(serialized)
        except UserError:  # another model's, or damaged
            self._states().counts.refused += 1
            return None

    def _deadline(self, timeout: float | None = None) -> Deadline:
        timeout = self.timeout if timeout is None else timeout
        return Deadline(timeout, self.retry, self.counts)

    def _predict(
        self, deadline: Deadline, version: int, signature: str, tensors: dict
    ) -> dict:
        predict = self.transport.predict
        return deadline.call(predict, signature, tensors, version=version)[0]

    def _key(self, user: str, version: int) -> str:
        return f"{self.model}:{version}:{user}"

    def _current(self, deadline: Deadline, fresh: bool = False) -> int:
        known = self._version
        if known is not None and not fresh and time.monotonic() < known[1]:
            return known[0]
        newest = deadline.call(self._newest)
        self._version = newest, time.monotonic() + self._version_ttl
        return newest

    def _newest(self, timeout: float) -> int:
        states = self.transport.versions(timeout)
        available = [
            version for version, state in states.items() if state == _AVAILABLE
        ]
        if not available:  # yet: the server is loading it
            raise ServingError(
                UNAVAILABLE, f"No version of '{self.model}' is available: {states}"
            )
        return max(available)

    def _fitting_schema(self, deadline: Deadline, version: int) -> RequestSchema:
        with self._lock:
            if version not in self._schemas:
                signatures = deadline.call(self.transport.signatures, version=version)
                for name in SIGNATURES:
                    if name not in signatures:
                        raise UserError(
                            f"Version {version} of '{self.model}' lacks the signature "
                            f"'{name}'. Received: {sorted(signatures)}"
                        )
                default = signatures["serving_default"]
                schema = self._schema or SignatureSchema(default)
                inputs = [*user_inputs(schema), *candidate_inputs(schema)]
                check_signature(inputs, default)
                self._schemas[version] = schema
            return self._schemas[version]


def _scores(parts: list[tuple[dict, int]], version: int) -> Scores:
    """Joins answers; a server that pads a batch gives more scores than were asked."""
    probability, logit = (
        np.concatenate([outputs[key][0, :count] for outputs, count in parts])
        for key in ("probability", "logit")
    )
    return Scores(probability, logit, version)


def layout_of(state: Mapping[str, np.ndarray]) -> StateLayout:
    """The layout of a state that `encode_user` gave, the model's fingerprint too.

    It knows the packed tensors alone, which is all that the bytes depend on.
    """
    tensors = (
        StateTensor(name, value.dtype.name, value.shape[1:])
        for name, value in sorted(state.items())
        if name != STATE_VERSION and name.startswith(STATE)
    )
    return StateLayout(f"{int(state[STATE_VERSION][0]):016x}", tuple(tensors))
