"""`ctr-tf bench fuzz`: malformed requests by the thousand against `ctr-tf serve`.

    ctr-tf bench fuzz --export run/export --requests 10000

Starts a server on the export and sends it, over gRPC, REST and bare sockets, requests
that are wrong in some way drawn by chance, made from the export's warm-up records.
Every one must be answered in time with a named status; INTERNAL, UNKNOWN and HTTP 500
count as failures. Where the server answers with scores, the same SavedModel, called in
this process, must give the same; a quarter of the requests are sound.
"""

import argparse
import collections
import json
import random
import re
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse

from benchmarks.server_process import running_server
from serving.exported import EXTRA, WARMUP, find_version
from serving.json_tensors import to_json
from serving.saved_model import call, read_meta_graph
from serving.self_test import read_warmup
from serving.server import json_requests
from serving.specs import read_signatures

_SECONDS = 60  # after which an answer counts as none
_THREADS = 4
_DEFAULT_SIGNATURE = "serving_default"
_BAD = {"INTERNAL", "UNKNOWN", "DEADLINE_EXCEEDED", "UNAVAILABLE", "500", "no answer"}
_PREDICT = "/tensorflow.serving.PredictionService/Predict"
_INTEGERS = (-1, 0, 1, 2**31, 2**40, 2**63 - 1, -(2**63))
_FLOATS = (float("nan"), float("inf"), -float("inf"), 1e38, -0.0)
_VALUES = (None, True, "x", {}, [], [[]], [None], 1e39, float("nan"), 2**63, -1, 1.5)
_HEADS = (
    b"POST /v1/models/ctr:predict HTTP/1.1\r\n\r\n",
    b"POST /v1/models/ctr:predict HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
    b"POST /v1/models/ctr:predict HTTP/1.1\r\nContent-Length: 9999999999\r\n\r\n{}",
    b"POST /v1/models/ctr:predict HTTP/1.1\r\nContent-Length: 50\r\n\r\n{}",
    b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"GET /v1/models/ctr HTTP/9.9\r\n\r\n",
    b"GET " + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 200 + b"\r\n",
    b"PUT /v1/models/ctr HTTP/1.1\r\n\r\n",
    b"GET /../../etc/passwd HTTP/1.1\r\n\r\n",
)


