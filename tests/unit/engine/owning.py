"""An owner over the in-memory log, with a pool, a Dispatcher and a clock that tests move."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

from orchx.domain import messages as m
from orchx.domain.document import Definition
from orchx.domain.document_parser import canonical_json, parse_definition
from orchx.domain.environment import CallTarget
from orchx.domain.events import Record, Request
from orchx.domain.lineage import AcceptedRecords
from orchx.engine.activation import Activator
from orchx.engine.environment import Directory, SchemaChecker, World
from orchx.engine.outbox import Outbox
from orchx.engine.owner import Owner
from orchx.engine.plans import Plans
from orchx.ports.catalog import StoredDefinition
from orchx.ports.evaluator import Evaluator
from orchx.ports.supervision import Assignment, OwnerReport
from orchx.settings import OwnerSettings, SweepSettings
from orchx.testing.in_process_evaluator import InProcessEvaluator
from orchx.testing.memory_catalog import MemoryCatalog
from orchx.testing.memory_event_log import MemoryEventLog
from orchx.testing.rehearsal import RehearsalWorld
from orchx.testing.virtual_clock import VirtualClock

T = TypeVar("T")
HEADER = {"dsl": "1.0.3", "namespace": "t", "name": "w", "version": "1.0.0"}
CALL = {"call": "work", "with": {"n": 1}}


class Pool:
    """Takes calls and answers none."""

    def __init__(self) -> None:
        self.requests: list[m.TaskRequest] = []

    def submit(self, requests: Sequence[m.TaskRequest]) -> None:
        self.requests += requests

    def abandon(self, executions: Sequence[str]) -> None:
        """Mind nothing."""

    async def unknown(self, executions: Sequence[str]) -> Sequence[str]:
        return list(executions)


class Dispatcher:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.reports: list[OwnerReport] = []

    def report(self, report: OwnerReport) -> None:
        self.reports.append(report)

    @property
    def ended(self) -> list[str]:
        return [f"{e.workflow_id} {e.status}" for r in self.reports for e in r.ended]

    @property
    def lost(self) -> list[str]:
        return [workflow_id for r in self.reports for workflow_id in r.lost]


class Stage:
    """An owner with everything around it in memory.

    Deciding takes no time unless a test moves `ticks_s`. What is offloaded runs at once; the
    tests that mind count it.
    """

    def __init__(self, log: MemoryEventLog, evaluator: Evaluator | None = None) -> None:
        self.log = log
        self.ticks_s = 0.0
        self.offloaded = 0
        self.clock = VirtualClock()
        self.pool = Pool()
        self.dispatcher = Dispatcher()
        self.catalog = MemoryCatalog()
        self.world = World(
            owner="owner",
            evaluator=evaluator or InProcessEvaluator(),
            policy=RehearsalWorld({}),  # type: ignore[arg-type]  # no choice is made here
            directory=Directory({"work": CallTarget(kind="function")}, ()),
            schemas=SchemaChecker(),
            now=self.clock.now_ms,
            ticks_s=lambda: self.ticks_s,
        )
        self.owner = Owner(
            name="owner",
            incarnation="owner#1",
            log=log,
            activator=Activator(
                "owner#1", log, Plans(log, self.catalog), self.world, self._offload
            ),
            world=self.world,
            pools={"io": self.pool, "cpu": self.pool},
            outbox=Outbox("owner", "owner#1", self.dispatcher),
            clock=self.clock,
            offload=self._offload,
            settings=OwnerSettings(lease_ms=10_000),
            sweep=SweepSettings(),
        )

    async def _offload(self, function: Callable[[], T]) -> T:
        return await self.run_away(function)

    async def run_away(self, function: Callable[[], T]) -> T:
        """Run what the owner does not do on its loop; here it does."""
        self.offloaded += 1
        return function()

    async def start(self, workflow_id: str, *tasks: object, input_: object = None) -> None:
        command = await self.publish(workflow_id, *tasks, input_=input_)
        self.owner.deliver([Assignment(workflow_id=workflow_id, command=command)])

    async def publish(
        self, workflow_id: str, *tasks: object, input_: object = None
    ) -> m.StartWorkflow:
        """Publish a definition of these tasks; returns what starts it."""
        name = workflow_id.replace("_", "-")
        header = {**HEADER, "name": name}
        do = [{f"t{number}": task} for number, task in enumerate(tasks)]
        definition: Definition = parse_definition({"document": header, "do": do})
        await self.catalog.publish(
            StoredDefinition(
                namespace="t",
                name=name,
                version="1.0.0",
                digest=definition.digest,
                source=canonical_json(definition.source),
                text="",
                created_at_ms=0,
            )
        )
        return m.StartWorkflow(
            id=workflow_id,
            workflow_id=workflow_id,
            created_at_ms=0,
            namespace="t",
            name=name,
            version="1.0.0",
            digest=definition.digest,
            input=input_,
            request=Request(),
        )

    async def history(self, workflow_id: str) -> list[Record]:
        return list(AcceptedRecords().of(await self.log.read(workflow_id)))


async def until(condition: Callable[[], object]) -> None:
    for _ in range(20_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it did not come about")
