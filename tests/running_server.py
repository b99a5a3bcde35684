"""A development server as a process of its own, and what it should answer."""

import signal
import subprocess
import sys
import tempfile

import numpy as np

from ctr_tf.ports import HOST, free_ports
from serving.score import Scorer

SECONDS = 60  # that anything may take on a busy machine


class Server:
    """`ctr-tf serve` as a process of its own, which may be started again and again."""

    def __init__(self, model_dir, *options):
        self.grpc, self.rest = (f"{HOST}:{port}" for port in free_ports(2))
        ports = [address.rpartition(":")[2] for address in (self.grpc, self.rest)]
        self._command = [sys.executable, "-m", "ctr_tf", "serve"]
        self._command += ["--export", str(model_dir), *options]
        self._command += ["--grpc_port", ports[0], "--rest_port", ports[1]]
        self._log = tempfile.TemporaryFile("w+")
        self.process = None
        self.banner = ""

    def start(self):
        self.process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, stderr=self._log, text=True
        )

    def wait(self):
        """Waits until it says that it serves."""
        self.banner = "".join(self.process.stdout.readline() for _ in range(4))
        if "version" not in self.banner:
            raise RuntimeError(self.log())

    def log(self):
        """What it has written beside the banner."""
        self._log.seek(0)
        return self._log.read()

    def stop(self, number=signal.SIGTERM):
        """Sends a signal; the exit status."""
        if self.process is None:
            return None
        self.process.send_signal(number)
        try:
            return self.process.wait(SECONDS)
        finally:
            self.process.kill()
            self.process.stdout.close()


def offline(model, requests):
    scorer = Scorer(model)
    result = []
    for request in requests:
        scores = sorted(scorer.score(request), key=lambda score: score["position"])
        result.append(np.array([score["probability"] for score in scores]))
    return result
