"""Noticing that the node is gone, and not taking a closed connection for that."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchx.cli import node_watch
from orchx.cli.node_watch import NodeWatch

PATIENCE_S = 10.0


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(node_watch, "CHECK_S", 0.001)
    return tmp_path / "raylet"


@pytest.fixture
def raylet(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        listening.settimeout(PATIENCE_S)
        yield listening


def test_stops_when_nobody_listens_and_not_while_somebody_does(
    path: Path, raylet: socket.socket
) -> None:
    stop = threading.Event()
    watch = NodeWatch(path, stop)
    for _ in range(3):  # it closes its connections, and goes on listening
        raylet.accept()[0].close()
    held, _ = raylet.accept()
    assert not watch.lost
    raylet.close()  # as the kernel does for whoever dies
    assert not stop.is_set()
    held.close()
    assert stop.wait(PATIENCE_S)
    assert watch.lost


def test_no_socket_is_no_node(path: Path) -> None:
    stop = threading.Event()
    watch = NodeWatch(path, stop)
    assert stop.wait(PATIENCE_S)
    assert watch.lost
