from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog
import uvicorn

from orchx.adapters.file_key_store import FileKeyStore
from orchx.adapters.kafka_topics import ensure_topics
from orchx.serve.api_keys import ApiKeys, create_api_key
from orchx.serve.application import build_application
from orchx.settings import HttpSettings
from tests import servers
from tests.integration.kafka_installation import PARTITIONS, Installation
from tests.unit.serve.fake_gateway import FakeGateway

START_TIMEOUT_S = 10

# pymongo (4.20) leaves the socket of an attempt to connect that is cancelled to the garbage
# collector: one that has an address of its own, and never got a peer's.
LEFT_BY_PYMONGO = (
    r"ignore:unclosed <socket.socket fd=\d+, family=\d+, type=1, proto=6, laddr=\([^()]*\)>"
    ":ResourceWarning"
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have what pymongo leaves behind fail none of the tests of this folder, and no others."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings(LEFT_BY_PYMONGO))


class _Server(uvicorn.Server):
    """Tells when it takes connections, so that no test has to poll."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_up = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_up.set()


@pytest.fixture(scope="session")
def _key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "keys.json"


@pytest.fixture(scope="session")
def api_key(_key_file: Path) -> str:
    """A key that may do everything."""
    creating = create_api_key(FileKeyStore(_key_file), name="test", scopes=["admin"], now_ms=1)
    return asyncio.run(creating)[1]


@pytest.fixture(scope="session")
def api_url(_key_file: Path, api_key: str) -> Iterator[str]:
    """The API over a fake engine, served by uvicorn on a free port.

    The key is there before: a server hears of a new one within a second, not at once.
    """
    # Thousands of refusals, each logged at debug level, would hide the report.
    quiet = structlog.make_filtering_bound_logger(logging.WARNING)
    structlog.configure(wrapper_class=quiet)
    app = build_application(FakeGateway(), HttpSettings(), ApiKeys(FileKeyStore(_key_file)))
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = _Server(uvicorn.Config(app, log_level="error", access_log=False, lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        assert server.is_up.wait(START_TIMEOUT_S)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(START_TIMEOUT_S)
        listener.close()
        structlog.reset_defaults()


@pytest.fixture
async def here() -> AsyncIterator[Installation]:
    """An event log on Kafka with topics of this test's own."""
    settings = servers.apache_kafka(partitions=PARTITIONS)
    await asyncio.to_thread(ensure_topics, settings)
    installation = Installation(settings)
    yield installation
    await installation.close()
