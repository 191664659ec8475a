"""Starting the servers, all at the same time, and ending exactly those that were started."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from tools.services import processes
from tools.services.kafka_server import KafkaServer
from tools.services.mongodb_server import MongodbServer
from tools.services.ports import Ports, free_ports
from tools.services.processes import Process
from tools.services.redis_server import RedisServer
from tools.services.server import Launch, Server, UnobtainableError, last_words

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ROOT / ".services"
READY_TIMEOUT_S = 120.0  # Kafka takes 3 s by itself, and many times that beside other work
POLL_INTERVAL_S = 0.1
_MAX_LOG_BYTES = 4_096  # of a log's end that are looked at


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A server that answers."""

    server: Server
    description: str
    process: Process
    log: Path

    def __str__(self) -> str:
        return f"{self.description} at {self.server.address} (pid {self.process.pid})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """A server that could not be had or did not start, and why."""

    server: Server
    reason: str

    def __str__(self) -> str:
        return f"{self.server.name} is missing: {self.reason}"


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What became of each server."""

    running: list[Running] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)

    def addresses(self) -> dict[str, str]:
        """Return the environment variables that tell the tests where the servers are, and what."""
        found: dict[str, str] = {}
        for each in self.running:
            found[each.server.variable] = each.server.address
            found[f"{each.server.variable}_IS"] = each.description
        return found

    def deaths(self) -> list[str]:
        """Return a line for each server that has ended by itself since."""
        return [
            f"{each.description} ended by itself: {_tail(each.log)}"
            for each in self.running
            if not processes.is_alive(each.process)
        ]

    def stop(self) -> None:
        """End the servers."""
        processes.stop(each.process for each in self.running)


def servers_at(ports: Ports, *, libraries: Path = SERVICES / "kafka-libs") -> list[Server]:
    """Return the three servers; Kafka, which takes longest, first."""
    return [
        KafkaServer(port=ports.kafka, controller_port=ports.kafka_controller, libraries=libraries),
        MongodbServer(port=ports.mongodb),
        RedisServer(port=ports.redis),
    ]


@contextmanager
def running(
    folder: Path,
    ports: Ports | None = None,
    *,
    wanted: Callable[[Server], bool] = lambda server: True,
) -> Iterator[Outcome]:
    """Run servers of one's own for the length of a `with` block.

    They end with it however it ends; should this process be killed, the kernel ends them.

    Args:
        folder: for their data and logs.
        ports: where they listen; free ones if not given.
        wanted: which of them.
    """
    servers = [server for server in servers_at(ports or free_ports()) if wanted(server)]
    outcome = start_all(servers, folder, dies_with_parent=True)
    try:
        yield outcome
    finally:
        outcome.stop()


def start_all(servers: Sequence[Server], folder: Path, *, dies_with_parent: bool) -> Outcome:
    """Start servers at the same time and wait until each answers or has failed.

    Each gets a folder, a log and a pid file, named for it, in the given folder. Those that fail
    are ended; when this is interrupted, all are.
    """
    outcome = Outcome()
    started: dict[Server, Process] = {}
    is_over = Event()
    if not servers:
        return outcome
    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(max_workers=2 * len(servers)) as pool:
        try:
            waits: dict[Future[None], tuple[Server, Launch]] = {}
            launches = {pool.submit(_prepare, server, folder): server for server in servers}
            for future in as_completed(launches):
                server = launches[future]
                try:
                    launch = future.result()
                    # In this thread: a server that dies with its parent dies with the thread.
                    started[server] = _start(server, launch, folder, dies_with_parent)
                except (UnobtainableError, OSError) as error:
                    outcome.missing.append(Missing(server=server, reason=str(error)))
                    continue
                log = log_of(server, folder)
                wait = pool.submit(_wait_until_ready, server, started[server], log, is_over)
                waits[wait] = (server, launch)
            for done in as_completed(waits):
                _conclude(done, *waits[done], started, folder, outcome)
        except BaseException:
            is_over.set()
            processes.stop(started.values())
            raise
    return outcome


def log_of(server: Server, folder: Path) -> Path:
    """Return where a server's output is kept."""
    return folder / f"{server.name}.log"


def pid_file_of(server: Server, folder: Path) -> Path:
    """Return where it is written down which process a server is."""
    return folder / f"{server.name}.pid"


def _prepare(server: Server, folder: Path) -> Launch:
    own = folder / server.name
    own.mkdir(exist_ok=True)
    return server.prepare(own)


def _start(server: Server, launch: Launch, folder: Path, dies_with_parent: bool) -> Process:
    process = processes.start(
        launch.command, log=log_of(server, folder), dies_with_parent=dies_with_parent
    )
    processes.write_pid_file(pid_file_of(server, folder), process)
    return process


def _wait_until_ready(server: Server, process: Process, log: Path, is_over: Event) -> None:
    deadline_s = time.monotonic() + READY_TIMEOUT_S
    while not is_over.wait(POLL_INTERVAL_S):
        # Alive first: an answer of somebody else's at the port is not this server's.
        if not processes.is_alive(process):
            raise UnobtainableError(f"it ended at its start: {_tail(log)}")
        if server.is_ready():
            return
        if time.monotonic() > deadline_s:
            raise UnobtainableError(f"no answer within {READY_TIMEOUT_S:.0f} s: {_tail(log)}")


def _conclude(
    done: Future[None],
    server: Server,
    launch: Launch,
    started: dict[Server, Process],
    folder: Path,
    outcome: Outcome,
) -> None:
    try:
        done.result()
    except UnobtainableError as error:
        processes.stop([started.pop(server)])
        outcome.missing.append(Missing(server=server, reason=str(error)))
        return
    outcome.running.append(
        Running(
            server=server,
            description=launch.description,
            process=started[server],
            log=log_of(server, folder),
        )
    )


def _tail(log: Path) -> str:
    try:
        content = log.read_bytes()[-_MAX_LOG_BYTES:]
    except OSError:
        return f"there is no {log.name}"
    return last_words(content.decode(errors="replace")) or f"{log.name} is empty"
