"""TensorFlow's and TF Serving's messages, imported without TensorFlow.

The generated modules lie inside the package `tensorflow`, whose own import takes
seconds, half a gigabyte, and Keras with it. A stand-in with the package's path takes
its place while they are imported, and is gone afterwards.
"""

import contextlib
import importlib.util
import sys
import types


@contextlib.contextmanager
def _without_tensorflow():
    if "tensorflow" in sys.modules:
        yield
        return
    stand_in = types.ModuleType("tensorflow")
    spec = importlib.util.find_spec("tensorflow")
    stand_in.__path__ = list(spec.submodule_search_locations)
    sys.modules["tensorflow"] = stand_in
    try:
        yield
    finally:
        del sys.modules["tensorflow"]


with _without_tensorflow():
    from tensorflow.core.framework import types_pb2
    from tensorflow.core.framework.tensor_pb2 import TensorProto
    from tensorflow.core.protobuf.config_pb2 import ConfigProto
    from tensorflow.core.protobuf.meta_graph_pb2 import (
        MetaGraphDef,
        SignatureDef,
        TensorInfo,
    )
    from tensorflow_serving.apis import (
        model_pb2,
        model_service_pb2_grpc,
        prediction_service_pb2_grpc,
    )
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
    from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

__all__ = [
    "ConfigProto",
    "GetModelMetadataRequest",
    "GetModelMetadataResponse",
    "GetModelStatusRequest",
    "GetModelStatusResponse",
    "MetaGraphDef",
    "ModelVersionStatus",
    "PredictRequest",
    "PredictResponse",
    "PredictionLog",
    "SignatureDef",
    "SignatureDefMap",
    "TensorInfo",
    "TensorProto",
    "model_pb2",
    "model_service_pb2_grpc",
    "prediction_service_pb2_grpc",
    "types_pb2",
]
