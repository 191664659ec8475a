"""The webhook outbox in MongoDB.

A delivery's id is its document's: made once more from the same records of the log, it is
there already, and stays as it is.
"""

from __future__ import annotations

import builtins
from collections.abc import Collection, Sequence
from dataclasses import fields
from typing import Final

from pymongo import ASCENDING, IndexModel, UpdateOne
from pymongo.errors import BulkWriteError

from orchx.adapters.mongo_connection import (
    Document,
    Documents,
    Layout,
    MongoConnection,
    only_duplicates,
)
from orchx.adapters.uninterrupted import uninterrupted
from orchx.ports.deliveries import Delivery, DeliveryStatus, EndedStatus, Place

_PENDING: Final = {"status": "pending"}
_PLACE: Final = ("created_at_ms", "workflow_id", "position", "_id")
_DUE_ORDER: Final = ("next_attempt_at_ms", *_PLACE)


def _index(name: str, *keys: str, where: Document | None = None) -> IndexModel:
    options = {} if where is None else {"partialFilterExpression": where}
    return IndexModel([(key, ASCENDING) for key in keys], name=name, **options)


DELIVERIES: Final = Layout(
    name="deliveries",
    indexes=(
        _index("oldest", *_PLACE),
        _index("oldest_of_status", "status", *_PLACE),
        _index("oldest_of_workflow", "workflow_id", "created_at_ms", "position", "_id"),
        # With the status, so that the first of a workflow is found in the index alone.
        _index("pending_of_workflow", "status", "workflow_id", "position", where=_PENDING),
        # With the host, so that many to a host that is left out cost a glance each, no more.
        _index("pending_by_time", "status", *_DUE_ORDER, "host", where=_PENDING),
        _index("ended", "status", "ended_at_ms", "_id", where={"ended_at_ms": {"$gte": 0}}),
    ),
)
OFFSETS: Final = Layout(name="delivery_offsets", of_log=True)  # of each partition, by its number

CANDIDATES: Final = 500
"""Of those whose time has come, so many are looked at together for whose turn it is."""

_FIELDS: Final = tuple(field.name for field in fields(Delivery) if field.name != "id")
_OF_ATTEMPTS: Final = ("status", "attempts", "next_attempt_at_ms", "last_error", "ended_at_ms")
_STANDING: Final = {"workflow_id": True, "position": True}


