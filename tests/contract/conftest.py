"""Which adapters stand behind each port in the contract tests.

To add one, write a maker and name it in the port's table below; a maker gets an empty
folder and returns the adapter and a way to open the same store once more, as another
process or a later start would. An adapter that needs a server skips, with its reason,
where there is none.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import pytest

from orchx.adapters.sqlite_catalog import SqliteCatalog
from orchx.adapters.sqlite_command_queue import SqliteCommandQueue
from orchx.adapters.sqlite_deliveries import SqliteDeliveries
from orchx.adapters.sqlite_event_log import SqliteEventLog
from orchx.adapters.sqlite_state_store import SqliteStateStore
from orchx.ports.catalog import Catalog
from orchx.ports.command_queue import CommandQueue
from orchx.ports.deliveries import Deliveries
from orchx.ports.event_log import EventLog
from orchx.ports.state_store import StateStore
from orchx.testing.memory_catalog import MemoryCatalog
from orchx.testing.memory_command_queue import MemoryCommandQueue
from orchx.testing.memory_deliveries import MemoryDeliveries
from orchx.testing.memory_event_log import MemoryEventLog
from orchx.testing.memory_state_store import MemoryStateStore


class Closable(Protocol):
    async def close(self) -> None: ...


P = TypeVar("P", bound=Closable)
Open: TypeAlias = Callable[[], P]
Maker: TypeAlias = Callable[[Path], Open[Any]]


def in_memory(make: Callable[[], P]) -> Maker:
    def maker(_: Path) -> Open[P]:
        shared = make()
        return lambda: shared

    return maker


def in_a_file(make: Callable[[Path], P]) -> Maker:
    return lambda folder: lambda: make(folder / "store.db")


EVENT_LOGS = {"memory": in_memory(MemoryEventLog), "sqlite": in_a_file(SqliteEventLog)}
COMMAND_QUEUES = {"memory": in_memory(MemoryCommandQueue), "sqlite": in_a_file(SqliteCommandQueue)}
STATE_STORES = {"memory": in_memory(MemoryStateStore), "sqlite": in_a_file(SqliteStateStore)}
CATALOGS = {"memory": in_memory(MemoryCatalog), "sqlite": in_a_file(SqliteCatalog)}
DELIVERIES = {"memory": in_memory(MemoryDeliveries), "sqlite": in_a_file(SqliteDeliveries)}


class Factory(Generic[P]):
    """Opens one store as often as a test likes, and closes everything in the end."""

    def __init__(self, open_: Open[P]) -> None:
        self._open = open_
        self._opened: list[P] = []

    def __call__(self) -> P:
        self._opened.append(self._open())
        return self._opened[-1]

    async def close(self) -> None:
        for adapter in self._opened:
            await adapter.close()


def fixture_for(makers: dict[str, Maker]) -> Any:
    @pytest.fixture(params=list(makers))
    async def factory(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Any]:
        made: Factory[Any] = Factory(makers[request.param](tmp_path))
        yield made
        await made.close()

    return factory


event_logs = fixture_for(EVENT_LOGS)
command_queues = fixture_for(COMMAND_QUEUES)
state_stores = fixture_for(STATE_STORES)
catalogs = fixture_for(CATALOGS)
outboxes = fixture_for(DELIVERIES)


@pytest.fixture
def log(event_logs: Factory[EventLog]) -> EventLog:
    return event_logs()


@pytest.fixture
def queue(command_queues: Factory[CommandQueue]) -> CommandQueue:
    return command_queues()


@pytest.fixture
def store(state_stores: Factory[StateStore]) -> StateStore:
    return state_stores()


@pytest.fixture
def catalog(catalogs: Factory[Catalog]) -> Catalog:
    return catalogs()


@pytest.fixture
def outbox(outboxes: Factory[Deliveries]) -> Deliveries:
    return outboxes()
