"""Switching a database over to another log, in one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from orchx.adapters.mongo_archive import OFFSETS as ARCHIVED
from orchx.adapters.mongo_command_index import PROGRESS
from orchx.adapters.mongo_command_progress import PROGRESS as ACKNOWLEDGED
from orchx.adapters.mongo_connection import MongoConnection, Session
from orchx.adapters.mongo_deliveries import OFFSETS as DELIVERED
from orchx.adapters.mongo_installation import INSTALLATION, LOG, REPLACING
from orchx.adapters.mongo_state_store import OFFSETS as PROJECTED
from orchx.adapters.uninterrupted import uninterrupted
from orchx.errors import Conflict

PLAN: Final = "repartition"


@uninterrupted
class MongoSwitch:
    """The plan to move a log to other topics, and the moment in which it has moved."""

    def __init__(self, connection: MongoConnection) -> None:
        """Connect on first use."""
        self._connection = connection

    async def plan(self) -> tuple[str, int] | None:
        """Return the topic prefix and number of partitions that a move was begun to."""
        installation = await self._connection.collection(INSTALLATION)
        with self._connection.translating():
            found = await installation.find_one({"_id": PLAN})
        return None if found is None else (found["to"], found["partitions"])

    async def begin(self, *, to: str, partitions: int) -> None:
        """Note what is begun.

        Raises:
            Conflict: another move was begun, and neither finished nor undone.
        """
        mine = {"to": to, "partitions": partitions}
        installation = await self._connection.collection(INSTALLATION)
        with self._connection.translating():
            await installation.update_one({"_id": PLAN}, {"$setOnInsert": mine}, upsert=True)
        there = await self.plan()
        if there is not None and there != (to, partitions):
            raise Conflict(
                f"a move to {there[0]!r} with {there[1]} partitions was begun: finish it "
                f"(--to {there[0]} --partitions {there[1]}), or --undo it"
            )

    async def give_up(self) -> None:
        """Forget what was begun."""
        installation = await self._connection.collection(INSTALLATION)
        with self._connection.translating():
            await installation.delete_one({"_id": PLAN})

    async def complete(
        self, *, to: str, ends: Mapping[int, int], acknowledged: Mapping[int, int]
    ) -> None:
        """Let the database belong to the new log from now on, with nothing projected of it.

        Until the projections are replaced nobody can use it. What was caused and collected of
        the old log, all of it, is taken for done in the new one.

        Args:
            to: the new topic prefix.
            ends: the end of each of its partitions, in the log's offsets.
            acknowledged: of each partition of the commands, below which offset all are.
        """
        heard = {str(partition): offset for partition, offset in ends.items()}
        log = {"topic_prefix": to, "partitions": len(ends)}
        installation = await self._connection.collection(INSTALLATION)
        archived = await self._connection.collection(ARCHIVED)
        projected = await self._connection.collection(PROJECTED)
        delivered = await self._connection.collection(DELIVERED)
        progress = await self._connection.collection(PROGRESS)
        acknowledgements = await self._connection.collection(ACKNOWLEDGED)

        async def switch(session: Session) -> None:
            await installation.update_one({"_id": LOG}, {"$set": log}, session=session)
            await installation.delete_one({"_id": PLAN}, session=session)
            await installation.update_one(
                {"_id": REPLACING}, {"$set": {"heard": heard}}, upsert=True, session=session
            )
            await archived.delete_many({}, session=session)
            await projected.delete_many({}, session=session)
            await delivered.delete_many({}, session=session)
            for partition, offset in ends.items():
                await delivered.insert_one({"_id": partition, "offset": offset}, session=session)
            # In a term that nobody had: who had a partition before can save no more.
            last = await acknowledgements.find_one({}, sort=[("term", -1)], session=session)
            term = 1 if last is None else last["term"] + 1
            await acknowledgements.delete_many({}, session=session)
            for partition, offset in acknowledged.items():
                await acknowledgements.insert_one(
                    {"_id": partition, "term": term, "watermark": offset, "above": []},
                    session=session,
                )
            await progress.update_one(
                {"_id": "indexed"}, {"$set": {"next": {}}}, upsert=True, session=session
            )

        await self._connection.transact(switch)
