"""One client of MongoDB for the adapters of a process, and saying what went wrong.

Whatever is written has reached the disks of a majority of the replica set before it counts
(`w: majority`, journaled), and only that is read: nothing that was seen or acknowledged is
lost when another member becomes primary.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar

import pymongo
from bson.errors import BSONError
from pymongo import AsyncMongoClient, IndexModel, ReadPreference, ReturnDocument, UpdateOne
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    ConnectionFailure,
    OperationFailure,
    PyMongoError,
)
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from orchx.errors import DriverError, OrchxError, StorageFull, Unavailable
from orchx.settings import MongoSettings

Document: TypeAlias = dict[str, Any]
Documents: TypeAlias = AsyncCollection[Document]
Session: TypeAlias = AsyncClientSession
T = TypeVar("T")

URI: Final = "ORCHX_MONGODB__URI"
DATABASE: Final = "ORCHX_MONGODB__DATABASE"
POOL_CONNECTIONS_MAX: Final = 32
VERSION_MIN: Final = "4.4"
WIRE_VERSION_MIN: Final = 9  # that of 4.4, the first to wait for indexes on a majority
LAYOUTS: Final = "layouts"
"""The collection that holds the version of every other's layout."""

DUPLICATE_KEY: Final = 11000
# The server's numbers: https://www.mongodb.com/docs/manual/reference/error-codes/
_NO_ROOM: Final = frozenset({14031})
_NO_LOGIN: Final = frozenset({11, 18, 8000})  # no such user, authentication failed (also Atlas)
_NO_LEAVE: Final = frozenset({13})
_PASSING: Final = frozenset(
    {
        *(6, 7, 89, 9001),  # hosts that cannot be reached
        *(91, 189, 10107, 11600, 11602, 13435, 13436),  # another primary is being found
        *(24, 46, 50, 64, 112, 134, 202, 262, 290),  # took too long, or met another write
    }
)
_TEXT_MAX: Final = 400
# What follows is long, and may hold what is stored.
_DETAILS: Final = re.compile(
    r" \{ |,? \(configured timeouts|, (full error|Timeout|Topology Description):"
)

