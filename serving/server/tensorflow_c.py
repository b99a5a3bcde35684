"""TensorFlow's C++ loader and session, by its C API; Python TensorFlow is not needed.

`TF_LoadSessionFromSavedModel` is the C name of `LoadSavedModel`, which TF Serving calls
for a version folder: it reads the graph, restores the variables and fills the tables.
"""

import ctypes
import functools
import importlib.util
import itertools
import os
from ctypes import POINTER, c_char_p, c_int, c_int64, c_size_t, c_void_p
from pathlib import Path

import numpy as np

from serving.server.errors import ServingError, code_of, invalid
from serving.server.protos import (
    ConfigProto,
    MetaGraphDef,
    SignatureDef,
    TensorInfo,
)
from serving.server.tensors import enum_of, numpy_dtype

_SERVE_TAG = b"serve"
_INIT_OP = "__saved_model_init_op"  # stands among the signatures, and is none
_VIEW = 3  # a string that is kept alive elsewhere (TF_TSTR_VIEW in ctstring_internal.h)


class _Buffer(ctypes.Structure):
    _fields_ = [("data", c_void_p), ("length", c_size_t), ("deallocator", c_void_p)]


class _Output(ctypes.Structure):
    _fields_ = [("operation", c_void_p), ("index", c_int)]


_FUNCTIONS = {
    "TF_Version": (c_char_p, []),
    "TF_NewStatus": (c_void_p, []),
    "TF_GetCode": (c_int, [c_void_p]),
    "TF_Message": (c_char_p, [c_void_p]),
    "TF_DeleteStatus": (None, [c_void_p]),
    "TF_NewBuffer": (POINTER(_Buffer), []),
    "TF_DeleteBuffer": (None, [POINTER(_Buffer)]),
    "TF_NewGraph": (c_void_p, []),
    "TF_DeleteGraph": (None, [c_void_p]),
    "TF_GraphOperationByName": (c_void_p, [c_void_p, c_char_p]),
    "TF_NewSessionOptions": (c_void_p, []),
    "TF_SetConfig": (None, [c_void_p, c_char_p, c_size_t, c_void_p]),
    "TF_DeleteSessionOptions": (None, [c_void_p]),
    "TF_LoadSessionFromSavedModel": (
        c_void_p,
        [
            c_void_p,
            c_void_p,
            c_char_p,
            POINTER(c_char_p),
            c_int,
            c_void_p,
            POINTER(_Buffer),
            c_void_p,
        ],
    ),
    "TF_CloseSession": (None, [c_void_p, c_void_p]),
    "TF_DeleteSession": (None, [c_void_p, c_void_p]),
    "TF_SessionRun": (
        None,
        [
            c_void_p,
            POINTER(_Buffer),
            POINTER(_Output),
            POINTER(c_void_p),
            c_int,
            POINTER(_Output),
            POINTER(c_void_p),
            c_int,
            c_void_p,
            c_int,
            c_void_p,
            c_void_p,
        ],
    ),
    "TF_AllocateTensor": (c_void_p, [c_int, POINTER(c_int64), c_int, c_size_t]),
    "TF_DeleteTensor": (None, [c_void_p]),
    "TF_TensorType": (c_int, [c_void_p]),
    "TF_NumDims": (c_int, [c_void_p]),
    "TF_Dim": (c_int64, [c_void_p, c_int]),
    "TF_TensorData": (c_void_p, [c_void_p]),
    "TF_TensorByteSize": (c_size_t, [c_void_p]),
    "TF_StringGetDataPointer": (c_void_p, [c_void_p]),
    "TF_StringGetSize": (c_size_t, [c_void_p]),
}


