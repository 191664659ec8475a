"""What the projections in MongoDB hold, document by document, for comparing two databases."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from orchx.adapters.mongo_archive import TURN_OFFSETS, TURNS, RecordLine
from orchx.adapters.mongo_command_index import COMMANDS
from orchx.adapters.mongo_connection import Document, Layout, MongoConnection
from orchx.adapters.mongo_state_store import WORKFLOWS
from orchx.adapters.uninterrupted import uninterrupted
from orchx.engine.comparison import Item
from orchx.ports.state_store import WorkflowSummary

BATCH_DOCUMENTS: Final = 2_000  # from the server at a time, or 16 MB of them

_summary: Final = msgspec.json.Decoder(WorkflowSummary)
_lines: Final = msgspec.json.Decoder(list[RecordLine])


@uninterrupted
class MongoStates:
    """The documents of `MongoStateStore`: all but how a batch happened to be cut."""

    def __init__(self, connection: MongoConnection) -> None:
        """Connect on first use."""
        self._connection = connection

    async def items(self) -> AsyncIterator[Item]:
        """Yield all of them, in ascending order of the workflows' ids."""
        async for document in _in_order(self._connection, WORKFLOWS):
            yield _state(document)

    async def look_up(self, keys: Sequence[str]) -> Mapping[str, Item]:
        """Return those that exist."""
        workflows = await self._connection.collection(WORKFLOWS)
        with self._connection.translating():
            found = await workflows.find({"_id": {"$in": list(keys)}}).to_list()
        return {document["_id"]: _state(document) for document in found}


async def turns(connection: MongoConnection, offsets: Mapping[int, int]) -> AsyncIterator[Item]:
    """Yield the turns of `MongoArchive`, as far as they stand at or before these offsets.

    A turn is one item, in however many documents batches have left it.
    """
    part: list[Document] = []
    key = ""
    async for document in _in_order(connection, TURNS):
        name = document["_id"]
        of = name[: name.rindex("/") + 1]
        if of != key:
            if item := _turn(key, part, offsets):
                yield item
            key, part = of, []
        part.append(document)
    if item := _turn(key, part, offsets):
        yield item


async def commands(
    connection: MongoConnection, next_offsets: Mapping[int, int]
) -> AsyncIterator[Item]:
    """Yield the commands of `MongoCommandIndex` that stand before these offsets of the topic."""
    async for document in _in_order(connection, COMMANDS):
        if document["offset"] < next_offsets.get(document["partition"], 0):
            yield Item(
                key=document["_id"],
                raw=document,
                fields=partial(dict, document),
                partition=document["partition"],
                offset=document["offset"],
            )


async def _in_order(connection: MongoConnection, layout: Layout) -> AsyncIterator[Document]:
    collection = await connection.collection(layout)
    with connection.translating():
        async with collection.find({}, sort=[("_id", 1)], batch_size=BATCH_DOCUMENTS) as cursor:
            async for document in cursor:
                yield document


def _state(document: Document) -> Item:
    offset = document.pop("offset", 0)
    return Item(
        key=document["_id"],
        raw=document,
        fields=lambda: _state_fields(document),
        partition=document.get("partition", 0),
        offset=offset if isinstance(offset, int) else 0,
    )


def _state_fields(document: Document) -> Mapping[str, object]:
    fields = {name: value for name, value in document.items() if name not in ("_id", "data")}
    data = document.get("data", b"")
    try:
        # By what it says, not how: an older release wrote fewer fields.
        summary = msgspec.to_builtins(_summary.decode(data))
    except (msgspec.MsgspecError, TypeError) as error:
        return {**fields, "data": data, "data is unreadable": str(error)}
    return {**fields, **{f"data.{name}": value for name, value in summary.items()}}


def _turn(key: str, part: Sequence[Document], offsets: Mapping[int, int]) -> Item | None:
    if not part:
        return None
    number, turn, _ = key.split("/")
    partition, last = int(number), offsets.get(int(number), 0)
    if int(turn) * TURN_OFFSETS >= last:
        return None
    fields: Callable[[], Mapping[str, object]] = partial(_turn_fields, part, last)
    whole = len(part) == 1 and part[0].get("last", 0) <= last
    return Item(
        key=key.rstrip("/"),
        # Cut documents are compared by what is in them together.
        raw=part[0] if whole else object(),
        fields=fields,
        partition=partition,
        offset=last,
    )


def _turn_fields(part: Sequence[Document], last: int) -> Mapping[str, object]:
    fields: dict[str, Any] = {
        "first": min(document.get("first", 0) for document in part),
        "last": min(last, max(document.get("last", 0) for document in part)),
    }
    for document in part:
        fields["workflow_id"] = document.get("workflow_id")
        if "epoch" in document:
            fields["epoch"] = max(document["epoch"], fields.get("epoch", document["epoch"]))
        try:
            lines = _lines.decode(document["records"])
        except (msgspec.MsgspecError, TypeError, KeyError) as error:
            fields[f"{document['_id']} is unreadable"] = str(error)
            continue
        for line in lines:
            if line.offset <= last:
                fields[f"record {line.offset}"] = msgspec.to_builtins(line)
    return fields
