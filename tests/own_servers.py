"""Servers that a test may break: started for it alone, killed, and started again."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import pytest

from tools.services import processes
from tools.services.kafka_server import APACHE, KafkaServer, choose, java_version
from tools.services.mongodb_server import MongodbServer
from tools.services.ports import free_ports
from tools.services.processes import Process
from tools.services.redis_server import RedisServer
from tools.services.running import SERVICES
from tools.services.server import Launch, Server, UnobtainableError, output_of

READY_TIMEOUT_S: Final = 240.0
POLL_S: Final = 0.1
HOW: Final = "start the servers with `make services`, or run `make test`"


class OwnServer:
    """A server in a folder of its own, started while a `with` lasts; it dies with its thread.

    Args:
        server: which one.
        folder: for its data.
        words: further arguments of its program.
        is_ready: tells that it answers; the server's own way, if not given.
    """

    def __init__(
        self,
        server: Server,
        folder: Path,
        words: Sequence[str] = (),
        is_ready: Callable[[], bool] | None = None,
    ) -> None:
        self.address = server.address
        self.port = server.port
        self.other_port = 0
        self._log = folder / f"{server.name}.log"
        self._is_ready = is_ready or server.is_ready
        self._words = tuple(words)
        data = folder / server.name
        data.mkdir(parents=True)
        try:
            self._launch: Launch = server.prepare(data)
        except UnobtainableError as error:
            pytest.skip(f"{server.name} cannot be had: {error}")
        self._process: Process | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, and return once it answers."""
        self.launch()
        deadline_s = time.monotonic() + READY_TIMEOUT_S
        while not self._answers():
            assert time.monotonic() < deadline_s, self._log.read_text()[-2_000:]
            time.sleep(POLL_S)

    async def restart(self) -> None:
        """The same without keeping the event loop."""
        self.launch()
        async with asyncio.timeout(READY_TIMEOUT_S):
            while not await asyncio.to_thread(self._answers):  # noqa: ASYNC110  it has no event
                await asyncio.sleep(POLL_S)

    @property
    def launch_command(self) -> tuple[str, ...]:
        """What it is started with."""
        return self._launch.command

    def launch(self) -> None:
        """Start it, and do not wait."""
        command = (*self._launch.command, *self._words)
        self._process = processes.start(command, log=self._log, dies_with_parent=True)

    def kill(self) -> None:
        """End it at once, as a power cut does."""
        if self._process is not None:
            processes.stop([self._process], timeout_s=0)
            self._process = None

    def _answers(self) -> bool:
        assert self._process is not None
        assert processes.is_alive(self._process), self._log.read_text()[-2_000:]
        return self._is_ready()


def own_kafka(
    folder: Path,
    changes: Mapping[str, str] | None = None,
    is_ready: Callable[[int], bool] | None = None,
) -> OwnServer:
    """Return a broker of Apache's Kafka; skip where that cannot be had.

    Args:
        folder: for its data.
        changes: to server.properties; `{port}` and `{controller_port}` stand for its ports, and
            `{other_port}`, which is the server's `other_port`, for a further one.
        is_ready: tells, given the port, that it answers.
    """
    _skip_without_servers()
    try:
        choice = choose(os.environ, java=java_version(), has_maven=True)
    except UnobtainableError as error:
        pytest.skip(str(error))
    if choice.kafka != APACHE:
        pytest.skip("this needs Apache's own Kafka, and so Java")
    ports = free_ports()
    server = KafkaServer(
        port=ports.kafka, controller_port=ports.kafka_controller, libraries=SERVICES / "kafka-libs"
    )
    asks = None if is_ready is None else lambda: is_ready(ports.kafka)
    own = OwnServer(server, folder, is_ready=asks)
    properties = folder / server.name / "server.properties"
    own.other_port = ports.redis
    names = {
        "port": ports.kafka,
        "controller_port": ports.kafka_controller,
        "other_port": ports.redis,
    }
    lines = [f"{key}={value.format(**names)}\n" for key, value in (changes or {}).items()]
    properties.write_text(properties.read_text() + "".join(lines))  # the last one counts
    return own


@dataclass(frozen=True, slots=True, kw_only=True)
class _SecondBroker:
    """One more broker in the cluster of a first one."""

    first: OwnServer
    port: int
    name: str = "second-broker"
    variable: str = ""

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def prepare(self, folder: Path) -> Launch:
        *program, properties = self.first.launch_command
        changes = {
            "process.roles": "broker",
            "node.id": "2",
            "listeners": f"PLAINTEXT://{self.address}",
            "advertised.listeners": f"PLAINTEXT://{self.address}",
            "log.dirs": str(folder / "data"),
        }
        own = folder / "server.properties"
        lines = [f"{key}={value}\n" for key, value in changes.items()]
        own.write_text(Path(properties).read_text() + "".join(lines))
        meta = (Path(properties).parent / "data" / "meta.properties").read_text()
        [cluster] = re.findall(r"^cluster\.id=(.+)$", meta, re.MULTILINE)
        tool = ("kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(own))
        output_of([*program[:-1], *tool], timeout_s=READY_TIMEOUT_S)
        return Launch(description="a second broker", command=(*program, str(own)))

    def is_ready(self) -> bool:
        server = KafkaServer(port=self.port, controller_port=0, libraries=SERVICES)
        return server.is_ready()


def second_broker(first: OwnServer, folder: Path) -> OwnServer:
    """Return one more broker in the cluster of a broker that runs."""
    return OwnServer(_SecondBroker(first=first, port=free_ports().kafka), folder)


def own_mongodb(
    folder: Path, *words: str, is_ready: Callable[[int], bool] | None = None
) -> OwnServer:
    """Return a mongod, the only member of a replica set."""
    _skip_without_servers()
    server = MongodbServer(port=free_ports().mongodb)
    asks = None if is_ready is None else lambda: is_ready(server.port)
    return OwnServer(server, folder, words, asks)


def own_redis(
    folder: Path, *words: str, is_ready: Callable[[int], bool] | None = None
) -> OwnServer:
    """Return a Redis."""
    _skip_without_servers()
    server = RedisServer(port=free_ports().redis)
    asks = None if is_ready is None else lambda: is_ready(server.port)
    return OwnServer(server, folder, words, asks)


def _skip_without_servers() -> None:
    """Where nobody has started the others, these are not started either: they take a while."""
    if not os.environ.get("ORCHX_TEST_KAFKA"):
        pytest.skip(f"ORCHX_TEST_KAFKA is not set: {HOW}")
