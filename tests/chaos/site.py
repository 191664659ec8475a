"""Everything that a row needs, running: three brokers, three MongoDB, Redis, services, engine.

Each has a machine of its own (`tests.chaos.network`); load and services share one more.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from orchx.sandbox.process import SandboxProcess
from orchx.settings import Settings
from tests import servers
from tests.chaos import replication
from tests.chaos.clocks import Clock, compile_library
from tests.chaos.disks import Disk
from tests.chaos.network import Machine
from tests.chaos.ray_nodes import AS_IF_ALONE, PORT, RayNode, node_environment
from tests.chaos.servers_on_machines import (
    BROKERS,
    MONGODBS,
    STORES,
    Member,
    settings_of,
    start_members,
    stop_members,
)
from tests.e2e import process_tree
from tests.e2e.conftest import EXAMPLES_SANDBOX
from tests.e2e.server_process import ROOT, ServerProcess

ENGINE = Machine(name="engine", address="10.203.0.41", is_called_so=True)
CLIENT = Machine(name="client", address="10.203.0.51")
NODES = tuple(
    Machine(name=f"node-{n}", address=f"10.203.0.{41 + n}", is_called_so=True) for n in (1, 2, 3)
)
MACHINES = (*STORES, ENGINE, *NODES, CLIENT)

DISK_MB = 768
ENGINE_START_TIMEOUT_S = 300.0  # beside three brokers that start on the same cores

Extra = Literal["none", "disks", "clocks", "nodes"]
"""What there is beside the usual: small disks, clocks that can be set, or a Ray cluster of which
the engine's machine is the head, with owners on two nodes and pools on a third."""

TIER = "orchx-tier"
EVERYWHERE = "0.0.0.0"  # noqa: S104  of machines that nobody else sees


@dataclass(slots=True, kw_only=True)
class Site:
    """What runs, by machine."""

    settings: Settings
    brokers: list[Member]
    mongodbs: list[Member]
    redis: Member
    sandbox: SandboxProcess
    engine: ServerProcess
    disks: Mapping[str, Disk] = field(default_factory=dict)
    clocks: Mapping[str, Clock] = field(default_factory=dict)
    nodes: Sequence[RayNode] = ()

    @property
    def description(self) -> str:
        """What kinds of servers they are, with versions."""
        each = (self.brokers[0], self.mongodbs[0], self.redis)
        return ", ".join(member.running.description for member in each)

    def leading_broker(self) -> Member:
        """Return the broker that leads most partitions of the engine's topics."""
        return self.brokers[replication.leading_broker(self.settings.kafka) - 1]

    def primary(self) -> Member:
        """Return the MongoDB that is primary."""
        address = replication.primary_address(self.settings.mongodb)
        return next(each for each in self.mongodbs if each.machine.address == address)

    def is_whole(self) -> bool:
        """Tell whether everything works and every copy of everything is up to date."""
        return self.engine.is_ready() and replication.is_complete(
            self.settings.kafka, self.settings.mongodb
        )

    def engine_lives(self) -> bool:
        """Tell whether the process that the engine was started as lives."""
        return process_tree.is_alive(self.engine.session)


@contextmanager
def site(folder: Path, *, label: str, extra: Extra, definitions: Path) -> Iterator[Site]:
    """Start everything on machines that are there, and end it with the `with` block.

    Args:
        folder: for all data and logs.
        label: begins the names of the topics; that of the database too.
        extra: what the machines have beside the usual.
        definitions: folder of what is published.

    Raises:
        RuntimeError: a server could not be had; which, and why, is in the message.
    """
    settings = settings_of(label)
    with ExitStack() as stack:
        disks = _disks(folder) if extra == "disks" else {}
        for disk in disks.values():
            disk.attach()
            stack.callback(disk.detach)
        clocks = _clocks(folder) if extra == "clocks" else {}
        members = start_members(folder / "servers", clocks)
        stack.callback(stop_members, members)
        sandbox = stack.enter_context(SandboxProcess(folder / "sandbox", host=CLIENT.address))
        environment = node_environment(folder) if extra == "nodes" else {}
        nodes = _nodes(folder, environment) if extra == "nodes" else ()
        for node in nodes:
            stack.callback(node.kill)
            node.start()
        engine = _engine(folder, settings, sandbox, clocks, definitions, environment)
        stack.callback(engine.kill)
        engine.start()
        yield Site(
            settings=settings,
            brokers=members[: len(BROKERS)],
            mongodbs=members[len(BROKERS) : -1],
            redis=members[-1],
            sandbox=sandbox,
            engine=engine,
            disks=disks,
            clocks=clocks,
            nodes=nodes,
        )


