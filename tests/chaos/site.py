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

import pymongo
from kafka import KafkaAdminClient
from pydantic import SecretStr

from orchx.sandbox.process import SandboxProcess
from orchx.settings import KafkaSettings, MongoSettings, RedisSettings, Settings
from tests.chaos.clocks import Clock, compile_library
from tests.chaos.disks import Disk
from tests.chaos.network import Machine
from tests.e2e import process_tree
from tests.e2e.conftest import EXAMPLES_SANDBOX
from tests.e2e.server_process import ROOT, ServerProcess
from tools.services import apache_kafka
from tools.services.kafka_server import KafkaServer
from tools.services.mongodb_server import MongodbServer
from tools.services.processes import is_alive
from tools.services.redis_server import RedisServer
from tools.services.running import SERVICES, Running, start_all
from tools.services.server import Launch, Server

BROKERS = tuple(Machine(name=f"broker-{n}", address=f"10.203.0.{10 + n}") for n in (1, 2, 3))
MONGODBS = tuple(Machine(name=f"mongo-{n}", address=f"10.203.0.{20 + n}") for n in (1, 2, 3))
REDIS = Machine(name="redis", address="10.203.0.31")
ENGINE = Machine(name="engine", address="10.203.0.41")
CLIENT = Machine(name="client", address="10.203.0.51")
STORES = (*BROKERS, *MONGODBS, REDIS)
MACHINES = (*STORES, ENGINE, CLIENT)

PARTITIONS = 6
DISK_MB = 768
ENGINE_START_TIMEOUT_S = 300.0  # beside three brokers that start on the same cores
_KAFKA_PORT, _CONTROLLER_PORT, _MONGODB_PORT, _REDIS_PORT = 9092, 9093, 27017, 6379
_ASK_TIMEOUT_MS = 5_000

Extra = Literal["none", "disks", "clocks"]
"""What the machines have beside the usual: small disks, or clocks that can be set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Placed:
    """A `Server` whose program runs on a machine."""

    server: Server
    machine: Machine
    prefix: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.machine.name

    @property
    def port(self) -> int:
        return self.server.port

    @property
    def variable(self) -> str:
        return self.server.variable

    @property
    def address(self) -> str:
        return self.server.address

    def prepare(self, folder: Path) -> Launch:
        launch = self.server.prepare(folder)
        return Launch(
            description=launch.description,
            command=self.machine.command(*self.prefix, *launch.command),
        )

    def is_ready(self) -> bool:
        return self.server.is_ready()


@dataclass(slots=True, kw_only=True)
class Member:
    """One server on its machine: the process that it is now, and how to have another."""

    placed: _Placed
    running: Running
    folder: Path

    @property
    def machine(self) -> Machine:
        """Where it runs."""
        return self.placed.machine

    @property
    def pid(self) -> int:
        """Its process."""
        return self.running.process.pid

    def revive(self) -> None:
        """Start it again on its data, unless it lives, and wait until it works."""
        if is_alive(self.running.process):
            return
        self.running = _start([self.placed], self.folder)[0]


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

    @property
    def description(self) -> str:
        """What kinds of servers they are, with versions."""
        each = (self.brokers[0], self.mongodbs[0], self.redis)
        return ", ".join(member.running.description for member in each)

    def leading_broker(self) -> Member:
        """Return the broker that leads most partitions of the engine's topics."""
        servers = ",".join(self.settings.kafka.bootstrap_servers)
        client = KafkaAdminClient(bootstrap_servers=servers, request_timeout_ms=_ASK_TIMEOUT_MS)
        try:
            topics = client.describe_topics()
        finally:
            client.close()
        prefix = self.settings.kafka.topic_prefix
        leaders = [
            int(partition.get("leader_id", partition.get("leader")))
            for topic in topics
            if str(topic.get("name", topic.get("topic"))).startswith(prefix)
            for partition in topic["partitions"]
        ]
        return self.brokers[max(set(leaders), key=leaders.count) - 1]

    def primary(self) -> Member:
        """Return the MongoDB that is primary."""
        with pymongo.MongoClient[Mapping[str, object]](
            self.settings.mongodb.uri.get_secret_value(),
            serverSelectionTimeoutMS=3 * _ASK_TIMEOUT_MS,
        ) as client:
            client.admin.command("ping")
            at = client.primary
        assert at is not None
        return next(each for each in self.mongodbs if each.machine.address == at[0])

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
    settings = _settings(label)
    with ExitStack() as stack:
        disks = _disks(folder) if extra == "disks" else {}
        for disk in disks.values():
            disk.attach()
            stack.callback(disk.detach)
        clocks = _clocks(folder) if extra == "clocks" else {}
        members = _members(folder / "servers", clocks)
        stack.callback(_stop, members)
        sandbox = stack.enter_context(SandboxProcess(folder / "sandbox", host=CLIENT.address))
        engine = _engine(folder, settings, sandbox, clocks, definitions)
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
        )


