"""A development server with TF Serving's gRPC and REST API.

It loads the newest versions of an export once, tries each with the requests that the
export brought along, and serves them until it is stopped. The command is
`ctr_tf.commands.serve`.
"""

import argparse
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc

from serving.server.grpc_api import handlers
from serving.server.model import Model, Version, find_versions
from serving.server.rest_api import RestApi
from serving.tensors import MAX_BYTES

_BANNER = """\
ctr-tf serve is a DEVELOPMENT server with TF Serving's API: no TLS, no authentication.
  gRPC     {host}:{grpc_port}
  REST     http://{host}:{rest_port}/v1/models/{name}
  model    {model}, {versions}"""
_THREADS = 4  # requests that run at once over gRPC
_MOST_REQUESTS = 128  # more at once are refused with RESOURCE_EXHAUSTED
_GOODBYE_SECONDS = 10.0  # that requests under way get to finish
_LOOK_SECONDS = 0.2  # between two looks whether a signal came


def serve(options: argparse.Namespace) -> None:
    """Serves until SIGTERM or SIGINT, then finishes the requests under way.

    Args:
        options: of the command.

    Raises:
        FileNotFoundError: if there is no version.
        OSError: if a port is taken.
        UserError: if a version cannot be loaded, or does not answer as it should.
    """
    folders = find_versions(options.export, options.versions)
    with ThreadPoolExecutor(_THREADS) as pool, _rest(options) as rest:
        server = grpc.server(
            pool,
            options=[
                ("grpc.max_receive_message_length", MAX_BYTES),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),
            ],
            maximum_concurrent_rpcs=_MOST_REQUESTS,
        )
        grpc_port = _bind(server, options.host, options.grpc_port)
        versions = {number: Version(number, path) for number, path in folders.items()}
        rest.model = Model(options.name, versions)
        server.add_generic_rpc_handlers(tuple(handlers(rest.model)))
        told: list[int] = []
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _: told.append(number))
        threading.Thread(target=rest.serve_forever, daemon=True).start()
        server.start()
        print(
            _BANNER.format(
                host=options.host,
                name=options.name,
                model=options.export,
                versions=f"version {', '.join(map(str, versions))}",
                grpc_port=grpc_port,
                rest_port=rest.server_port,
            ),
            flush=True,
        )
        while not told:  # a signal that another thread takes would not end a wait
            time.sleep(_LOOK_SECONDS)
        server.stop(_GOODBYE_SECONDS).wait()
        rest.drain(_GOODBYE_SECONDS)


def _rest(options: argparse.Namespace) -> RestApi:
    try:
        return RestApi((options.host, options.rest_port))
    except OSError as error:
        raise OSError(
            f"Cannot listen on {options.host}:{options.rest_port}: {error.strerror}."
        ) from error


def _bind(server: grpc.Server, host: str, port: int) -> int:
    try:
        return server.add_insecure_port(f"{host}:{port}")
    except RuntimeError as error:
        raise OSError(f"Cannot listen on {host}:{port}: is it in use?") from error
