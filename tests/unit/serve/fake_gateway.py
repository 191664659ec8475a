"""An engine that does nothing but say so: every workflow ends at once, unless told to wait."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace

from orchx.domain import events
from orchx.domain.events import DefinitionRef, Record
from orchx.domain.messages import AnyCommand, CancelWorkflow, StartWorkflow
from orchx.errors import NotFound
from orchx.ports.command_queue import Accepted
from orchx.ports.gateway import AgedSummary, HistoryPage, Learn, Readiness, ignore
from orchx.ports.state_store import TERMINAL, Filter, Page, WorkflowSummary
from orchx.testing.memory_catalog import MemoryCatalog
from orchx.testing.memory_command_queue import MemoryCommandQueue
from orchx.testing.memory_dead_letters import MemoryDeadLetters
from orchx.testing.memory_deliveries import MemoryDeliveries
from orchx.testing.memory_state_store import MemoryStateStore


class FakeGateway:
    """A `Gateway` over memory adapters.

    `fail` is raised by everything, `full` by submissions, `lagging` by strong reads; others are
    `age_ms` old. `hold` keeps workflows running.
    """

    def __init__(self) -> None:
        self.catalog = MemoryCatalog()
        self.deliveries = MemoryDeliveries()
        self.dead_letters: MemoryDeadLetters | None = MemoryDeadLetters()
        self.queue = MemoryCommandQueue()
        self.states = MemoryStateStore()
        self.commands: list[AnyCommand] = []
        self.logs: dict[str, list[Record]] = {}
        self.offset = 0
        self.saves = 0
        self.hold = False
        self.fail: BaseException | None = None
        self.full: BaseException | None = None
        self.lagging: BaseException | None = None
        self.age_ms: int | None = 1_234
        self.lookups = 0
        self.readiness = Readiness(ready=True, parts={"queue": "ok"})

    async def submit(self, commands: Sequence[AnyCommand]) -> Sequence[Accepted]:
        self._maybe_fail()
        if self.full is not None:
            raise self.full
        accepted = await self.queue.put(commands)
        for command, one in zip(commands, accepted, strict=True):
            if not one.duplicate:
                self.commands.append(command)
                await self._apply(command)
        return accepted

    async def accepted(self, command_ids: Sequence[str]) -> Mapping[str, StartWorkflow]:
        self.lookups += 1
        self._maybe_fail()
        found = [await self.queue.find(one) for one in command_ids]
        return {one.id: one for one in found if isinstance(one, StartWorkflow)}

    async def wait(self, workflow_id: str, timeout_s: float) -> WorkflowSummary | None:
        summary = await self.show(workflow_id)
        return summary if summary.status in TERMINAL else None

    async def show(self, workflow_id: str) -> WorkflowSummary:
        self._maybe_fail()
        found = await self.states.load([workflow_id])
        if workflow_id not in found:
            raise NotFound(f"there is no workflow {workflow_id}")
        return found[workflow_id]

    async def show_aged(self, workflow_id: str, *, strong: bool = False) -> AgedSummary:
        if strong and self.lagging is not None:
            raise self.lagging
        summary = await self.show(workflow_id)
        return AgedSummary(summary=summary, age_ms=0 if strong else self.age_ms)

    async def list(self, filter_: Filter) -> Page:
        self._maybe_fail()
        return await self.states.list(filter_)

    async def history(
        self, workflow_id: str, *, after_offset: int = 0, limit: int = 1000, learn: Learn = ignore
    ) -> HistoryPage:
        self._maybe_fail()
        if workflow_id not in self.logs:
            raise NotFound(f"there is no workflow {workflow_id}")
        records = self.logs[workflow_id]
        learn([one for one in records if one.offset <= after_offset])
        later = [one for one in records if one.offset > after_offset]
        return HistoryPage(records=later[:limit], more=len(later) > limit)

    async def follow(
        self, workflow_id: str, *, after_offset: int = 0
    ) -> AsyncIterator[Record | None]:
        for record in (await self.history(workflow_id, after_offset=after_offset)).records:
            yield record
        while True:
            yield None

    async def ready(self) -> Readiness:
        self._maybe_fail()
        return self.readiness

    async def metrics(self) -> bytes:
        self._maybe_fail()
        return b"orchx_workflows_total 1\n"

    def _maybe_fail(self) -> None:
        if self.fail is not None:
            raise self.fail

    def append(self, workflow_id: str, *new: events.AnyEvent) -> None:
        """Add to a workflow's log."""
        log = self.logs.setdefault(workflow_id, [])
        for event in new:
            self.offset += 1
            log.append(
                Record(
                    workflow_id=workflow_id,
                    epoch=1,
                    owner="fake",
                    seq=len(log),
                    at_ms=1_772_357_400_000 + len(log),
                    event=event,
                    offset=self.offset,
                )
            )

    async def _apply(self, command: AnyCommand) -> None:
        if isinstance(command, StartWorkflow):
            await self._start(command)
        elif isinstance(command, CancelWorkflow):
            self.append(command.workflow_id, events.WorkflowCancelled(reason=command.reason))
            await self._save(await self.show(command.workflow_id), status="cancelled")

    async def _start(self, command: StartWorkflow) -> None:
        reference = DefinitionRef(
            namespace=command.namespace,
            name=command.name,
            version=command.version,
            digest=command.digest,
        )
        request = command.request
        summary = WorkflowSummary(
            workflow_id=command.workflow_id,
            status="running",
            namespace=command.namespace,
            name=command.name,
            version=command.version,
            tenant=request.tenant,
            type=request.type,
            priority=request.priority,
            deadline_ms=request.deadline_ms,
            created_at_ms=command.created_at_ms,
            updated_at_ms=command.created_at_ms,
            labels=request.labels,
            traceparent=command.traceparent,
        )
        self.append(
            command.workflow_id,
            events.WorkflowActivated(),
            events.WorkflowStarted(definition=reference, request=request, input=command.input),
            events.TaskStarted(frame=2, parent=1, reference="/do/0/work", kind="wait"),
        )
        await self._save(summary)
        if not self.hold:
            await self.finish(command.workflow_id, command.input)

    async def finish(self, workflow_id: str, output: object = None) -> None:
        """End a workflow that was held."""
        self.append(
            workflow_id,
            events.TaskCompleted(parent=1, frame=2, reference="/do/0/work", kind="wait"),
            events.WorkflowCompleted(output=output),
        )
        await self._save(await self.show(workflow_id), status="completed", output=output)

    async def _save(self, summary: WorkflowSummary, **changes: object) -> None:
        self.saves += 1
        await self.states.save([replace(summary, **changes)], offset=self.saves)  # type: ignore[arg-type]
