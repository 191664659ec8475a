"""Any sequence of calls on the queue in memory and the one in SQLite has the same answers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from orchx.adapters.sqlite_command_queue import SqliteCommandQueue
from orchx.domain.messages import CancelWorkflow
from orchx.errors import Conflict
from orchx.ports.command_queue import CommandQueue
from orchx.testing.memory_command_queue import MemoryCommandQueue

IDS = st.sampled_from("abcd")
COMMAND = st.builds(
    CancelWorkflow,
    id=IDS,
    workflow_id=st.just("w"),
    created_at_ms=st.integers(1, 3),
    reason=st.sampled_from(["", "", "x"]),
)
PUTS = st.lists(st.lists(COMMAND, min_size=1, max_size=3), min_size=1, max_size=4)
CALL = st.one_of(
    st.tuples(st.just("put"), PUTS),
    st.tuples(st.just("acknowledge"), st.lists(IDS, max_size=3)),
    st.tuples(st.just("prune"), st.integers(1, 4)),
)


async def put(queue: CommandQueue, commands: list[CancelWorkflow]) -> list[bool] | None:
    try:
        return [accepted.duplicate for accepted in await queue.put(commands)]
    except Conflict:
        return None


async def answers(queue: CommandQueue, calls: list[tuple[str, Any]]) -> list[Any]:
    found: list[Any] = []
    for name, argument in calls:
        if name == "put":  # all at once: they share a commit
            found.append(await asyncio.gather(*(put(queue, commands) for commands in argument)))
        elif name == "acknowledge":
            await queue.acknowledge(argument)
        else:
            found.append(await queue.prune(older_than_ms=argument))
        found.append([command for _, command in await queue.pending(after_position=0, limit=99)])
        found.append(await queue.backlog())
    await queue.close()
    return found


@settings(max_examples=50)
@given(st.lists(CALL, max_size=6))
def test_both_queues_agree(calls: list[tuple[str, Any]]) -> None:
    async def compare() -> None:
        with TemporaryDirectory() as folder:
            sqlite = await answers(SqliteCommandQueue(Path(folder) / "q.db"), calls)
        assert sqlite == await answers(MemoryCommandQueue(), calls)

    asyncio.run(compare())
