"""Links between simulated processes: late, twice, in another order, or not at all."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from orchx.domain import messages as m
from orchx.errors import Unavailable
from orchx.ports.supervision import Assignment, Ending, Load, OwnerReport, OwnerStatus
from orchx.testing.simulated_loop import SimulatedLoop
from orchx.testing.simulated_process import Process

T = TypeVar("T")

MAX_LIVES = 1_000


@dataclass(slots=True, kw_only=True)
class Weather:
    """How bad the network is: probabilities per message, delays in seconds."""

    drop: float = 0.0
    duplicate: float = 0.0
    late: float = 0.0
    delay_s: float = 0.001
    late_s: float = 3.0
    call_timeout_s: float = 1.0


class Network:
    """Carries messages and calls between processes, by name.

    Args:
        crash: ends a process that has reached the end of its fuse.
    """

    def __init__(
        self, loop: SimulatedLoop, chance: random.Random, crash: Callable[[Process], None]
    ) -> None:
        self.weather = Weather()
        self.processes: dict[str, Process] = {}
        self._loop = loop
        self._chance = chance
        self._crash = crash
        self._cuts: set[frozenset[str]] = set()

    def cut(self, one: str, other: str) -> None:
        """Let nothing through between two processes, in either direction."""
        self._cuts.add(frozenset((one, other)))

    def reaches(self, one: str, other: str) -> bool:
        """Return whether anything gets through between two processes."""
        return frozenset((one, other)) not in self._cuts

    def heal(self) -> None:
        """Undo all cuts."""
        self._cuts.clear()

    def send(self, source: Process, target: str, deliver: Callable[[Any], object]) -> None:
        """Carry a message, for which nobody waits; `deliver` gets the target's service."""
        if not self._leaves(source, target):
            return
        self._loop.call_later(self._delay_s(), self._arrive, target, deliver)
        if self._chance.random() < self.weather.duplicate:
            self._loop.call_later(2 * self._delay_s(), self._arrive, target, deliver)

    async def call(
        self, source: Process, target: str, ask: Callable[[Any], Awaitable[T]], *, limit_s: float
    ) -> T:
        """Carry a question and its answer.

        Raises:
            Unavailable: one of them was lost, the target is away, or it died over it.
        """
        await self._leg(source.name, target, leaves=self._leaves(source, target))
        process = self.processes.get(target)
        if process is None or not process.alive or process.service is None:
            raise Unavailable(f"{target} is away")
        answer = process.start(_answer(ask(process.service)))
        try:
            await asyncio.wait((answer,), timeout=limit_s)
        except asyncio.CancelledError:
            answer.cancel()
            raise
        if not answer.done() or answer.cancelled():
            raise Unavailable(f"{target} did not answer")
        result: T = answer.result()
        await self._leg(target, source.name, leaves=process.alive)
        return result

    async def _leg(self, source: str, target: str, *, leaves: bool) -> None:
        if not leaves or frozenset((source, target)) in self._cuts:
            await asyncio.sleep(self.weather.call_timeout_s)
            raise Unavailable(f"no answer from {target}")
        await asyncio.sleep(self._delay_s())

    def _leaves(self, source: Process, target: str) -> bool:
        if not source.alive:
            return False
        if source.burn():
            self._crash(source)
            return False
        cut = bool(self._cuts) and frozenset((source.name, target)) in self._cuts
        return not cut and self._chance.random() >= self.weather.drop

    def _delay_s(self) -> float:
        weather = self.weather
        if weather.late and self._chance.random() < weather.late:
            return self._chance.random() * weather.late_s
        return self._chance.random() * weather.delay_s

    def _arrive(self, target: str, deliver: Callable[[Any], object]) -> None:
        process = self.processes.get(target)
        if process is not None and process.alive and process.service is not None:
            process.context.copy().run(deliver, process.service)


async def _answer(work: Awaitable[T]) -> T:
    return await work


CALL_LIMIT_S = 5.0
BARRIER_LIMIT_S = 15.0
LONG_POLL_S = 30.0


class OwnerAddress:
    """The Dispatcher's way to one owner (an `OwnerLink`)."""

    def __init__(self, network: Network, source: Process, name: str) -> None:
        self.name = name
        self._network = network
        self._source = source

    def deliver(self, assignments: Sequence[Assignment]) -> None:
        """Send workflows and commands."""
        self._network.send(self._source, self.name, lambda owner: owner.deliver(assignments))

    async def reconcile(self, expected: Sequence[str]) -> OwnerStatus:
        """Ask for the owner's status."""

        async def ask(owner: Any) -> OwnerStatus:
            status: OwnerStatus = owner.status(expected)
            return status

        return await self._network.call(self._source, self.name, ask, limit_s=CALL_LIMIT_S)

    async def release(self, workflow_ids: Sequence[str]) -> None:
        """Have the owner let go of workflows."""

        async def ask(owner: Any) -> None:
            await owner.release(workflow_ids)

        await self._network.call(self._source, self.name, ask, limit_s=CALL_LIMIT_S)


