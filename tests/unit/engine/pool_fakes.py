"""A clock, a runner and a sink that tests of the task pool move by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from orchx.domain.events import CallDetails
from orchx.domain.faults import COMMUNICATION, Fault
from orchx.domain.messages import TaskOutcome, TaskRequest
from orchx.domain.services import Service
from orchx.engine.task_pool import TaskPool
from orchx.settings import PoolSettings


class ManualClock:
    """Time that passes only in `pass_ms`."""

    def __init__(self) -> None:
        self.time_ms = 1_000_000
        self.wall_ms = 0  # what somebody has set the wall's time ahead by
        self._sleepers: list[tuple[int, asyncio.Future[None]]] = []

    def now_ms(self) -> int:
        return self.time_ms + self.wall_ms

    def ticks_ms(self) -> int:
        return self.time_ms - 300_000

    async def sleep(self, delay_s: float) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.time_ms + max(1, round(delay_s * 1_000)), woken))
        await woken

    async def pass_ms(self, delay_ms: int) -> None:
        """Let time pass, one sleeper after another."""
        end_ms = self.time_ms + delay_ms
        await settle()
        while True:
            self._sleepers = [found for found in self._sleepers if not found[1].done()]
            due = min(self._sleepers, key=lambda found: found[0], default=None)
            if due is None or due[0] > end_ms:
                break
            self._sleepers.remove(due)
            self.time_ms = max(self.time_ms, due[0])
            due[1].set_result(None)
            await settle()
        self.time_ms = end_ms
        await settle()


async def settle() -> None:
    """Let everything that can run, run."""
    for _ in range(8):
        await asyncio.sleep(0)


class HeldRunner:
    """Calls that end when the test says so. `stubborn` ones do not stop when cancelled."""

    def __init__(self) -> None:
        self.started: list[TaskRequest] = []
        self.open: dict[str, asyncio.Future[TaskOutcome]] = {}
        self.stubborn = False
        self.cancelled: list[str] = []

    async def run(self, request: TaskRequest) -> TaskOutcome:
        self.started.append(request)
        held: asyncio.Future[TaskOutcome] = asyncio.get_running_loop().create_future()
        self.open[request.execution] = held
        while True:
            try:
                return await asyncio.shield(held)
            except asyncio.CancelledError:
                self.cancelled.append(request.execution)
                if not self.stubborn:
                    raise

    async def release(self) -> None:
        """End every call, also those that would not stop."""
        self.stubborn = False
        for held in self.open.values():
            if not held.done():
                held.set_result(TaskOutcome(workflow_id="released", frame=1))
        await settle()

    @property
    def names(self) -> list[str]:
        return [request.workflow_id for request in self.started]

    async def end(self, workflow_id: str, fault: Fault | None = None, frame: int = 1) -> None:
        held = self.open.pop(f"{workflow_id}/{frame}/key-{workflow_id}")
        held.set_result(
            TaskOutcome(workflow_id=workflow_id, frame=frame, output=None, error=fault)
            if fault
            else TaskOutcome(workflow_id=workflow_id, frame=frame, output={"by": workflow_id})
        )
        await settle()


class ListSink:
    """Keeps what was pushed."""

    def __init__(self) -> None:
        self.pushes: list[tuple[str, list[TaskOutcome]]] = []

    def push(self, owner: str, outcomes: Sequence[TaskOutcome]) -> None:
        self.pushes.append((owner, list(outcomes)))

    @property
    def outcomes(self) -> list[TaskOutcome]:
        return [outcome for _, outcomes in self.pushes for outcome in outcomes]

    def of(self, workflow_id: str) -> list[TaskOutcome]:
        return [outcome for outcome in self.outcomes if outcome.workflow_id == workflow_id]

    def fault_of(self, workflow_id: str) -> Fault:
        (outcome,) = self.of(workflow_id)
        assert outcome.error is not None
        return outcome.error


class Bench:
    """A pool with its fakes."""

    def __init__(self, *services: Service, runner: HeldRunner | None = None, **limits: int) -> None:
        self.clock = ManualClock()
        self.runner = runner or HeldRunner()
        self.sink = ListSink()
        self.pool = TaskPool(
            self.runner, self.sink, self.clock, PoolSettings.model_validate(limits), services
        )

    async def submit(self, *requests: TaskRequest) -> None:
        self.pool.submit(requests)
        await settle()


def request(
    workflow_id: str,
    *,
    frame: int = 1,
    service: str | None = None,
    priority: int = 5,
    owner: str = "owner-1",
    deadline_at_ms: int | None = None,
    timeout_ms: int | None = None,
) -> TaskRequest:
    """Return a request with what a test cares about."""
    return TaskRequest(
        workflow_id=workflow_id,
        frame=frame,
        key=f"key-{workflow_id}",
        owner=owner,
        reference="/do/0/step",
        call=CallDetails(
            function="it.provision",
            target="service" if service else "function",
            service=service,
            timeout_ms=timeout_ms,
        ),
        priority=priority,
        deadline_at_ms=deadline_at_ms,
    )


def broken(status: int = 503, retry_after_ms: int | None = None) -> Fault:
    """Return the fault of a service that fails."""
    return Fault(type=COMMUNICATION, status=status, title="HTTP", retry_after_ms=retry_after_ms)
