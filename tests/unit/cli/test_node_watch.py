"""Noticing that the node is gone, and not taking silence for that."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from orchx.cli import node_watch
from orchx.cli.node_watch import NodeWatch

PATIENCE_S = 10.0


def watch(monkeypatch: pytest.MonkeyPatch, look: Callable[[], bool]) -> tuple[NodeWatch, bool]:
    """Return a watch and whether it said stop."""
    monkeypatch.setattr(node_watch, "CHECK_S", 0.001)
    monkeypatch.setattr(node_watch, "is_node_alive", look)
    stop = threading.Event()
    watching = NodeWatch(stop)
    return watching, stop.wait(PATIENCE_S)


def test_stops_when_the_node_is_gone_and_not_while_nothing_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers: list[bool | Exception] = [
        True,
        ConnectionError("silence"),
        RuntimeError("not now"),
        True,
        False,
    ]
    asked = 0

    def look() -> bool:
        nonlocal asked
        answer = answers[asked]
        asked += 1
        if isinstance(answer, Exception):
            raise answer
        return answer

    watching, told = watch(monkeypatch, look)
    assert told
    assert watching.lost
    assert asked == len(answers)
