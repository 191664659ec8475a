"""The current state of every workflow in one SQLite file, as a projection of the log.

A power cut may cost the latest commits (synchronous=NORMAL); the offset goes back with
them, and the projector does the rest again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from orchx.adapters.listing_cursor import cursor_behind, place_of
from orchx.adapters.sqlite_connection import Row, RowInsert
from orchx.adapters.sqlite_pages import Pages
from orchx.adapters.sqlite_session import SqliteSession
from orchx.ports.state_store import Filter, Page, WorkflowSummary

PAGE_MAX: Final = 1_000

SCHEMA: Final = (
    """CREATE TABLE workflows (
        workflow_id TEXT PRIMARY KEY,
        status TEXT NOT NULL,
        namespace TEXT NOT NULL,
        name TEXT NOT NULL,
        tenant TEXT NOT NULL,
        type TEXT,
        created_at_ms INTEGER NOT NULL,
        data TEXT NOT NULL
    )""",
    "CREATE INDEX newest ON workflows (created_at_ms DESC, workflow_id DESC)",
    "CREATE INDEX newest_of_status ON workflows (status, created_at_ms DESC, workflow_id DESC)",
    """CREATE INDEX unfinished ON workflows (workflow_id)
        WHERE status NOT IN ('cancelled', 'completed', 'faulted')""",
    "CREATE TABLE projection (partition INTEGER PRIMARY KEY, offset INTEGER NOT NULL)",
)
COLUMNS: Final = (
    "workflow_id",
    "status",
    "namespace",
    "name",
    "tenant",
    "type",
    "created_at_ms",
    "data",
)
_UPSERT: Final = RowInsert(
    "workflows",
    COLUMNS,
    "ON CONFLICT (workflow_id) DO UPDATE SET "
    + ", ".join(f"{column} = excluded.{column}" for column in COLUMNS[1:]),
)

_MOVE: Final = """
    INSERT INTO projection VALUES (?, ?)
    ON CONFLICT DO UPDATE SET offset = excluded.offset WHERE offset < excluded.offset"""
_LOAD: Final = """
    SELECT data AS line FROM workflows
    WHERE workflow_id IN (SELECT value FROM json_each(?))"""
_UNFINISHED: Final = """
    SELECT data AS line FROM workflows INDEXED BY unfinished
    WHERE status NOT IN ('cancelled', 'completed', 'faulted') AND workflow_id > ?
    ORDER BY workflow_id LIMIT ?"""
_CONDITIONS: Final = {
    "namespace": "namespace = ?",
    "name": "name = ?",
    "tenant": "tenant = ?",
    "type": "type = ?",
    "created_after_ms": "created_at_ms > ?",
    "created_before_ms": "created_at_ms < ?",
}
_LABEL: Final = (
    "EXISTS (SELECT 1 FROM json_each(data, '$.labels') AS label"
    " WHERE label.key = ? AND label.value = ?)"
)

_encoder: Final = msgspec.json.Encoder()
_summaries: Final = msgspec.json.Decoder(list[WorkflowSummary])


class SqliteStateStore:
    """A `StateStore`."""

    def __init__(self, path: Path) -> None:
        """Open the store at `path`, making it if need be.

        Raises:
            StorageFull, DriverError: the file cannot be opened or is not a state store.
        """
        self._writer = SqliteSession(path, SCHEMA, "NORMAL")
        self._reader = SqliteSession(path, SCHEMA, "NORMAL")
        self._loaded, self._unfinished = Pages(_LOAD), Pages(_UNFINISHED)

    async def load(self, workflow_ids: Sequence[str]) -> Mapping[str, WorkflowSummary]:
        """Return the summaries that exist."""
        found: dict[str, WorkflowSummary] = {}
        wanted = list(workflow_ids)
        while wanted:
            page, cut = await self._summaries(self._loaded, (_encoder.encode(wanted).decode(),))
            found.update((summary.workflow_id, summary) for summary in page)
            wanted = [key for key in wanted if key not in found] if cut else []
        return found

    async def save(
        self, summaries: Sequence[WorkflowSummary], *, offset: int, partition: int = 0
    ) -> None:
        """Store summaries and the offset in one transaction; older offsets change nothing."""
        # The last one of a workflow counts; an upsert may not meet a row twice.
        rows = list({summary.workflow_id: _row(summary) for summary in summaries}.values())

        def save(connection: sqlite3.Connection) -> None:
            if connection.execute(_MOVE, (partition, offset)).rowcount:
                _UPSERT.run(connection, rows)

        await self._writer.write(save)

    async def offset(self, partition: int = 0) -> int:
        """Return the offset up to which the projection holds."""
        query = "SELECT offset FROM projection WHERE partition = ?"
        found = await self._reader.read(lambda db: db.execute(query, (partition,)).fetchone())
        return 0 if found is None else int(found[0])

    async def list(self, filter_: Filter) -> Page:
        """Return one page, newest first."""
        limit = min(max(filter_.limit, 1), PAGE_MAX)
        where, values = _where(filter_)
        query = (
            f"SELECT data AS line FROM workflows WHERE {where}"  # noqa: S608  constants
            " ORDER BY created_at_ms DESC, workflow_id DESC LIMIT ?"
        )
        found, cut = await self._summaries(Pages(query), (*values, limit + 1))
        page = found[:limit]
        more = cut or len(found) > limit
        return Page(workflows=page, cursor=cursor_behind(page[-1]) if more else None)

    async def unfinished(self, *, after_id: str, limit: int) -> Sequence[WorkflowSummary]:
        """Return non-terminal workflows in id order."""
        found, _ = await self._summaries(self._unfinished, (after_id, max(limit, 0)))
        return found

    async def counts(self) -> Mapping[str, int]:
        """Count workflows by status."""
        query = "SELECT status, count(*) FROM workflows GROUP BY status"
        return dict(await self._reader.read(lambda db: db.execute(query).fetchall()))

    async def reset(self) -> None:
        """Drop everything, to be rebuilt from the log."""

        def reset(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM workflows")
            connection.execute("DELETE FROM projection")

        await self._writer.write(reset)

    async def close(self) -> None:
        """Close the file."""
        await self._writer.close()
        await self._reader.close()

    async def _summaries(self, pages: Pages, values: Row) -> tuple[Sequence[WorkflowSummary], bool]:
        """Return a page of summaries, and whether it was cut short."""
        page = await self._reader.read(lambda db: pages.read(db, values))
        return _summaries.decode(page.text), page.cut


def _row(summary: WorkflowSummary) -> Row:
    return (
        summary.workflow_id,
        summary.status,
        summary.namespace,
        summary.name,
        summary.tenant,
        summary.type,
        summary.created_at_ms,
        _encoder.encode(summary).decode(),
    )


def _where(filter_: Filter) -> tuple[str, Row]:
    clauses: list[str] = ["true"]
    values: list[Any] = []
    if filter_.status:
        clauses.append(f"status IN ({', '.join('?' * len(filter_.status))})")
        values += filter_.status
    for field, condition in _CONDITIONS.items():
        value = getattr(filter_, field)
        if value is not None:
            clauses.append(condition)
            values.append(value)
    for label in filter_.labels:
        clauses.append(_LABEL)
        values += label
    if filter_.cursor is not None:
        clauses.append("(created_at_ms, workflow_id) < (?, ?)")
        values += place_of(filter_.cursor)
    return " AND ".join(clauses), tuple(values)
