"""The current state of every workflow in MongoDB, as a projection of the log.

A summary is one document: the summary itself as JSON, what is searched for beside it, and
the place in the log (partition, offset) up to which it is true. A projector that was stopped
or cut off may have a write on its way that arrives after those of its successor; the place
lets such a write change nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from pymongo import ASCENDING, DESCENDING, IndexModel, UpdateOne
from pymongo.asynchronous.cursor import AsyncCursor

from orchx.adapters.coalesced_query import SHARED_MAX, Coalesced, CoalescedQuery
from orchx.adapters.listing_cursor import cursor_behind, place_of
from orchx.adapters.mongo_connection import Document, Layout, MongoConnection, reaching
from orchx.adapters.uninterrupted import uninterrupted
from orchx.errors import DriverError
from orchx.ports.state_store import TERMINAL, Filter, Page, WorkflowSummary

PAGE_MAX: Final = 1_000
PAGE_BYTES: Final = 16 * 1_048_576
LOOKUP_IDS_MAX: Final = 10_000  # per query

_NEWEST: Final = [("created_at_ms", DESCENDING), ("_id", DESCENDING)]
WORKFLOWS: Final = Layout(
    name="workflows",
    of_log=True,
    indexes=(
        IndexModel(_NEWEST, name="newest"),
        IndexModel([("status", ASCENDING), *_NEWEST], name="newest_of_status"),
        IndexModel(
            [("labels", ASCENDING), *_NEWEST],
            name="newest_of_label",
            partialFilterExpression={"labels": {"$exists": True}},
        ),
        # The workflow's id, in those that have not ended.
        IndexModel([("unfinished", ASCENDING)], name="unfinished", sparse=True),
    ),
)
OFFSETS: Final = Layout(name="workflow_offsets", of_log=True)  # of each partition, by its number

_DATA: Final = {"_id": False, "data": True}
_COUNT: Final[list[Document]] = [
    {"$match": {"status": {"$gt": ""}}},  # has the index counted, not the documents
    {"$group": {"_id": "$status", "count": {"$sum": 1}}},
]

_encoder: Final = msgspec.json.Encoder()
_summary: Final = msgspec.json.Decoder(WorkflowSummary)


@dataclass(frozen=True, slots=True)
class _Save:
    """What one call saves."""

    summaries: Sequence[WorkflowSummary]
    offset: int
    partition: int


@uninterrupted
class MongoStateStore:
    """A `StateStore`."""

    def __init__(self, connection: MongoConnection) -> None:
        """Connect on first use; `close` closes the connection."""
        self._connection = connection
        self._loading = CoalescedQuery(self._load)
        self._saving = Coalesced(self._save, apart=(DriverError,))

    async def load(self, workflow_ids: Sequence[str]) -> Mapping[str, WorkflowSummary]:
        """Return the summaries that exist; looked up with those that others want now."""
        if not workflow_ids:
            return {}
        found = await self._loading.get(workflow_ids)
        return {key: _summary.decode(found[key]) for key in workflow_ids if key in found}

    async def _load(self, workflow_ids: frozenset[str]) -> Mapping[str, bytes]:
        workflows = await self._connection.collection(WORKFLOWS)
        ids = list(workflow_ids)
        found: dict[str, bytes] = {}
        for start in range(0, len(ids), LOOKUP_IDS_MAX):
            wanted = {"_id": {"$in": ids[start : start + LOOKUP_IDS_MAX]}}
            with self._connection.translating():
                async for document in workflows.find(wanted, {"data": True}):
                    found[document["_id"]] = document["data"]
        return found

    async def save(
        self, summaries: Sequence[WorkflowSummary], *, offset: int, partition: int = 0
    ) -> None:
        """Store summaries, then the offset; an offset not above the stored one changes nothing.

        Looking first is enough for that, since one projector at a time serves a partition.
        Should a former one still write, it moves neither offset nor documents back. A
        few are saved with what others save now, of other partitions.
        """
        save = _Save(summaries, offset, partition)
        await self._saving.join([save], alone=len(summaries) > SHARED_MAX)

    async def _save(self, saves: Sequence[_Save]) -> None:
        workflows = await self._connection.collection(WORKFLOWS)
        offsets = await self._connection.collection(OFFSETS)
        with self._connection.translating():
            stored = await self._offsets([save.partition for save in saves])
            moving = [save for save in saves if save.offset > stored.get(save.partition, 0)]
            # The last one of a workflow counts; they are written in no particular order.
            writes = {
                summary.workflow_id: _write(summary, save.partition, save.offset)
                for save in sorted(moving, key=lambda save: save.offset)
                for summary in save.summaries
            }
            if writes:
                await workflows.bulk_write([*writes.values()], ordered=False)
            if moving:
                await offsets.bulk_write([reaching(save.partition, save.offset) for save in moving])

    async def offset(self, partition: int = 0) -> int:
        """Return the offset up to which the projection holds."""
        return (await self._offsets([partition])).get(partition, 0)

    async def _offsets(self, partitions: Sequence[int]) -> Mapping[int, int]:
        offsets = await self._connection.collection(OFFSETS)
        with self._connection.translating():
            cursor = offsets.find({"_id": {"$in": list(partitions)}})
            return {found["_id"]: found["offset"] async for found in cursor}

    async def list(self, filter_: Filter) -> Page:
        """Return one page, newest first."""
        limit = min(max(filter_.limit, 1), PAGE_MAX)
        workflows = await self._connection.collection(WORKFLOWS)
        cursor = workflows.find(_where(filter_), _DATA, sort=_NEWEST)
        found, cut = await self._page(cursor, limit + 1)
        page = found[:limit]
        more = cut or len(found) > limit
        return Page(workflows=page, cursor=cursor_behind(page[-1]) if more else None)

    async def unfinished(self, *, after_id: str, limit: int) -> Sequence[WorkflowSummary]:
        """Return non-terminal workflows in id order."""
        if limit <= 0:
            return []
        workflows = await self._connection.collection(WORKFLOWS)
        behind = {"unfinished": {"$gt": after_id}}
        cursor = workflows.find(behind, _DATA, sort=[("unfinished", ASCENDING)])
        found, _ = await self._page(cursor, limit)
        return found

    async def counts(self) -> Mapping[str, int]:
        """Count workflows by status."""
        workflows = await self._connection.collection(WORKFLOWS)
        with self._connection.translating():
            found = await (await workflows.aggregate(_COUNT)).to_list()
        return {group["_id"]: group["count"] for group in found}

    async def reset(self) -> None:
        """Drop everything, to be rebuilt from the log."""
        # In this order: the offset never says more than the summaries.
        await self._connection.empty(OFFSETS)
        await self._connection.empty(WORKFLOWS)

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()

    async def _page(
        self, cursor: AsyncCursor[Document], limit: int
    ) -> tuple[Sequence[WorkflowSummary], bool]:
        """Return what comes first, and whether it was cut short for its size."""
        found: list[WorkflowSummary] = []
        size = 0
        with self._connection.translating():
            async with cursor.limit(limit).batch_size(limit) as documents:
                async for document in documents:
                    size += len(document["data"])
                    if found and size > PAGE_BYTES:
                        return found, True
                    found.append(_summary.decode(document["data"]))
        return found, False


def _document(summary: WorkflowSummary, partition: int, offset: int) -> Document:
    document: Document = {
        "_id": summary.workflow_id,
        "partition": partition,
        "offset": offset,
        "status": summary.status,
        "namespace": summary.namespace,
        "name": summary.name,
        "tenant": summary.tenant,
        "created_at_ms": summary.created_at_ms,
        "data": _encoder.encode(summary),
    }
    if summary.type is not None:
        document["type"] = summary.type
    if summary.status not in TERMINAL:
        document["unfinished"] = summary.workflow_id
    if summary.labels:
        document["labels"] = [_label(*label) for label in summary.labels.items()]
    return document


def _write(summary: WorkflowSummary, partition: int, offset: int) -> UpdateOne:
    """Return what puts a summary in the place of one that is of no later offset."""
    stale = {"$and": [{"$eq": ["$partition", partition]}, {"$gte": ["$offset", offset]}]}
    there, new = "$$ROOT", {"$literal": _document(summary, partition, offset)}
    update = [{"$replaceWith": {"$cond": [stale, there, new]}}]
    # `_id` alone in the filter is what the server finds fastest and inserts without a race.
    return UpdateOne({"_id": summary.workflow_id}, update, upsert=True)


def _label(key: str, value: str) -> str:
    return _encoder.encode((key, value)).decode()  # either may hold any character


def _where(filter_: Filter) -> Document:
    where: dict[str, Any] = {}
    if filter_.status:
        where["status"] = {"$in": list(filter_.status)}
    for field in ("namespace", "name", "tenant", "type"):
        value = getattr(filter_, field)
        if value is not None:
            where[field] = value
    if filter_.labels:
        where["labels"] = {"$all": [_label(*label) for label in filter_.labels]}
    created: dict[str, int] = {}
    if filter_.created_after_ms is not None:
        created["$gt"] = filter_.created_after_ms
    if filter_.created_before_ms is not None:
        created["$lt"] = filter_.created_before_ms
    if filter_.cursor is not None:
        created_at_ms, workflow_id = place_of(filter_.cursor)
        created["$lte"] = created_at_ms  # bounds the scan of the index, which `$or` does not
        where["$or"] = [
            {"created_at_ms": {"$lt": created_at_ms}},
            {"created_at_ms": created_at_ms, "_id": {"$lt": workflow_id}},
        ]
    if created:
        where["created_at_ms"] = created
    return where
