"""Whether a running server serves an exported model, and how well.

For any server that speaks TF Serving's API. The command is `ctr_tf.commands.check`.
"""

import argparse
import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from ctr_tf.storage import as_path
from serving.client import Client
from serving.errors import INVALID_ARGUMENT, ServingError
from serving.exported import Exported, find_version
from serving.request import request_to_tensors
from serving.retry import Retry
from serving.sample_requests import resized, sample_request
from serving.state_cache import StateCache

_TOLERANCE = 1e-5  # in probability, for float32
_CANDIDATES = 100
_LOOK_EVERY = 0.5  # seconds
_LINE = "{:<9}{:<6}{:<28}{}"


@dataclasses.dataclass(frozen=True)
class Result:
    """A check and how it went.

    Args:
        place: `"gRPC"` or `"REST"`.
        name: of the check.
        passed: whether it did; None if it could not be tried.
        detail: one line for people.
    """

    place: str
    name: str
    passed: bool | None
    detail: str

    def __str__(self) -> str:
        word = {True: "ok", False: "FAILED", None: "skipped"}[self.passed]
        return _LINE.format(word, self.place, self.name, self.detail).rstrip()


class CheckError(Exception):
    """A check failed; the message says how."""


class Skipped(Exception):
    """A check could not be tried; the message says why."""


