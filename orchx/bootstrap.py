"""The composition root: which adapter stands behind which port, and what is built of them.

Each function builds the parts of one kind of process from frozen settings. Nothing here
starts anything, and nothing else in orchx chooses an adapter.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from orchx import tasks
from orchx.adapters.function_task_runner import FunctionTaskRunner
from orchx.adapters.http_task_runner import HttpTaskRunner
from orchx.adapters.routing_task_runner import RoutingTaskRunner
from orchx.adapters.sandbox_evaluator import EvaluatorLimits, SandboxEvaluator
from orchx.adapters.sqlite_catalog import SqliteCatalog
from orchx.adapters.sqlite_command_queue import SqliteCommandQueue
from orchx.adapters.sqlite_deliveries import SqliteDeliveries
from orchx.adapters.sqlite_event_log import SqliteEventLog
from orchx.adapters.sqlite_state_store import SqliteStateStore
from orchx.adapters.system_clock import SystemClock
from orchx.adapters.webhook_secret import webhook_secret
from orchx.adapters.webhook_sender import HttpWebhookSender
from orchx.domain.environment import CallTarget
from orchx.domain.services import Service
from orchx.engine.activation import Activator
from orchx.engine.admission import Admission
from orchx.engine.causes import Causes, CommandSink
from orchx.engine.dispatcher import Dispatcher
from orchx.engine.endings import DispatcherMail
from orchx.engine.environment import Directory, SchemaChecker, World
from orchx.engine.gateway import EngineGateway
from orchx.engine.outbox import Outbox
from orchx.engine.owner import Owner
from orchx.engine.placement import Station, Stations
from orchx.engine.plans import Plans
from orchx.engine.projection import Projection
from orchx.engine.projector import Projector
from orchx.engine.reporter import Reporter
from orchx.engine.retention import CommandRetention, DeliveryRetention
from orchx.engine.roster import Roster
from orchx.engine.routing import Resolver
from orchx.engine.supervision import Supervision
from orchx.engine.task_pool import TaskPool
from orchx.learning.static_policy import StaticPolicy
from orchx.ports.catalog import Catalog
from orchx.ports.command_queue import CommandQueue
from orchx.ports.cpu_executor import CpuExecutor
from orchx.ports.deliveries import Deliveries
from orchx.ports.event_log import EventLog
from orchx.ports.state_store import StateStore
from orchx.ports.supervision import DispatcherLink, OwnerLink, SupervisorLink
from orchx.ports.task_pool import OutcomeSink, TaskPoolLink
from orchx.settings import Settings

T = TypeVar("T")

SANDBOX_THREADS = 4
_INCARNATION_BYTES = 4

Barrier = Callable[[], Awaitable[None]]


def new_incarnation(name: str) -> str:
    """Return a name that no other process of any time has: what fences owners."""
    return f"{name}.{secrets.token_hex(_INCARNATION_BYTES)}"


def data_file(settings: Settings, name: str) -> Path:
    """Return where an embedded store keeps its file; makes the folder."""
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    return settings.data_dir / name


def event_log(settings: Settings) -> EventLog:
    """Open the event log."""
    return SqliteEventLog(data_file(settings, "events.db"))


def command_queue(settings: Settings) -> CommandQueue:
    """Open the command queue."""
    return SqliteCommandQueue(data_file(settings, "commands.db"))


def state_store(settings: Settings) -> StateStore:
    """Open the current-state projection."""
    return SqliteStateStore(data_file(settings, "state.db"))


def catalog(settings: Settings) -> Catalog:
    """Open the catalog."""
    return SqliteCatalog(data_file(settings, "catalog.db"))


def deliveries(settings: Settings) -> Deliveries:
    """Open the webhook outbox."""
    return SqliteDeliveries(data_file(settings, "deliveries.db"))


def load_task_functions(settings: Settings) -> Mapping[str, CallTarget]:
    """Import the task modules and return what they registered, as call targets."""
    tasks.load_modules(settings.task_modules)
    return {
        function.name: CallTarget(kind="function", pool=function.pool)
        for function in tasks.REGISTRY
    }


async def directory(settings: Settings, services: Sequence[Service]) -> Directory:
    """Return who can do what, as of now."""
    return Directory(load_task_functions(settings), services)


@dataclass(slots=True, kw_only=True)
class OwnerParts:
    """An owner and what has to be kept fresh and closed with it."""

    owner: Owner
    world: World
    log: EventLog
    catalog: Catalog
    revision: int = -1

    async def refresh(self, settings: Settings) -> None:
        """Take up changes of the catalog's services."""
        revision = await self.catalog.revision()
        if revision != self.revision:
            services = await self.catalog.services()
            self.world.directory = await directory(settings, services)
            self.revision = revision


def build_owner(
    name: str,
    settings: Settings,
    *,
    pools: Mapping[str, TaskPoolLink],
    supervisor: SupervisorLink,
) -> OwnerParts:
    """Build an owner. Call `refresh` before it takes its first workflow."""
    clock = SystemClock()
    log = event_log(settings)
    stored = catalog(settings)
    limits = settings.evaluator
    incarnation = new_incarnation(name)
    world = World(
        owner=name,
        evaluator=SandboxEvaluator(
            EvaluatorLimits(
                children=limits.processes,
                wall_ms=limits.wall_ms,
                memory_bytes=limits.memory_bytes,
                output_bytes=limits.output_bytes,
            )
        ),
        policy=StaticPolicy(),
        directory=Directory({}, ()),
        schemas=SchemaChecker(),
        now=clock.now_ms,
    )
    threads = ThreadPoolExecutor(SANDBOX_THREADS, thread_name_prefix="orchx-expressions")

    def offload(function: Callable[[], T]) -> Awaitable[T]:
        return asyncio.get_running_loop().run_in_executor(threads, function)

    owner = Owner(
        name=name,
        incarnation=incarnation,
        log=log,
        activator=Activator(incarnation, log, Plans(log, stored), world, offload),
        world=world,
        pools=pools,
        outbox=Outbox(name, incarnation, supervisor),
        clock=clock,
        offload=offload,
        settings=settings.owners,
        sweep=settings.sweep,
    )
    return OwnerParts(owner=owner, world=world, log=log, catalog=stored)


