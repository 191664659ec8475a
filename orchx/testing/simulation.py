"""One simulated run: a seed, a cluster, random workflows, faults, and then peace.

In the first part processes die, messages get lost and services fail while a driver submits
requests. Then all of that stops, and everything must come to rest within a limit.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import logging
import random
import warnings
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from zlib import crc32

import structlog

from orchx.domain import messages as m
from orchx.domain.events import Request, encode_event
from orchx.domain.keys import event_command_id, workflow_id_for
from orchx.engine.gateway import EngineGateway
from orchx.errors import Bug, InvalidRequest, NotFound, OrchxError
from orchx.ports.state_store import TERMINAL, WorkflowSummary
from orchx.testing.chaos import Chaos, random_shape
from orchx.testing.invariants import MAX_SKEW_MS, InvariantChecker, InvariantViolated, Track
from orchx.testing.random_workflows import (
    EVENT_KINDS,
    EVENT_TYPES,
    NAMESPACE,
    VERSION,
    RandomWorkflows,
)
from orchx.testing.simulated_cluster import Cluster
from orchx.testing.simulated_loop import START_MS, SimulatedLoop
from orchx.testing.simulated_process import CURRENT, Process
from orchx.testing.simulated_services import Services
from orchx.testing.simulated_shape import DISPATCHER, GATEWAY, STATE

T = TypeVar("T")

CALM_LIMIT_S: Final = 400.0
"""Everything must be at rest so long after the last fault, in virtual seconds."""

QUIET_S: Final = 13.0
"""After so long without a record, what has not ended waits for the outside."""

STEP_S: Final = 0.5
EVENT_ROUNDS: Final = 12
SUBMIT_LIMIT_S: Final = 20.0
WAIT_S: Final = 8.0
EVENT_PAUSE_S: Final = 2.0
PENDING_LIMIT: Final = 100_000
REST_TRIES: Final = 20
CALLBACKS_AT_THE_END: Final = 5
TENANTS: Final = ("default", "other")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How a run ended. `digest` names the whole log: the same seed gives the same one."""

    seed: int
    digest: str
    workflows: int
    records: int
    virtual_s: float
    violation: InvariantViolated | None
    trace: list[str]


