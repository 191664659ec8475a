"""A whole orchx in one event loop: real engine classes in processes that can be killed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

from orchx.domain import messages as m
from orchx.domain.document import Definition
from orchx.domain.document_parser import canonical_json, parse_definition
from orchx.engine.activation import Activator
from orchx.engine.admission import Admission
from orchx.engine.causes import Causes
from orchx.engine.dispatcher import Dispatcher
from orchx.engine.endings import DispatcherMail
from orchx.engine.environment import Directory, SchemaChecker, World
from orchx.engine.freshness import Barrier
from orchx.engine.gateway import EngineGateway
from orchx.engine.outbox import Outbox
from orchx.engine.owner import Owner
from orchx.engine.partition_keeper import PartitionKeeper
from orchx.engine.placement import Station, Stations
from orchx.engine.plans import Plan, Plans
from orchx.engine.projection import Projection
from orchx.engine.projector import Projector
from orchx.engine.roster import Roster
from orchx.engine.routing import Resolver
from orchx.engine.sole_membership import SoleMembership
from orchx.engine.supervision import Supervision
from orchx.engine.task_pool import TaskPool
from orchx.errors import DriverError, StorageFull
from orchx.ports.catalog import StoredDefinition
from orchx.ports.command_queue import CommandQueue
from orchx.ports.membership import Membership
from orchx.settings import Settings
from orchx.testing.checked_event_log import CheckedEventLog
from orchx.testing.invariants import InvariantChecker
from orchx.testing.memory_catalog import MemoryCatalog
from orchx.testing.memory_command_queue import MemoryCommandQueue
from orchx.testing.memory_deliveries import MemoryDeliveries
from orchx.testing.memory_state_store import MemoryStateStore
from orchx.testing.random_workflows import FUNCTIONS, NAMESPACE, VERSION, services
from orchx.testing.simulated_evaluator import SimulatedEvaluator
from orchx.testing.simulated_group import Group, SharedQueue, SimulatedMembership
from orchx.testing.simulated_loop import START_MS, SimulatedLoop, SimulatedTicks
from orchx.testing.simulated_network import (
    DispatcherAddress,
    Network,
    OwnerAddress,
    OwnerMailboxes,
    PoolAddress,
    StateAddress,
)
from orchx.testing.simulated_policy import SimulatedPolicy
from orchx.testing.simulated_process import CURRENT, Process
from orchx.testing.simulated_services import Services
from orchx.testing.simulated_shape import (
    DISPATCHER,
    GATEWAY,
    GROUP,
    LONE,
    POOLS,
    STATE,
    Disk,
    Shape,
    split,
)

T = TypeVar("T")

MAX_RESTART_DELAY_S: Final = 5.0
MAX_GHOST_S: Final = 8.0
MAX_PLANS: Final = 2_000

_plans: dict[str, Definition] = {}


class SharedPlans(Plans):
    """Plans parsed once for all simulated processes; some need the sandbox, for the test's sake."""

    def __init__(self, log: Any, catalog: Any, sandboxed: frozenset[str]) -> None:
        super().__init__(log, catalog)
        self._sandboxed = sandboxed

    def _keep(self, digest: str, source: bytes) -> Plan:
        definition = replace(_plans[digest], needs_sandbox=digest in self._sandboxed)
        plan = Plan(definition=definition, source=source)
        self._plans[digest] = plan
        return plan


@dataclass(slots=True)
class DispatcherService:
    """What answers for the Dispatcher's process."""

    dispatcher: Dispatcher
    supervision: Supervision


@dataclass(slots=True)
class StateService:
    """What answers for the projector's process."""

    projection: Projection


@dataclass(slots=True)
class Accidents:
    """How likely a new process gets a fuse, and how long it is; how many may still die."""

    fuse: float = 0.0
    fuse_length: int = 300
    left: int = 0
    log: list[str] = field(default_factory=list)


