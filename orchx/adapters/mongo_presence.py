"""Who uses an installation just now: engines that serve, or an operator's command. Never both.

Whoever comes notes itself first and looks for others then, so that of two who come at once at
least one sees the other. Time is that of the MongoDB server.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final, Literal, TypeAlias

import structlog
from pymongo import ReturnDocument

from orchx.adapters.mongo_connection import DATABASE, Layout, MongoConnection
from orchx.adapters.uninterrupted import uninterrupted
from orchx.errors import Conflict, DriverError, OrchxError

Guest: TypeAlias = Literal["engine", "maintenance", "verification"]

PRESENCE: Final = Layout(name="presence")

SERVING_S: Final = 15.0
"""How long an engine counts as being there after its last sign."""

STARTING_S: Final = 150.0
"""The same for one that is being started."""

COMMAND_S: Final = 30.0
"""The same for an operator's command."""

RENEWAL_S: Final = 5.0

logger = structlog.get_logger(__name__)


@uninterrupted
class MongoPresence:
    """Signs of life in MongoDB. There may be many engines, and one of any other guest."""

    def __init__(self, connection: MongoConnection, *, engine: str) -> None:
        """Connect on first use; `engine` is this engine's name among others."""
        self._connection = connection
        self._engine = engine

    async def note(self, guest: Guest, *, for_s: float) -> None:
        """Say that a guest is here, and will be for so long without another sign.

        Raises:
            Unavailable, DriverError, StorageFull: it is not noted. All methods raise them.
        """
        until = {"$add": ["$$NOW", int(for_s * 1000)]}
        presence = await self._connection.collection(PRESENCE)
        with self._connection.translating():
            await presence.update_one(
                {"_id": self._key(guest)}, [{"$set": {"until": until}}], upsert=True
            )

    async def sign(self, guest: Guest) -> datetime | None:
        """Return until when the last sign of such guests holds; None: it holds no more."""
        those = {"_id": {"$regex": f"^{guest}(/|$)"}, "$expr": {"$gt": ["$until", "$$NOW"]}}
        presence = await self._connection.collection(PRESENCE)
        with self._connection.translating():
            found = await presence.find_one(those, sort=[("until", -1)])
        return None if found is None else found["until"]

    async def is_here(self, guest: Guest) -> bool:
        """Return whether a guest has given a sign that still holds."""
        return await self.sign(guest) is not None

    @asynccontextmanager
    async def alone(self, guest: Guest) -> AsyncIterator[None]:
        """Be the only guest of this kind inside, with a sign from time to time.

        Raises:
            Conflict: there is one already.
            DriverError: the sign could not be renewed in time, and what was inside is ended.
        """
        holder, asked_s = secrets.token_hex(8), asyncio.get_running_loop().time()
        taken = {"$gt": ["$until", "$$NOW"]}
        mine = {
            "_id": guest,
            "until": {"$add": ["$$NOW", int(COMMAND_S * 1000)]},
            "holder": holder,
        }
        presence = await self._connection.collection(PRESENCE)
        with self._connection.translating():
            found = await presence.find_one_and_update(
                {"_id": guest},
                [{"$replaceWith": {"$cond": [taken, "$$ROOT", mine]}}],
                upsert=True,
                return_document=ReturnDocument.AFTER,
            )
        if found is None or found["holder"] != holder:
            raise Conflict(
                f"another command is at work on the database that {DATABASE} names, or was killed "
                f"less than {COMMAND_S:g} s ago"
            )
        lease = asyncio.timeout_at(asked_s + COMMAND_S)
        try:
            async with lease:
                renewing = asyncio.create_task(self._renew(guest, holder, lease))
                try:
                    yield
                finally:
                    renewing.cancel()
                    await asyncio.wait([renewing])
                    with contextlib.suppress(OrchxError):
                        await self._leave(guest, holder)
        except TimeoutError as error:
            if not lease.expired():
                raise
            raise DriverError(
                f"nothing was heard of the database that {DATABASE} names for {COMMAND_S:g} s, or "
                "another command has come meanwhile: run it again"
            ) from error

    async def _renew(self, guest: Guest, holder: str, lease: asyncio.Timeout) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(RENEWAL_S)
            asked_s = loop.time()
            until = {"$add": ["$$NOW", int(COMMAND_S * 1000)]}
            try:
                presence = await self._connection.collection(PRESENCE)
                with self._connection.translating():
                    mine = await presence.update_one(
                        {"_id": guest, "holder": holder}, [{"$set": {"until": until}}]
                    )
            except OrchxError as error:
                logger.warning("sign of life not stored", guest=guest, error=str(error))
                continue
            lease.reschedule(asked_s + COMMAND_S if mine.matched_count else loop.time())
            if not mine.matched_count:
                return

    async def leave(self, guest: Guest) -> None:
        """Say that a guest has gone."""
        presence = await self._connection.collection(PRESENCE)
        with self._connection.translating():
            await presence.delete_one({"_id": self._key(guest)})

    async def _leave(self, guest: Guest, holder: str) -> None:
        presence = await self._connection.collection(PRESENCE)
        with self._connection.translating():
            await presence.delete_one({"_id": guest, "holder": holder})

    def _key(self, guest: Guest) -> str:
        return f"engine/{self._engine}" if guest == "engine" else guest
