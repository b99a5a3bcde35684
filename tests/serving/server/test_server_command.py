"""What `ctr-tf serve` says to a user's mistakes."""

import socket

import pytest

from serving.server.serve import main


def test_mistakes(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder of versions '.*nowhere'"):
        main(["--model", str(tmp_path / "nowhere")])
    with pytest.raises(ValueError, match="`max_batch_size` must be at least 1. .*: 0"):
        main(["--model", str(tmp_path), "--max_batch_size=0"])
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for used, free in (("grpc_port", "rest_port"), ("rest_port", "grpc_port")):
            options = [f"--{used}={port}", f"--{free}=0"]
            with pytest.raises(OSError, match=f"Cannot listen on 127.0.0.1:{port}"):
                main(["--model", str(tmp_path), *options])
