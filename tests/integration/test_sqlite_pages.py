"""The SQLite adapters where a page would be larger than a text may be.

SQLite's own limit is 1e9 bytes; here it is 20,000, so that the rows can be small.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from orchx.adapters import sqlite_pages
from orchx.adapters.sqlite_command_queue import SqliteCommandQueue
from orchx.adapters.sqlite_event_log import SqliteEventLog
from orchx.adapters.sqlite_state_store import SqliteStateStore
from orchx.adapters.system_clock import SystemClock
from orchx.domain import events as e
from orchx.domain.messages import DeliverEvent
from orchx.engine.projector import Projector
from orchx.ports.event_log import Claim
from orchx.ports.state_store import Filter
from orchx.settings import Settings
from tests.summaries import summary
from tests.unit.engine.histories import started, task_completed, turn

TEXT_BYTES = 20_000
LARGE = "x" * 3_000
ROWS = 25  # more than fit into one text

Adapter: TypeAlias = SqliteEventLog | SqliteCommandQueue | SqliteStateStore
Shorten: TypeAlias = Callable[[Adapter], None]


@pytest.fixture
def shorten(monkeypatch: pytest.MonkeyPatch) -> Shorten:
    """Return what lets an adapter read no longer texts."""
    monkeypatch.setattr(sqlite_pages, "PAGE_BYTES", TEXT_BYTES)

    def shorten(adapter: Adapter) -> None:
        connection = adapter._reader._database.connection
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, TEXT_BYTES)

    return shorten


async def filled_log(folder: Path, shorten: Shorten) -> SqliteEventLog:
    """Return a log of one workflow with large values, of `ROWS` records."""
    log = SqliteEventLog(folder / "events.db")
    begun: list[e.AnyEvent] = [e.WorkflowActivated(), started()]
    values = [task_completed(n, output=LARGE) for n in range(ROWS - 2)]
    await log.append(turn("w", 1, "owner", [*begun, *values]))
    shorten(log)
    return log


async def test_a_large_history_is_read_whole_and_a_tail_in_pages(
    tmp_path: Path, shorten: Shorten
) -> None:
    log = await filled_log(tmp_path, shorten)
    expected = list(range(1, ROWS + 1))
    assert [r.offset for r in await log.read("w")] == expected
    tailed, read = [0], [0]
    while page := await log.tail(tailed[-1], limit=1_000):
        assert len(page) < ROWS
        tailed += [r.offset for r in page]
    while page := await log.read("w", after_offset=read[-1], limit=10):
        read += [r.offset for r in page]
    assert tailed[1:] == read[1:] == expected
    await log.close()


async def test_a_claim_of_a_large_history_has_all_of_it(tmp_path: Path, shorten: Shorten) -> None:
    log = await filled_log(tmp_path, shorten)
    claimed = await log.claim(Claim(workflow_id="w", owner="other", at_ms=1))
    assert [r.offset for r in claimed.history] == list(range(1, ROWS + 2))
    assert claimed.epoch == 2
    await log.close()


async def test_the_projection_of_large_records_catches_up(tmp_path: Path, shorten: Shorten) -> None:
    log = await filled_log(tmp_path, shorten)
    store = SqliteStateStore(tmp_path / "state.db")
    projector = Projector(log, store, SystemClock(), Settings())
    await projector.barrier()
    assert await store.offset() == ROWS
    assert (await store.load(["w"]))["w"].tasks_completed == ROWS - 2
    await store.close()
    await log.close()


async def test_large_commands_are_read_in_pages(tmp_path: Path, shorten: Shorten) -> None:
    queue = SqliteCommandQueue(tmp_path / "commands.db")
    ids = [f"c{number:02}" for number in range(ROWS)]
    await queue.put(
        [
            DeliverEvent(id=id_, workflow_id="w", created_at_ms=1, event={"data": LARGE})
            for id_ in ids
        ]
    )
    shorten(queue)
    position, found = 0, list[str]()
    while page := await queue.pending(after_position=position, limit=1_000):
        position = page[-1][0]
        found += [command.id for _, command in page]
    assert found == ids
    await queue.close()


async def test_large_summaries_are_listed_in_pages_and_loaded_all(
    tmp_path: Path, shorten: Shorten
) -> None:
    store = SqliteStateStore(tmp_path / "state.db")
    ids = [f"w{number:02}" for number in range(ROWS)]
    await store.save([summary(id_, output=LARGE) for id_ in ids], offset=1)
    shorten(store)
    assert sorted(await store.load([*ids, "unknown"])) == ids
    unfinished = [""]
    while page := await store.unfinished(after_id=unfinished[-1], limit=1_000):
        unfinished += [row.workflow_id for row in page]
    assert unfinished[1:] == ids
    listed = await store.list(Filter(limit=500))
    seen = [row.workflow_id for row in listed.workflows]
    assert len(seen) < ROWS
    while listed.cursor is not None:
        listed = await store.list(Filter(limit=500, cursor=listed.cursor))
        seen += [row.workflow_id for row in listed.workflows]
    assert seen == ids[::-1]
    await store.close()