@uninterrupted
class MongoDeliveries:
    """A `Deliveries` outbox."""

    def __init__(self, connection: MongoConnection) -> None:
        """Connect on first use; `close` closes the connection."""
        self._connection = connection

    async def add(self, deliveries: Sequence[Delivery], *, offset: int, partition: int = 0) -> None:
        """Store new deliveries, then the offset, which never goes back."""
        outbox = await self._outbox()
        offsets = await self._connection.collection(OFFSETS)
        documents = [_document(delivery) for delivery in deliveries]
        with self._connection.translating():
            if documents:
                try:
                    await outbox.insert_many(documents, ordered=False)
                except BulkWriteError as error:
                    if not only_duplicates(error):
                        raise
            moved = {"$max": {"offset": offset}}
            await offsets.update_one({"_id": partition}, moved, upsert=True)

    async def offset(self, partition: int = 0) -> int:
        """Return the log offset up to which deliveries were made; 0 at first."""
        offsets = await self._connection.collection(OFFSETS)
        with self._connection.translating():
            found = await offsets.find_one({"_id": partition})
        return 0 if found is None else int(found["offset"])

    async def due(
        self, *, now_ms: int, limit: int, without_hosts: Collection[str] = ()
    ) -> Sequence[Delivery]:
        """Return pending deliveries whose time and turn have come, the longest due first."""
        if limit <= 0:
            return []
        outbox = await self._outbox()
        time_has_come: Document = {**_PENDING, "next_attempt_at_ms": {"$lte": now_ms}}
        if without_hosts:
            time_has_come["host"] = {"$nin": list(without_hosts)}
        with self._connection.translating():
            ids = await self._whose_turn_has_come(time_has_come, limit)
            if not ids:
                return []
            found = await outbox.find({**_PENDING, "_id": {"$in": ids}}).to_list()
        turns = {id_: turn for turn, id_ in enumerate(ids)}
        found.sort(key=lambda document: turns[document["_id"]])
        return [_delivery(document) for document in found]

    async def _whose_turn_has_come(self, time_has_come: Document, limit: int) -> builtins.list[str]:
        """Return the ids of those that no pending one of their workflow stands before."""
        outbox = await self._outbox()
        ids: builtins.list[str] = []
        order = [(key, ASCENDING) for key in _DUE_ORDER]
        in_order = outbox.find(time_has_come, _STANDING, sort=order, batch_size=CANDIDATES)
        async with in_order as candidates:
            while len(ids) < limit and (some := await candidates.to_list(CANDIDATES)):
                first = await self._first_pending({one["workflow_id"] for one in some})
                ids += [
                    one["_id"] for one in some if first.get(one["workflow_id"]) == one["position"]
                ]
        return ids[:limit]

    async def _first_pending(self, workflow_ids: Collection[str]) -> dict[str, int]:
        """Return the position of each workflow's first pending delivery."""
        of_these = {**_PENDING, "workflow_id": {"$in": builtins.list(workflow_ids)}}
        stages: builtins.list[Document] = [
            {"$match": of_these},
            {"$sort": {"workflow_id": ASCENDING, "position": ASCENDING}},
            {"$group": {"_id": "$workflow_id", "position": {"$first": "$position"}}},
        ]
        found = await (await (await self._outbox()).aggregate(stages)).to_list()
        return {one["_id"]: one["position"] for one in found}

    async def update(self, deliveries: Sequence[Delivery]) -> None:
        """Store new attempts and statuses."""
        # The last one of an id counts; they are written in no particular order.
        latest = {delivery.id: delivery for delivery in deliveries}
        writes = [
            UpdateOne({"_id": id_}, {"$set": {key: getattr(new, key) for key in _OF_ATTEMPTS}})
            for id_, new in latest.items()
        ]
        if writes:
            outbox = await self._outbox()
            with self._connection.translating():
                await outbox.bulk_write(writes, ordered=False)

    async def list(
        self,
        *,
        status: DeliveryStatus | None = None,
        workflow_id: str | None = None,
        after: Place | None = None,
        limit: int = 100,
    ) -> Sequence[Delivery]:
        """Return deliveries, oldest first: those behind `after`."""
        if limit <= 0:
            return []
        where: Document = {} if after is None else _behind(after)
        if status is not None:
            where["status"] = status
        if workflow_id is not None:
            where["workflow_id"] = workflow_id
        outbox = await self._outbox()
        order = [(key, ASCENDING) for key in _PLACE]
        with self._connection.translating():
            found = await outbox.find(where, sort=order, limit=limit, batch_size=limit).to_list()
        return [_delivery(document) for document in found]

    async def replay(self, ids: Sequence[str], *, now_ms: int) -> int:
        """Make undelivered ones pending again, their attempts counted anew; return how many."""
        again = {**_PENDING, "attempts": 0, "next_attempt_at_ms": now_ms, "ended_at_ms": None}
        where = {"_id": {"$in": builtins.list(ids)}, "status": "undelivered"}
        outbox = await self._outbox()
        with self._connection.translating():
            return (await outbox.update_many(where, {"$set": again})).modified_count

    async def prune(self, *, status: EndedStatus, ended_before_ms: int, limit: int) -> int:
        """Forget deliveries that ended so before this time, the first first; return how many."""
        if limit <= 0:
            return 0
        where = {"status": status, "ended_at_ms": {"$gte": 0, "$lt": ended_before_ms}}
        order = [("ended_at_ms", ASCENDING), ("_id", ASCENDING)]
        outbox = await self._outbox()
        with self._connection.translating():
            cursor = outbox.find(where, {"_id": True}, sort=order, limit=limit, batch_size=limit)
            ids = [document["_id"] for document in await cursor.to_list()]
            # With the condition again: what was replayed meanwhile stays.
            return (await outbox.delete_many({**where, "_id": {"$in": ids}})).deleted_count

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()

    async def _outbox(self) -> Documents:
        return await self._connection.collection(DELIVERIES)


def _behind(place: Place) -> Document:
    """Return the condition of standing behind a place: later in the first part that differs."""
    same: Document = {}
    places: list[Document] = []
    for key, value in zip(_PLACE, place, strict=True):
        places.append({**same, key: {"$gt": value}})
        same[key] = value
    # The first part alone bounds the scan of the index, which `$or` does not.
    return {_PLACE[0]: {"$gte": place[0]}, "$or": places}


def _document(delivery: Delivery) -> Document:
    values = {key: getattr(delivery, key) for key in _FIELDS}
    return {"_id": delivery.id, **values, "host": delivery.host}


def _delivery(document: Document) -> Delivery:
    return Delivery(id=document["_id"], **{key: document[key] for key in _FIELDS})
