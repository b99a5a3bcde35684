"""What `ctr-tf serve` says to a user's mistakes."""

import socket

import pytest

from ctr_tf.commands.serve import main


def test_mistakes(tmp_path, capsys):
    with pytest.raises(FileNotFoundError, match="no folder of versions '.*nowhere'"):
        main(["--export", str(tmp_path / "nowhere")])
    with pytest.raises(ValueError, match="`--versions` must be positive. Received: 0"):
        main(["--export", str(tmp_path), "--versions=0"])
    (tmp_path / "1").mkdir()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for used, free in (("grpc_port", "rest_port"), ("rest_port", "grpc_port")):
            options = [f"--{used}={port}", f"--{free}=0"]
            with pytest.raises(OSError, match=f"Cannot listen on 127.0.0.1:{port}"):
                main(["--export", str(tmp_path), *options])
    with pytest.raises(ValueError, match="Cannot load version 1 from"):
        main(["--export", str(tmp_path), "--grpc_port=0", "--rest_port=0"])
    assert not capsys.readouterr().out  # it says that it serves only when it does
