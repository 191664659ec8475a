"""The commands that a process knows before the index does."""

from __future__ import annotations

import pytest

from orchx.adapters import kafka_recent_commands as module
from orchx.adapters.kafka_recent_commands import KnownCommand, RecentCommands


def known(id_: str, *, digest: str = "d", created_at_ms: int = 10, offset: int = 0) -> KnownCommand:
    return KnownCommand(
        id=id_,
        digest=digest,
        payload=b"12345",
        created_at_ms=created_at_ms,
        partition=0,
        offset=offset,
    )


def test_the_first_with_an_id_counts() -> None:
    recent = RecentCommands()
    recent.note(known("a", digest="1"))
    recent.note(known("a", digest="2"))
    found = recent.get("a")
    assert found is not None
    assert found.digest == "1"
    assert recent.get("b") is None


def test_it_is_bounded_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RECENT_COUNT_MAX", 2)
    recent = RecentCommands()
    for id_ in "abc":
        recent.note(known(id_))
    assert [id_ for id_ in "abc" if recent.get(id_)] == ["b", "c"]


def test_it_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RECENT_BYTES_MAX", 14)
    recent = RecentCommands()
    for id_ in "abc":
        recent.note(known(id_))
    assert [id_ for id_ in "abc" if recent.get(id_)] == ["b", "c"]


def test_it_is_bounded_in_age() -> None:
    now_s = [0.0]
    recent = RecentCommands(lambda: now_s[0])
    recent.note(known("a", digest="1"))
    now_s[0] = module.RECENT_AGE_S + 1
    recent.note(known("a", digest="2"))
    found = recent.get("a")
    assert found is not None
    assert found.digest == "2"


def test_it_forgets_what_is_pruned() -> None:
    recent = RecentCommands()
    recent.note(known("done"))
    recent.note(known("new", created_at_ms=20))
    recent.note(known("waits", offset=5))
    recent.forget(older_than_ms=20, below={0: 5})
    assert [id_ for id_ in ("done", "new", "waits") if recent.get(id_)] == ["new", "waits"]
    recent.forget(older_than_ms=100, below={})
    assert recent.get("new") is not None
