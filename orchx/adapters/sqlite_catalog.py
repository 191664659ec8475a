"""Definitions and services in one SQLite file."""

from __future__ import annotations

import builtins
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from orchx.adapters.sqlite_connection import Row, RowInsert
from orchx.adapters.sqlite_session import SqliteSession
from orchx.domain.semantic_version import precedence
from orchx.domain.services import Service
from orchx.errors import Conflict
from orchx.ports.catalog import StoredDefinition

SCHEMA: Final = (
    """CREATE TABLE definitions (
        namespace TEXT NOT NULL,
        name TEXT NOT NULL,
        version TEXT NOT NULL,
        digest TEXT NOT NULL,
        source TEXT NOT NULL,
        text TEXT NOT NULL,
        created_at_ms INTEGER NOT NULL,
        request_type TEXT,
        retired INTEGER NOT NULL,
        PRIMARY KEY (namespace, name, version)
    )""",
    "CREATE INDEX bound ON definitions (request_type) WHERE request_type IS NOT NULL",
    "CREATE TABLE services (name TEXT PRIMARY KEY, data TEXT NOT NULL)",
    "CREATE TABLE changes (id INTEGER PRIMARY KEY CHECK (id = 1), revision INTEGER NOT NULL)",
    "INSERT INTO changes VALUES (1, 0)",
)
_COLUMNS: Final = (
    "namespace",
    "name",
    "version",
    "digest",
    "source",
    "text",
    "created_at_ms",
    "request_type",
    "retired",
)
_INSERT: Final = RowInsert("definitions", _COLUMNS)
_PUT_SERVICE: Final = RowInsert(
    "services", ("name", "data"), "ON CONFLICT (name) DO UPDATE SET data = excluded.data"
)
_SELECT: Final = f"SELECT {', '.join(_COLUMNS)} FROM definitions WHERE "  # noqa: S608  constants
_OF_NAME: Final = _SELECT + "namespace = ? AND name = ?"
_OF_VERSION: Final = _OF_NAME + " AND version = ?"
_BOUND: Final = _SELECT + "request_type = ? AND NOT retired"
_BIND: Final = (
    "UPDATE definitions SET request_type = ? WHERE namespace = ? AND name = ? AND version = ?"
)
_IN_USE: Final = _SELECT + "NOT retired ORDER BY namespace, name"

_service: Final = msgspec.json.Decoder(Service)


class SqliteCatalog:
    """A `Catalog`."""

    def __init__(self, path: Path) -> None:
        """Open the catalog at `path`, making it if need be.

        Raises:
            StorageFull, DriverError: the file cannot be opened or is not a catalog.
        """
        self._session = SqliteSession(path, SCHEMA, "FULL")

    async def publish(self, definition: StoredDefinition) -> bool:
        """Store a new version; False if this very version was there."""

        def publish(connection: sqlite3.Connection) -> bool:
            key = (definition.namespace, definition.name, definition.version)
            row = connection.execute(_OF_VERSION, key).fetchone()
            there = None if row is None else _definition(row)
            if there is not None and not there.is_bound_by(definition):
                return False
            if definition.request_type is not None:
                for bound in connection.execute(_BOUND, (definition.request_type,)):
                    _check_binding(definition, _definition(bound))
            if there is None:
                _INSERT.run(connection, [_row(definition)])
            else:
                connection.execute(_BIND, (definition.request_type, *key))
            _count_change(connection)
            return there is None

        return await self._session.write(publish)

    async def find(
        self, namespace: str, name: str, version: str = "latest"
    ) -> StoredDefinition | None:
        """Return a version; `latest` is the highest that is not retired."""
        if version == "latest":
            return _highest(await self._select(_OF_NAME + " AND NOT retired", (namespace, name)))
        return _highest(await self._select(_OF_VERSION, (namespace, name, version)))

    async def by_request_type(self, request_type: str) -> StoredDefinition | None:
        """Return the latest definition bound to a request type."""
        return _highest(await self._select(_BOUND, (request_type,)))

    async def versions(self, namespace: str, name: str) -> Sequence[StoredDefinition]:
        """Return all versions, highest first."""
        found = await self._select(_OF_NAME, (namespace, name))
        return sorted(found, key=_precedence, reverse=True)

    async def list(self) -> Sequence[StoredDefinition]:
        """Return the latest version of every definition that is in use."""
        latest: dict[tuple[str, str], StoredDefinition] = {}
        for definition in sorted(await self._select(_IN_USE, ()), key=_precedence):
            latest[definition.namespace, definition.name] = definition
        return [latest[key] for key in sorted(latest)]

    async def retire(self, namespace: str, name: str, version: str) -> bool:
        """Take a version out of use for new workflows; False if there is none."""

        def retire(connection: sqlite3.Connection) -> bool:
            key = (namespace, name, version)
            there = connection.execute(_OF_VERSION, key).fetchone()
            if there is None:
                return False
            if not _definition(there).retired:
                connection.execute(
                    "UPDATE definitions SET retired = 1"
                    " WHERE namespace = ? AND name = ? AND version = ?",
                    key,
                )
                _count_change(connection)
            return True

        return await self._session.write(retire)

    async def put_services(self, services: Sequence[Service]) -> None:
        """Create or replace services by name; the last one of a name counts."""
        rows = {
            service.name: (service.name, msgspec.json.encode(service).decode())
            for service in services
        }

        def put(connection: sqlite3.Connection) -> None:
            _PUT_SERVICE.run(connection, builtins.list(rows.values()))
            _count_change(connection)

        if rows:
            await self._session.write(put)

    async def services(self) -> Sequence[Service]:
        """Return all services, by name."""
        query = "SELECT data FROM services ORDER BY name"
        found = await self._session.read(lambda db: db.execute(query).fetchall())
        return [_service.decode(data) for (data,) in found]

    async def revision(self) -> int:
        """Return a number that grows with every change."""
        query = "SELECT revision FROM changes"
        revision: int = await self._session.read(lambda db: db.execute(query).fetchone()[0])
        return revision

    async def close(self) -> None:
        """Close the file."""
        await self._session.close()

    async def _select(self, query: str, values: Row) -> builtins.list[StoredDefinition]:
        found = await self._session.read(lambda db: db.execute(query, values).fetchall())
        return [_definition(row) for row in found]


def _check_binding(new: StoredDefinition, bound: StoredDefinition) -> None:
    if (new.namespace, new.name) != (bound.namespace, bound.name):
        raise Conflict(
            f"request type {new.request_type!r} is bound to {bound.namespace}/{bound.name}"
        )


def _count_change(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE changes SET revision = revision + 1")


def _precedence(definition: StoredDefinition) -> Any:
    return precedence(definition.version)


def _highest(definitions: Sequence[StoredDefinition]) -> StoredDefinition | None:
    return max(definitions, key=_precedence, default=None)


def _row(definition: StoredDefinition) -> Row:
    return (
        definition.namespace,
        definition.name,
        definition.version,
        definition.digest,
        definition.source.decode(),
        definition.text,
        definition.created_at_ms,
        definition.request_type,
        int(definition.retired),
    )


def _definition(row: Row) -> StoredDefinition:
    namespace, name, version, digest, source, text, created_at_ms, request_type, retired = row
    return StoredDefinition(
        namespace=namespace,
        name=name,
        version=version,
        digest=digest,
        source=source.encode(),
        text=text,
        created_at_ms=created_at_ms,
        request_type=request_type,
        retired=bool(retired),
    )
