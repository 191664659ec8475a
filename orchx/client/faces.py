"""`Client` and `AsyncClient`: the same operations, blocking and for asyncio.

Each operation is written once, as a plan (`*_operations`); what stands here is only its
name on either face. A method's arguments, result and errors are those of its operation.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

import httpx

from orchx.client import catalog_operations as catalog
from orchx.client import dead_letter_operations as dead_letters
from orchx.client import event_stream
from orchx.client import workflow_operations as workflows
from orchx.client.asynchronous import AsynchronousDriver, asynchronous, asynchronous_iterator
from orchx.client.blocking import BlockingDriver, blocking, blocking_iterator
from orchx.client.connection import Connection, Timeouts
from orchx.client.models import Delivery, Event, Workflow
from orchx.client.retries import RetryPolicy


class Definitions:
    """`client.definitions`: the workflow documents that requests can run."""

    def __init__(self, driver: BlockingDriver) -> None:
        self._driver = driver

    publish = blocking(catalog.publish_definition)
    list = blocking(catalog.list_definitions)
    show = blocking(catalog.show_definition)
    source = blocking(catalog.definition_source)
    retire = blocking(catalog.retire_definition)


class Services:
    """`client.services`: the APIs that provide capabilities."""

    def __init__(self, driver: BlockingDriver) -> None:
        self._driver = driver

    list = blocking(catalog.list_services)
    put = blocking(catalog.put_services)


class Deliveries:
    """`client.deliveries`: the webhooks, delivered and not."""

    def __init__(self, driver: BlockingDriver) -> None:
        self._driver = driver

    list = blocking_iterator(catalog.list_deliveries, Delivery)
    replay = blocking(catalog.replay_deliveries)


class DeadLetters:
    """`client.dead_letters`: records that could not be read."""

    def __init__(self, driver: BlockingDriver) -> None:
        self._driver = driver

    list = blocking(dead_letters.list_dead_letters)
    show = blocking(dead_letters.show_dead_letter)
    replay = blocking(dead_letters.replay_dead_letters)
    drop = blocking(dead_letters.drop_dead_letters)


class Client:
    """A blocking client of one orchx server; close it, or use it in a `with` block.

    Connections that fail and answers that say "later" (429, 503) are tried again, patiently
    and not for ever; that is safe, as every submission carries an idempotency key.

    Example:
        with Client() as client:
            done = client.submit({"type": "hr.onboarding", "input": {}}, wait_s=30)

    Args:
        url: of the server; default `ORCHX_URL`, else `http://127.0.0.1:8600`.
        api_key: default `ORCHX_API_KEY`, else none.
        timeouts, retries: how patient to be.
        transport: httpx's, for tests and unusual ways to the server.

    Raises:
        InvalidRequest: the URL or the key is malformed.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeouts: Timeouts | None = None,
        retries: RetryPolicy | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        connection = Connection.of(url, api_key, timeouts, retries)
        self._driver = BlockingDriver(connection, transport)
        self.url = connection.url
        self.definitions = Definitions(self._driver)
        self.services = Services(self._driver)
        self.deliveries = Deliveries(self._driver)
        self.dead_letters = DeadLetters(self._driver)

    submit = blocking(workflows.submit)
    submit_batch = blocking(workflows.submit_batch)
    wait = blocking(workflows.wait)
    show = blocking(workflows.show)
    list = blocking_iterator(workflows.list_workflows, Workflow)
    history = blocking_iterator(workflows.history, Event)
    follow = blocking_iterator(event_stream.follow, Event)
    signal = blocking(workflows.signal)
    broadcast = blocking(workflows.broadcast)
    cancel = blocking(workflows.cancel)
    ready = blocking(catalog.ready)

    def close(self) -> None:
        """Close the connections."""
        self._driver.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class AsyncDefinitions:
    """`client.definitions`: the workflow documents that requests can run."""

    def __init__(self, driver: AsynchronousDriver) -> None:
        self._driver = driver

    publish = asynchronous(catalog.publish_definition)
    list = asynchronous(catalog.list_definitions)
    show = asynchronous(catalog.show_definition)
    source = asynchronous(catalog.definition_source)
    retire = asynchronous(catalog.retire_definition)


class AsyncServices:
    """`client.services`: the APIs that provide capabilities."""

    def __init__(self, driver: AsynchronousDriver) -> None:
        self._driver = driver

    list = asynchronous(catalog.list_services)
    put = asynchronous(catalog.put_services)


class AsyncDeliveries:
    """`client.deliveries`: the webhooks, delivered and not."""

    def __init__(self, driver: AsynchronousDriver) -> None:
        self._driver = driver

    list = asynchronous_iterator(catalog.list_deliveries, Delivery)
    replay = asynchronous(catalog.replay_deliveries)


class AsyncDeadLetters:
    """`client.dead_letters`: records that could not be read."""

    def __init__(self, driver: AsynchronousDriver) -> None:
        self._driver = driver

    list = asynchronous(dead_letters.list_dead_letters)
    show = asynchronous(dead_letters.show_dead_letter)
    replay = asynchronous(dead_letters.replay_dead_letters)
    drop = asynchronous(dead_letters.drop_dead_letters)


class AsyncClient:
    """`Client` for asyncio: its methods are awaited, its iterators taken with `async for`.

    Leave an iterator early within `contextlib.aclosing`, to end its connection at once.

    Args:
        url, api_key, timeouts, retries, transport: as for `Client`.

    Raises:
        InvalidRequest: the URL or the key is malformed.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeouts: Timeouts | None = None,
        retries: RetryPolicy | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        connection = Connection.of(url, api_key, timeouts, retries)
        self._driver = AsynchronousDriver(connection, transport)
        self.url = connection.url
        self.definitions = AsyncDefinitions(self._driver)
        self.services = AsyncServices(self._driver)
        self.deliveries = AsyncDeliveries(self._driver)
        self.dead_letters = AsyncDeadLetters(self._driver)

    submit = asynchronous(workflows.submit)
    submit_batch = asynchronous(workflows.submit_batch)
    wait = asynchronous(workflows.wait)
    show = asynchronous(workflows.show)
    list = asynchronous_iterator(workflows.list_workflows, Workflow)
    history = asynchronous_iterator(workflows.history, Event)
    follow = asynchronous_iterator(event_stream.follow, Event)
    signal = asynchronous(workflows.signal)
    broadcast = asynchronous(workflows.broadcast)
    cancel = asynchronous(workflows.cancel)
    ready = asynchronous(catalog.ready)

    async def close(self) -> None:
        """Close the connections."""
        await self._driver.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()