class Fuzzer:
    """Sends requests and judges the answers.

    Args:
        folder: of the version that the server serves.
        grpc_address: of the server.
        rest_address: of the server.
        name: of the model.
    """

    def __init__(
        self, folder: str | Path, grpc_address: str, rest_address: str, name="ctr"
    ):
        folder = Path(folder)
        self._model = tf.saved_model.load(str(folder))
        self._specs = read_signatures(read_meta_graph(folder).signature_def)
        self._requests = list(read_warmup(folder / EXTRA / WARMUP))
        for request in self._requests:
            request.model_spec.name = name
            request.model_spec.ClearField("version_choice")
        self._grpc_address, self._rest_address = grpc_address, rest_address
        self._channel = grpc.insecure_channel(grpc_address)
        self._predict = self._channel.unary_unary(_PREDICT)
        self._path = f"/v1/models/{name}:predict"
        self._lock = threading.Lock()
        self.outcomes = collections.defaultdict(collections.Counter)
        self.failures: list[str] = []

    def run(self, requests: int, seed: int = 0) -> None:
        """Sends so many requests, from a few threads at once."""
        kinds = sorted(name for name in dir(self) if name.startswith("_kind_"))
        with ThreadPoolExecutor(_THREADS) as pool:
            for work in [
                pool.submit(self._one, kinds, f"{seed} {i}") for i in range(requests)
            ]:
                work.result()

    def close(self) -> None:
        """Frees the channel."""
        self._channel.close()

    def _one(self, kinds: list[str], seed: str) -> None:
        chance = random.Random(seed)
        kind = "_kind_sound" if chance.random() < 0.25 else chance.choice(kinds)
        outcome = getattr(self, kind)(chance)
        kind = kind.removeprefix("_kind_").replace("_", " ")
        with self._lock:
            self.outcomes[kind][outcome] += 1
            if outcome in _BAD or (kind == "sound" and outcome != "OK"):
                self.failures.append(f"{kind} (seed '{seed}'): {outcome}")

    def _kind_sound(self, chance: random.Random) -> str:
        return self._grpc(self._request(chance).SerializeToString())

    def _kind_grpc_random_bytes(self, chance: random.Random) -> str:
        return self._grpc(chance.randbytes(chance.randrange(300)))

    def _kind_grpc_flipped_bytes(self, chance: random.Random) -> str:
        data = self._request(chance).SerializeToString()
        return self._grpc(_damage(data, chance))

    def _kind_grpc_dtype(self, chance: random.Random) -> str:
        request, tensor = self._tensor(chance)
        tensor.dtype = chance.choice([*types_pb2.DataType.values(), 99])
        return self._grpc(request.SerializeToString())

    def _kind_grpc_shape(self, chance: random.Random) -> str:
        request, tensor = self._tensor(chance)
        shape = tensor.tensor_shape
        what = chance.randrange(4)
        if what == 0 or not shape.dim:
            shape.unknown_rank = True
        elif what == 1:
            shape.dim.add().size = chance.choice(_INTEGERS)
        elif what == 2:
            del shape.dim[-1]
        else:
            chance.choice(shape.dim).size = chance.choice([*_INTEGERS, 2, 3, 17])
        return self._grpc(request.SerializeToString())

    def _kind_grpc_values(self, chance: random.Random) -> str:
        """Lengths, times, ids, states: negative, huge, infinite, not a number."""
        request, _ = self._tensor(chance)
        for tensor in chance.sample(list(request.inputs.values()), 2):
            for field, values in (("int64_val", _INTEGERS), ("float_val", _FLOATS)):
                for i in range(len(getattr(tensor, field))):
                    if chance.random() < 0.5:
                        getattr(tensor, field)[i] = chance.choice(values)
            if tensor.tensor_content:
                tensor.tensor_content = chance.randbytes(len(tensor.tensor_content))
        return self._grpc(request.SerializeToString())

    def _kind_grpc_strings(self, chance: random.Random) -> str:
        request, _ = self._tensor(chance)
        for tensor in request.inputs.values():
            for i, value in enumerate(tensor.string_val):
                size = chance.choice((0, 1, 22, 23, 24, 100_000))
                junk = chance.randbytes(size)
                tensor.string_val[i] = chance.choice((junk, _damage(value, chance)))
        return self._grpc(request.SerializeToString())

    def _kind_grpc_names(self, chance: random.Random) -> str:
        request, tensor = self._tensor(chance)
        what = chance.randrange(6)
        if what == 0:
            request.inputs["x" * chance.randrange(100)].CopyFrom(tensor)
        elif what == 1:
            del request.inputs[chance.choice(sorted(request.inputs))]
        elif what == 2:
            request.model_spec.name = chance.choice(("", "x", "ctr\0"))
        elif what == 3:
            request.model_spec.version.value = chance.choice(_INTEGERS)
        elif what == 4:
            request.model_spec.signature_name = "x" * chance.randrange(10_000)
        else:
            request.output_filter.append(chance.choice(("logit", "x")))
        return self._grpc(request.SerializeToString())

    def _kind_rest_random_bytes(self, chance: random.Random) -> str:
        return self._rest(chance.randbytes(chance.randrange(300)))

    def _kind_rest_flipped_bytes(self, chance: random.Random) -> str:
        return self._rest(_damage(json.dumps(self._json(chance)).encode(), chance))

    def _kind_rest_values(self, chance: random.Random) -> str:
        body = self._json(chance)
        name = chance.choice(sorted(body["inputs"]))
        value, place = chance.choice(_VALUES), body["inputs"]
        if chance.random() < 0.7 and body["inputs"][name]:
            place, name = body["inputs"][name], 0  # one row, or all of them
        place[name] = value
        return self._rest(json.dumps(body).encode())

    def _kind_rest_structure(self, chance: random.Random) -> str:
        body = self._json(chance)
        deep = "[" * chance.randrange(100_000)
        changed = chance.choice(
            (
                {"instances": [body["inputs"]]},
                body | {"instances": [1]},
                {"inputs": [body["inputs"]]},
                body | {"signature_name": chance.choice((None, 3, "x", []))},
                {"signature_name": body["signature_name"]},
                [body],
                deep,
            )
        )
        text = changed if isinstance(changed, str) else json.dumps(changed)
        return self._rest(text.encode())

    def _kind_socket_rest(self, chance: random.Random) -> str:
        data = chance.choice((chance.randbytes(200), chance.choice(_HEADS)))
        return self._socket(self._rest_address, data)

    def _kind_socket_grpc(self, chance: random.Random) -> str:
        data = chance.choice((b"", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
        self._socket(self._grpc_address, data + chance.randbytes(200))
        return "closed"

    def _request(self, chance: random.Random) -> PredictRequest:
        request = PredictRequest()
        request.CopyFrom(chance.choice(self._requests))
        return request

    def _tensor(self, chance: random.Random):
        request = self._request(chance)
        while len(request.inputs) < 2 and chance.random() < 0.9:
            request = self._request(chance)
        if len(request.inputs) < 2:  # `values` takes two
            request.inputs["second"].CopyFrom(next(iter(request.inputs.values())))
        return request, request.inputs[chance.choice(sorted(request.inputs))]

    def _json(self, chance: random.Random) -> dict:
        request = self._request(chance)
        return {
            "signature_name": request.model_spec.signature_name,
            "inputs": {
                name: to_json(name, tf.make_ndarray(tensor))
                for name, tensor in request.inputs.items()
            },
        }

    def _grpc(self, data: bytes) -> str:
        try:
            answer = self._predict(data, timeout=_SECONDS)
        except grpc.RpcError as error:
            return error.code().name
        request = PredictRequest.FromString(data)
        inputs = {
            name: tf.io.parse_tensor(tensor.SerializeToString(), tensor.dtype)
            for name, tensor in request.inputs.items()
        }
        found = {
            name: tf.make_ndarray(tensor)
            for name, tensor in PredictResponse.FromString(answer).outputs.items()
        }
        self._compare(request.model_spec.signature_name, inputs, found, "gRPC")
        return "OK"

    def _rest(self, body: bytes) -> str:
        head = (
            f"POST {self._path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        answer = self._exchange(self._rest_address, head.encode() + body)
        status, content = _http(answer)
        if status == "200":
            request = json_requests.parse(body)
            name = request.get("signature_name", "") or _DEFAULT_SIGNATURE
            inputs = json_requests.read_inputs(request, self._specs[name])
            found = json.loads(content).get("outputs")
            if found is not None:
                found = {key: np.array(value) for key, value in found.items()}
                self._compare(name, inputs, found, "REST")
        return status

    def _compare(self, name: str, inputs: dict, found: dict, door: str) -> None:
        name = name or _DEFAULT_SIGNATURE
        right = call(self._model.signatures[name], inputs)
        for key, array in found.items():
            expected = right[key].numpy()
            if array.shape != expected.shape or not np.allclose(
                array, expected, 1e-3, 1e-5, equal_nan=True
            ):
                with self._lock:
                    self.failures.append(f"{door}: wrong {name} {key}")

    def _socket(self, address: str, data: bytes) -> str:
        return _http(self._exchange(address, data))[0]

    def _exchange(self, address: str, data: bytes) -> bytes:
        host, _, port = address.rpartition(":")
        with socket.create_connection((host, int(port)), _SECONDS) as connection:
            parts = []
            try:
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
                while part := connection.recv(1 << 16):
                    parts.append(part)
            except ConnectionError:
                pass  # refused in the middle; what came counts
            except TimeoutError:
                return b"HTTP/1.1 hang"
            return b"".join(parts)


def _http(answer: bytes) -> tuple[str, bytes]:
    if answer == b"HTTP/1.1 hang":
        return "no answer", b""
    match = re.match(rb"HTTP/1\.1 (\d{3}) ", answer)
    if match is None:
        return "closed", b""
    return match[1].decode(), answer.partition(b"\r\n\r\n")[2]


def _damage(data: bytes, chance: random.Random) -> bytes:
    """A few bytes changed, taken out or put in, or the end cut off."""
    result = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 10))):
        at = chance.randrange(len(result) + 1)
        what = chance.randrange(4)
        if what == 0:
            result[at : at + 1] = chance.randbytes(1)
        elif what == 1:
            del result[at : at + chance.randrange(1, 9)]
        elif what == 2:
            result[at:at] = chance.randbytes(chance.randrange(1, 9))
        elif chance.random() < 0.2:
            del result[at:]
    return bytes(result)


