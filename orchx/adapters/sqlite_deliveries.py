"""The webhook outbox in one SQLite file.

A power cut may cost the latest commits (synchronous=NORMAL): deliveries go back with the
offset and are made again, with the same ids; a lost attempt is made once more.
"""

from __future__ import annotations

import builtins
import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any, Final

import msgspec

from orchx.adapters.sqlite_connection import Row, RowInsert
from orchx.adapters.sqlite_session import SqliteSession
from orchx.ports.deliveries import Delivery, DeliveryStatus, EndedStatus, Place

SCHEMA: Final = (
    """CREATE TABLE deliveries (
        id TEXT PRIMARY KEY,
        workflow_id TEXT NOT NULL,
        tenant TEXT NOT NULL,
        position INTEGER NOT NULL,
        url TEXT NOT NULL,
        event_type TEXT NOT NULL,
        body BLOB NOT NULL,
        created_at_ms INTEGER NOT NULL,
        status TEXT NOT NULL,
        attempts INTEGER NOT NULL,
        next_attempt_at_ms INTEGER NOT NULL,
        last_error TEXT,
        ended_at_ms INTEGER,
        host TEXT NOT NULL
    )""",
    "CREATE INDEX of_workflow ON deliveries (workflow_id, position)",
    "CREATE INDEX oldest ON deliveries (created_at_ms, workflow_id, position, id)",
    """CREATE INDEX oldest_of_status
        ON deliveries (status, created_at_ms, workflow_id, position, id)""",
    """CREATE INDEX pending_of_workflow ON deliveries (workflow_id, position)
        WHERE status = 'pending'""",
    # With the host, so that many to a host that is left out cost little more than a glance each.
    """CREATE INDEX pending_by_time ON deliveries (next_attempt_at_ms, host)
        WHERE status = 'pending'""",
    """CREATE INDEX ended ON deliveries (status, ended_at_ms)
        WHERE ended_at_ms IS NOT NULL""",
    "CREATE TABLE outbox (partition INTEGER PRIMARY KEY, offset INTEGER NOT NULL)",
)
_COLUMNS: Final = tuple(field.name for field in fields(Delivery))
_ADD: Final = RowInsert("deliveries", (*_COLUMNS, "host"), "ON CONFLICT (id) DO NOTHING")
_SELECT: Final = f"SELECT {', '.join(_COLUMNS)} FROM deliveries AS delivery "  # noqa: S608  constants
_OLDEST: Final = " ORDER BY created_at_ms, workflow_id, position, id LIMIT ?"
_WHERE_DUE: Final = """
    INDEXED BY pending_by_time
    WHERE status = 'pending' AND next_attempt_at_ms <= ?
        AND host NOT IN (SELECT value FROM json_each(?)) AND NOT EXISTS (
        SELECT 1 FROM deliveries AS earlier WHERE earlier.status = 'pending'
            AND earlier.workflow_id = delivery.workflow_id
            AND earlier.position < delivery.position)
    ORDER BY next_attempt_at_ms, created_at_ms, workflow_id, position, id LIMIT ?"""
_DUE: Final = _SELECT + _WHERE_DUE
_UPDATE: Final = """
    UPDATE deliveries SET status = ?, attempts = ?, next_attempt_at_ms = ?, last_error = ?,
        ended_at_ms = ?
    WHERE id = ?"""
_MOVE: Final = """
    INSERT INTO outbox VALUES (?, ?)
    ON CONFLICT DO UPDATE SET offset = max(offset, excluded.offset)"""
_REPLAY: Final = """
    UPDATE deliveries
    SET status = 'pending', attempts = 0, next_attempt_at_ms = ?, ended_at_ms = NULL
    WHERE status = 'undelivered' AND id IN (SELECT value FROM json_each(?))"""
_PRUNE: Final = """
    DELETE FROM deliveries WHERE rowid IN (
        SELECT rowid FROM deliveries INDEXED BY ended
        WHERE status = ? AND ended_at_ms < ? ORDER BY ended_at_ms LIMIT ?)"""


class SqliteDeliveries:
    """A `Deliveries` outbox."""

    def __init__(self, path: Path) -> None:
        """Open the outbox at `path`, making it if need be.

        Raises:
            StorageFull, DriverError: the file cannot be opened or is not an outbox.
        """
        self._session = SqliteSession(path, SCHEMA, "NORMAL")

    async def add(self, deliveries: Sequence[Delivery], *, offset: int, partition: int = 0) -> None:
        """Store new deliveries and the offset, which never goes back, in one transaction."""
        rows = [(*astuple(delivery), delivery.host) for delivery in deliveries]

        def add(connection: sqlite3.Connection) -> None:
            _ADD.run(connection, rows)
            connection.execute(_MOVE, (partition, offset))

        await self._session.write(add)

    async def offset(self, partition: int = 0) -> int:
        """Return the log offset up to which deliveries were made; 0 at first."""
        query = "SELECT offset FROM outbox WHERE partition = ?"
        found = await self._session.read(lambda db: db.execute(query, (partition,)).fetchone())
        return 0 if found is None else int(found[0])

    async def due(
        self, *, now_ms: int, limit: int, without_hosts: Collection[str] = ()
    ) -> Sequence[Delivery]:
        """Return pending deliveries whose time and turn have come, the longest due first."""
        return await self._select(_DUE, (now_ms, _as_json(without_hosts), max(limit, 0)))

    async def update(self, deliveries: Sequence[Delivery]) -> None:
        """Store new attempts and statuses."""
        rows = [
            (
                delivery.status,
                delivery.attempts,
                delivery.next_attempt_at_ms,
                delivery.last_error,
                delivery.ended_at_ms,
                delivery.id,
            )
            for delivery in deliveries
        ]
        await self._session.write(lambda db: db.executemany(_UPDATE, rows))

    async def list(
        self,
        *,
        status: DeliveryStatus | None = None,
        workflow_id: str | None = None,
        after: Place | None = None,
        limit: int = 100,
    ) -> Sequence[Delivery]:
        """Return deliveries, oldest first: those behind `after`."""
        clauses, values = ["true"], builtins.list[Any]()
        for column, value in (("status", status), ("workflow_id", workflow_id)):
            if value is not None:
                clauses.append(f"{column} = ?")
                values.append(value)
        if after is not None:
            clauses.append("(created_at_ms, workflow_id, position, id) > (?, ?, ?, ?)")
            values += after
        query = f"{_SELECT} WHERE {' AND '.join(clauses)} {_OLDEST}"
        return await self._select(query, (*values, max(limit, 0)))

    async def replay(self, ids: Sequence[str], *, now_ms: int) -> int:
        """Make undelivered ones pending again, their attempts counted anew; return how many."""
        values = (now_ms, _as_json(ids))
        return await self._session.write(lambda db: db.execute(_REPLAY, values).rowcount)

    async def prune(self, *, status: EndedStatus, ended_before_ms: int, limit: int) -> int:
        """Forget deliveries that ended so before this time, the first first; return how many."""
        values = (status, ended_before_ms, max(limit, 0))
        return await self._session.write(lambda db: db.execute(_PRUNE, values).rowcount)

    async def close(self) -> None:
        """Close the file."""
        await self._session.close()

    async def _select(self, query: str, values: Row) -> Sequence[Delivery]:
        found = await self._session.read(lambda db: db.execute(query, values).fetchall())
        return [Delivery(**dict(zip(_COLUMNS, row, strict=True))) for row in found]


def _as_json(texts: Collection[str]) -> str:
    return msgspec.json.encode(list(texts)).decode()
