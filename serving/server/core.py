"""Requests: checked, batched, run and answered, whichever door they came through."""

import dataclasses
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import numpy as np
from grpc import StatusCode

from serving.server.batching import Batcher, BatchingOptions, Task
from serving.server.checks import (
    check_inputs,
    find_signature,
    output_names,
    read_inputs,
)
from serving.server.errors import ServingError, invalid
from serving.server.metrics import Metrics
from serving.server.protos import (
    ConfigProto,
    GetModelMetadataRequest,
    GetModelMetadataResponse,
    GetModelStatusRequest,
    GetModelStatusResponse,
    PredictRequest,
    PredictResponse,
    SignatureDefMap,
    model_pb2,
)
from serving.server.replay import replay_golden
from serving.server.tensorflow_c import SavedModel, Signature
from serving.server.tensors import to_proto
from serving.server.versions import ModelVersion, State, Versions
from serving.server.warmup import warmup_requests

_METADATA_FIELD = "signature_def"
# Batches run beside each other, each in the thread that asks for it: a graph is many
# small operations, and to hand them to other threads takes longer than it saves, most
# of all where these must be waited for on a busy machine. (With this executor a run
# that is given a timeout never returns.)
_SESSION = ConfigProto(
    intra_op_parallelism_threads=1,
    experimental=ConfigProto.Experimental(executor_type="SINGLE_THREADED_EXECUTOR"),
)

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Pending:
    """A request under way.

    Args:
        version: that runs it.
        signature: of the version.
        output_names: that the request wants.
        future: gets all outputs of the signature.
    """

    version: ModelVersion
    signature: Signature
    output_names: list[str]
    future: Future

    def outputs(self, outputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Those that the request wants."""
        return {name: outputs[name] for name in self.output_names}


class Core:
    """One model, served.

    Args:
        name: of the model.
        folder: of its versions.
        batching: see there.
        max_message_bytes: that a tensor of a request may take.
        num_versions: newest ones that serve at once.
        poll_seconds: between two looks into the folder.
    """

    def __init__(
        self,
        name: str,
        folder: str | Path,
        batching: BatchingOptions,
        max_message_bytes: int,
        num_versions: int = 1,
        poll_seconds: float = 1.0,
    ):
        self.name = name
        self.max_message_bytes = max_message_bytes
        self.metrics = Metrics()
        self.versions = Versions(name, folder, self._load, num_versions, poll_seconds)
        self.batcher = Batcher(batching, self._on_batch)
        self.metrics.before_page(self._update_gauges)

    def close(self) -> None:
        """Unloads everything; the batcher must be closed."""
        self.versions.close()

    @property
    def serves(self) -> bool:
        """Whether a version is there and the server does not shut down."""
        return self.versions.available and not self.batcher.closed

    def acquire(self, spec: model_pb2.ModelSpec) -> ModelVersion:
        """The version that a request asks for; the caller must `release` it.

        Raises:
            ServingError: INVALID_ARGUMENT or NOT_FOUND, as in TF Serving.
        """
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        choice = spec.WhichOneof("version_choice")
        if choice == "version_label":
            raise invalid(f"Unrecognized servable version label: {spec.version_label}")
        number = spec.version.value if choice == "version" else None
        if spec.name != self.name:
            asked = (
                f"Latest({spec.name})"
                if number is None
                else f"Specific({spec.name}, {number})"
            )
            raise ServingError(
                StatusCode.NOT_FOUND, f"Servable not found for request: {asked}"
            )
        return self.versions.acquire(number)

    def predict(self, request: PredictRequest, deadline: float | None) -> Pending:
        """Queues a request.

        Args:
            request: as received.
            deadline: of `time.monotonic()`; None: none.

        Raises:
            ServingError: names what is wrong with the request.
        """
        return self.submit(
            request.model_spec,
            lambda signature: read_inputs(request, signature, self.max_message_bytes),
            request.output_filter,
            deadline,
        )

    def submit(
        self,
        spec: model_pb2.ModelSpec,
        read: Callable[[Signature], dict[str, np.ndarray]],
        output_filter: list[str],
        deadline: float | None,
    ) -> Pending:
        """Queues a request whose inputs `read` gives for the signature."""
        self.batcher.check_room()
        version = self.acquire(spec)
        try:
            signature = find_signature(version.model, spec.signature_name)
            inputs = read(signature)
            check_inputs(inputs, signature)
            names = output_names(signature, output_filter)
            task = Task(
                lambda values: self._run(version, signature, values),
                (version, signature.name) if signature.batchable else None,
                inputs,
                signature.open_axes,
                deadline,
            )
            future = self.batcher.submit(task)
        except BaseException:
            version.release()
            raise
        future.add_done_callback(lambda _: version.release())
        return Pending(version, signature, names, future)

    def predict_response(
        self, pending: Pending, outputs: dict[str, np.ndarray]
    ) -> PredictResponse:
        """The answer to a request."""
        response = PredictResponse()
        response.model_spec.name = self.name
        response.model_spec.version.value = pending.version.number
        response.model_spec.signature_name = pending.signature.name
        for name, array in pending.outputs(outputs).items():
            to_proto(array, response.outputs[name])
        return response

    def status(self, request: GetModelStatusRequest) -> GetModelStatusResponse:
        """States of the versions.

        Raises:
            ServingError: INVALID_ARGUMENT or NOT_FOUND.
        """
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        spec = request.model_spec
        states = self.versions.states() if spec.name == self.name else {}
        if spec.HasField("version"):
            number = spec.version.value
            if number not in states:
                raise ServingError(
                    StatusCode.NOT_FOUND,
                    f"Could not find version {number} of model {spec.name}",
                )
            states = {number: states[number]}
        if not states:
            raise ServingError(
                StatusCode.NOT_FOUND,
                f"Could not find any versions of model {spec.name}",
            )
        response = GetModelStatusResponse()
        for number, state in sorted(states.items(), reverse=True):
            status = response.model_version_status.add()
            status.version, status.state = number, state.state
            status.status.error_code = state.code.value[0]
            status.status.error_message = state.message
        return response

    def metadata(self, request: GetModelMetadataRequest) -> GetModelMetadataResponse:
        """The signatures of a version.

        Raises:
            ServingError: INVALID_ARGUMENT or NOT_FOUND.
        """
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        if not request.metadata_field:
            raise invalid(
                "GetModelMetadataRequest must specify at least one metadata_field"
            )
        for field in request.metadata_field:
            if field != _METADATA_FIELD:
                raise invalid(f"Metadata field {field} is not supported")
        version = self.acquire(request.model_spec)
        try:
            signatures = SignatureDefMap(signature_def=version.model.signature_defs)
        finally:
            version.release()
        response = GetModelMetadataResponse()
        response.model_spec.name = self.name
        response.model_spec.version.value = version.number
        response.metadata[_METADATA_FIELD].Pack(signatures)
        return response

    def _load(self, folder: Path) -> SavedModel:
        """Loads a version, runs its warm-up records and asks its golden requests."""
        model = SavedModel(folder, _SESSION)
        try:
            count = 0
            for request in warmup_requests(folder):
                signature = find_signature(model, request.model_spec.signature_name)
                inputs = read_inputs(request, signature, self.max_message_bytes)
                check_inputs(inputs, signature)
                model.run(signature, inputs)
                count += 1
            golden = replay_golden(model, folder)
        except BaseException:
            model.close()
            raise
        _log.info("Ran %d warm-up and %d golden requests.", count, golden)
        return model

    def _run(self, version, signature, inputs) -> dict[str, np.ndarray]:
        started = time.monotonic()
        try:
            return version.model.run(signature, inputs)
        finally:
            self.metrics.runtime_latency.add(
                (time.monotonic() - started) * 1e6, self.name, "Predict", "TF1"
            )

    def _on_batch(self, rows: int, waits: list[float]) -> None:
        self.metrics.batch_size.add(rows, self.name)
        for wait in waits:
            self.metrics.queuing_latency.add(wait * 1e6, self.name)

    def _update_gauges(self) -> None:
        self.metrics.queued.replace({(self.name,): self.batcher.queued})
        self.metrics.versions.replace(
            {
                (self.name, str(number), State.Name(state.state)): 1
                for number, state in self.versions.states().items()
            }
        )
