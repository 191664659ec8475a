"""The engines of a simulation share partitions by sessions, as Kafka's consumer groups do."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection, Sequence
from typing import Final, NoReturn
from zlib import crc32

from orchx.domain import messages as m
from orchx.errors import Bug
from orchx.ports.command_queue import Known
from orchx.ports.membership import PartitionHolder
from orchx.testing.memory_command_queue import MemoryCommandQueue
from orchx.testing.simulated_process import Process

SESSION_S: Final = 2.0
HEARTBEAT_S: Final = 0.3
ARRIVALS_POLL_S: Final = 0.2
HAND_OVER_LIMIT_S: Final = 3.0  # after which a partition goes to the next engine all the same


class Group:
    """Who is a member, and which partitions are whose.

    A partition that is to move is free only once its former holder has let it go, or was
    silent for `SESSION_S`.

    Args:
        partitions: how many there are.
        now_s: the time.
    """

    def __init__(self, partitions: int, now_s: Callable[[], float]) -> None:
        self.partitions = partitions
        self._now_s = now_s
        self._seen_s: dict[str, float] = {}
        self._lives: dict[str, int] = {}
        self._holders: dict[int, str] = {}
        self._leaving: dict[int, float] = {}  # asked back, and when

    def join(self, engine: str, life: int) -> None:
        """Take a member in, with the partitions of its earlier life, which is none any more."""
        self._lives[engine] = life
        self._seen_s[engine] = self._now_s()

    def beat(self, engine: str, life: int, held: Collection[int]) -> Collection[int] | None:
        """Take a heartbeat; return what is the member's, or None: it is none any more.

        Args:
            engine: who it is.
            life: in which life.
            held: what it has not given up.
        """
        now_s = self._now_s()
        if self._lives.get(engine) != life:
            return None
        self._seen_s[engine] = now_s
        for other in [e for e, seen_s in self._seen_s.items() if now_s - seen_s > SESSION_S]:
            self._forget(other)
        for partition, since_s in list(self._leaving.items()):
            gone = self._holders.get(partition) == engine and partition not in held
            if gone or now_s - since_s > HAND_OVER_LIMIT_S:
                self._holders.pop(partition, None)
                del self._leaving[partition]
        self._share(now_s)
        return [
            partition
            for partition, holder in self._holders.items()
            if holder == engine and partition not in self._leaving
        ]

    def fences(self, engine: str, life: int) -> bool:
        """Return whether a later life of this member has taken its place."""
        return self._lives.get(engine, life) > life

    def _forget(self, engine: str) -> None:
        del self._seen_s[engine], self._lives[engine]
        for partition in [p for p, holder in self._holders.items() if holder == engine]:
            del self._holders[partition]
            self._leaving.pop(partition, None)

    def _share(self, now_s: float) -> None:
        """Give what is free to whoever has least, and ask back from whoever has too much."""
        members = sorted(self._seen_s)
        counts = dict.fromkeys(members, 0)
        for partition, holder in self._holders.items():
            counts[holder] += partition not in self._leaving
        for partition in range(self.partitions):
            if partition not in self._holders:
                least = min(members, key=lambda engine: counts[engine])
                self._holders[partition] = least
                counts[least] += 1
        most, least = max(members, key=counts.__getitem__), min(members, key=counts.__getitem__)
        if counts[most] - counts[least] > 1 and not self._leaving:
            moved = next(
                p for p, h in sorted(self._holders.items()) if h == most and p not in self._leaving
            )
            self._leaving[moved] = now_s


class SimulatedMembership:
    """A `Membership` in a simulated group.

    Args:
        reaches: whether this process can reach the group now.
    """

    def __init__(
        self,
        group: Group,
        engine: str,
        process: Process,
        reaches: Callable[[], bool],
        chance: random.Random,
    ) -> None:
        self.count = group.partitions
        self._group = group
        self._engine = engine
        self._process = process
        self._reaches = reaches
        self._chance = chance
        self._joined = asyncio.Event()
        self._held: set[int] = set()

    async def run(self, holder: PartitionHolder) -> NoReturn:
        """Beat for ever; join again whenever this is no member any more."""
        life = self._process.life
        member = False
        while True:
            if self._reaches():
                if not member:
                    if self._group.fences(self._engine, life):
                        await asyncio.Event().wait()  # it is to end, and does nothing until then
                    self._group.join(self._engine, life)
                    member = True
                mine = self._group.beat(self._engine, life, self._held)
                member = mine is not None
                await self._follow(holder, () if mine is None else mine)
                self._joined.set()
            await asyncio.sleep(HEARTBEAT_S * (0.5 + self._chance.random()))

    async def _follow(self, holder: PartitionHolder, mine: Collection[int]) -> None:
        left = self._held.difference(mine)
        if left:
            await holder.give_up(sorted(left))
            self._held.difference_update(left)
        new = [partition for partition in mine if partition not in self._held]
        if new:
            self._held.update(new)
            holder.given(new)

    async def joined(self) -> None:
        """Return once the holder was told what is this engine's at first."""
        await self._joined.wait()

    async def leave(self) -> None:
        """Do nothing: a simulated engine just dies."""
        raise Bug("a simulated engine does not leave")

    def partition_of(self, command: m.AnyCommand) -> int:
        """Return the partition that a command is in."""
        if isinstance(command, m.DeliverEvent) and command.partition is not None:
            return command.partition
        return self.partition_of_workflow(command.workflow_id or command.id)

    def partition_of_workflow(self, workflow_id: str) -> int:
        """Return the partition that a workflow's records are in, as the log in memory does."""
        return crc32(workflow_id.encode()) % self.count


class SharedQueue:
    """One engine's view of the command queue: a `CommandQueue`.

    Args:
        queue: everybody's.
        partition_of: where a command is.
    """

    def __init__(
        self, queue: MemoryCommandQueue, partition_of: Callable[[m.AnyCommand], int]
    ) -> None:
        self._queue = queue
        self._partition_of = partition_of
        self._held: frozenset[int] = frozenset()
        self.put = queue.put
        self.find = queue.find
        self.acknowledge = queue.acknowledge
        self.backlog = queue.backlog
        self.prune = queue.prune
        self.pruned_before_ms = queue.pruned_before_ms
        self.close = queue.close

    async def hold(self, partitions: Collection[int]) -> None:
        """Take commands of these partitions."""
        self._held = frozenset(partitions)

    async def pending(
        self, *, after_position: int, limit: int
    ) -> Sequence[tuple[int, m.AnyCommand]]:
        """Return commands of the partitions held, oldest first."""
        position = after_position
        while page := await self._queue.pending(after_position=position, limit=limit):
            mine = [one for one in page if self._partition_of(one[1]) in self._held]
            if mine:
                return mine
            position = page[-1][0]
        return ()

    async def arrivals(
        self, *, after_position: int, known: Known
    ) -> tuple[int, Sequence[m.AnyCommand]]:
        """Return what others have put, after a while."""
        await asyncio.sleep(ARRIVALS_POLL_S)
        page = await self.pending(after_position=after_position, limit=1_000)
        if not page:
            return after_position, ()
        return page[-1][0], [command for _, command in page if not known(command.id)]
