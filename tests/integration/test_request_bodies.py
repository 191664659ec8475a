"""What a real HTTP server makes of bodies that are refused unread."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from urllib.parse import urlsplit

import pytest

LENGTH = 900_000


@pytest.fixture
def connection(api_url: str) -> Iterator[HTTPConnection]:
    parts = urlsplit(api_url)
    connection = HTTPConnection(str(parts.hostname), parts.port, timeout=30)
    yield connection
    connection.close()


def test_a_connection_goes_on_after_a_body_that_nobody_read(connection: HTTPConnection) -> None:
    headers = {"Authorization": "Bearer orx_no_one", "Content-Type": "application/json"}
    for _ in range(2):
        connection.request("POST", "/v1/requests", body=b" " * LENGTH, headers=headers)
        refused = connection.getresponse()
        refused.read()
        assert (refused.status, refused.getheader("connection")) == (401, None)
    connection.request("GET", "/healthz")
    assert connection.getresponse().status == 200


def test_the_answer_comes_before_the_body_and_ends_what_has_no_end(
    connection: HTTPConnection,
) -> None:
    connection.connect()
    sock: socket.socket = connection.sock
    sock.sendall(
        b"POST /v1/requests HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"4\r\n    \r\n"
    )
    refused = HTTPResponse(sock, method="POST")
    refused.begin()
    refused.read()
    assert (refused.status, refused.getheader("connection")) == (401, "close")
    assert sock.recv(1) == b""
