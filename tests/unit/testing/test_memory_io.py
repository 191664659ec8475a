"""A simulator can stop an in-memory store before and after each write."""

from __future__ import annotations

import pytest

from orchx.domain.events import Record, TaskSkipped
from orchx.testing.memory_event_log import MemoryEventLog

RECORD = Record(
    workflow_id="w",
    epoch=1,
    owner="o",
    seq=1,
    at_ms=1,
    event=TaskSkipped(parent=0, reference="/x"),
)


class Crash(Exception):
    pass


@pytest.mark.parametrize(("point", "stored"), [("before", 0), ("after", 1)])
async def test_a_crash_around_an_append(point: str, stored: int) -> None:
    async def on_io(reached: str) -> None:
        if reached == f"event_log.append:{point}":
            raise Crash

    log = MemoryEventLog(on_io)
    with pytest.raises(Crash):
        await log.append([RECORD])
    assert await log.last_offset() == stored