class Checker:
    """The checks of one address of a server.

    Args:
        client: of the server, with a cache of its own.
        model_dir: the export, if it is at hand.
        requests: warm requests of a measurement.
    """

    def __init__(self, client: Client, model_dir: str | Path | None, requests: int):
        self._client = client
        self._model_dir = model_dir
        self._requests = requests
        self._served: np.ndarray | None = None

    def checks(self) -> dict[str, Callable[[], str]]:
        """Name → check, in order; each gives a detail or raises."""
        return {
            "status": self._status,
            "signatures": self._signatures,
            "one pass": self._one_pass,
            "kept state": self._kept_state,
            "isolated candidates": self._isolation,
            "golden scores": self._golden,
            "a wrong request": self._wrong_request,
            "latency, one pass": lambda: self._latency(None),
            "latency, kept state": lambda: self._latency("check"),
        }

    def wait(self, seconds: float) -> None:
        """Waits until the server serves the model, but no longer than this."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                self._client.version()
                return
            except ServingError:
                time.sleep(_LOOK_EVERY)

    def run(self, place: str) -> Iterator[Result]:
        """Runs the checks; without a status the others are not tried."""
        for name, check in self.checks().items():
            try:
                yield Result(place, name, True, check())
            except Skipped as reason:
                yield Result(place, name, None, str(reason))
            except (CheckError, ServingError, ValueError) as error:
                yield Result(place, name, False, str(error).splitlines()[0])
                if name == "status":
                    return

    def _status(self) -> str:
        return f"version {self._client.version()} of '{self._client.model}' AVAILABLE"

    def _signatures(self) -> str:
        self._client.schema()  # raises where they do not fit
        found = self._client.signatures(self._client.version())
        return ", ".join(sorted(found))

    def _request(self) -> dict:
        """One that the client does not split, which takes a state."""
        request = sample_request(self._client.schema(), self._folder())
        slate = request["candidates"][: self._client.max_candidates]
        return request | {"candidates": slate}

    def _folder(self) -> Path | None:
        """The export of the version that the server has, if it is at hand."""
        if self._model_dir is None:
            return None
        version = as_path(self._model_dir) / str(self._client.version())
        return version if version.is_dir() else find_version(self._model_dir)

    def _one_pass(self) -> str:
        scores = self._client.score(self._request())
        self._served = _checked(scores.probability)
        return (
            f"{len(self._served)} candidates, probabilities "
            f"{self._served.min():.4f} to {self._served.max():.4f}"
        )

    def _kept_state(self) -> str:
        served, tolerance = self._needed(), self._tolerance(of_state=True)
        request = self._request()
        for expected in (False, True):
            scores = self._client.score(request, user="check")
            if scores.from_cache != expected:
                raise CheckError("The state was not kept.")
            _compare("from the state", scores.probability, served, tolerance)
        return "encode_user, then score_candidates: as in one pass"

    def _isolation(self) -> str:
        served, request = self._needed(), self._request()
        backwards = request | {"candidates": request["candidates"][::-1]}
        scores = self._client.score(backwards).probability
        _compare("in reverse order", scores[::-1], served, self._tolerance())
        tensors = request_to_tensors(request, self._client.schema())
        first = {
            name: value[:, :1] if value.ndim > 1 else np.ones_like(value)
            for name, value in tensors.items()
            if name.startswith("candidate_")
        }
        transport, timeout = self._client.transport, self._client.timeout
        outputs, _ = transport.predict("serving_default", tensors | first, timeout)
        alone = outputs["probability"][0, :1]
        _compare("alone", alone, served[:1], self._tolerance())
        return "the same in reverse order, and alone"

    def _golden(self) -> str:
        served = self._needed()
        folder = self._folder()
        if folder is None:
            raise Skipped("give the export: --export")
        from serving.score import Scorer

        scores = Scorer(folder).score(self._request())
        expected = np.zeros(len(scores))
        for score in scores:
            expected[score["position"]] = score["probability"]
        worst = _compare("served", served, expected, self._tolerance())
        return f"differ by at most {worst:.1e} from the SavedModel's own"

    def _wrong_request(self) -> str:
        client = self._client
        tensors = request_to_tensors(self._request(), client.schema())
        del tensors["request_time"]
        try:
            client.transport.predict("serving_default", tensors, client.timeout)
        except ServingError as error:
            if error.status == INVALID_ARGUMENT:
                return f"without `request_time`: {error.status}"
            raise
        raise CheckError("A request without `request_time` was scored.")

    def _latency(self, user: str | None) -> str:
        request = resized(self._request(), _CANDIDATES)
        milliseconds = []
        for index in range(self._requests + 5):
            start = time.perf_counter()
            self._client.score(request, user)
            if index >= 5:
                milliseconds.append((time.perf_counter() - start) * 1e3)
        median, high = np.percentile(milliseconds, (50, 99))
        return (
            f"p50 {median:.1f} ms, p99 {high:.1f} ms, {_CANDIDATES} candidates, "
            f"{self._requests} requests one after the other, client included"
        )

    def _needed(self) -> np.ndarray:
        if self._served is None:
            raise Skipped("there are no scores")
        return self._served

    def _tolerance(self, of_state: bool = False) -> float:
        folder = self._folder()
        if folder is None:
            return _TOLERANCE
        exported = Exported.load(folder)
        return exported.state_tolerance if of_state else exported.tolerance


def _checked(probability: np.ndarray) -> np.ndarray:
    if not np.all((probability >= 0) & (probability <= 1)):
        raise CheckError(f"These are no probabilities: {probability}")
    return probability


def _compare(how: str, scores: np.ndarray, expected: np.ndarray, most: float) -> float:
    if scores.shape != expected.shape:
        raise CheckError(f"{len(expected)} scores expected, {len(scores)} {how}.")
    worst = float(np.abs(scores - expected).max())
    if not worst <= most:
        raise CheckError(f"Scores {how} differ by {worst:.1e}, more than {most:.0e}.")
    return worst


def check(options: argparse.Namespace) -> bool:
    """Checks a server, and prints a line a check.

    Args:
        options: of the command.

    Returns:
        Whether all is well.
    """
    passed = True
    for transport, address in (("grpc", options.target), ("rest", options.rest)):
        if address is None:
            continue
        place = {"grpc": "gRPC", "rest": "REST"}[transport]
        with Client(
            address,
            options.name,
            transport,
            model_dir=options.export,
            timeout=options.timeout,
            retry=Retry(attempts=2),
            cache=StateCache(),
        ) as client:
            checker = Checker(client, options.export, options.requests)
            checker.wait(options.wait)
            for result in checker.run(place):
                print(result, flush=True)
                passed &= result.passed is not False
    return passed
