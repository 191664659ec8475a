"""Three brokers, three MongoDB and Redis, each on a machine of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from orchx.settings import KafkaSettings, MongoSettings, RedisSettings, Settings
from tests.chaos.clocks import Clock
from tests.chaos.network import Machine
from tests.e2e import process_tree
from tools.services import apache_kafka
from tools.services.kafka_server import KafkaServer
from tools.services.mongodb_server import MongodbServer
from tools.services.processes import is_alive
from tools.services.redis_server import RedisServer
from tools.services.running import SERVICES, Running, start_all
from tools.services.server import Launch, Server, UnobtainableError

BROKERS = tuple(Machine(name=f"broker-{n}", address=f"10.203.0.{10 + n}") for n in (1, 2, 3))
MONGODBS = tuple(Machine(name=f"mongo-{n}", address=f"10.203.0.{20 + n}") for n in (1, 2, 3))
REDIS = Machine(name="redis", address="10.203.0.31")
STORES = (*BROKERS, *MONGODBS, REDIS)

PARTITIONS = 6
_KAFKA_PORT, _CONTROLLER_PORT, _MONGODB_PORT, _REDIS_PORT = 9092, 9093, 27017, 6379


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


def revive(members: Sequence[Member]) -> None:
    """Start those that have ended again on their data, together, and wait until they work.

    Together, for a broker or a MongoDB that is alone among its kind waits for the others.

    Raises:
        RuntimeError: one does not start.
    """
    ended = [member for member in members if not is_alive(member.running.process)]
    if ended:
        running = _start([member.placed for member in ended], ended[0].folder)
        for member, found in zip(ended, running, strict=True):
            member.running = found


def settings_of(label: str) -> Settings:
    """Return the settings of an engine on these servers; `label` begins all names of its own."""
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


def obtain(folder: Path) -> None:
    """Have the programs of all servers; the machines in the namespaces reach nothing to get them.

    Args:
        folder: for what their preparation writes.

    Raises:
        RuntimeError: one cannot be had; which, and why, is in the message.
    """
    kafka = KafkaServer(
        port=_KAFKA_PORT, controller_port=_CONTROLLER_PORT, libraries=SERVICES / "kafka-libs"
    )
    for server in (kafka, MongodbServer(port=_MONGODB_PORT), RedisServer(port=_REDIS_PORT)):
        own = folder / server.name
        own.mkdir(parents=True)
        try:
            launch = server.prepare(own)
        except UnobtainableError as error:
            raise RuntimeError(f"{server.name} cannot be had: {error}") from error
        if server is kafka and not launch.description.startswith("Apache"):
            raise RuntimeError(f"three brokers need Apache Kafka; here is {launch.description}")


def start_members(folder: Path, clocks: Mapping[str, Clock]) -> list[Member]:
    """Start all: brokers, then MongoDB, then Redis, as in `STORES`.

    Args:
        folder: for data and logs.
        clocks: of machines whose clock can be set, by name.

    Raises:
        RuntimeError: one could not be had; which, and why, is in the message.
    """
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


def stop_members(members: Sequence[Member]) -> None:
    """End all, at once."""
    for member in members:
        process_tree.kill(member.pid)