_WRITE_CONCERN: Final = WriteConcern("majority", j=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A collection as an adapter wants it: its indexes, and documents that are always there.

    `version` grows with a change that older code, or code before it, cannot work with. `of_log`:
    it is made from the log, and for engines of that one only.
    """

    name: str
    indexes: tuple[IndexModel, ...] = ()
    seeds: tuple[Mapping[str, Any], ...] = ()
    version: int = 1
    of_log: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a server is: `status` is its answer to `connectionStatus`."""

    version: str
    replica_set: str
    status: Mapping[str, Any]


def translated(error: PyMongoError) -> OrchxError:
    """Return the error of our tree that a driver's error stands for; raise it `from` the latter.

    `Unavailable` leaves open whether a write that was under way took place.
    """
    codes = _codes_of(error)
    text = _DETAILS.split(str(error), maxsplit=1)[0][:_TEXT_MAX]
    if codes & _NO_ROOM or "No space left" in text:
        return StorageFull(f"MongoDB has no room to write: {text}")
    if codes & _NO_LOGIN:
        return DriverError(f"MongoDB refuses the credentials in {URI}: {text}")
    if codes & _NO_LEAVE:
        return DriverError(f"MongoDB forbids this to the user in {URI}: {text}")
    if (
        error.timeout
        or codes & _PASSING
        or isinstance(error, ConnectionFailure)
        or error.has_error_label("TransientTransactionError")
    ):
        return Unavailable(f"MongoDB is out of reach or failing over (see {URI}): {text}")
    if isinstance(error, ConfigurationError):
        return DriverError(f"MongoDB cannot be used as {URI} says: {text}")
    return DriverError(f"MongoDB: {text} ({type(error).__name__})")


def only_duplicates(error: BulkWriteError) -> bool:
    """Tell whether nothing went wrong but that keys were there already."""
    return _codes_of(error) == {DUPLICATE_KEY}


def reaching(partition: int, offset: int) -> UpdateOne:
    """Return what moves the offset of a partition on, never back."""
    return UpdateOne({"_id": partition}, {"$max": {"offset": offset}}, upsert=True)


def _codes_of(error: PyMongoError) -> set[int]:
    if isinstance(error, BulkWriteError):
        details: Mapping[str, Any] = error.details
        faults = (*details.get("writeErrors", ()), *details.get("writeConcernErrors", ()))
        return {fault["code"] for fault in faults}
    if isinstance(error, OperationFailure) and error.code is not None:
        return {error.code}
    return set()


class MongoConnection:
    """A client made on first use, for one event loop; adapters of a process may share it.

    Every operation ends within the settings' `timeout_ms`, tries after a lost connection or a
    change of the primary included.
    """

    def __init__(self, settings: MongoSettings) -> None:
        """Connect nowhere yet."""
        self.fence: Callable[[], Awaitable[None]] | None = None
        """Raises where collections that are made from the log may not be used any more."""
        self._settings = settings
        self._client: AsyncMongoClient[Document] | None = None
        self._made: dict[str, Documents] = {}
        self._closed = False
        self._calls = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def collection(self, layout: Layout) -> Documents:
        """Return a collection; the first use in a process makes what its layout lacks.

        Raises:
            DriverError: the server cannot be used, refuses the credentials, or has the
                collection in the layout of another release; or this connection is closed.
            StorageFull, Unavailable: it has no room, or is out of reach.
        """
        if layout.of_log and self.fence is not None:
            await self.fence()
        made = self._made.get(layout.name)
        return made if made is not None else await self._make(layout)

    async def empty(self, layout: Layout) -> None:
        """Drop a collection and make it anew; for many documents that is the quick way."""
        collection = await self.collection(layout)
        with self.translating():
            await collection.drop()
        await self._make(layout)

    async def drop_everything(self) -> None:
        """Drop all collections, and so the database: for one that was made for a while.

        Who may write may do this; dropping the database as such needs more.
        """
        with self.translating():
            database = self._database()
            for name in await database.list_collection_names():
                await database.drop_collection(name)
        self._made.clear()

    async def transact(self, function: Callable[[Session], Awaitable[T]]) -> T:
        """Run `function` in a transaction, rolled back if it raises.

        It is run again when it met another write, so it should do nothing else but read and
        write with the session that it is given.
        """
        with self.translating(), pymongo.timeout(self._settings.timeout_ms / 1000):
            async with self._open().start_session() as session:
                return await session.with_transaction(
                    function,
                    read_concern=ReadConcern("snapshot"),
                    write_concern=_WRITE_CONCERN,
                    read_preference=ReadPreference.PRIMARY,
                )

    async def facts(self) -> Facts:
        """Return what the server says of itself and of this user.

        Raises:
            DriverError, Unavailable: it is out of reach, or cannot be used.
        """
        with self.translating(), pymongo.timeout(self._settings.timeout_ms / 1000):
            database = self._database()
            hello = await _check_server(database)
            build = await database.client.admin.command("buildInfo")
            status = await database.command("connectionStatus", showPrivileges=True)
        return Facts(
            version=str(build["version"]), replica_set=str(hello.get("setName", "")), status=status
        )

    async def ping(self, timeout_s: float) -> None:
        """Return if a primary answers within `timeout_s`.

        Raises:
            DriverError, Unavailable: none does.
        """
        with self.translating(), pymongo.timeout(timeout_s):
            await self._database().command("ping", read_preference=ReadPreference.PRIMARY)

    @contextmanager
    def translating(self) -> Iterator[None]:
        """Turn the driver's errors into ours; a key that is taken is for the adapter to catch.

        And give back a cancellation that it has swallowed: it waits with `asyncio.wait_for`,
        which on Python 3.11 drops one that comes with the answer.
        """
        task = asyncio.current_task()
        cancelled = 0 if task is None else task.cancelling()
        self._calls += 1
        self._idle.clear()
        try:
            yield
            if task is not None and task.cancelling() > cancelled:
                raise asyncio.CancelledError
        except PyMongoError as error:
            raise translated(error) from error
        except BSONError as error:  # above all: larger than the 16 MiB that a document may have
            raise DriverError(f"MongoDB cannot store this: {error}") from error
        finally:
            self._calls -= 1
            if not self._calls:
                self._idle.set()

    async def close(self) -> None:
        """Close the client, for all adapters that share it, once their calls have ended.

        Those that go on without their callers may take until the driver's time limit.
        """
        self._closed = True
        limit_s = self._settings.timeout_ms / 1000
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._idle.wait()
        self._made.clear()
        client, self._client = self._client, None
        if client is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(limit_s):
                    await client.close()

    async def _make(self, layout: Layout) -> Documents:
        # Several at once do the same, to the same end: that needs no lock, which would have
        # each wait for the failures of those before it.
        with self.translating():
            database = self._database()
            if not self._made:
                await _check_server(database)
            await self._check_version(database, layout)
            collection = database[layout.name]
            if layout.indexes:
                # Those members that are down may follow later.
                await collection.create_indexes(list(layout.indexes), commitQuorum="majority")
            for seed in layout.seeds:
                there, key = {"$setOnInsert": seed}, {"_id": seed["_id"]}
                await collection.update_one(key, there, upsert=True)
        self._made[layout.name] = collection
        return collection

    async def _check_version(self, database: AsyncDatabase[Document], layout: Layout) -> None:
        found = await database[LAYOUTS].find_one_and_update(
            {"_id": layout.name},
            {"$setOnInsert": {"version": layout.version}},
            upsert=True,
            return_document=ReturnDocument.AFTER,
        )
        version = layout.version if found is None else found["version"]
        if version != layout.version:
            age = "a newer" if version > layout.version else "an older, unreleased"
            raise DriverError(
                f"{layout.name} in the database that {DATABASE} names was written by"
                f" {age} orchx (layout {version})"
            )

    def _database(self) -> AsyncDatabase[Document]:
        return self._open().get_database(
            self._settings.database,
            write_concern=_WRITE_CONCERN,
            read_concern=ReadConcern("majority"),
            read_preference=ReadPreference.PRIMARY,
        )

    def _open(self) -> AsyncMongoClient[Document]:
        if self._closed:
            raise DriverError("the connection to MongoDB is closed")
        if self._client is None:
            timeout_ms = self._settings.timeout_ms
            try:
                self._client = AsyncMongoClient(
                    self._settings.uri.get_secret_value(),
                    appname="orchx",
                    maxPoolSize=POOL_CONNECTIONS_MAX,
                    timeoutMS=timeout_ms,
                    serverSelectionTimeoutMS=timeout_ms,
                    connectTimeoutMS=timeout_ms,
                )
            except (PyMongoError, ValueError, TypeError, OSError) as error:
                what = error.strerror if isinstance(error, OSError) else type(error).__name__
                # Not with the error, which may quote the password.
                raise DriverError(
                    f"{URI} cannot be used ({what}); are special characters in its password "
                    "percent-encoded?"
                ) from None
        return self._client


async def _check_server(database: AsyncDatabase[Document]) -> Document:
    hello: Document = await database.client.admin.command("hello")
    if hello.get("maxWireVersion", WIRE_VERSION_MIN) < WIRE_VERSION_MIN:
        raise DriverError(
            f"MongoDB {VERSION_MIN} or newer is needed; {URI} names an older one"
            f" (wire version {hello['maxWireVersion']})"
        )
    if "setName" not in hello and hello.get("msg") != "isdbgrid":
        raise DriverError(
            f"the MongoDB server that {URI} names is no member of a replica set;"
            " one member is enough, but without a set there are no transactions"
        )
    return hello
