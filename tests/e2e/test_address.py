"""`orchx up --host`: one address of the machine, and no other."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.e2e.server_process import LOOPBACK, ServerProcess

ANOTHER = "127.0.0.3"  # Linux has all of 127.0.0.0/8; to Serve it is an address like any other

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def test_a_server_answers_at_the_address_it_was_given_alone(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, host=ANOTHER)
    try:
        server.start()
        assert server.is_ready()
        with socket.socket() as elsewhere:
            assert elsewhere.connect_ex((LOOPBACK, server.port)) != 0
        server.stop()
    finally:
        server.kill()
