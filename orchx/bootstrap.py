"""The composition root: each function builds the parts of one kind of process.

From frozen settings, and nothing is started. Which store stands behind which port is in
`orchx.stores`; every other adapter is chosen here.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from orchx import tasks
from orchx.adapters.function_task_runner import FunctionTaskRunner
from orchx.adapters.http_task_runner import HttpTaskRunner
from orchx.adapters.kafka_command_indexer import CommandIndexer
from orchx.adapters.mongo_presence import MongoPresence
from orchx.adapters.routing_task_runner import RoutingTaskRunner
from orchx.adapters.sandbox_evaluator import EvaluatorLimits, SandboxEvaluator
from orchx.adapters.system_clock import SystemClock
from orchx.adapters.webhook_secret import webhook_secret
from orchx.adapters.webhook_sender import HttpWebhookSender
from orchx.domain.environment import CallTarget
from orchx.domain.services import Service
from orchx.engine.activation import Activator
from orchx.engine.admission import Admission
from orchx.engine.cached_state_store import CachedStateStore
from orchx.engine.catalog_cache import KnownDefinitions
from orchx.engine.causes import Causes, CommandSink
from orchx.engine.dispatcher import Dispatcher
from orchx.engine.endings import DispatcherMail
from orchx.engine.environment import Directory, SchemaChecker, World
from orchx.engine.gateway import EngineGateway
from orchx.engine.outbox import Outbox
from orchx.engine.owner import Owner
from orchx.engine.partition_keeper import PartitionKeeper
from orchx.engine.placement import Station, Stations
from orchx.engine.plans import Plans
from orchx.engine.projection import Projection
from orchx.engine.projector import Projector
from orchx.engine.readiness import Question
from orchx.engine.reporter import Reporter
from orchx.engine.retention import CommandRetention, DeliveryRetention
from orchx.engine.roster import Roster
from orchx.engine.routing import Resolver
from orchx.engine.supervision import Supervision
from orchx.engine.task_pool import TaskPool
from orchx.learning.static_policy import StaticPolicy
from orchx.ports.catalog import Catalog
from orchx.ports.cpu_executor import CpuExecutor
from orchx.ports.event_log import EventLog
from orchx.ports.membership import Membership
from orchx.ports.supervision import (
    DispatcherLink,
    OwnerLink,
    StateServiceLink,
    SupervisorLink,
)
from orchx.ports.task_pool import OutcomeSink, TaskPoolLink
from orchx.settings import Settings
from orchx.stores import open_stores

T = TypeVar("T")

SANDBOX_THREADS = 4
_INCARNATION_BYTES = 4


def new_incarnation(name: str) -> str:
    """Return a name that no other process of any time has: what fences owners."""
    return f"{name}.{secrets.token_hex(_INCARNATION_BYTES)}"


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
    stores = open_stores(settings)
    log, stored = stores.event_log(), stores.catalog()
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
    """A Dispatcher, what gives it work and watches over it, and what keeps its queue small."""

    dispatcher: Dispatcher
    supervision: Supervision
    membership: Membership
    keeper: PartitionKeeper
    retention: CommandRetention


def build_dispatcher(
    settings: Settings,
    *,
    shared: Sequence[OwnerLink],
    dedicated: Sequence[OwnerLink],
    state: StateServiceLink,
) -> DispatcherParts:
    """Build the Dispatcher of these owners."""
    clock = SystemClock()
    stores = open_stores(settings)
    queue = stores.command_queue(consumes=True)
    membership = stores.membership()
    ticks_ms = clock.ticks_ms()
    stations = Stations(
        [
            Station(
                link=link,
                capacity=settings.owners.shared_capacity if kind == "shared" else 1,
                dedicated=kind == "dedicated",
                reachable=kind == "shared",  # the others start later, and say when they have
                last_contact_ms=ticks_ms,
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
        resolver=Resolver(
            KnownDefinitions(stores.catalog(), clock.ticks_ms), queue, stores.event_log()
        ),
        clock=clock,
        membership=membership,
    )
    supervision = Supervision(
        dispatcher,
        queue=queue,
        store=stores.state_store(),
        state=state,
        clock=clock,
        owners=settings.owners,
        sweep=settings.sweep,
    )

    async def up_to_date() -> None:
        await state.barrier(range(membership.count))

    return DispatcherParts(
        dispatcher=dispatcher,
        supervision=supervision,
        membership=membership,
        keeper=PartitionKeeper(supervision, clock),
        retention=CommandRetention(queue, clock, settings.retention, up_to_date),
    )


@dataclass(slots=True, kw_only=True)
class StateServiceParts:
    """The projectors of all partitions, and what there is beside them in some profiles.

    What feeds the index of commands, and where to say that an engine is there.
    """

    projection: Projection
    indexer: CommandIndexer | None
    presence: MongoPresence | None


def build_state_service(settings: Settings, sink: CommandSink) -> StateServiceParts:
    """Build the state service, with the net that turns records into commands."""
    clock = SystemClock()
    stores = open_stores(settings)
    log, queue = stores.event_log(), stores.command_queue()
    causes = Causes(
        log=log,
        queue=queue,
        resolver=Resolver(KnownDefinitions(stores.catalog(), clock.ticks_ms), queue, log),
        sink=sink,
        clock=clock,
    )
    store, archive = stores.state_store(), stores.archive()

    def projector(partition: int) -> Projector:
        return Projector(
            log, store, clock, settings, partition=partition, observer=causes, archive=archive
        )

    return StateServiceParts(
        projection=Projection(log, store, clock, projector, alone=stores.alone),
        indexer=stores.command_indexer(),
        presence=stores.presence(),
    )


@dataclass(slots=True, kw_only=True)
class ReporterParts:
    """A webhook reporter, and what keeps its outbox small."""

    reporter: Reporter
    retention: DeliveryRetention


def build_reporter(settings: Settings) -> ReporterParts:
    """Build the webhook reporter."""
    clock = SystemClock()
    stores = open_stores(settings)
    outbox = stores.deliveries()
    sender = HttpWebhookSender(settings, webhook_secret(settings))
    return ReporterParts(
        reporter=Reporter(stores.event_log(), outbox, sender, clock, settings, alone=stores.alone),
        retention=DeliveryRetention(outbox, clock, settings.retention),
    )


@dataclass(slots=True, kw_only=True)
class PoolParts:
    """A task pool and what has to be kept fresh with it."""

    pool: TaskPool
    services: dict[str, Service]
    http: HttpTaskRunner
    catalog: Catalog
    revision: int = -1

    async def refresh(self) -> None:
        """Take up changes of the catalog: its services, and the API documents that they have."""
        revision = await self.catalog.revision()
        if revision != self.revision:
            services = await self.catalog.services()
            self.services.clear()
            self.services.update({service.name: service for service in services})
            self.pool.update_services(services)
            self.http.expire_documents()
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
    return PoolParts(
        pool=pool, services=services, http=http, catalog=open_stores(settings).catalog()
    )


def build_gateway(
    settings: Settings,
    link: DispatcherLink,
    *,
    barrier: Callable[[int], Awaitable[Mapping[int, int]]],
    projecting: Question,
    exposition: Callable[[], Awaitable[bytes]],
) -> tuple[EngineGateway, DispatcherMail]:
    """Build a gateway; start the mail inside the event loop that uses it.

    `barrier` waits for a partition, and returns up to where it is projected;
    `projecting` returns if this engine's projection goes on.
    """
    clock = SystemClock()
    stores = open_stores(settings)
    store = stores.cached_states()

    async def up_to_date(partition: int) -> None:
        offsets = await barrier(partition)
        if isinstance(store, CachedStateStore):
            store.require(offsets)

    watcher = new_incarnation(f"gateway-{os.getpid()}")
    mail = DispatcherMail(link, watcher, clock)
    probes = stores.probes()
    gateway = EngineGateway(
        queue=stores.command_queue(),
        log=stores.event_log(),
        store=store,
        catalog=stores.catalog(),
        deliveries=stores.deliveries(),
        dead_letters=stores.dead_letters(),
        mail=mail,
        admission=Admission(settings.admission),
        clock=clock,
        barrier=up_to_date,
        projecting=projecting,
        exposition=exposition,
        partition_of=stores.partition_of,
        probes=probes.needed,
        advisory=probes.advisory,
    )
    return gateway, mail
