"""The archive of the log's past in MongoDB.

One document holds what one batch brought of one turn: its records as one JSON text, which no
release ever rewrites, and where they stand. Mostly that is the whole turn. A batch that ends
within a turn leaves the rest to the next, and one that comes again may be cut elsewhere; so
the key names the first and the last record, and a reader passes over what it has read already.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import msgspec
from pymongo import IndexModel
from pymongo.errors import BulkWriteError

from orchx.adapters.coalesced_query import SHARED_MAX, Coalesced
from orchx.adapters.grouped_reads import GroupedReads
from orchx.adapters.mongo_connection import (
    Document,
    Layout,
    MongoConnection,
    only_duplicates,
    reaching,
)
from orchx.adapters.uninterrupted import uninterrupted
from orchx.domain.events import AnyEvent, Record, WorkflowActivated
from orchx.errors import Bug, DriverError

TURN_OFFSETS: Final = 4096
"""How many offsets each turn of the log has to itself."""

PAGE_BYTES: Final = 16 * 1_048_576
FETCHED_DOCUMENTS: Final = 1_000  # from the server at a time, or 16 MB of them

TURNS: Final = Layout(
    name="turns",
    of_log=True,
    indexes=(
        IndexModel([("workflow_id", 1), ("first", 1), ("last", 1)], name="of_workflow"),
        IndexModel(
            [("workflow_id", 1), ("epoch", -1)],
            name="activations",
            partialFilterExpression={"epoch": {"$gt": 0}},
        ),
    ),
)
OFFSETS: Final = Layout(name="archived", of_log=True)


class RecordLine(msgspec.Struct, array_like=True, frozen=True):
    """A record within its document. By position, so that nothing is left out as a default."""

    offset: int
    epoch: int
    owner: str
    seq: int
    at_ms: int
    traceparent: str | None
    version: int
    event: AnyEvent


@dataclass(frozen=True, slots=True)
class _Addition:
    """What one call adds."""

    documents: list[Document]
    partition: int
    offset: int


_encoder: Final = msgspec.json.Encoder()
_lines: Final = msgspec.json.Decoder(list[RecordLine])


@uninterrupted
class MongoArchive:
    """An `Archive`. Above a partition's offset it may have gaps, until an `add` is done."""

    def __init__(self, connection: MongoConnection, *, turn_offsets: int = TURN_OFFSETS) -> None:
        """Connect nowhere yet; `turn_offsets` is how many each turn of the log has to itself."""
        self._connection = connection
        self._turn_offsets = turn_offsets
        self._histories: GroupedReads[Sequence[Document]] = GroupedReads(self._read_whole, ())
        self._adding = Coalesced(self._add, apart=(DriverError,))

    async def add(self, records: Sequence[Record], *, offset: int, partition: int) -> None:
        """Store records, then the offset of their partition; a few with others who do so now."""
        addition = _Addition(list(self._documents(records, partition)), partition, offset)
        await self._adding.join([addition], alone=len(records) > SHARED_MAX)

    async def _add(self, additions: Sequence[_Addition]) -> None:
        documents = [document for addition in additions for document in addition.documents]
        turns = await self._connection.collection(TURNS)
        offsets = await self._connection.collection(OFFSETS)
        with self._connection.translating():
            if documents:
                try:
                    await turns.insert_many(documents, ordered=False)
                except BulkWriteError as error:
                    if not only_duplicates(error):
                        raise
            await offsets.bulk_write([reaching(each.partition, each.offset) for each in additions])

    async def read(
        self, workflow_id: str, *, after_offset: int = 0, limit: int | None = None
    ) -> Sequence[Record]:
        """Return records of the workflow in log order; all of them, if there is no limit."""
        found: list[Record] = []
        if limit is None and not after_offset:
            for document in await self._histories.get(workflow_id):
                after_offset = _read_on(document, workflow_id, after_offset, found)
            return found
        if limit is not None and limit <= 0:
            return found
        turns = await self._connection.collection(TURNS)
        wanted = {
            "workflow_id": workflow_id,
            "first": {"$gte": after_offset - after_offset % self._turn_offsets},
            "last": {"$gt": after_offset},
        }
        size = 0
        with self._connection.translating():
            cursor = turns.find(wanted, {"records": 1}, batch_size=FETCHED_DOCUMENTS)
            # Whatever stands before a document's first record is in one that begins before it.
            cursor = cursor.sort([("first", 1), ("last", 1)])
            if limit is not None:
                cursor = cursor.limit(limit)  # each holds one more record at least
            async with cursor:
                async for document in cursor:
                    after_offset = _read_on(document, workflow_id, after_offset, found)
                    size += len(document["records"])
                    if limit is not None and (len(found) >= limit or size > PAGE_BYTES):
                        break
        return found[:limit]

    async def _read_whole(self, workflow_ids: Collection[str]) -> Mapping[str, Sequence[Document]]:
        turns = await self._connection.collection(TURNS)
        found: defaultdict[str, list[Document]] = defaultdict(list)
        with self._connection.translating():
            wanted = {"workflow_id": {"$in": list(workflow_ids)}}
            cursor = turns.find(
                wanted, {"workflow_id": 1, "records": 1}, batch_size=FETCHED_DOCUMENTS
            )
            async with cursor.sort([("workflow_id", 1), ("first", 1), ("last", 1)]):
                async for document in cursor:
                    found[document["workflow_id"]].append(document)
        return found

    async def epochs(self, workflow_ids: Sequence[str]) -> Mapping[str, int]:
        """Return the highest epoch of each workflow that is here: one query for all."""
        if not workflow_ids:
            return {}
        turns = await self._connection.collection(TURNS)
        with self._connection.translating():
            cursor = await turns.aggregate(_standings(list(workflow_ids)))
            return {found["_id"]: found["epoch"] async for found in cursor}

    async def offsets(self) -> Mapping[int, int]:
        """Return up to where each partition is archived."""
        offsets = await self._connection.collection(OFFSETS)
        with self._connection.translating():
            return {found["_id"]: found["offset"] async for found in offsets.find()}

    async def reset(self) -> None:
        """Drop everything: the offsets first, for they may never say more than is here."""
        await self._connection.empty(OFFSETS)
        await self._connection.empty(TURNS)

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()

    def _documents(self, records: Sequence[Record], partition: int) -> Iterator[Document]:
        for turn, group in groupby(records, lambda record: record.offset // self._turn_offsets):
            part = list(group)
            workflow_id, first, last = part[0].workflow_id, part[0].offset, part[-1].offset
            if any(record.workflow_id != workflow_id for record in part):
                raise Bug(f"turn {turn} of partition {partition} has records of two workflows")
            start = turn * self._turn_offsets
            document = {
                "_id": f"{partition}/{turn}/{first - start}-{last - start}",
                "workflow_id": workflow_id,
                "first": first,
                "last": last,
                "records": _encoder.encode([_line(record) for record in part]).decode(),
            }
            epoch = max((r.epoch for r in part if type(r.event) is WorkflowActivated), default=0)
            if epoch:
                document["epoch"] = epoch
            yield document


def _standings(workflow_ids: list[str]) -> list[dict[str, Any]]:
    """Return a query for the highest epochs, and 0 for each workflow that is here at all.

    The second half looks at one entry of the index for each workflow, however long it is.
    """
    here = {"workflow_id": {"$in": workflow_ids}}
    present = [
        {"$match": here},
        {"$sort": {"workflow_id": 1, "first": 1, "last": 1}},
        {"$group": {"_id": "$workflow_id", "at": {"$first": "$first"}}},
        {"$project": {"epoch": {"$literal": 0}}},
    ]
    return [
        {"$match": {**here, "epoch": {"$gt": 0}}},
        {"$group": {"_id": "$workflow_id", "epoch": {"$max": "$epoch"}}},
        {"$unionWith": {"coll": TURNS.name, "pipeline": present}},
        {"$group": {"_id": "$_id", "epoch": {"$max": "$epoch"}}},
    ]


def _line(record: Record) -> RecordLine:
    return RecordLine(
        record.offset,
        record.epoch,
        record.owner,
        record.seq,
        record.at_ms,
        record.traceparent,
        record.version,
        record.event,
    )


def _lines_of(document: Document) -> list[RecordLine]:
    try:
        return _lines.decode(document["records"])
    except msgspec.MsgspecError as error:
        what = f"document {document['_id']} of {TURNS.name}"
        raise DriverError(f"MongoDB: {what} is not what orchx wrote: {error}") from error


def _read_on(document: Document, workflow_id: str, after_offset: int, found: list[Record]) -> int:
    """Add what a document has behind an offset; return the offset behind that."""
    for line in _lines_of(document):
        if line.offset > after_offset:
            found.append(_record(workflow_id, line))
            after_offset = line.offset
    return after_offset


def _record(workflow_id: str, line: RecordLine) -> Record:
    return Record(
        workflow_id=workflow_id,
        epoch=line.epoch,
        owner=line.owner,
        seq=line.seq,
        at_ms=line.at_ms,
        event=line.event,
        traceparent=line.traceparent,
        version=line.version,
        offset=line.offset,
    )