class Cluster:
    """Processes, stores and the network between them.

    Args:
        loop: the simulation's loop.
        chance: all randomness of faults and engine.
        shape: what to build.
        checker: sees records and calls.
        services: what pools call.
        note: takes a line for the trace.
    """

    def __init__(
        self,
        *,
        loop: SimulatedLoop,
        chance: random.Random,
        shape: Shape,
        checker: InvariantChecker,
        services: Services,
        note: Callable[[str], None],
    ) -> None:
        self.shape = shape
        self.disk = Disk()
        self.accidents = Accidents()
        self.network = Network(loop, chance, self.crash)
        self.log = CheckedEventLog(self._on_io, checker.appended, shape.partitions)
        self.queue = MemoryCommandQueue(self._on_io)
        self.group = Group(shape.partitions, loop.time)
        self.store = MemoryStateStore(self._on_io)
        self.catalog = MemoryCatalog(self._on_io)
        self._loop = loop
        self._chance = chance
        self._turns_chance = random.Random(chance.random())  # asked at every step of every turn
        self._checker = checker
        self._services = services
        self._note = note
        self._lives: dict[str, int] = {}
        self._sandboxed: frozenset[str] = frozenset()
        self._ghosts: list[Process] = []
        self._by_name: dict[str, Definition] = {}
        self._directory = Directory(FUNCTIONS, _SERVICES)
        self._settings = Settings.model_construct(sweep=shape.sweep)

    # -- life and death --------------------------------------------------------------------

    async def publish(self, documents: Sequence[Mapping[str, Any]], sandboxed: float) -> None:
        """Put documents into the catalog; a share of them is evaluated away from the loop."""
        digests = []
        if len(_plans) > MAX_PLANS:
            _plans.clear()
        for document in documents:
            definition = parse_definition(document)
            _plans[definition.digest] = definition
            self._by_name[definition.name] = definition
            if self._chance.random() < sandboxed:
                digests.append(definition.digest)
            stored = StoredDefinition(
                namespace=NAMESPACE,
                name=definition.name,
                version=VERSION,
                digest=definition.digest,
                source=canonical_json(document),
                text="",
                created_at_ms=START_MS,
            )
            await self.catalog.publish(stored)
        self._sandboxed = frozenset(digests)

    def plan_of(self, digest: str) -> Definition | None:
        """Return the definition behind a digest."""
        return _plans.get(digest)

    def plan_of_name(self, name: str) -> Definition:
        """Return the definition published under a name."""
        return self._by_name[name]

    def unstarted(self) -> bool:
        """Whether the queue holds the start of a workflow that the log does not know."""
        return any(
            isinstance(command, m.StartWorkflow) and command.workflow_id not in self._checker.tracks
            for command in self.queue.commands()
        )

    def start_all(self) -> None:
        """Start every process that is not alive."""
        for name in self.shape.names:
            process = self.network.processes.get(name)
            if process is None or not process.alive:
                self.start(name)

    def start(self, name: str) -> None:
        """Start a process, in a new life."""
        known = self.network.processes.get(name)
        if known is None or not known.alive:
            self._launch(name)

    def double(self, process: Process) -> None:
        """Start a second copy of a living process, as happens when a node seems to be dead.

        The first one is not reached by its name any more, and goes on until it dies.
        """
        self._note(f"double {process.incarnation}")
        self._ghosts.append(process)
        self._loop.call_later(MAX_GHOST_S * self._chance.random(), process.die)
        self._launch(process.name)

    def bury(self) -> None:
        """End all processes that live on beside their successors."""
        for ghost in self._ghosts:
            ghost.die()
        self._ghosts.clear()

    def _launch(self, name: str) -> None:
        life = self._lives[name] = self._lives.get(name, 0) + 1
        fuse = None
        if self.accidents.left > 0 and self._chance.random() < self.accidents.fuse:
            fuse = self._chance.randrange(1, self.accidents.fuse_length)
        skew_ms = self._chance.randrange(-150, 151)
        process = Process(name, life, self._loop, skew_ms=skew_ms, fuse=fuse)
        self.network.processes[name] = process
        self._note(f"start {process.incarnation} skew={skew_ms} fuse={fuse}")
        process.context.copy().run(self._build, process)

    def crash(self, process: Process) -> None:
        """Kill a process now; it starts again after a while."""
        if not process.alive:
            return
        if process in self._ghosts:
            process.die()
            return
        self.accidents.left -= 1
        self._note(f"crash {process.incarnation}")
        process.die()
        delay_s = self._chance.choice((0.01, 0.3, 1.0, MAX_RESTART_DELAY_S))
        self._loop.call_later(delay_s * self._chance.random(), self.start, process.name)

    def alive(self) -> list[Process]:
        """Return the processes that are alive, in a fixed order."""
        processes = self.network.processes
        return [p for name in self.shape.names if (p := processes[name]).alive]

    def owners(self) -> list[Owner]:
        """Return the owners that are alive."""
        names = self.shape.owner_names
        return [p.service for p in self.alive() if p.name in names and p.service is not None]

    # -- what processes are made of --------------------------------------------------------

    def _build(self, process: Process) -> None:
        engine, kind = split(process.name)
        if kind == DISPATCHER:
            self._build_dispatcher(process, engine)
        elif kind == STATE:
            self._build_state(process, engine)
        elif kind == GATEWAY:
            self._build_gateway(process, engine)
        elif kind in POOLS.values():
            self._build_pool(process)
        else:
            self._build_owner(process, engine)

    def _build_owner(self, process: Process, engine: str) -> None:
        name, clock = process.name, process.clock
        world = World(
            owner=name,
            evaluator=SimulatedEvaluator(self._is_short),
            policy=SimulatedPolicy(),
            directory=self._directory,
            schemas=_SCHEMAS,
            now=clock.now_ms,
            draw=self._chance.random,
            ticks_s=SimulatedTicks(self._turns_chance, self.shape.slow).now_s,
        )
        plans = SharedPlans(self.log, self.catalog, self._sandboxed)
        supervisor = DispatcherAddress(
            self.network, process, engine + DISPATCHER, self._checker.reported
        )
        owner = Owner(
            name=name,
            incarnation=process.incarnation,
            log=self.log,
            activator=Activator(process.incarnation, self.log, plans, world, self._offload),
            world=world,
            pools={
                pool: PoolAddress(self.network, process, engine + target, self._checker.sent)
                for pool, target in POOLS.items()
            },
            outbox=Outbox(name, process.incarnation, supervisor),
            clock=clock,
            offload=self._offload,
            settings=self.shape.owners,
            sweep=self.shape.sweep,
        )
        process.service = owner
        process.start(owner.run())

    def _build_dispatcher(self, process: Process, engine: str) -> None:
        shape, clock = self.shape, process.clock
        membership, queue = self._membership(process, engine)
        stations = Stations(
            Station(
                link=OwnerAddress(self.network, process, name),
                capacity=1 if f"{LONE}-" in name else shape.owners.shared_capacity,
                dedicated=f"{LONE}-" in name,
                last_contact_ms=clock.ticks_ms(),
            )
            for name in shape.owners_of(engine)
        )
        roster = Roster(
            stations,
            queue,
            clock,
            running_limit=shape.running_limit,
            memory_bytes=shape.memory_bytes,
        )
        dispatcher = Dispatcher(
            queue=queue,
            roster=roster,
            resolver=Resolver(self.catalog, queue, self.log),
            clock=clock,
            membership=membership,
        )
        supervision = Supervision(
            dispatcher,
            queue=queue,
            store=self.store,
            state=StateAddress(self.network, process, engine + STATE),
            clock=clock,
            owners=shape.owners,
            sweep=shape.sweep,
        )
        keeper = PartitionKeeper(supervision, clock)
        process.service = DispatcherService(dispatcher, supervision)
        process.start(membership.run(keeper))
        process.start(_dispatch(membership, keeper, supervision))

    def _membership(self, process: Process, engine: str) -> tuple[Membership, CommandQueue]:
        if self.shape.partitions == 1:
            return SoleMembership(), self.queue
        membership = SimulatedMembership(
            self.group,
            engine,
            process,
            lambda: self.network.reaches(process.name, GROUP),
            self._chance,
        )
        return membership, SharedQueue(self.queue, membership.partition_of)

    def _build_state(self, process: Process, engine: str) -> None:
        mail = self._mail(process, engine)
        causes = Causes(
            log=self.log,
            queue=self.queue,
            resolver=Resolver(self.catalog, self.queue, self.log),
            sink=mail,
            clock=process.clock,
        )

        def projector(partition: int) -> Projector:
            return Projector(
                self.log,
                self.store,
                process.clock,
                self._settings,
                partition=partition,
                observer=causes,
                batch_limit=self.shape.batch_limit,
                live_limit=self.shape.live_limit,
            )

        alone = self.shape.partitions == 1
        projection = Projection(self.log, self.store, process.clock, projector, alone=alone)
        process.service = StateService(projection)
        process.start(projection.run())

    def _build_gateway(self, process: Process, engine: str) -> None:
        mail = self._mail(process, engine)
        process.service = EngineGateway(
            queue=self.queue,
            log=self.log,
            store=self.store,
            catalog=self.catalog,
            deliveries=MemoryDeliveries(self._on_io),
            mail=mail,
            admission=Admission(self.shape.admission),
            clock=process.clock,
            barrier=self._barrier(process, engine),
            projecting=StateAddress(self.network, process, engine + STATE).check,
            exposition=_no_metrics,
        )
        mail.start()

    def _build_pool(self, process: Process) -> None:
        process.service = TaskPool(
            self._services,
            OwnerMailboxes(self.network, process),
            process.clock,
            self.shape.pool,
            _SERVICES,
            lambda request: FUNCTION_TIMEOUTS_MS.get(request.call.function),
        )

    def _mail(self, process: Process, engine: str) -> DispatcherMail:
        address = DispatcherAddress(self.network, process, engine + DISPATCHER)
        return DispatcherMail(address, process.incarnation, process.clock)

    def _barrier(self, process: Process, engine: str) -> Barrier:
        state = StateAddress(self.network, process, engine + STATE)

        async def barrier(partition: int) -> None:
            await state.barrier([partition])

        return barrier

    # -- awaits ----------------------------------------------------------------------------

    def _is_short(self) -> bool:
        return self._turns_chance.random() < self.disk.short

    async def _offload(self, function: Callable[[], T]) -> T:
        await self._on_io("offload:before")
        result = function()
        await self._on_io("offload:after")
        return result

    async def _on_io(self, point: str) -> None:
        """Crash, fail or dawdle at an await around a store's change."""
        process = CURRENT.get()
        if process is None:
            return
        if not process.alive:
            raise asyncio.CancelledError
        if process.burn():
            self._note(f"at {point}")
            self.crash(process)
            raise asyncio.CancelledError
        disk, fate = self.disk, self._chance.random()
        if fate < disk.fail and not point.startswith("offload"):
            self._note(f"{process.incarnation}: {point} fails")
            if point.endswith(":before") and self._chance.random() < 0.3:
                raise StorageFull(point)
            raise DriverError(point)
        await asyncio.sleep(disk.slow_s * self._chance.random() if fate > 1 - disk.slow else 0)
        if not process.alive:
            raise asyncio.CancelledError


_SERVICES: Final = services()
_SCHEMAS: Final = SchemaChecker()
FUNCTION_TIMEOUTS_MS: Final[Mapping[str, int | None]] = {
    name: target.timeout_ms for name, target in FUNCTIONS.items()
}


async def _dispatch(
    membership: Membership, keeper: PartitionKeeper, supervision: Supervision
) -> None:
    """Recover what is given at first, then watch over the books."""
    await membership.joined()
    await keeper.settled()
    await supervision.run()


async def _no_metrics() -> bytes:
    return b""
