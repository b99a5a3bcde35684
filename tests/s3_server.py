"""An S3 server on this machine, as a process of its own."""

import subprocess
import sys
import time
import urllib.request

from running_server import SECONDS

from ctr_tf.ports import free_port


class S3:
    """The server.

    Args:
        log: file for what it says.

    Attributes:
        environment: by which clients find it.
    """

    def __init__(self, log):
        self.port = free_port()
        self.environment = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        self._log = log
        self._process = None

    def start(self):
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1"]
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                [*command, "-p", str(self.port)], stdout=log, stderr=log
            )
        deadline = time.monotonic() + SECONDS
        while not self._answers():
            if time.monotonic() > deadline:
                raise TimeoutError(self._log.read_text("utf-8"))
            time.sleep(0.1)

    def _answers(self):
        try:
            urllib.request.urlopen(self.environment["AWS_ENDPOINT_URL"]).close()
        except OSError:
            return False
        return True

    def stop(self):
        self._process.kill()
        self._process.wait()


def keys(bucket):
    """All that a bucket holds, as the store itself lists it: key → bytes."""
    import boto3

    pages = boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return {o["Key"]: o["Size"] for page in pages for o in page.get("Contents", ())}