class Simulation:
    """One run.

    Args:
        seed: decides everything.
        traced: whether to keep a readable trace.
    """

    def __init__(self, seed: int, *, traced: bool = False) -> None:
        self._seed = seed
        self._trace: list[str] = []
        self._traced = traced
        self._violation: InvariantViolated | None = None
        self._loop = SimulatedLoop(_adopt)
        self._loop.set_exception_handler(self._uncaught)
        self._failed: asyncio.Future[None] = self._loop.create_future()
        self._chance = random.Random(f"{seed}/faults")
        self._plan = random.Random(f"{seed}/workflows")
        self._told: list[WorkflowSummary] = []
        self._submitting = 0
        self._events_sent = 0
        self._services = Services(self._chance, self._called)
        self._checker = InvariantChecker(
            now_ms=self._now_ms,
            plan_of=lambda digest: self._cluster.plan_of(digest),
            effect_count=lambda key: self._services.effects[key],
            command_of=lambda command_id: self._cluster.queue.command(command_id),
            fail=self._fail,
        )
        self._cluster = Cluster(
            loop=self._loop,
            chance=self._chance,
            shape=random_shape(self._plan),
            checker=self._checker,
            services=self._services,
            note=self._note,
        )
        self._client = Process("client", 1, self._loop, skew_ms=0, fuse=None)
        self._cluster.network.processes["client"] = self._client
        self._chaos = Chaos(
            self._cluster,
            self._services,
            plan=self._plan,
            chance=self._chance,
            clocks=random.Random(f"{seed}/clocks"),
            note=self._note,
        )
        self._checker.ahead_ms = MAX_SKEW_MS + self._chaos.clock_set_ms

    def run(self) -> Result:
        """Run to the end, or to the first violation."""
        with _quiet(self._note if self._traced else None):
            try:
                self._loop.run_until_complete(self._race())
            except Bug as error:
                self._fail(InvariantViolated(2, "", str(error)))
            finally:
                self._end()
        return self._result()

    async def _race(self) -> None:
        drive = asyncio.create_task(self._drive())
        await asyncio.wait((drive, self._failed), return_when=asyncio.FIRST_COMPLETED)
        if drive.done():
            drive.result()
        drive.cancel()

    async def _drive(self) -> None:
        cluster, plan = self._cluster, self._plan
        workflows = RandomWorkflows(plan)
        count = plan.choice((1, 1, 2, 2, 3))
        await cluster.publish(workflows.documents(count), plan.choice((0.0, 0.0, 0.4)))
        requests = plan.choice((1, 1, 2, 3, 4, 6, 8, 12))
        if plan.random() < 0.02:
            requests = 25
        chaos_s = plan.choice((0.5, 3.0, 6.0, 12.0, 20.0))
        self._chaos.begin()
        cluster.start_all()
        submissions = [
            asyncio.create_task(self._submit(number, workflows, count, chaos_s))
            for number in range(requests)
        ]
        await self._chaos.rage(chaos_s, self._check_owners)
        self._chaos.end()
        calm_since_s = self._loop.time()
        await asyncio.gather(*submissions)
        await self._come_to_rest(calm_since_s)
        await self._check_at_rest()

    # -- the driver ------------------------------------------------------------------------

    async def _submit(
        self, number: int, workflows: RandomWorkflows, count: int, chaos_s: float
    ) -> None:
        chance = self._plan
        name = f"w{chance.randrange(count)}"
        definition = self._cluster.plan_of_name(name)
        tenant = chance.choice(TENANTS)
        request = Request(
            tenant=tenant,
            priority=chance.choice((0, 3, 5, 5, 9)),
            deadline_ms=self._deadline_ms(chance),
            isolation=chance.choice(("auto", "auto", "shared", "dedicated")),
        )
        input_ = workflows.input()
        wants_end, cancels = chance.random() < 0.5, chance.random() < 0.1
        start_s, pause_s = chance.random() * chaos_s, chance.random() * 3
        await asyncio.sleep(start_s if number else 0)
        workflow_id = workflow_id_for(tenant, f"key-{number}")
        start = m.StartWorkflow(
            id=workflow_id,
            workflow_id=workflow_id,
            created_at_ms=self._now_ms(),
            namespace=NAMESPACE,
            name=name,
            version=VERSION,
            digest=definition.digest,
            input=input_,
            request=request,
        )
        if not await self._put(start):
            return
        if cancels:
            await asyncio.sleep(pause_s)
            cancel = m.CancelWorkflow(
                id=f"cancel-{number}", workflow_id=workflow_id, created_at_ms=self._now_ms()
            )
            await self._put(cancel)
        elif pause_s < 1:
            await self._send_event(f"early-{number}", number)
        if wants_end:
            await self._wait(workflow_id)

    def _deadline_ms(self, chance: random.Random) -> int | None:
        return self._now_ms() + chance.randrange(2_000, 40_000) if chance.random() < 0.1 else None

    async def _put(self, command: m.AnyCommand) -> bool:
        """Submit until it is acknowledged, always with the same id; False if it is refused."""
        while True:
            try:
                await self._call_gateway(lambda gateway: gateway.submit([command]), SUBMIT_LIMIT_S)
            except InvalidRequest:
                return False  # its deadline has passed
            except OrchxError:
                await asyncio.sleep(0.5)
                continue
            self._note(f"acknowledged {command.id}")
            self._checker.acknowledged[command.id] = command
            return True

    async def _send_event(self, name: str, number: int) -> None:
        for kind in EVENT_TYPES:
            event = {
                "specversion": "1.0",
                "source": "https://driver.example",
                "id": name,
                "type": kind,
                "data": {"n": number % EVENT_KINDS, "flag": True, "items": [1]},
            }
            event["id"], command_id = self._event_id(f"{name}/{kind}")
            command = m.DeliverEvent(
                id=command_id, workflow_id="", created_at_ms=self._now_ms(), event=event
            )
            await self._put(command)

    def _event_id(self, name: str) -> tuple[str, str]:
        """Return ids of an event and its command that have it in the first partition.

        All events are there, so that whoever listens in the others has them by being relayed.
        """
        for number in itertools.count():
            event_id = f"{name}/{number}"
            command_id = event_command_id("", "https://driver.example", event_id)
            if crc32(command_id.encode()) % self._cluster.shape.partitions == 0:
                return event_id, command_id
        raise Bug("no number is left")

    async def _wait(self, workflow_id: str) -> None:
        """Wait for a workflow's end as a caller does; keep what was told, to be checked."""
        try:
            summary = await self._call_gateway(
                lambda gateway: gateway.wait(workflow_id, WAIT_S), WAIT_S * 3
            )
        except NotFound as error:
            self._fail(InvariantViolated(1, workflow_id, f"acknowledged, yet {error}"))
        except OrchxError:
            return
        else:
            if summary is not None:
                self._told.append(summary)

    async def _call_gateway(
        self, ask: Callable[[EngineGateway], Awaitable[T]], limit_s: float
    ) -> T:
        gateway = self._plan.choice(self._cluster.shape.engines) + GATEWAY
        return await self._cluster.network.call(self._client, gateway, ask, limit_s=limit_s)

    # -- peace -----------------------------------------------------------------------------

    async def _come_to_rest(self, calm_since_s: float) -> None:
        """Wait until every workflow has ended, sending the events that some wait for."""
        calm_since_ms = START_MS + int(calm_since_s * 1_000)
        rounds = 0
        next_event_s = self._loop.time() + EVENT_PAUSE_S
        while True:
            await asyncio.sleep(STEP_S)
            self._check_owners()
            if not self._checker.unfinished() and self._all_started():
                return
            self._checker.check_deadlines(calm_since_ms)
            self._checker.check_children(calm_since_ms)
            now_s = self._loop.time()
            if now_s - calm_since_s > CALM_LIMIT_S:
                self._checker.stuck(self._explain)
                self._checker.check_acknowledged()
                return
            if now_s < next_event_s:
                continue
            next_event_s = now_s + EVENT_PAUSE_S
            if any(f.kind == "listen" for t in self._checker.unfinished() for f in _frames(t)):
                rounds += 1
                if rounds > EVENT_ROUNDS:
                    await self._check_waiting()
                await self._send_event(f"late-{rounds}", rounds)

    def _all_started(self) -> bool:
        """Whether the log has every workflow that was asked for, by callers or by others."""
        checker = self._checker
        return (
            all(
                command.workflow_id in checker.tracks
                for command in checker.acknowledged.values()
                if command.workflow_id
            )
            and not self._cluster.unstarted()
        )

    async def _check_waiting(self) -> None:
        """Whoever still listens must say so in the projection."""
        await self._caught_up()
        rows = await self._cluster.store.load(list(self._checker.tracks))
        for track in self._checker.unfinished():
            row = rows.get(track.workflow_id)
            listens = any(frame.kind == "listen" for frame in _frames(track))
            if listens and (row is None or not row.listens):
                detail = f"it listens, which the projection does not say: {row}"
                self._fail(InvariantViolated(2, track.workflow_id, detail))

    async def _check_at_rest(self) -> None:
        checker = self._checker
        rows: Mapping[str, WorkflowSummary] = {}
        for _ in range(REST_TRIES):  # what is over may be claimed once more meanwhile
            records = len(self._cluster.log.records())
            await self._caught_up()
            rows = await self._cluster.store.load(list(checker.tracks))
            if records == len(self._cluster.log.records()):
                break
        self._check_owners()
        checker.check_projection(rows)
        checker.check_acknowledged()
        waiting = await self._cluster.queue.pending(after_position=0, limit=PENDING_LIMIT)
        checker.check_cancelled(command for _, command in waiting)
        checker.check_secrets()
        for summary in self._told:
            if summary.status in TERMINAL:
                checker.check_told(summary)

    async def _caught_up(self) -> None:
        state = self._cluster.network.processes[STATE]
        await state.service.projection.barrier(timeout_s=60.0)

    def _check_owners(self) -> None:
        for owner in self._cluster.owners():
            self._checker.check_owner(owner.incarnation, owner.states())

    def _explain(self, track: Track) -> str:
        """Say where everyone believes a workflow to be that does not end."""
        entry = [
            (dict(dispatcher.held), dispatcher.roster.entries.get(track.workflow_id))
            for engine in self._cluster.shape.engines
            if (
                dispatcher := self._cluster.network.processes[
                    engine + DISPATCHER
                ].service.dispatcher
            )
        ]
        holders = [o.incarnation for o in self._cluster.owners() if track.workflow_id in o.states()]
        frames = [
            f"{f.id}:{f.kind}:{f.phase} {f.reference} due={f.due_at_ms}" for f in _frames(track)
        ]
        return f"stuck; the Dispatcher has {entry}; owners {holders}; frames {frames}"

    # -- the machinery ---------------------------------------------------------------------

    def _now_ms(self) -> int:
        return START_MS + int(self._loop.time() * 1_000 + 1e-6)

    def _called(self, request: m.TaskRequest) -> None:
        self._note(f"call {request.execution} {request.call.function} {request.key[:6]}")

    def _note(self, line: str) -> None:
        if self._traced:
            self._trace.append(f"{self._loop.time():9.3f} {line}")

    def _fail(self, violation: InvariantViolated) -> None:
        if self._violation is None:
            self._violation = violation
            self._note(f"VIOLATION {violation}")
            if not self._failed.done():
                self._failed.set_result(None)

    def _uncaught(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        process = CURRENT.get()
        if isinstance(error, Exception) and (process is None or process.alive):
            detail = f"{context.get('message')}: {type(error).__name__}: {error}"
            self._fail(InvariantViolated(0, "", detail))

    def _end(self) -> None:
        self._cluster.bury()
        for process in self._cluster.network.processes.values():
            process.die()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        for _ in range(CALLBACKS_AT_THE_END):
            self._loop.call_soon(self._loop.stop)
            self._loop.run_forever()
        self._loop.close()

    def _result(self) -> Result:
        records = self._cluster.log.records()
        hasher = hashlib.sha256()
        for r in records:
            hasher.update(f"{r.workflow_id} {r.epoch} {r.owner} {r.seq} {r.at_ms} ".encode())
            hasher.update(encode_event(r.event))
        hasher.update(repr(sorted(self._services.effects.items())).encode())
        return Result(
            seed=self._seed,
            digest=hasher.hexdigest(),
            workflows=len(self._checker.tracks),
            records=len(records),
            virtual_s=self._loop.time(),
            violation=self._violation,
            trace=self._trace,
        )


def _frames(track: Track) -> list[Any]:
    return list(track.state.frames.values())


def _adopt(task: asyncio.Task[Any], context: Any) -> None:
    process = CURRENT.get() if context is None else context.get(CURRENT)
    if process is not None:
        process.adopt(task)


@contextmanager
def _quiet(note: Callable[[str], None] | None) -> Iterator[None]:
    """Keep the engine's logs off the screen: into the trace, or nowhere."""
    known = structlog.get_config()

    def collect(logger: Any, method: str, fields: MutableMapping[str, Any]) -> Any:
        if note is not None:
            process = CURRENT.get()
            name = process.incarnation if process is not None else "-"
            note(f"{name}: {method} {fields}")
        raise structlog.DropEvent

    structlog.configure(processors=[collect], cache_logger_on_first_use=False)
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            # a task that dies before its first step leaves the coroutine that it was given
            warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
            yield
    finally:
        logging.disable(logging.NOTSET)
        structlog.configure(**known)


def simulate(seed: int, *, traced: bool = False) -> Result:
    """Run one seed."""
    return Simulation(seed, traced=traced).run()
