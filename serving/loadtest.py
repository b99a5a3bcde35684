"""A server under requests at a given rate, and how long they took.

The load is open: requests leave by a schedule, evenly spaced, whether or not earlier
ones were answered. The command is `ctr_tf.commands.loadtest`, which tells more.
"""

import argparse
import functools
import json
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from serving.client import Client
from serving.errors import DEADLINE_EXCEEDED, ServingError
from serving.inputs import candidate_inputs, user_inputs
from serving.load import Load, Send, plot, run_load
from serving.request import request_to_tensors
from serving.sample_requests import resized, sample_request
from serving.transport import GrpcTransport

_THREADS = 256  # more than a server of ours lets wait
_WARM_UP = 20

_log = logging.getLogger(__name__)


def make_send(
    client: Client, mode: str, tensors: dict[str, np.ndarray], timeout: float
) -> Send:
    """What sends one request of a mode, over the client's transport.

    Args:
        client: of the server.
        mode: of `MODES`.
        tensors: inputs of `serving_default`.
        timeout: seconds a request may take.
    """
    version = client.version()
    signature = "serving_default"
    if mode == "cached":
        schema, signature = client.schema(), "score_candidates"
        user = {i.name: tensors[i.name] for i in user_inputs(schema)}
        state, _ = client.transport.predict(
            "encode_user", user, timeout=30.0, version=version
        )
        candidates = {i.name: tensors[i.name] for i in candidate_inputs(schema)}
        tensors = candidates | state
    transport = client.transport
    if isinstance(transport, GrpcTransport):
        message = transport.request(signature, tensors, version)
        call = functools.partial(transport.send, message, timeout)
    else:
        call = functools.partial(
            transport.predict, signature, tensors, timeout, version
        )

    def status() -> str | None:
        try:
            call()
        except ServingError as error:
            return error.status
        return None

    # Of gRPC, too: for the callback of a lone `future`, it starts a thread each time.
    pool = ThreadPoolExecutor(_THREADS)

    def send(done: Callable[[str | None], None]) -> None:
        pool.submit(status).add_done_callback(lambda future: done(future.result()))

    return send


def load_test(
    client: Client,
    request: dict,
    mode: str,
    rate: float,
    seconds: float,
    timeout: float = 5.0,
) -> Load:
    """Warms a server up and puts it under load.

    Args:
        client: of the server.
        request: in JSON's form.
        mode: of `MODES`.
        rate: requests/s.
        seconds: of the schedule.
        timeout: seconds a request may take.

    Raises:
        ServingError: if the server does not answer the warm-up.
    """
    tensors = request_to_tensors(request, client.schema())
    send = make_send(client, mode, tensors, timeout)
    for _ in range(_WARM_UP):
        answered = threading.Event()
        failure: list[str | None] = []

        def done(error, answered=answered, failure=failure):
            failure.append(error)
            answered.set()

        send(done)
        if not answered.wait(timeout + 1.0) or failure[0] is not None:
            status = (failure and failure[0]) or DEADLINE_EXCEEDED
            raise ServingError(status, "The server fails before there is any load.")
    return run_load(send, rate, seconds, timeout)


def run(options: argparse.Namespace) -> bool:
    """Does the load test of a command line, and prints what came of it.

    Args:
        options: of the command.

    Returns:
        Whether every request was answered.
    """
    with Client(
        options.target,
        options.name,
        options.transport,
        model_dir=options.export,
        timeout=30.0,
    ) as client:
        request = sample_request(client.schema(), options.export)
        request = resized(request, options.candidates)
        _log.info(
            "%g requests/s for %g s to %s",
            options.rate,
            options.seconds,
            options.target,
        )
        load = load_test(
            client,
            request,
            options.mode,
            options.rate,
            options.seconds,
            options.timeout,
        )
    report = {"mode": options.mode, "candidates": options.candidates} | load.report()
    if options.plot:
        plot(load, options.plot, f"{options.mode}, C = {options.candidates}")
    print(json.dumps(report) if options.json else _table(report))
    return not load.errors


def _table(report: dict) -> str:
    lines = [
        f"{report['requests']:,} requests at {report['rate']:g}/s, {report['mode']}, "
        f"{report['candidates']} candidates",
        f"  answered   {report['answered']:>10,}   {report['throughput']:,.1f}/s",
    ]
    lines += [
        f"  {key:<11}{value:>10.2f} ms" for key, value in report["latency_ms"].items()
    ]
    lines += [
        f"  FAILED     {count:>10,}   {status}"
        for status, count in sorted(report["errors"].items())
    ]
    return "\n".join(lines)
