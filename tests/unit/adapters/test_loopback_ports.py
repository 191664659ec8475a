"""Ports that are still free when they are used."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from orchx.adapters.loopback_ports import FREE_PORTS, free_port

OUTGOING = Path("/proc/sys/net/ipv4/ip_local_port_range")


def test_nobody_else_gives_them_away() -> None:
    first_outgoing = int(OUTGOING.read_text().split()[0]) if OUTGOING.exists() else 32_768
    assert FREE_PORTS.stop <= min(first_outgoing, 30_000)  # where Serve's replicas begin
    assert FREE_PORTS.start > 19_999  # where those of Ray's workers end


def test_one_can_be_listened_at() -> None:
    port = free_port()
    assert port in FREE_PORTS
    with socket.socket() as server:
        server.bind(("127.0.0.1", port))


def test_one_that_is_taken_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    first = free_port()
    with socket.socket() as server:
        server.bind(("127.0.0.1", first))
        sample = [first] * 10 + [free_port()]
        monkeypatch.setattr("random.SystemRandom.sample", lambda *_: sample)
        assert free_port() == sample[-1]
        monkeypatch.setattr("random.SystemRandom.sample", lambda *_: [first])
        with pytest.raises(OSError, match="in use"):
            free_port()


def test_an_address_of_another_machine_has_none() -> None:
    with pytest.raises(OSError, match="assign"):
        free_port("192.0.2.1")