def _settings(label: str) -> Settings:
    addresses = ",".join(f"{machine.address}:{_MONGODB_PORT}" for machine in MONGODBS)
    return Settings(
        profile="kafka",
        kafka=KafkaSettings(
            bootstrap_servers=tuple(f"{machine.address}:{_KAFKA_PORT}" for machine in BROKERS),
            topic_prefix=label,
            partitions=PARTITIONS,
            replication_factor=len(BROKERS),
            min_insync_replicas=2,
        ),
        mongodb=MongoSettings(
            uri=SecretStr(f"mongodb://{addresses}/?replicaSet=orchx"), database=label
        ),
        redis=RedisSettings(url=SecretStr(f"redis://{REDIS.address}:{_REDIS_PORT}/0")),
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


def _members(folder: Path, clocks: Mapping[str, Clock]) -> list[Member]:
    cluster = apache_kafka.cluster_id()
    voters = tuple(
        f"{number}@{machine.address}:{_CONTROLLER_PORT}"
        for number, machine in enumerate(BROKERS, start=1)
    )
    addresses = tuple(f"{machine.address}:{_MONGODB_PORT}" for machine in MONGODBS)
    servers: list[tuple[Machine, Server]] = [
        (
            machine,
            KafkaServer(
                host=machine.address,
                port=_KAFKA_PORT,
                controller_port=_CONTROLLER_PORT,
                libraries=SERVICES / "kafka-libs",
                node_id=number,
                voters=voters,
                cluster=cluster,
            ),
        )
        for number, machine in enumerate(BROKERS, start=1)
    ]
    servers += [
        (machine, MongodbServer(host=machine.address, port=_MONGODB_PORT, members=addresses))
        for machine in MONGODBS
    ]
    servers.append((REDIS, RedisServer(host=REDIS.address, port=_REDIS_PORT)))
    placed = [
        _Placed(
            server=server,
            machine=machine,
            prefix=clocks[machine.name].prefix() if machine.name in clocks else (),
        )
        for machine, server in servers
    ]
    running = _start(placed, folder)
    return [
        Member(placed=each, running=found, folder=folder)
        for each, found in zip(placed, running, strict=True)
    ]


def _start(placed: Sequence[_Placed], folder: Path) -> list[Running]:
    """Start servers; returns them in the given order."""
    outcome = start_all(placed, folder, dies_with_parent=True)
    if outcome.missing:
        outcome.stop()
        raise RuntimeError("; ".join(map(str, outcome.missing)))
    by_name = {each.server.name: each for each in outcome.running}
    return [by_name[each.name] for each in placed]


def _stop(members: Sequence[Member]) -> None:
    for member in members:
        process_tree.kill(member.pid)


def _engine(
    folder: Path,
    settings: Settings,
    sandbox: SandboxProcess,
    clocks: Mapping[str, Clock],
    definitions: Path,
) -> ServerProcess:
    own = folder / "engine"
    own.mkdir(exist_ok=True)
    services = own / "services.yaml"
    text = (ROOT / "examples" / "services.yaml").read_text(encoding="utf-8")
    services.write_text(text.replace(EXAMPLES_SANDBOX, sandbox.url), encoding="utf-8")
    kafka = settings.kafka
    clock = clocks.get(ENGINE.name)
    return ServerProcess(
        own,
        arguments=("--services", str(services), "--definitions", str(definitions)),
        authentication=True,
        environment={
            "ORCHX_PROFILE": "kafka",
            "ORCHX_KAFKA__BOOTSTRAP_SERVERS": json.dumps(kafka.bootstrap_servers),
            "ORCHX_KAFKA__TOPIC_PREFIX": kafka.topic_prefix,
            "ORCHX_KAFKA__PARTITIONS": str(kafka.partitions),
            "ORCHX_KAFKA__REPLICATION_FACTOR": str(kafka.replication_factor),
            "ORCHX_KAFKA__MIN_INSYNC_REPLICAS": str(kafka.min_insync_replicas),
            "ORCHX_MONGODB__URI": settings.mongodb.uri.get_secret_value(),
            "ORCHX_MONGODB__DATABASE": settings.mongodb.database,
            "ORCHX_REDIS__URL": settings.redis.url.get_secret_value(),
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
