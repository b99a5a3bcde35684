"""An S3 server on this machine, as a process of its own."""

import subprocess
import sys
import urllib.request

from running_server import free_port, wait_until


class S3:
    """The server; `environment` is what clients are told by.

    Args:
        log: file for what the server says.
    """

    def __init__(self, log):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = log
        self._process = None

    @property
    def environment(self):
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def start(self):
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1"]
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                [*command, "-p", str(self.port)], stdout=log, stderr=log
            )
        wait_until(self._answers, "the S3 server answers")

    def _answers(self):
        try:
            urllib.request.urlopen(self.url, timeout=5).close()
        except OSError:
            return False
        return True

    def stop(self):
        self._process.kill()
        self._process.wait()