def _memory(process: subprocess.Popen) -> int:
    """Megabytes of a process."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) // 1024


def main(argv: list[str]) -> int:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(
        prog="ctr-tf bench fuzz", description="Malformed requests to `ctr-tf serve`."
    )
    parser.add_argument("--export", required=True, help="folder of version folders")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print JSON, not a table")
    options = parser.parse_args(argv)
    with running_server(options.export) as server:
        process = server.process
        fuzzer = Fuzzer(find_version(options.export), server.grpc, server.rest)
        before, started = _memory(process), time.monotonic()
        fuzzer.run(options.requests, options.seed)
        seconds = time.monotonic() - started
        if process.poll() is not None:
            fuzzer.failures.append(f"The server died: {process.returncode}")
        result = {
            "requests": options.requests,
            "seconds": round(seconds, 1),
            "server_megabytes": [before, _memory(process)],
            "outcomes": {k: dict(v) for k, v in sorted(fuzzer.outcomes.items())},
            "failures": fuzzer.failures,
        }
        fuzzer.close()
    print(json.dumps(result) if options.json else _table(result))
    return 1 if fuzzer.failures else 0


def _table(result: dict) -> str:
    lines = [f"{result['requests']:,} requests in {result['seconds']} s"]
    lines.append("server: {} → {} MB".format(*result["server_megabytes"]))
    for kind, counts in result["outcomes"].items():
        text = ", ".join(f"{name} {n:,}" for name, n in sorted(counts.items()))
        lines.append(f"  {kind:<20}{text}")
    lines += [f"FAILED {failure}" for failure in result["failures"]] or ["No failure."]
    return "\n".join(lines)
