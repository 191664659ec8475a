"""Definitions and services in MongoDB.

Several processes publish at once. A change is a transaction that also counts itself in one
document, so that of two changes at a time one starts again, and sees what the other did.
A process that dies amid a change holds up others' for a minute at most: so long the server
waits for the rest of a transaction.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Final

import msgspec
from pymongo import ASCENDING, IndexModel, ReplaceOne

from orchx.adapters.mongo_connection import Document, Documents, Layout, MongoConnection, Session
from orchx.adapters.uninterrupted import uninterrupted
from orchx.domain.semantic_version import Precedence, precedence
from orchx.domain.services import Service
from orchx.errors import Conflict
from orchx.ports.catalog import StoredDefinition


def _index(name: str, *keys: str, unique: bool = False) -> IndexModel:
    return IndexModel([(key, ASCENDING) for key in keys], name=name, unique=unique)


_VERSION: Final = ("namespace", "name", "version")
DEFINITIONS: Final = Layout(
    name="definitions",
    indexes=(
        _index("versions", *_VERSION, unique=True),
        # Which version is the latest is found without reading any source.
        _index("in_use", "retired", *_VERSION, "_id"),
        _index("bound", "request_type", "retired", *_VERSION, "_id"),
    ),
)
SERVICES: Final = Layout(name="services")
_REVISION: Final = {"_id": "revision"}
CHANGES: Final = Layout(name="catalog_changes", seeds=({**_REVISION, "value": 0},))

_IN_USE: Final = {"retired": False}
_service: Final = msgspec.json.Decoder(Service)


@uninterrupted
class MongoCatalog:
    """A `Catalog`."""

    def __init__(self, connection: MongoConnection) -> None:
        """Connect on first use; `close` closes the connection."""
        self._connection = connection

    async def publish(self, definition: StoredDefinition) -> bool:
        """Store a new version; False if this very version was there."""
        definitions, changes = await self._definitions(), await self._changes()
        key = _key(definition.namespace, definition.name, definition.version)

        async def publish(session: Session) -> bool:
            found = await definitions.find_one(key, session=session)
            there = None if found is None else _definition(found)
            if there is not None and not there.is_bound_by(definition):
                return False
            if definition.request_type is not None:
                bound = {**_IN_USE, "request_type": definition.request_type}
                async for other in definitions.find(bound, _VERSION, session=session):
                    _check_binding(definition, other)
            if there is None:
                await definitions.insert_one(_document(definition), session=session)
            else:
                binding = {"$set": {"request_type": definition.request_type}}
                await definitions.update_one(key, binding, session=session)
            await _count_change(changes, session)
            return there is None

        return await self._connection.transact(publish)

    async def find(
        self, namespace: str, name: str, version: str = "latest"
    ) -> StoredDefinition | None:
        """Return a version; `latest` is the highest that is not retired."""
        if version == "latest":
            return await self._latest({**_IN_USE, "namespace": namespace, "name": name})
        definitions = await self._definitions()
        with self._connection.translating():
            found = await definitions.find_one(_key(namespace, name, version))
        return None if found is None else _definition(found)

    async def by_request_type(self, request_type: str) -> StoredDefinition | None:
        """Return the latest definition bound to a request type."""
        return await self._latest({**_IN_USE, "request_type": request_type})

    async def versions(self, namespace: str, name: str) -> Sequence[StoredDefinition]:
        """Return all versions, highest first."""
        definitions = await self._definitions()
        with self._connection.translating():
            found = await definitions.find({"namespace": namespace, "name": name}).to_list()
        return [_definition(one) for one in sorted(found, key=_precedence, reverse=True)]

    async def list(self) -> Sequence[StoredDefinition]:
        """Return the latest version of every definition that is in use."""
        definitions = await self._definitions()
        with self._connection.translating():
            in_use = await definitions.find(_IN_USE, _VERSION).to_list()
            latest = {(one["namespace"], one["name"]): one for one in _lowest_first(in_use)}
            ids = [one["_id"] for one in latest.values()]
            found = await definitions.find({"_id": {"$in": ids}}).to_list()
        found.sort(key=lambda one: (one["namespace"], one["name"]))
        return [_definition(one) for one in found]

    async def retire(self, namespace: str, name: str, version: str) -> bool:
        """Take a version out of use for new workflows; False if there is none."""
        definitions, changes = await self._definitions(), await self._changes()
        key = _key(namespace, name, version)

        async def retire(session: Session) -> bool:
            found = await definitions.find_one(key, _IN_USE.keys(), session=session)
            if found is not None and not found["retired"]:
                await definitions.update_one(key, {"$set": {"retired": True}}, session=session)
                await _count_change(changes, session)
            return found is not None

        return await self._connection.transact(retire)

    async def put_services(self, services: Sequence[Service]) -> None:
        """Create or replace services by name; the last one of a name counts."""
        latest = {service.name: msgspec.json.encode(service).decode() for service in services}
        writes = [
            ReplaceOne({"_id": name}, {"data": data}, upsert=True) for name, data in latest.items()
        ]
        if not writes:
            return
        kept, changes = await self._connection.collection(SERVICES), await self._changes()

        async def put(session: Session) -> None:
            await kept.bulk_write(writes, session=session)
            await _count_change(changes, session)

        await self._connection.transact(put)

    async def services(self) -> Sequence[Service]:
        """Return all services, by name."""
        kept = await self._connection.collection(SERVICES)
        with self._connection.translating():
            found = await kept.find(sort=[("_id", ASCENDING)]).to_list()
        return [_service.decode(document["data"]) for document in found]

    async def revision(self) -> int:
        """Return a number that grows with every change."""
        changes = await self._changes()
        with self._connection.translating():
            found = await changes.find_one(_REVISION)
        return 0 if found is None else int(found["value"])

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()

    async def _latest(self, where: Document) -> StoredDefinition | None:
        definitions = await self._definitions()
        with self._connection.translating():
            known = await definitions.find(where, _VERSION).to_list()
            if not known:
                return None
            highest = max(known, key=_precedence)
            # By its id alone: should it be retired just now, it still was the latest.
            found = await definitions.find_one({"_id": highest["_id"]})
        return None if found is None else _definition(found)

    async def _definitions(self) -> Documents:
        return await self._connection.collection(DEFINITIONS)

    async def _changes(self) -> Documents:
        return await self._connection.collection(CHANGES)


async def _count_change(changes: Documents, session: Session) -> None:
    await changes.update_one(_REVISION, {"$inc": {"value": 1}}, session=session)


def _check_binding(new: StoredDefinition, bound: Mapping[str, str]) -> None:
    if (new.namespace, new.name) != (bound["namespace"], bound["name"]):
        name = f"{bound['namespace']}/{bound['name']}"
        raise Conflict(f"request type {new.request_type!r} is bound to {name}")


def _precedence(document: Document) -> Precedence:
    return precedence(document["version"])


def _lowest_first(documents: Iterable[Document]) -> builtins.list[Document]:
    return sorted(documents, key=_precedence)


def _key(namespace: str, name: str, version: str) -> dict[str, str]:
    return {"namespace": namespace, "name": name, "version": version}


def _document(definition: StoredDefinition) -> Document:
    return {**asdict(definition), "source": definition.source.decode()}


def _definition(document: Document) -> StoredDefinition:
    values = {key: value for key, value in document.items() if key != "_id"}
    return StoredDefinition(**{**values, "source": document["source"].encode()})
