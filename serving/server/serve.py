"""`ctr-tf serve`: a development server with TF Serving's gRPC and REST API.

    ctr-tf serve --model run/export
    curl localhost:8501/v1/models/ctr

For machines without Docker, for tests and for trying a model out. It loads the export
by the C++ loader that TF Serving calls, but requests pass through Python; in production
use the TF Serving image of `docker/`.
"""

import argparse
import asyncio
import gc
import logging
import os
import signal
import sys
import threading

import grpc

from serving.server.batching import BatchingOptions
from serving.server.core import Core
from serving.server.grpc_api import GrpcApi
from serving.server.rest_api import RestApi

_BANNER = """\
ctr-tf serve is a DEVELOPMENT server with TF Serving's API: no TLS, no authentication.
  gRPC     {host}:{grpc_port}
  REST     http://{host}:{rest_port}/v1/models/{name}
  metrics  http://{host}:{rest_port}/monitoring/prometheus/metrics
  model    {model} (versions are found as they appear)"""

# Python's own 5 ms, for which a thread may keep others waiting, are a whole request.
_SWITCH_SECONDS = 0.5e-3
_GOODBYE_SECONDS = 1.0  # for answers that are ready but not yet sent

_log = logging.getLogger(__name__)


async def serve(options: argparse.Namespace) -> None:
    """Serves until SIGTERM or SIGINT, then finishes the requests under way.

    Args:
        options: of the command.

    Raises:
        FileNotFoundError: if there is no folder of versions.
        OSError: if a port is taken.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    core = Core(
        options.name,
        options.model,
        BatchingOptions(
            options.max_batch_size,
            options.batch_timeout_micros,
            options.num_batch_threads,
            options.max_queued_requests,
            options.pad_variable_length_inputs,
        ),
        options.max_message_bytes,
        options.num_versions,
        options.file_system_poll_wait_seconds,
    )
    rest = _rest(core, options)
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", options.max_message_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
        ]
    )
    server.add_generic_rpc_handlers(tuple(GrpcApi(core).handlers()))
    grpc_port = _bind(server, options.host, options.grpc_port)
    thread = threading.Thread(target=rest.serve_forever, name="rest", daemon=True)
    thread.start()
    await server.start()
    print(
        _BANNER.format(
            host=options.host,
            name=options.name,
            model=options.model,
            grpc_port=grpc_port,
            rest_port=rest.server_port,
        ),
        flush=True,
    )
    loading = loop.run_in_executor(None, core.versions.start)
    stopped = asyncio.ensure_future(stop.wait())
    await asyncio.wait([loading, stopped], return_when=asyncio.FIRST_COMPLETED)
    if loading.done():
        await loading  # raises what it failed with
        gc.collect()
        gc.freeze()  # what is here now stays, and need not be looked through again
    await stopped
    _log.info("Shutting down: new requests are refused, those under way finish.")
    done = await loop.run_in_executor(None, core.batcher.close, options.drain_seconds)
    await server.stop(_GOODBYE_SECONDS)
    await loop.run_in_executor(None, rest.drain, _GOODBYE_SECONDS)
    if not done:
        _log.warning("Gave up after %g s.", options.drain_seconds)
        os._exit(0)  # a thread that TensorFlow still runs in cannot be ended
    await loading
    await loop.run_in_executor(None, core.close)
    _log.info("Done.")


def _rest(core: Core, options: argparse.Namespace) -> RestApi:
    address = options.host, options.rest_port
    try:
        return RestApi(address, core, options.rest_api_timeout_in_ms / 1_000)
    except OSError as error:
        raise OSError(
            f"Cannot listen on {options.host}:{options.rest_port}: {error.strerror}."
        ) from error


def _bind(server: grpc.aio.Server, host: str, port: int) -> int:
    try:
        return server.add_insecure_port(f"{host}:{port}")
    except RuntimeError as error:
        raise OSError(f"Cannot listen on {host}:{port}: is it in use?") from error


def main(argv: list[str]) -> int:
    """Serves a model."""
    options = _parser().parse_args(argv)
    sys.setswitchinterval(_SWITCH_SECONDS)
    asyncio.run(serve(options))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ctr-tf serve",
        description="A development server with TF Serving's gRPC and REST API.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--model", required=True, help="folder of version folders")
    add("--name", default="ctr", help="of the model in requests")
    add("--host", default="127.0.0.1", help="to listen on")
    add("--grpc_port", type=int, default=8500, help="0: any free one")
    add("--rest_port", type=int, default=8501, help="0: any free one")
    add("--max_batch_size", type=int, default=64, help="rows of a batch")
    add(
        "--batch_timeout_micros",
        type=int,
        default=0,
        help="how long a batch that is not full waits for more requests",
    )
    add("--num_batch_threads", type=int, default=2, help="batches at once")
    add(
        "--max_queued_requests",
        type=int,
        default=128,
        help="more waiting ones are refused with RESOURCE_EXHAUSTED",
    )
    add(
        "--pad_variable_length_inputs",
        action="store_true",
        help="requests of different length share a batch, as TF Serving's "
        "batching option of this name does",
    )
    add(
        "--num_versions", type=int, default=1, help="newest versions that serve at once"
    )
    add(
        "--file_system_poll_wait_seconds",
        type=float,
        default=1.0,
        help="between two looks for new versions",
    )
    add(
        "--max_message_bytes",
        type=int,
        default=16 << 20,
        help="of a request; longer ones are refused",
    )
    add(
        "--rest_api_timeout_in_ms",
        type=int,
        default=30_000,
        help="that a REST request may take; a gRPC request brings its deadline",
    )
    add(
        "--drain_seconds",
        type=float,
        default=10.0,
        help="that requests under way get to finish at SIGTERM",
    )
    return parser