@functools.cache
def library() -> ctypes.CDLL:
    """The C API in the installed wheel of TensorFlow.

    Raises:
        ImportError: if it cannot be found.
    """
    spec = importlib.util.find_spec("tensorflow")
    if spec is None:
        raise ImportError("TensorFlow is not installed: there is no C++ loader.")
    folders = [Path(folder) for folder in spec.submodule_search_locations]
    found = [path for f in folders for path in sorted(f.glob("libtensorflow_cc.so*"))]
    if not found:
        raise ImportError(f"TensorFlow has no libtensorflow_cc.so in '{folders[0]}'.")
    # For matrices as small as these, oneDNN's kernels take twice the time of Eigen's.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    loaded = ctypes.CDLL(str(found[0]))
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(loaded, name)
        function.restype, function.argtypes = result, arguments
    return loaded


class _Status:
    """A TF_Status that becomes a ServingError."""

    def __enter__(self):
        self.pointer = library().TF_NewStatus()
        return self

    def __exit__(self, *exception):
        library().TF_DeleteStatus(self.pointer)

    def check(self) -> None:
        code = library().TF_GetCode(self.pointer)
        if code:
            message = library().TF_Message(self.pointer).decode("utf-8", "replace")
            raise ServingError(code_of(code), message)


class SavedModel:
    """A SavedModel in a C++ session; `run` may be called by many threads.

    Args:
        folder: of the version.
        config: of the session.

    Raises:
        ServingError: with the loader's status.
    """

    def __init__(self, folder: str | Path, config: ConfigProto | None = None):
        self._graph = self._session = None
        api = library()
        options = api.TF_NewSessionOptions()
        meta_graph = api.TF_NewBuffer()
        self._graph = api.TF_NewGraph()
        try:
            with _Status() as status:
                serialized = (config or ConfigProto()).SerializeToString()
                api.TF_SetConfig(options, serialized, len(serialized), status.pointer)
                status.check()
                self._session = api.TF_LoadSessionFromSavedModel(
                    options,
                    None,
                    str(folder).encode(),
                    (c_char_p * 1)(_SERVE_TAG),
                    1,
                    self._graph,
                    meta_graph,
                    status.pointer,
                )
                status.check()
            data = ctypes.string_at(
                meta_graph.contents.data, meta_graph.contents.length
            )
            self.signature_defs = dict(MetaGraphDef.FromString(data).signature_def)
            self.signatures = {
                name: Signature(name, signature, self._operation)
                for name, signature in self.signature_defs.items()
                if name != _INIT_OP
            }
        except BaseException:
            self.close()
            raise
        finally:
            api.TF_DeleteBuffer(meta_graph)
            api.TF_DeleteSessionOptions(options)

    def _operation(self, tensor: str) -> _Output:
        name, _, index = tensor.partition(":")
        operation = library().TF_GraphOperationByName(self._graph, name.encode())
        if operation is None:
            raise invalid(f"The graph has no tensor '{tensor}'.")
        return _Output(operation, int(index or 0))

    def run(
        self, signature: "Signature", inputs: dict[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Runs a signature.

        Args:
            signature: of this model.
            inputs: of the signature, of its dtypes.

        Raises:
            ServingError: with TensorFlow's status.
        """
        api = library()
        feeds = (c_void_p * len(signature.input_names))()
        fetches = (c_void_p * len(signature.output_names))()
        alive = []  # what the tensors point into
        try:
            for i, name in enumerate(signature.input_names):
                feeds[i] = _to_tensor(inputs[name], alive)
            with _Status() as status:
                api.TF_SessionRun(
                    self._session,
                    None,
                    signature.feeds,
                    feeds,
                    len(feeds),
                    signature.fetches,
                    fetches,
                    len(fetches),
                    None,
                    0,
                    None,
                    status.pointer,
                )
                status.check()
            return {
                name: _to_numpy(tensor)
                for name, tensor in zip(signature.output_names, fetches, strict=True)
            }
        finally:
            for tensor in (*feeds, *fetches):
                if tensor:
                    api.TF_DeleteTensor(tensor)

    def close(self) -> None:
        """Frees everything; no `run` may be under way."""
        api = library()
        with _Status() as status:
            if self._session:
                api.TF_CloseSession(self._session, status.pointer)
                api.TF_DeleteSession(self._session, status.pointer)
            if self._graph:
                api.TF_DeleteGraph(self._graph)
        self._session = self._graph = None


class Signature:
    """A signature, its tensors found in the graph.

    Attributes:
        dtypes: of the inputs.
        shapes: of the inputs, -1 where open; None where even the rank is.
        open_axes: of the inputs, but for the first axis.
        batchable: whether the first axis of all inputs and outputs is open.

    Args:
        name: of the signature.
        proto: as the SavedModel has it.
        find: tensor's name → place in the graph.
    """

    def __init__(self, name: str, proto: SignatureDef, find):
        self.name = name
        self.proto = proto
        self.input_names = sorted(proto.inputs)
        self.output_names = sorted(proto.outputs)
        self.dtypes = {
            name: numpy_dtype(info.dtype) for name, info in proto.inputs.items()
        }
        self.shapes = {name: _shape(info) for name, info in proto.inputs.items()}
        self.open_axes = {
            name: tuple(i for i, n in enumerate(shape or ()) if i and n == -1)
            for name, shape in self.shapes.items()
        }
        outputs = [_shape(info) for info in proto.outputs.values()]
        self.batchable = bool(proto.inputs) and all(
            shape is None or shape[:1] == (-1,)
            for shape in (*self.shapes.values(), *outputs)
        )
        feeds = [find(proto.inputs[name].name) for name in self.input_names]
        fetches = [find(proto.outputs[name].name) for name in self.output_names]
        self.feeds = (_Output * len(feeds))(*feeds)
        self.fetches = (_Output * len(fetches))(*fetches)


def _shape(info: TensorInfo) -> tuple[int, ...] | None:
    if info.tensor_shape.unknown_rank:
        return None
    return tuple(dim.size for dim in info.tensor_shape.dim)


def _to_tensor(array: np.ndarray, alive: list) -> int:
    api = library()
    enum, shape = enum_of(array), array.shape
    if array.dtype.kind == "O":
        array = _string_views(array, alive)
    content = array.tobytes()
    tensor = api.TF_AllocateTensor(
        enum, (c_int64 * len(shape))(*shape), len(shape), len(content)
    )
    if not tensor:
        raise MemoryError(f"TensorFlow has no {len(content):,} bytes for an input.")
    ctypes.memmove(api.TF_TensorData(tensor), content, len(content))
    return tensor


def _string_views(array: np.ndarray, alive: list) -> np.ndarray:
    """Strings as TensorFlow's records of 24 bytes that point into one long string."""
    values = array.ravel().tolist()
    text = b"".join(values)
    lengths = list(map(len, values))
    alive.append(text)
    address = ctypes.cast(c_char_p(text), c_void_p).value or 0
    # Lists, for NumPy's arithmetic takes its time where it has not run for a while.
    records = np.zeros((len(values), 3), np.uint64)
    records[:, 0] = [length << 2 | _VIEW for length in lengths]
    records[:, 1] = list(itertools.accumulate(lengths, initial=address))[:-1]
    return records


def _to_numpy(tensor: int) -> np.ndarray:
    api = library()
    shape = [api.TF_Dim(tensor, i) for i in range(api.TF_NumDims(tensor))]
    enum, data = api.TF_TensorType(tensor), api.TF_TensorData(tensor)
    dtype = numpy_dtype(enum)
    if dtype is None:
        raise invalid(f"An output has the type {enum}, which is not served.")
    if dtype.kind == "O":
        array = np.empty(int(np.prod(shape)), object)
        for i in range(array.size):
            record = data + 24 * i
            array[i] = ctypes.string_at(
                api.TF_StringGetDataPointer(record), api.TF_StringGetSize(record)
            )
        return array.reshape(shape)
    content = ctypes.string_at(data, api.TF_TensorByteSize(tensor)) if data else b""
    return np.frombuffer(content, dtype).reshape(shape)
