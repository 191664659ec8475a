"""API keys in MongoDB, for all engines and nodes (ADR 0020).

A change is a transaction that also counts itself in one document: of two changes at a time one
starts again and sees what the other did, and whoever looks every second reads that one document.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from pymongo import ASCENDING, ReturnDocument

from orchx.adapters.mongo_connection import (
    Document,
    Documents,
    Layout,
    MongoConnection,
    Session,
)
from orchx.adapters.uninterrupted import uninterrupted
from orchx.errors import DriverError, InvalidRequest, NotFound
from orchx.ports.key_store import MAX_KEYS, ApiKey

KEYS: Final = Layout(name="api_keys")
CHANGES: Final = Layout(name="api_key_changes", seeds=({"_id": "keys", "count": 0},))


@uninterrupted
class MongoKeyStore:
    """A `KeyStore`."""

    def __init__(self, connection: MongoConnection) -> None:
        """Connect on first use."""
        self._connection = connection
        self._seen = -1
        self._known: tuple[ApiKey, ...] = ()

    async def add(self, key: ApiKey, *, only_first: bool = False) -> bool:
        """Store a new key."""
        keys, changes = await self._collections()

        async def change(session: Session) -> bool:
            await _count(changes, session)
            limit = 1 if only_first else MAX_KEYS
            if await keys.count_documents({}, limit=limit, session=session) >= limit:
                if only_first:
                    return False
                raise InvalidRequest(f"there are {MAX_KEYS} keys already")
            await keys.insert_one(_document(key), session=session)
            return True

        return await self._connection.transact(change)

    async def list(self) -> Sequence[ApiKey]:
        """Return all keys; they are read again when they have changed."""
        keys, changes = await self._collections()
        with self._connection.translating():
            changed = await changes.find_one({"_id": "keys"})
            count = -1 if changed is None else changed["count"]
            if count != self._seen or count < 0:
                found = keys.find().sort([("createdAtMs", ASCENDING), ("_id", ASCENDING)])
                self._known = tuple([_key(document) async for document in found])
                self._seen = count
        return self._known

    async def revoke(self, key_id: str, *, now_ms: int) -> ApiKey:
        """Revoke a key."""
        keys, changes = await self._collections()

        async def change(session: Session) -> Document | None:
            await _count(changes, session)
            revoked = await keys.find_one_and_update(
                {"_id": key_id, "revokedAtMs": None},
                {"$set": {"revokedAtMs": now_ms}},
                return_document=ReturnDocument.AFTER,
                session=session,
            )
            return revoked or await keys.find_one({"_id": key_id}, session=session)

        found = await self._connection.transact(change)
        if found is None:
            raise NotFound(f"there is no API key {key_id}")
        return _key(found)

    async def close(self) -> None:
        """Close the connection, for all adapters that share it."""
        await self._connection.close()

    async def _collections(self) -> tuple[Documents, Documents]:
        # Not inside a transaction, which can make no collection with an index.
        return await self._connection.collection(KEYS), await self._connection.collection(CHANGES)


async def _count(changes: Documents, session: Session) -> None:
    await changes.update_one({"_id": "keys"}, {"$inc": {"count": 1}}, session=session)


def _document(key: ApiKey) -> Document:
    document: Document = msgspec.to_builtins(key)
    document["_id"] = document.pop("id")
    return document


def _key(document: Document) -> ApiKey:
    fields = {("id" if name == "_id" else name): value for name, value in document.items()}
    try:
        return msgspec.convert(fields, ApiKey)
    except msgspec.ValidationError as error:
        name = f"{KEYS.name} {document.get('_id')!r}"
        raise DriverError(f"the API key in MongoDB, {name}: {error}") from error
