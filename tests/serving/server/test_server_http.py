"""Clients that are slow, silent or rude get an answer, and harm nobody."""

import http.client
import json
import socket

import pytest
from live_server import assert_close
from test_server_predict import rows


def connect(server):
    host, _, port = server.rest.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=30)


def exchange(server, data):
    """What comes back for bytes until the server closes."""
    with connect(server) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        parts = []
        while part := connection.recv(1 << 16):
            parts.append(part)
    head, _, body = b"".join(parts).partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["error"]


def answer_of(connection):
    response = http.client.HTTPResponse(connection)
    response.begin()
    assert response.status == 200
    return json.loads(response.read())


POST = b"POST /v1/models/ctr:predict HTTP/1.1\r\n"


@pytest.mark.parametrize(
    "sent, status, message",
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n", 400, "Bad "),
        (b"GET /v1/models/ctr HTTP/9.9\r\n\r\n", 505, "Invalid HTTP version"),
        (b"DELETE /v1/models/ctr HTTP/1.1\r\n\r\n", 501, "Unsupported method"),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", 414, "URI Too Long"),
        (b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 200 + b"\r\n", 431, "Too many headers"),
        (POST + b"\r\n", 400, "must have a Content-Length"),
        (POST + b"Content-Length: -5\r\n\r\n", 400, "must have a Content-Length"),
        (POST + b"Content-Length: x\r\n\r\n", 400, "must have a Content-Length"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n", 400, "no Transfer-Encoding"),
        (
            POST + b"Content-Length: 99999999999\r\n\r\n{}",
            429,
            "A body may have 16,777,216 bytes. Received: 99,999,999,999",
        ),
        (POST + b"Content-Length: 50\r\n\r\n{}", 400, "ended 48 bytes early"),
    ],
)
def test_rude_clients(server, sent, status, message):
    found, error = exchange(server, sent)
    assert found == status
    assert message in error


def test_silent_and_slow_clients_hold_up_nobody(server, inputs, expected):
    body = json.dumps({"inputs": rows(inputs[0])}).encode()
    head = POST + b"Content-Length: %d\r\n\r\n" % len(body)
    silent = [connect(server) for _ in range(20)]
    slow = connect(server)
    try:
        slow.sendall(head + body[:10])
        status, answer = server.http("/v1/models/ctr:predict", body)
        assert status == 200
        assert_close(answer["outputs"]["probability"], expected[1][0])
        slow.sendall(body[10:])
        assert answer_of(slow).keys() == answer.keys()
        slow.sendall(head + body)  # the connection is kept for the next request
        assert answer_of(slow).keys() == answer.keys()
    finally:
        for connection in (*silent, slow):
            connection.close()
