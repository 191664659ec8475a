"""One client of Redis for the adapters of a process, and saying what went wrong."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from redis import exceptions
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from orchx.errors import DriverError, OrchxError, StorageFull, Unavailable
from orchx.settings import RedisSettings

URL: Final = "ORCHX_REDIS__URL"
CLUSTER: Final = "ORCHX_REDIS__CLUSTER"
CALLS_MAX: Final = 32
"""Calls under way at once, and so connections."""

SCANNED_KEYS: Final = 1_000
_TEXT_MAX: Final = 400
_NO_LOGIN: Final = (exceptions.AuthenticationError, exceptions.AuthenticationWrongNumberOfArgsError)
_PASSING: Final = (
    exceptions.ConnectionError,  # also while it loads its data
    exceptions.TimeoutError,
    exceptions.ReadOnlyError,  # another primary was found
    exceptions.TryAgainError,
    exceptions.ClusterDownError,
    OSError,
)

_DRIVER_ERRORS: Final = (exceptions.RedisError, exceptions.RedisClusterException, OSError)

Argument: TypeAlias = str | bytes | int


@dataclass(frozen=True, slots=True)
class Script:
    """What the server runs at once, with nothing in between."""

    text: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        # The name that Redis gives it.
        sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()
        object.__setattr__(self, "sha", sha)


def translated(error: Exception) -> OrchxError:
    """Return the error of our tree that a driver's error stands for; raise it `from` the latter.

    `Unavailable` leaves open whether a write that was under way took place.
    """
    text = str(error)[:_TEXT_MAX]
    if isinstance(error, _NO_LOGIN) or text.startswith(("WRONGPASS", "NOAUTH")):
        return DriverError(f"Redis refuses the credentials in {URL}: {text}")
    if isinstance(error, exceptions.NoPermissionError) or text.startswith("NOPERM"):
        return DriverError(f"Redis forbids this to the user in {URL}: {text}")
    if isinstance(error, exceptions.OutOfMemoryError) or "maxmemory" in text:
        return StorageFull(f"Redis has no room, and nothing that it may evict: {text}")
    if isinstance(error, exceptions.MovedError) or text.startswith("MOVED"):
        return DriverError(f"{URL} is that of a Redis Cluster: set {CLUSTER}")
    if isinstance(error, _PASSING) or text.startswith(("LOADING", "READONLY", "BUSY")):
        return Unavailable(f"Redis is out of reach (see {URL}): {text}")
    if isinstance(error, exceptions.RedisClusterException):
        return Unavailable(f"no Redis Cluster answers (see {URL} and {CLUSTER}): {text}")
    return DriverError(f"Redis: {text} ({type(error).__name__})")


class RedisConnection:
    """A client made on first use, for one event loop.

    A call ends within the settings' `timeout_ms` for each of connecting, sending and waiting,
    and is not repeated but where a Cluster sends it to another node.
    """

    def __init__(self, settings: RedisSettings) -> None:
        """Connect nowhere yet."""
        self._settings = settings
        self._client: Redis | RedisCluster | None = None
        self._calls = asyncio.Semaphore(CALLS_MAX)
        self._closed = False

    async def run(self, script: Script, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """Run a script on keys, which are all in one slot, and return what it returns.

        Raises:
            DriverError, StorageFull, Unavailable: see `translated`.
        """
        async with self._calls:
            with _calling():
                client: Any = self._open()
                try:
                    return await client.evalsha(script.sha, len(keys), *keys, *arguments)
                except exceptions.NoScriptError:  # this node has not seen it
                    return await client.eval(script.text, len(keys), *keys, *arguments)

    async def facts(self) -> Mapping[str, Any]:
        """Return what the server says of itself (`INFO`)."""
        async with self._calls:
            with _calling():
                client: Any = self._open()
                facts: Mapping[str, Any] = await client.info()
        return facts

    async def ping(self) -> None:
        """Return if the server answers."""
        async with self._calls:
            with _calling():
                client: Any = self._open()
                await client.ping()

    async def keys(self, pattern: str) -> AsyncIterator[bytes]:
        """Yield the keys that match, on all nodes."""
        with _calling():
            client: Any = self._open()
            async for key in client.scan_iter(match=pattern, count=SCANNED_KEYS):
                yield key

    async def values(self, keys: Sequence[str | bytes]) -> Sequence[bytes | None]:
        """Return what stands at keys, which are all in one slot; None: nothing."""
        async with self._calls:
            with _calling():
                client: Any = self._open()
                found: Sequence[bytes | None] = await client.mget(keys)
                return found

    async def unlink(self, keys: Sequence[str | bytes]) -> None:
        """Delete keys, which are all in one slot."""
        async with self._calls:
            with _calling():
                client: Any = self._open()
                await client.unlink(*keys)

    async def close(self) -> None:
        """Close the client."""
        self._closed = True
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def _open(self) -> Redis | RedisCluster:
        if self._closed:
            raise DriverError("the connection to Redis is closed")
        if self._client is None:
            timeout_s = self._settings.timeout_ms / 1000
            options: dict[str, Any] = {
                "socket_timeout": timeout_s,
                "socket_connect_timeout": timeout_s,
                "retry": Retry(NoBackoff(), 0),
                "client_name": "orchx",
                "protocol": 2,
            }
            url = self._settings.url.get_secret_value()
            kind = RedisCluster if self._settings.cluster else Redis
            try:
                self._client = kind.from_url(url, **options)
            except ValueError as error:
                # Not with the error, which may quote the password.
                raise DriverError(
                    f"{URL} is no URL of a Redis server ({type(error).__name__}); are special "
                    "characters in its password percent-encoded?"
                ) from None
        return self._client


@contextmanager
def _calling() -> Iterator[None]:
    """Turn the driver's errors into ours, and do not let it swallow a cancellation.

    redis-py sends within `asyncio.wait_for`, which in Python 3.11 may do that.
    """
    task = asyncio.current_task()
    cancelling = 0 if task is None else task.cancelling()
    try:
        yield
    except _DRIVER_ERRORS as error:
        raise translated(error) from error
    if task is not None and task.cancelling() > cancelling:
        raise asyncio.CancelledError
