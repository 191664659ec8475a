import socket
from dataclasses import astuple

import pytest

from tools.services import ports
from tools.services.ports import FREE_PORTS, HOST, free_ports, is_listening

RAY_WORKER_PORTS = range(10_002, 20_000)
SERVE_REPLICA_PORTS = range(30_000, 31_001)


def test_four_different_free_ports_are_chosen() -> None:
    chosen = astuple(free_ports())

    assert len(set(chosen)) == 4
    assert all(port in FREE_PORTS for port in chosen)


def test_free_ports_are_none_that_ray_or_serve_take() -> None:
    assert not set(FREE_PORTS) & {*RAY_WORKER_PORTS, *SERVE_REPLICA_PORTS}


def test_a_port_in_use_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as used:
        used.bind((HOST, 0))
        port = used.getsockname()[1]
        assert not is_listening(port)
        used.listen()
        assert is_listening(port)
        monkeypatch.setattr(ports, "FREE_PORTS", range(port, port + 1))
        monkeypatch.setattr(ports, "MAX_TRIES", 1)

        with pytest.raises(OSError, match="no free ports"):
            free_ports()
