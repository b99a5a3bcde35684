"""A served model: versions loaded once, at the start, and the requests to them."""

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import grpc
import tensorflow as tf
from tensorflow_serving.apis import model_pb2
from tensorflow_serving.apis.get_model_metadata_pb2 import (
    GetModelMetadataRequest,
    GetModelMetadataResponse,
    SignatureDefMap,
)
from tensorflow_serving.apis.get_model_status_pb2 import (
    GetModelStatusRequest,
    GetModelStatusResponse,
    ModelVersionStatus,
)
from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse

from ctr_tf.errors import UserError
from ctr_tf.storage import check_store
from ctr_tf.storage.folders import reading
from serving.errors import INTERNAL, NOT_FOUND, ServingError, invalid
from serving.exported import (
    EXTRA,
    GOLDEN,
    WARMUP,
    check_is_no_run,
    version_folders,
)
from serving.received_tensors import from_proto
from serving.saved_model import own_words, read_meta_graph
from serving.self_test import replay_golden, replay_warmup
from serving.server.checks import check_inputs, find_signature, output_names
from serving.specs import Signature, read_signatures
from serving.tensors import to_proto

_METADATA_FIELD = "signature_def"
_STATUSES = {code.value[0]: code.name for code in grpc.StatusCode}

_log = logging.getLogger(__name__)

# Gives a signature's inputs of a request.
Read = Callable[[Signature], dict[str, tf.Tensor]]


def find_versions(folder: str | Path, count: int) -> dict[int, Path]:
    """The newest versions of a model, number → folder.

    Args:
        folder: of version folders.
        count: how many at most.

    Raises:
        FileNotFoundError: if there is none.
        UserError: if the folder is itself a version, or a run.
    """
    folder = check_store(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder of versions '{folder}'.")
    check_is_no_run(folder)
    if (folder / "saved_model.pb").is_file():
        raise UserError(
            "The model's folder must hold numbered version folders, not be one. "
            f"Received: '{folder}'"
        )
    found = version_folders(folder)
    if not found:
        raise FileNotFoundError(f"There is no version in '{folder}'.")
    return dict(list(found.items())[-count:])


class Version:
    """A version, loaded and tried with the requests that its export brought along.

    Args:
        number: of the version.
        folder: of the version.

    Raises:
        UserError: if it cannot be loaded, or does not answer as it did when exported.
    """

    def __init__(self, number: int, folder: Path):
        started = time.monotonic()
        self.number = number
        warmup = golden = 0
        try:
            with reading(folder) as here:
                self.definitions = dict(read_meta_graph(here).signature_def)
                self.signatures = read_signatures(self.definitions)
                self._loaded = tf.saved_model.load(str(here))
                served, extra = self._loaded.signatures, here / EXTRA
                if (extra / WARMUP).is_file():
                    warmup = replay_warmup(extra / WARMUP, served)
                if (extra / GOLDEN).is_file():
                    golden = replay_golden(here, served)
        except Exception as error:  # whatever TensorFlow makes of a damaged file
            raise UserError(
                f"Cannot load version {number} from '{folder}': {own_words(str(error))}"
            ) from error
        seconds = time.monotonic() - started
        words = "Version %d serves after %.1f s, %d warm-up and %d golden requests."
        _log.info(words, number, seconds, warmup, golden)

    def run(self, signature: str, inputs: dict) -> dict[str, tf.Tensor]:
        """Runs a signature.

        Raises:
            ServingError: with TensorFlow's status and the operation's own words.
        """
        try:
            return self._loaded.signatures[signature](**inputs)
        except tf.errors.OpError as error:
            status = _STATUSES.get(error.error_code, INTERNAL)
            raise ServingError(status, own_words(error.message)) from error
        except UnicodeDecodeError as error:  # a message that quotes an input's bytes
            message = error.object.decode("utf-8", "replace")
            raise invalid(own_words(message)) from error


class Model:
    """One model, served.

    Args:
        name: of the model in requests.
        versions: number → version.
    """

    def __init__(self, name: str, versions: dict[int, Version]):
        self.name = name
        self._versions = versions

    def find(self, spec: model_pb2.ModelSpec) -> Version:
        """The version that a request asks for; the latest where it asks for none.

        Raises:
            ServingError: INVALID_ARGUMENT or NOT_FOUND, as in TF Serving.
        """
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        choice = spec.WhichOneof("version_choice")
        if choice == "version_label":
            raise invalid(f"Unrecognized servable version label: {spec.version_label}")
        asked, number = f"Latest({spec.name})", max(self._versions)
        if choice == "version":
            number = spec.version.value
            asked = f"Specific({spec.name}, {number})"
        if spec.name != self.name or number not in self._versions:
            raise ServingError(NOT_FOUND, f"Servable not found for request: {asked}")
        return self._versions[number]

    def predict(self, request: PredictRequest) -> PredictResponse:
        """Answers a request.

        Raises:
            ServingError: names what is wrong with it.
        """

        def read(signature: Signature) -> dict[str, tf.Tensor]:
            return {k: from_proto(k, value) for k, value in request.inputs.items()}

        version, outputs = self.run(request.model_spec, read, request.output_filter)
        response = PredictResponse()
        response.model_spec.CopyFrom(request.model_spec)
        response.model_spec.version.value = version.number
        for name, value in outputs.items():
            to_proto(value.numpy(), response.outputs[name], typed=True)
        return response

    def run(
        self, spec: model_pb2.ModelSpec, read: Read, wanted: Sequence[str] = ()
    ) -> tuple[Version, dict[str, tf.Tensor]]:
        """Runs a signature on the inputs of a request.

        Args:
            spec: of the request; an empty signature's name is filled in.
            read: gives the inputs.
            wanted: outputs; all, where it names none.

        Raises:
            ServingError: names what is wrong with the request.
        """
        version = self.find(spec)
        spec.signature_name, signature = find_signature(
            version.signatures, spec.signature_name
        )
        inputs = read(signature)
        check_inputs(inputs, signature)
        names = output_names(signature, wanted)
        outputs = version.run(spec.signature_name, inputs)
        return version, {name: outputs[name] for name in names}

    def status(self, request: GetModelStatusRequest) -> GetModelStatusResponse:
        """States of the versions.

        Raises:
            ServingError: INVALID_ARGUMENT or NOT_FOUND.
        """
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        spec = request.model_spec
        numbers = list(self._versions) if spec.name == self.name else []
        what = "any versions"
        if spec.HasField("version"):
            what = f"version {spec.version.value}"
            numbers = [n for n in numbers if n == spec.version.value]
        if not numbers:
            raise ServingError(NOT_FOUND, f"Could not find {what} of model {spec.name}")
        response = GetModelStatusResponse()
        for number in sorted(numbers, reverse=True):
            status = response.model_version_status.add()
            status.version, status.state = number, ModelVersionStatus.AVAILABLE
            status.status.error_code = 0
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
        version = self.find(request.model_spec)
        response = GetModelMetadataResponse()
        response.model_spec.name = self.name
        response.model_spec.version.value = version.number
        signatures = SignatureDefMap(signature_def=version.definitions)
        response.metadata[_METADATA_FIELD].Pack(signatures)
        return response
