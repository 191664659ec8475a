"""The command queue in memory, for tests; shared by all simulated processes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Sequence
from itertools import islice
from typing import Final

from orchx.domain.messages import AnyCommand, StartWorkflow, content_of
from orchx.errors import Conflict
from orchx.ports.command_queue import Accepted, Backlog, Known
from orchx.testing.memory_io import OnIo, reach

ARRIVALS_PAUSE_S: Final = 1.0


class MemoryCommandQueue:
    """A `CommandQueue` that yields before it looks, and before and after a write is durable."""

    def __init__(self, on_io: OnIo | None = None) -> None:
        """Start empty; `on_io` is called around every write."""
        self._on_io = on_io
        self._known: dict[str, AnyCommand] = {}
        self._waiting: dict[str, tuple[int, AnyCommand]] = {}
        self._position = 0
        self._pruned_before_ms = 0

    async def put(self, commands: Sequence[AnyCommand]) -> Sequence[Accepted]:
        """Store commands; a known id is not stored again."""
        taken = tuple(commands)
        await reach(self._on_io, "command_queue.put:before")
        fresh: dict[str, AnyCommand] = {}
        accepted: list[Accepted] = []
        for command in taken:
            there = fresh.get(command.id) or self._known.get(command.id)
            if there is None:
                fresh[command.id] = command
            elif content_of(there) != content_of(command):
                raise Conflict(f"command id {command.id!r} was used before with another content")
            accepted.append(Accepted(command_id=command.id, duplicate=there is not None))
        for command in fresh.values():
            self._position += 1
            self._known[command.id] = command
            self._waiting[command.id] = self._position, command
        await reach(self._on_io, "command_queue.put:after")
        return accepted

    def commands(self) -> Sequence[AnyCommand]:
        """Return every command that is remembered, acknowledged or not: for checks."""
        return list(self._known.values())

    def command(self, command_id: str) -> AnyCommand | None:
        """Return a remembered command at once: for checks."""
        return self._known.get(command_id)

    async def pending(self, *, after_position: int, limit: int) -> Sequence[tuple[int, AnyCommand]]:
        """Return commands not yet acknowledged, oldest first."""
        await reach(self._on_io, "command_queue.pending:before")
        later = (entry for entry in self._waiting.values() if entry[0] > after_position)
        return list(islice(later, max(limit, 0)))

    async def hold(self, partitions: Collection[int]) -> None:
        """Do nothing: there is one partition."""

    async def arrivals(
        self, *, after_position: int, known: Known
    ) -> tuple[int, Sequence[AnyCommand]]:
        """Return nothing, after a while: whatever is put is offered."""
        await asyncio.sleep(ARRIVALS_PAUSE_S)
        return after_position, ()

    async def find(self, command_id: str) -> AnyCommand | None:
        """Return a command, acknowledged or not, unless it was pruned."""
        await reach(self._on_io, "command_queue.find:before")
        return self._known.get(command_id)

    async def acknowledge(self, command_ids: Sequence[str]) -> None:
        """Mark commands as applied."""
        taken = tuple(command_ids)
        await reach(self._on_io, "command_queue.acknowledge:before")
        for command_id in taken:
            self._waiting.pop(command_id, None)
        await reach(self._on_io, "command_queue.acknowledge:after")

    async def backlog(self) -> Backlog:
        """Count what is not acknowledged; commands of no tenant only count in the total."""
        tenants = Counter(
            command.request.tenant
            for _, command in self._waiting.values()
            if isinstance(command, StartWorkflow)
        )
        return Backlog(total=len(self._waiting), by_tenant=dict(tenants))

    async def prune(self, *, older_than_ms: int) -> int:
        """Forget acknowledged commands accepted before this time; return how many."""
        old = [
            command.id
            for command in self._known.values()
            if command.created_at_ms < older_than_ms and command.id not in self._waiting
        ]
        for command_id in old:
            del self._known[command_id]
        self._pruned_before_ms = max(self._pruned_before_ms, older_than_ms)
        return len(old)

    async def pruned_before_ms(self) -> int:
        """Return the latest time that `prune` was called with; 0 if it never was."""
        return self._pruned_before_ms

    async def close(self) -> None:
        """Do nothing: another simulated process may still use it."""