def _disks(folder: Path) -> dict[str, Disk]:
    """Return small disks for the first broker, all MongoDB and the engine."""
    held = {m.name: folder / "servers" / m.name for m in (BROKERS[0], *MONGODBS)}
    held[ENGINE.name] = folder / "engine" / "data"
    return {
        name: Disk(where, folder / "images" / name, size_mb=DISK_MB) for name, where in held.items()
    }


def _clocks(folder: Path) -> dict[str, Clock]:
    """Return clocks for the first broker, all MongoDB and the engine."""
    library = compile_library(folder)
    machines = (BROKERS[0], *MONGODBS, ENGINE)
    return {each.name: Clock(folder / f"{each.name}.clock", library) for each in machines}


def _nodes(folder: Path, environment: Mapping[str, str]) -> Sequence[RayNode]:
    """Return the head and the nodes, with what they are for."""
    own = folder / "ray"
    own.mkdir()
    tiers = {ENGINE: "head", NODES[0]: "stable", NODES[1]: "stable", NODES[2]: "spot"}
    return [
        RayNode(
            machine,
            own,
            temporary=folder.parent / str(number),
            environment=environment,
            head=None if machine is ENGINE else ENGINE,
            labels={TIER: tier},
        )
        for number, (machine, tier) in enumerate(tiers.items())
    ]


def _on_nodes(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what `orchx up` is told of the Ray cluster."""
    return {
        **environment,
        "RAY_ADDRESS": f"{ENGINE.address}:{PORT}",
        "ORCHX_CLUSTER__OWNER_LABELS": json.dumps({TIER: "stable"}),
        "ORCHX_CLUSTER__POOL_LABELS": json.dumps({TIER: "spot"}),
        "ORCHX_CLUSTER__INGRESS": "head",
    }


def _engine(
    folder: Path,
    settings: Settings,
    sandbox: SandboxProcess,
    clocks: Mapping[str, Clock],
    definitions: Path,
    environment: Mapping[str, str],
) -> ServerProcess:
    own = folder / "engine"
    own.mkdir(exist_ok=True)
    services = own / "services.yaml"
    text = (ROOT / "examples" / "services.yaml").read_text(encoding="utf-8")
    services.write_text(text.replace(EXAMPLES_SANDBOX, sandbox.url), encoding="utf-8")
    clock = clocks.get(ENGINE.name)
    return ServerProcess(
        own,
        arguments=(
            *("--services", str(services), "--definitions", str(definitions)),
            # Replicas on several machines listen at what the ingress does: it has to exist on all.
            *(("--host", EVERYWHERE) if environment else ()),
        ),
        authentication=True,
        environment={
            **(_on_nodes(environment) if environment else {}),
            **AS_IF_ALONE,
            **servers.environment(settings),
        },
        settings=settings,
        host=ENGINE.address,
        start_timeout_s=ENGINE_START_TIMEOUT_S,
        prefix=ENGINE.command(*(clock.prefix() if clock else ())),
    )


def programs_missing() -> list[str]:
    """Return the programs that the machines need and that are not there."""
    needed = ("ip", "nft", "nsenter", "losetup", "mkfs.ext4", "java", "mvn", "cc")
    return [name for name in needed if shutil.which(name) is None]