@dataclass(slots=True, kw_only=True)
class DispatcherParts:
    """A Dispatcher, what watches over it, and what keeps its queue small."""

    dispatcher: Dispatcher
    supervision: Supervision
    retention: CommandRetention


def build_dispatcher(
    settings: Settings,
    *,
    shared: Sequence[OwnerLink],
    dedicated: Sequence[OwnerLink],
    barrier: Barrier,
) -> DispatcherParts:
    """Build the Dispatcher of these owners."""
    clock = SystemClock()
    queue = command_queue(settings)
    now_ms = clock.now_ms()
    stations = Stations(
        [
            Station(
                link=link,
                capacity=settings.owners.shared_capacity if kind == "shared" else 1,
                dedicated=kind == "dedicated",
                last_contact_ms=now_ms,
            )
            for kind, links in (("shared", shared), ("dedicated", dedicated))
            for link in links
        ],
        auto_dedicated=settings.owners.auto_dedicated,
    )
    dispatcher = Dispatcher(
        queue=queue,
        roster=Roster(
            stations,
            queue,
            clock,
            running_limit=settings.admission.running_limit,
            memory_bytes=settings.admission.memory_bytes,
        ),
        resolver=Resolver(catalog(settings), queue, event_log(settings)),
        clock=clock,
    )
    supervision = Supervision(
        dispatcher,
        queue=queue,
        store=state_store(settings),
        barrier=barrier,
        clock=clock,
        owners=settings.owners,
        sweep=settings.sweep,
    )
    retention = CommandRetention(queue, clock, settings.retention, barrier)
    return DispatcherParts(dispatcher=dispatcher, supervision=supervision, retention=retention)


def build_projection(settings: Settings, sink: CommandSink) -> Projection:
    """Build the state service, with the net that turns records into commands."""
    clock = SystemClock()
    log, queue = event_log(settings), command_queue(settings)
    causes = Causes(
        log=log,
        queue=queue,
        resolver=Resolver(catalog(settings), queue, log),
        sink=sink,
        clock=clock,
    )
    store = state_store(settings)

    def projector(partition: int) -> Projector:
        return Projector(log, store, clock, settings, partition=partition, observer=causes)

    return Projection(log, clock, projector)


@dataclass(slots=True, kw_only=True)
class ReporterParts:
    """A webhook reporter, and what keeps its outbox small."""

    reporter: Reporter
    retention: DeliveryRetention


def build_reporter(settings: Settings) -> ReporterParts:
    """Build the webhook reporter."""
    clock = SystemClock()
    outbox = deliveries(settings)
    sender = HttpWebhookSender(settings, webhook_secret(settings))
    return ReporterParts(
        reporter=Reporter(event_log(settings), outbox, sender, clock, settings),
        retention=DeliveryRetention(outbox, clock, settings.retention),
    )


@dataclass(slots=True, kw_only=True)
class PoolParts:
    """A task pool and what has to be kept fresh with it."""

    pool: TaskPool
    services: dict[str, Service]
    catalog: Catalog
    revision: int = -1

    async def refresh(self) -> None:
        """Take up changes of the catalog's services."""
        revision = await self.catalog.revision()
        if revision != self.revision:
            services = await self.catalog.services()
            self.services.clear()
            self.services.update({service.name: service for service in services})
            self.pool.update_services(services)
            self.revision = revision


def build_pool(settings: Settings, sink: OutcomeSink, cpu: CpuExecutor) -> PoolParts:
    """Build a task pool. Call `refresh` before it takes its first call."""
    tasks.load_modules(settings.task_modules)
    clock = SystemClock()
    services: dict[str, Service] = {}
    beats: list[Callable[[str], None]] = []
    functions = FunctionTaskRunner(cpu, heartbeat=lambda execution: beats[0](execution))
    http = HttpTaskRunner(settings.pools, services, clock)
    pool = TaskPool(
        RoutingTaskRunner(functions, http),
        sink,
        clock,
        settings.pools,
        timeout_of=functions.timeout_ms,
    )
    beats.append(pool.heartbeat)
    return PoolParts(pool=pool, services=services, catalog=catalog(settings))


def build_gateway(
    settings: Settings,
    link: DispatcherLink,
    *,
    barrier: Barrier,
    exposition: Callable[[], Awaitable[bytes]],
) -> tuple[EngineGateway, DispatcherMail]:
    """Build a gateway; start the mail inside the event loop that uses it."""
    clock = SystemClock()
    watcher = new_incarnation(f"gateway-{os.getpid()}")
    mail = DispatcherMail(link, watcher, clock)
    gateway = EngineGateway(
        queue=command_queue(settings),
        log=event_log(settings),
        store=state_store(settings),
        catalog=catalog(settings),
        deliveries=deliveries(settings),
        mail=mail,
        admission=Admission(settings.admission),
        clock=clock,
        barrier=barrier,
        exposition=exposition,
    )
    return gateway, mail
