"""The index of commands by id in MongoDB: fed from the topic, and made again from it.

Nobody writes commands here but `CommandIndexer`: what is on the topic is what counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import pymongo
from pymongo import IndexModel
from pymongo.errors import BulkWriteError

from orchx.adapters.kafka_recent_commands import KnownCommand
from orchx.adapters.mongo_connection import Document, Layout, MongoConnection, only_duplicates
from orchx.adapters.uninterrupted import uninterrupted

NOWHERE: Final = -1
"""The offset of what was acknowledged on a topic that is not used any more."""

LOOKUP_IDS_MAX: Final = 1_000  # per query
PRUNE_IDS_MAX: Final = 5_000  # per deletion

COMMANDS: Final = Layout(
    name="commands",
    of_log=True,
    indexes=(
        IndexModel([("created_at_ms", pymongo.ASCENDING)], name="age"),
        IndexModel([("partition", pymongo.ASCENDING), ("offset", pymongo.ASCENDING)], name="place"),
    ),
)
PROGRESS: Final = Layout(
    name="command_progress",
    of_log=True,
    seeds=({"_id": "indexed", "next": {}}, {"_id": "pruned", "before_ms": 0}),
)


@uninterrupted
class MongoCommandIndex:
    """Commands by id, and how far the topic is in the index."""

    def __init__(self, connection: MongoConnection) -> None:
        """Ask nothing yet."""
        self._connection = connection

    async def digests(self, command_ids: frozenset[str]) -> dict[str, str]:
        """Return what tells a repetition, of those commands that are here.

        Raises:
            Unavailable, DriverError: MongoDB is out of reach. All methods raise them.
        """
        ids = sorted(command_ids)
        commands = await self._connection.collection(COMMANDS)
        found: dict[str, str] = {}
        for start in range(0, len(ids), LOOKUP_IDS_MAX):
            part = ids[start : start + LOOKUP_IDS_MAX]
            wanted: Any = part[0] if len(part) == 1 else {"$in": part}
            with self._connection.translating():
                async for one in commands.find({"_id": wanted}, {"digest": 1}):
                    found[one["_id"]] = one["digest"]
        return found

    async def payload(self, command_id: str) -> str | None:
        """Return the JSON of a command that is here."""
        commands = await self._connection.collection(COMMANDS)
        with self._connection.translating():
            found = await commands.find_one({"_id": command_id}, {"payload": 1})
        return None if found is None else str(found["payload"])

    async def between(
        self, partition: int, first: int, behind: int, *, limit: int
    ) -> Sequence[tuple[int, bytes]]:
        """Return offsets and JSON of a partition's commands, from an offset up to another."""
        commands = await self._connection.collection(COMMANDS)
        wanted = {"partition": partition, "offset": {"$gte": first, "$lt": behind}}
        cursor = commands.find(wanted, {"offset": 1, "payload": 1}, sort=[("offset", 1)])
        with self._connection.translating():
            return [(one["offset"], one["payload"].encode()) async for one in cursor.limit(limit)]

    async def add(self, commands: Sequence[tuple[KnownCommand, str | None]]) -> None:
        """Add commands, each with its tenant; one whose id is there already changes nothing.

        Raises:
            StorageFull: MongoDB has no room. Some may have been added.
        """
        if not commands:
            return
        collection = await self._connection.collection(COMMANDS)
        with self._connection.translating():
            try:
                await collection.insert_many(
                    [_document(one, tenant) for one, tenant in commands], ordered=False
                )
            except BulkWriteError as error:
                if not only_duplicates(error):
                    raise

    async def next_offsets(self) -> dict[int, int]:
        """Return up to where each partition is in the index; one that is missing is at 0."""
        progress = await self._connection.collection(PROGRESS)
        with self._connection.translating():
            found = await progress.find_one({"_id": "indexed"})
        return {} if found is None else {int(key): value for key, value in found["next"].items()}

    async def save_next_offsets(self, next_offsets: Mapping[int, int]) -> None:
        """Note up to where partitions are in the index, once they are."""
        progress = await self._connection.collection(PROGRESS)
        fields = {f"next.{partition}": offset for partition, offset in next_offsets.items()}
        with self._connection.translating():
            await progress.update_one({"_id": "indexed"}, {"$max": fields}, upsert=True)

    async def prune(self, *, older_than_ms: int, below: Mapping[int, int]) -> int:
        """Delete what was created before and stands below its partition's offset; count it."""
        commands = await self._connection.collection(COMMANDS)
        total = 0
        for partition, offset in below.items():
            old = {
                "created_at_ms": {"$lt": older_than_ms},
                "partition": partition,
                "offset": {"$lt": offset},
            }
            while True:
                with self._connection.translating():
                    cursor = commands.find(old, {"_id": 1}).limit(PRUNE_IDS_MAX)
                    ids = [one["_id"] async for one in cursor]
                    if ids:
                        deleted = await commands.delete_many({"_id": {"$in": ids}, **old})
                        total += deleted.deleted_count
                if len(ids) < PRUNE_IDS_MAX:
                    break
        return total

    async def note_pruned(self, before_ms: int) -> None:
        """Note that commands created before this time may be forgotten."""
        progress = await self._connection.collection(PROGRESS)
        with self._connection.translating():
            later = {"$max": {"before_ms": before_ms}}
            await progress.update_one({"_id": "pruned"}, later, upsert=True)

    async def pruned_before_ms(self) -> int:
        """Return the latest time that was noted; 0 if none was."""
        progress = await self._connection.collection(PROGRESS)
        with self._connection.translating():
            found = await progress.find_one({"_id": "pruned"})
        return 0 if found is None else int(found["before_ms"])

    async def drop(self) -> None:
        """Forget all commands and start again; what was pruned stays noted.

        The indexer is to be started anew after this: it reads the topic from its beginning.
        """
        progress = await self._connection.collection(PROGRESS)
        with self._connection.translating():
            # First, so that a crash in between costs no more than reading again.
            await progress.update_one({"_id": "indexed"}, {"$set": {"next": {}}}, upsert=True)
        await self._connection.empty(COMMANDS)

    async def begin_again(self, first: Mapping[int, int]) -> None:
        """Forget what stands on the topic, to be read once more; what it has no more stays.

        Args:
            first: the offset of each partition's first record that is still there.
        """
        before = await self.next_offsets()
        # What expired before it was here is to be noticed again.
        start = {number: min(before.get(number, 0), offset) for number, offset in first.items()}
        progress = await self._connection.collection(PROGRESS)
        commands = await self._connection.collection(COMMANDS)
        gone = [
            {"offset": {"$lt": 0}},
            *({"partition": p, "offset": {"$lt": offset}} for p, offset in first.items() if offset),
        ]
        begun = {str(number): offset for number, offset in start.items() if offset}
        with self._connection.translating():
            await progress.update_one({"_id": "indexed"}, {"$set": {"next": begun}}, upsert=True)
            if await commands.find_one({"$or": gone}) is not None:
                await commands.delete_many({"$nor": gone})
                return
        await self._connection.empty(COMMANDS)

    async def set_aside(self, command_ids: Sequence[str]) -> None:
        """Keep commands as ones that have no place on the topic any more."""
        commands = await self._connection.collection(COMMANDS)
        with self._connection.translating():
            await commands.update_many(
                {"_id": {"$in": list(command_ids)}}, {"$set": {"offset": NOWHERE}}
            )

    async def remove(self, command_ids: Sequence[str]) -> None:
        """Forget commands: their ids are free again."""
        commands = await self._connection.collection(COMMANDS)
        with self._connection.translating():
            await commands.delete_many({"_id": {"$in": list(command_ids)}})

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()


def _document(command: KnownCommand, tenant: str | None) -> Document:
    return {
        "_id": command.id,
        "digest": command.digest,
        "payload": command.payload.decode(),
        "tenant": tenant,
        "created_at_ms": command.created_at_ms,
        "partition": command.partition,
        "offset": command.offset,
    }
