"""What is acknowledged of the command queue, in MongoDB: of each partition, by its holder.

Not in the offsets that Kafka commits for a group: those are one number, and expire.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from pymongo import ReturnDocument, UpdateOne

from orchx.adapters.mongo_connection import Document, Layout, MongoConnection
from orchx.adapters.uninterrupted import uninterrupted
from orchx.errors import Bug

# Of each partition, by its number.
PROGRESS: Final = Layout(name="command_acknowledgements", of_log=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledged:
    """Which commands of a partition are acknowledged.

    All below `watermark`, and those `above` it: ranges of offsets, ascending, each from its
    first to behind its last.
    """

    watermark: int = 0
    above: tuple[tuple[int, int], ...] = ()

    def covers(self, offset: int) -> bool:
        """Return whether the command at this offset is acknowledged."""
        return offset < self.watermark or any(
            first <= offset < behind for first, behind in self.above
        )


@uninterrupted
class MongoCommandProgress:
    """What is acknowledged, and who may say so: the one who took a partition over last."""

    def __init__(self, connection: MongoConnection) -> None:
        """Ask nothing yet."""
        self._connection = connection
        self._terms: dict[int, int] = {}

    async def take_over(self, partitions: Collection[int]) -> Mapping[int, Acknowledged]:
        """Return what is acknowledged; whoever had these partitions before can save no more.

        Raises:
            Unavailable, DriverError: MongoDB is out of reach. All methods raise them.
        """
        progress = await self._connection.collection(PROGRESS)
        found: dict[int, Acknowledged] = {}
        for partition in partitions:
            with self._connection.translating():
                document = await progress.find_one_and_update(
                    {"_id": partition},
                    {"$inc": {"term": 1}, "$setOnInsert": {"watermark": 0, "above": []}},
                    upsert=True,
                    return_document=ReturnDocument.AFTER,
                )
            if document is None:
                raise Bug("an upsert returned nothing")
            self._terms[partition] = document["term"]
            found[partition] = _acknowledged(document)
        return found

    async def save(self, progress: Mapping[int, Acknowledged]) -> None:
        """Store what is acknowledged of partitions that were taken over here.

        Of those that somebody else has taken over since, nothing is stored.
        """
        if not progress:
            return
        collection = await self._connection.collection(PROGRESS)
        writes = [
            UpdateOne(
                {"_id": partition, "term": self._terms[partition]},
                {"$set": {"watermark": one.watermark, "above": [list(r) for r in one.above]}},
            )
            for partition, one in progress.items()
        ]
        with self._connection.translating():
            await collection.bulk_write(writes, ordered=False)

    async def everything(self) -> Mapping[int, Acknowledged]:
        """Return what is acknowledged of every partition, without taking any over."""
        collection = await self._connection.collection(PROGRESS)
        with self._connection.translating():
            return {
                document["_id"]: _acknowledged(document) async for document in collection.find()
            }

    async def watermarks(self) -> Mapping[int, int]:
        """Return of each partition the offset below which all is acknowledged; 0 if it lacks."""
        collection = await self._connection.collection(PROGRESS)
        with self._connection.translating():
            return {
                document["_id"]: document["watermark"]
                async for document in collection.find({}, {"watermark": 1})
            }


def _acknowledged(document: Document) -> Acknowledged:
    return Acknowledged(
        watermark=document["watermark"],
        above=tuple((first, behind) for first, behind in document["above"]),
    )
