"""Warm-up records: `assets.extra/tf_serving_warmup_requests`, read without TensorFlow.

TF Serving's rules: at most 1,000 `PredictionLog` records, and a failing one fails the
loading of the version.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

import google_crc32c
from google.protobuf.message import DecodeError
from grpc import StatusCode

from serving.server.errors import ServingError
from serving.server.protos import PredictionLog, PredictRequest

WARMUP = Path("assets.extra") / "tf_serving_warmup_requests"
MAX_RECORDS = 1_000


def warmup_requests(folder: Path) -> Iterator[PredictRequest]:
    """Requests to be run before a version serves; none where there is no file.

    Raises:
        ServingError: if the file is damaged or holds what cannot be run.
    """
    path = folder / WARMUP
    if not path.is_file():
        return
    for i, record in enumerate(_records(path)):
        if i == MAX_RECORDS:
            raise ServingError(
                StatusCode.INVALID_ARGUMENT,
                f"Number of warmup records exceeds the maximum ({MAX_RECORDS}) in "
                f"'{path}'.",
            )
        try:
            log = PredictionLog.FromString(record)
        except DecodeError as error:
            raise ServingError(
                StatusCode.INVALID_ARGUMENT,
                f"Record {i} of '{path}' is no PredictionLog.",
            ) from error
        kind = log.WhichOneof("log_type")
        if kind != "predict_log":
            raise ServingError(
                StatusCode.UNIMPLEMENTED,
                f"Record {i} of '{path}' must hold a predict_log. Received: {kind}",
            )
        yield log.predict_log.request


def _records(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while header := file.read(12):
            if len(header) == 12:
                (length,) = struct.unpack("<Q", header[:8])
                if length <= path.stat().st_size and _crc(header[:8]) == header[8:]:
                    data, crc = file.read(length), file.read(4)
                    if len(data) == length and _crc(data) == crc:
                        yield data
                        continue
            raise ServingError(
                StatusCode.DATA_LOSS, f"'{path}' is damaged: a record's CRC is wrong."
            )


def _crc(data: bytes) -> bytes:
    """CRC-32C as TFRecord files mask it."""
    crc = google_crc32c.value(data)
    masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
    return struct.pack("<I", masked)