class DispatcherAddress:
    """An owner's and ingestion's way to the Dispatcher (`SupervisorLink`, `DispatcherLink`).

    Args:
        reported: told of every report that an owner sends, before it leaves.
    """

    def __init__(
        self,
        network: Network,
        source: Process,
        name: str,
        reported: Callable[[OwnerReport], None] | None = None,
    ) -> None:
        self._network = network
        self._source = source
        self._reported = reported
        self._name = name

    def report(self, report: OwnerReport) -> None:
        """Send a report."""
        if self._reported is not None and self._source.alive:
            self._reported(report)
        self._network.send(self._source, self._name, lambda it: it.dispatcher.report(report))

    async def offer(
        self, commands: Sequence[m.AnyCommand], *, watcher: str, watched: Sequence[str]
    ) -> Load:
        """Hand over durable commands."""

        async def ask(it: Any) -> Load:
            load: Load = it.dispatcher.offer(commands, watcher=watcher, watched=watched)
            return load

        return await self._network.call(self._source, self._name, ask, limit_s=CALL_LIMIT_S)

    async def watch(self, watcher: str, workflow_ids: Sequence[str]) -> Sequence[str]:
        """Ask to be told of endings."""

        async def ask(it: Any) -> Sequence[str]:
            unknown: Sequence[str] = it.dispatcher.watch(watcher, workflow_ids)
            return unknown

        return await self._network.call(self._source, self._name, ask, limit_s=CALL_LIMIT_S)

    async def endings(self, watcher: str, timeout_s: float) -> Sequence[Ending]:
        """Poll for endings."""

        async def ask(it: Any) -> Sequence[Ending]:
            found: Sequence[Ending] = await it.dispatcher.watchers.endings(watcher, timeout_s)
            return found

        return await self._network.call(self._source, self._name, ask, limit_s=LONG_POLL_S)


class StateAddress:
    """The way of a Dispatcher, or ingestion, to the projector (a `StateServiceLink`)."""

    def __init__(self, network: Network, source: Process, name: str) -> None:
        self._network = network
        self._source = source
        self._name = name

    def serve(self, partitions: Collection[int]) -> None:
        """Say which partitions are to be projected."""
        wanted = tuple(partitions)
        self._network.send(self._source, self._name, lambda it: it.projection.serve(wanted))

    async def check(self) -> None:
        """See that projecting goes on."""

        async def ask(it: Any) -> None:
            it.projection.check()

        await self._network.call(self._source, self._name, ask, limit_s=BARRIER_LIMIT_S)

    async def barrier(self, partitions: Collection[int]) -> None:
        """Wait until what is in the log now is projected."""
        wanted = tuple(partitions)

        async def ask(it: Any) -> None:
            await it.projection.barrier(wanted)

        await self._network.call(self._source, self._name, ask, limit_s=BARRIER_LIMIT_S)


class PoolAddress:
    """An owner's way to a pool (a `TaskPoolLink`).

    Args:
        heard: told of every request that an owner sends, before anything can happen to it.
    """

    def __init__(
        self,
        network: Network,
        source: Process,
        name: str,
        heard: Callable[[m.TaskRequest], None],
    ) -> None:
        self._network = network
        self._source = source
        self._name = name
        self._heard = heard

    def submit(self, requests: Sequence[m.TaskRequest]) -> None:
        """Send a batch."""
        if self._source.alive:
            for request in requests:
                self._heard(request)
        self._network.send(self._source, self._name, lambda pool: pool.submit(requests))

    def abandon(self, executions: Sequence[str]) -> None:
        """Send what is given up."""
        self._network.send(self._source, self._name, lambda pool: pool.abandon(executions))

    async def unknown(self, executions: Sequence[str]) -> Sequence[str]:
        """Ask which executions the pool does not have."""

        async def ask(pool: Any) -> Sequence[str]:
            unknown: Sequence[str] = pool.unknown(executions)
            return unknown

        return await self._network.call(self._source, self._name, ask, limit_s=CALL_LIMIT_S)


class OwnerMailboxes:
    """A pool's way to the owners (an `OutcomeSink`)."""

    def __init__(self, network: Network, source: Process) -> None:
        self._network = network
        self._source = source

    def push(self, owner: str, outcomes: Sequence[m.TaskOutcome]) -> None:
        """Send outcomes to an owner."""
        self._network.send(self._source, owner, lambda it: it.outcomes(outcomes))
