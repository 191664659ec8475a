"""A gateway over memory adapters, a clock that a test moves, a Dispatcher that does as it says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from orchx.domain.events import Request
from orchx.domain.messages import AnyCommand, StartWorkflow
from orchx.engine.admission import Admission
from orchx.engine.endings import DispatcherMail
from orchx.engine.freshness import Barrier
from orchx.engine.gateway import EngineGateway
from orchx.engine.readiness import Question
from orchx.ports.supervision import Ending, Load
from orchx.settings import AdmissionSettings
from orchx.testing.memory_catalog import MemoryCatalog
from orchx.testing.memory_command_queue import MemoryCommandQueue
from orchx.testing.memory_deliveries import MemoryDeliveries
from orchx.testing.memory_event_log import MemoryEventLog
from orchx.testing.memory_state_store import MemoryStateStore
from orchx.testing.virtual_clock import VirtualClock


@dataclass
class Link:
    """A Dispatcher that is told what to answer; an exception in the queue is raised."""

    answers: asyncio.Queue[list[Ending] | Exception] = field(default_factory=asyncio.Queue)
    offers: list[Exception] = field(default_factory=list)
    offered: list[AnyCommand] = field(default_factory=list)
    watched: list[str] = field(default_factory=list)

    async def offer(
        self, commands: Sequence[AnyCommand], *, watcher: str, watched: Sequence[str]
    ) -> Load:
        if self.offers:
            raise self.offers.pop(0)
        self.offered += commands
        self.watched += watched
        return Load(waiting=0, by_tenant={}, running=0)

    async def watch(self, watcher: str, workflow_ids: Sequence[str]) -> Sequence[str]:
        return workflow_ids

    async def endings(self, watcher: str, timeout_s: float) -> Sequence[Ending]:
        answer = await self.answers.get()
        if isinstance(answer, Exception):
            raise answer
        return answer


@dataclass
class Rig:
    link: Link
    clock: VirtualClock
    mail: DispatcherMail
    log: MemoryEventLog
    queue: MemoryCommandQueue
    store: MemoryStateStore
    gateway: EngineGateway


async def _nothing(partition: int) -> None:
    pass


async def _goes_on() -> None:
    pass


async def _no_metrics() -> bytes:
    return b""


def make_rig(
    log: MemoryEventLog | None = None,
    barrier: Barrier = _nothing,
    projecting: Question = _goes_on,
    partition_of: Callable[[str], int] = lambda _: 0,
) -> Rig:
    link, clock, queue, store = Link(), VirtualClock(), MemoryCommandQueue(), MemoryStateStore()
    log = log or MemoryEventLog()
    mail = DispatcherMail(link, "w", clock)
    gateway = EngineGateway(
        queue=queue,
        log=log,
        store=store,
        catalog=MemoryCatalog(),
        deliveries=MemoryDeliveries(),
        mail=mail,
        admission=Admission(AdmissionSettings()),
        clock=clock,
        barrier=barrier,
        projecting=projecting,
        exposition=_no_metrics,
        partition_of=partition_of,
    )
    return Rig(link, clock, mail, log, queue, store, gateway)


def start(workflow_id: str = "wf") -> StartWorkflow:
    return StartWorkflow(
        id=workflow_id,
        workflow_id=workflow_id,
        created_at_ms=1,
        namespace="hr",
        name="leave",
        version="1.0.0",
        digest="d",
        input={"large": "x" * 1000},
        request=Request(labels={"a": "b"}),
    )


def ending(workflow_id: str = "wf") -> Ending:
    return Ending(workflow_id=workflow_id, status="completed", ended_at_ms=9, output=3, told=True)
