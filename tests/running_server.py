"""A development server as a process of its own, and what it should answer."""

import contextlib
import json
import socket
import subprocess
import sys
import time
import urllib.request

import numpy as np

from serving.score import Scorer


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """`ctr-tf serve` as a process of its own."""

    def __init__(self, model_dir, poll_seconds=1.0):
        self.grpc, self.rest = (f"127.0.0.1:{free_port()}" for _ in range(2))
        ports = [address.rpartition(":")[2] for address in (self.grpc, self.rest)]
        self._command = [sys.executable, "-m", "serving.server"]
        self._command += ["--model", str(model_dir)]
        self._command += ["--grpc_port", ports[0], "--rest_port", ports[1]]
        self._command += ["--file_system_poll_wait_seconds", str(poll_seconds)]
        self._process = None

    def start(self):
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )

    def wait(self, version=1, seconds=60.0):
        """Waits until a version is available."""
        url = f"http://{self.rest}/v1/models/ctr"
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self._process.poll() is not None:
                raise RuntimeError(self._process.stderr.read()[-2000:])
            with contextlib.suppress(OSError, ValueError):
                answer = json.load(urllib.request.urlopen(url, timeout=1))
                for status in answer["model_version_status"]:
                    if status["version"] == str(version):
                        if status["state"] == "AVAILABLE":
                            return
            time.sleep(0.1)
        raise TimeoutError(f"No version is available after {seconds} s.")

    def stop(self):
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def offline(model, requests):
    scorer = Scorer(model)
    result = []
    for request in requests:
        scores = sorted(scorer.score(request), key=lambda score: score["position"])
        result.append(np.array([score["probability"] for score in scores]))
    return result
