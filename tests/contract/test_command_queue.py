"""What every command queue does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import pytest

from orchx.domain.events import Request
from orchx.domain.messages import AnyCommand, CancelWorkflow, DeliverEvent, StartWorkflow
from orchx.errors import Conflict
from orchx.ports.command_queue import Backlog, CommandQueue


def start(id_: str, tenant: str = "acme", **changes: object) -> StartWorkflow:
    command = StartWorkflow(
        id=id_,
        workflow_id=id_,
        created_at_ms=100,
        namespace="n",
        name="d",
        version="1.0.0",
        digest="x",
        input={"a": 1, "b": 'é\n"'},
        request=Request(tenant=tenant),
    )
    return msgspec.structs.replace(command, **changes)


async def waiting(queue: CommandQueue) -> list[str]:
    return [command.id for _, command in await queue.pending(after_position=0, limit=100_000)]


class TestCommandQueue:
    async def test_gives_commands_in_order(self, queue: CommandQueue) -> None:
        commands: list[AnyCommand] = [
            start("a", traceparent="trace"),
            DeliverEvent(id="b", workflow_id="", created_at_ms=1, event={"type": "t"}),
            CancelWorkflow(id="c", workflow_id="a", created_at_ms=2, reason="r"),
        ]
        accepted = await queue.put(commands)
        assert [(a.command_id, a.duplicate) for a in accepted] == [
            ("a", False),
            ("b", False),
            ("c", False),
        ]
        pending = await queue.pending(after_position=0, limit=10)
        assert [command for _, command in pending] == commands
        positions = [position for position, _ in pending]
        assert positions == sorted(set(positions))
        assert positions[0] > 0
        later = await queue.pending(after_position=positions[0], limit=1)
        assert [command.id for _, command in later] == ["b"]

    async def test_a_repetition_is_a_duplicate(self, queue: CommandQueue) -> None:
        await queue.put([start("a")])
        reordered = start("a", created_at_ms=999, traceparent="t", input={"b": 'é\n"', "a": 1})
        accepted = await queue.put([start("b"), reordered, start("b")])
        assert [a.duplicate for a in accepted] == [False, True, True]
        assert await waiting(queue) == ["a", "b"]

    async def test_one_event_is_the_same_by_whichever_way_it_comes(
        self, queue: CommandQueue
    ) -> None:
        sent = DeliverEvent(id="e", workflow_id="a", created_at_ms=1, event={"type": "t"})
        await queue.put([msgspec.structs.replace(sent, broadcast=True)])
        assert (await queue.put([sent]))[0].duplicate
        with pytest.raises(Conflict):
            await queue.put([msgspec.structs.replace(sent, event={"type": "u"})])

    async def test_another_content_is_a_conflict(self, queue: CommandQueue) -> None:
        await queue.put([start("a")])
        with pytest.raises(Conflict, match="'a'"):
            await queue.put([start("new"), start("a", input={}), start("a", name="other")])
        assert await waiting(queue) == ["a"]
        assert not (await queue.put([start("new")]))[0].duplicate

    async def test_a_conflict_within_one_put_stores_nothing(self, queue: CommandQueue) -> None:
        with pytest.raises(Conflict):
            await queue.put([start("a"), start("a", input={})])
        assert await waiting(queue) == []

    async def test_a_conflict_is_its_own_callers(self, queue: CommandQueue) -> None:
        await queue.put([start("a")])
        puts = [[start("b")], [start("c"), start("a", input={})], [start("d")], [start("b")]]
        results = await asyncio.gather(*map(queue.put, puts), return_exceptions=True)
        assert isinstance(results[1], Conflict)
        flags = [
            [a.duplicate for a in result] if not isinstance(result, BaseException) else None
            for result in results
        ]
        assert flags == [[False], None, [False], [True]]
        assert await waiting(queue) == ["a", "b", "d"]

    async def test_many_at_once_are_all_there(self, queue: CommandQueue) -> None:
        ids = [f"c{number}" for number in range(300)]
        await asyncio.gather(*(queue.put([start(id_)]) for id_ in ids))
        assert sorted(await waiting(queue)) == sorted(ids)

    async def test_one_large_put(self, queue: CommandQueue) -> None:
        ids = [f"c{number}" for number in range(1000)]
        await queue.put([start(id_) for id_ in ids])
        assert await waiting(queue) == ids

    async def test_putting_nothing(self, queue: CommandQueue) -> None:
        assert list(await queue.put([])) == []

    async def test_acknowledged_commands_are_gone_but_known(self, queue: CommandQueue) -> None:
        await queue.put([start("a"), start("b")])
        await queue.acknowledge(["a", "never-heard-of"])
        await queue.acknowledge(["a"])
        assert await waiting(queue) == ["b"]
        assert (await queue.put([start("a")]))[0].duplicate
        assert await waiting(queue) == ["b"]
        with pytest.raises(Conflict):
            await queue.put([start("a", input={})])

    async def test_finds_a_command_until_it_is_pruned(self, queue: CommandQueue) -> None:
        await queue.put([start("a"), start("b")])
        await queue.acknowledge(["a"])
        assert await queue.find("a") == start("a")
        assert await queue.find("b") == start("b")
        await queue.prune(older_than_ms=1000)
        assert await queue.find("a") is None
        assert await queue.find("never") is None

    async def test_counts_the_backlog(self, queue: CommandQueue) -> None:
        assert await queue.backlog() == Backlog(total=0, by_tenant={})
        cancel = CancelWorkflow(id="x", workflow_id="a", created_at_ms=2)
        await queue.put([start("a"), start("b"), start("c", tenant="globex"), cancel])
        assert await queue.backlog() == Backlog(total=4, by_tenant={"acme": 2, "globex": 1})
        await queue.acknowledge(["a", "c", "x"])
        assert await queue.backlog() == Backlog(total=1, by_tenant={"acme": 1})

    async def test_prunes_old_acknowledged_commands(self, queue: CommandQueue) -> None:
        await queue.put([start("old-done", created_at_ms=10), start("old", created_at_ms=10)])
        await queue.put([start("new-done", created_at_ms=20)])
        await queue.acknowledge(["old-done", "new-done"])
        assert await queue.prune(older_than_ms=20) == 1
        assert await queue.prune(older_than_ms=20) == 0
        assert not (await queue.put([start("old-done")]))[0].duplicate
        assert (await queue.put([start("new-done")]))[0].duplicate

    async def test_remembers_how_much_it_has_forgotten(
        self, command_queues: Callable[[], CommandQueue]
    ) -> None:
        queue = command_queues()
        assert await queue.pruned_before_ms() == 0
        await queue.prune(older_than_ms=20)
        await queue.prune(older_than_ms=10)
        assert await queue.pruned_before_ms() == 20
        assert await command_queues().pruned_before_ms() == 20

    async def test_never_gives_a_position_again(self, queue: CommandQueue) -> None:
        await queue.put([start("a"), start("b")])
        last = (await queue.pending(after_position=0, limit=10))[-1][0]
        await queue.acknowledge(["a", "b"])
        await queue.prune(older_than_ms=1000)
        await queue.put([start("c")])
        assert [c.id for _, c in await queue.pending(after_position=last, limit=10)] == ["c"]

    async def test_another_opening_sees_the_same_queue(
        self, command_queues: Callable[[], CommandQueue]
    ) -> None:
        one, other = command_queues(), command_queues()
        await one.put([start("a")])
        assert await other.find("a") == start("a")
        assert (await other.put([start("a"), start("b")]))[0].duplicate
        await other.acknowledge(["a"])
        await other.close()  # until then, another process may not know of it
        assert await waiting(one) == ["b"]
