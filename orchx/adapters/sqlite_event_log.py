"""The event log in one SQLite file that many processes append to.

Read it with any SQLite shell: `select offset, workflow_id, data from events`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from orchx.adapters.sqlite_connection import Database, Row, RowInsert
from orchx.adapters.sqlite_group_commit import GroupCommit, Ticket
from orchx.adapters.sqlite_pages import Pages
from orchx.adapters.sqlite_session import SqliteSession
from orchx.domain.events import (
    SCHEMA_VERSION,
    AnyEvent,
    Record,
    WorkflowActivated,
    encode_event,
    type_of,
)
from orchx.errors import DriverError
from orchx.ports.event_log import Claim, Claimed

SCHEMA: Final = (
    """CREATE TABLE events (
        offset INTEGER PRIMARY KEY,
        workflow_id TEXT NOT NULL,
        epoch INTEGER NOT NULL,
        owner TEXT NOT NULL,
        seq INTEGER NOT NULL,
        at_ms INTEGER NOT NULL,
        type TEXT NOT NULL,
        traceparent TEXT,
        version INTEGER NOT NULL,
        data TEXT NOT NULL
    )""",
    "CREATE INDEX events_of_workflow ON events (workflow_id, offset)",
    # One entry per claim: the highest epoch of a workflow is one seek away.
    """CREATE INDEX activations ON events (workflow_id, epoch)
        WHERE type = 'workflow.activated'""",
    "CREATE TABLE definitions (digest TEXT PRIMARY KEY, document TEXT NOT NULL)",
)
_INSERT: Final = RowInsert(
    "events",
    (
        "workflow_id",
        "epoch",
        "owner",
        "seq",
        "at_ms",
        "type",
        "traceparent",
        "version",
        "data",
    ),
)
_PIN: Final = RowInsert("definitions", ("digest", "document"), "ON CONFLICT DO NOTHING")
_OFFSET_MAX: Final = 2**63 - 1
_ACTIVATED: Final = WorkflowActivated()

# Rows come back as one JSON text, which msgspec turns into objects in one call. `data` is
# JSON already.
_SELECT: Final = """
    SELECT '[' || offset || ',' || json_quote(workflow_id) || ',' || epoch || ','
        || json_quote(owner) || ',' || seq || ',' || at_ms || ','
        || json_quote(traceparent) || ',' || version || ',' || data || ']' AS line
    FROM events WHERE """
_READ: Final = _SELECT + "workflow_id = ? AND offset > ? AND offset <= ? ORDER BY offset LIMIT ?"
_TAIL: Final = _SELECT + "offset > ? ORDER BY offset LIMIT ?"

_STANDINGS: Final = """
    SELECT json_group_array(json_array(
        claimed.value,
        (SELECT max(epoch) FROM events
            WHERE workflow_id = claimed.value AND type = 'workflow.activated'),
        EXISTS (SELECT 1 FROM events WHERE workflow_id = claimed.value)))
    FROM json_each(?) AS claimed"""

_EPOCHS: Final = """
    SELECT json_group_array(json_array(wanted.value,
        (SELECT max(epoch) FROM events
            WHERE workflow_id = wanted.value AND type = 'workflow.activated')))
    FROM json_each(?) AS wanted"""


class _Line(msgspec.Struct, array_like=True):
    offset: int
    workflow_id: str
    epoch: int
    owner: str
    seq: int
    at_ms: int
    traceparent: str | None
    version: int
    event: AnyEvent


_lines: Final = msgspec.json.Decoder(list[_Line])
_epochs: Final = msgspec.json.Decoder(list[tuple[str, int | None]])
_standings: Final = msgspec.json.Decoder(list[tuple[str, int | None, bool | int]])


@dataclass(frozen=True, slots=True)
class _Append:
    rows: list[Row]


@dataclass(frozen=True, slots=True)
class _ClaimWork:
    claim: Claim
    opening: list[tuple[str, str]]  # type and stored form of each opening event


_Work: TypeAlias = _Append | _ClaimWork


@dataclass(slots=True)
class _Standing:
    epoch: int
    known: bool


@dataclass(frozen=True, slots=True)
class _Won:
    epoch: int
    last_place: int  # counted in rows from the start of the batch, from 1
    new: bool
    opened: bool


class SqliteEventLog:
    """An `EventLog`: every commit is one fsync for all that wait in this process."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open the log at `path`, making it if need be; `read_only`, only what is there.

        Raises:
            StorageFull, DriverError: the file cannot be opened or is not a log.
        """
        self._database = Database(path, SCHEMA, "FULL", read_only=read_only)
        self._reader = SqliteSession(path, SCHEMA, "FULL", read_only=read_only)
        self._histories, self._tails = Pages(_READ), Pages(_TAIL)
        self._commits: GroupCommit[_Work] = GroupCommit(
            f"{path.stem}-commit", self._commit, self._database.close
        )

    async def append(self, records: Sequence[Record]) -> None:
        """Append all of them or none; on return they are durable."""
        if records:
            rows = [_row(record) for record in records]
            await self._commits.submit(_Append(rows), sum(len(row[-1]) for row in rows))

    async def claim(self, claim: Claim) -> Claimed:
        """Append `activated{epoch: highest + 1}`, the opening if it is the first; read back."""
        opening = [(type_of(event), encode_event(event).decode()) for event in claim.opening]
        size = sum(len(data) for _, data in opening)
        won, last = await self._commits.submit(_ClaimWork(claim, opening), size)
        if won.new:
            history: Sequence[Record] = _opened(claim, won, last)
        else:
            # After the commit and outside the lock: what is in the log never changes.
            history = await self._read(claim.workflow_id, 0, last, None)
        return Claimed(epoch=won.epoch, history=history, opened=won.opened)

    async def read(
        self, workflow_id: str, *, after_offset: int = 0, limit: int | None = None
    ) -> Sequence[Record]:
        """Return records of the workflow in log order; all of them, if there is no limit."""
        return await self._read(workflow_id, after_offset, _OFFSET_MAX, limit)

    async def _read(
        self, workflow_id: str, after_offset: int, up_to: int, limit: int | None
    ) -> Sequence[Record]:
        count = -1 if limit is None else max(limit, 0)
        found: list[Record] = []
        while True:
            values = (workflow_id, after_offset, up_to, count)
            records, cut = await self._records(self._histories, values)
            found += records
            if limit is not None or not cut:
                return found
            after_offset = found[-1].offset

    async def epochs(self, workflow_ids: Sequence[str]) -> Mapping[str, int]:
        """Return the highest epoch of each workflow that has one: one query for all."""
        wanted = msgspec.json.encode(workflow_ids).decode()
        text: str = await self._reader.read(lambda db: db.execute(_EPOCHS, (wanted,)).fetchone()[0])
        return {workflow_id: epoch for workflow_id, epoch in _epochs.decode(text) if epoch}

    async def partitions(self) -> int:
        """Return 1: the file is one partition."""
        return 1

    async def tail(self, after_offset: int, *, limit: int, partition: int = 0) -> Sequence[Record]:
        """Return up to `limit` records after an offset, in log order."""
        records, _ = await self._records(self._tails, (after_offset, max(limit, 0)))
        return records

    async def _records(self, pages: Pages, values: Row) -> tuple[list[Record], bool]:
        """Return a page of records, and whether it was cut short."""
        page = await self._reader.read(lambda db: pages.read(db, values))
        try:
            return [_record(line) for line in _lines.decode(page.text)], page.cut
        except msgspec.MsgspecError as error:
            raise DriverError(f"the log holds what this release cannot read: {error}") from error

    async def last_offset(self, partition: int = 0) -> int:
        """Return the offset of the last durable record; 0 if there is none."""
        query = "SELECT coalesce(max(offset), 0) FROM events"
        last: int = await self._reader.read(lambda db: db.execute(query).fetchone()[0])
        return last

    async def definition(self, digest: str) -> bytes | None:
        """Return the plan pinned under this digest."""
        query = "SELECT document FROM definitions WHERE digest = ?"
        found = await self._reader.read(lambda db: db.execute(query, (digest,)).fetchone())
        return None if found is None else str(found[0]).encode()

    async def close(self) -> None:
        """Commit what is under way and close the file."""
        await self._commits.close()
        await self._reader.close()

    def _commit(self, batch: Sequence[Ticket[_Work]]) -> Iterator[Sequence[Ticket[_Work]]]:
        rows: list[Row] = []
        database = self._database
        if any(isinstance(ticket.work, _ClaimWork) for ticket in batch):
            with database.writing() as connection:
                batch = [ticket for ticket in batch if not ticket.abandoned]
                pins = _place(batch, rows, _standings_of(connection, batch))
                last = _INSERT.run(connection, rows)
                _PIN.run(connection, pins)
        else:
            one = _INSERT.fits_one_statement(sum(map(_row_count, batch)))
            with database.writing_once() if one else database.writing() as connection:
                batch = [ticket for ticket in batch if not ticket.abandoned]
                _place(batch, rows, {})
                last = _INSERT.run(connection, rows)
        before = last - len(rows)
        for ticket in batch:
            place = ticket.outcome
            if isinstance(place, _Won):
                ticket.outcome = place, before + place.last_place
            else:
                ticket.outcome = before + place
        yield batch


def _row_count(ticket: Ticket[_Work]) -> int:
    return len(ticket.work.rows) if isinstance(ticket.work, _Append) else 0


def _place(
    batch: Sequence[Ticket[_Work]], rows: list[Row], standings: dict[str, _Standing]
) -> list[Row]:
    """Put the rows of all tickets in order; return the definitions to pin.

    `standings` has the claimed workflows, and is kept true for later tickets of the batch.
    """
    pins: list[Row] = []
    for ticket in batch:
        work = ticket.work
        if isinstance(work, _Append):
            rows.extend(work.rows)
            ticket.outcome = len(rows)
            if standings:
                _note_append(work.rows, standings)
            continue
        claim = work.claim
        standing = standings[claim.workflow_id]
        epoch = standing.epoch + 1
        new = not standing.known
        rows.append(_claim_row(claim, epoch, 0, *_ACTIVATION))
        if new:
            for seq, (kind, data) in enumerate(work.opening, 1):
                rows.append(_claim_row(claim, epoch, seq, kind, data))
            if claim.digest is not None and claim.definition is not None:
                pins.append((claim.digest, claim.definition.decode()))
        standings[claim.workflow_id] = _Standing(epoch, known=True)
        ticket.outcome = _Won(epoch, len(rows), new, opened=new and bool(work.opening))
    return pins


def _note_append(rows: Sequence[Row], standings: dict[str, _Standing]) -> None:
    for row in rows:
        standing = standings.get(row[0])
        if standing is not None:
            standing.known = True
            if row[5] == _ACTIVATION[0]:
                standing.epoch = max(standing.epoch, row[1])


def _standings_of(
    connection: sqlite3.Connection, batch: Sequence[Ticket[_Work]]
) -> dict[str, _Standing]:
    claimed = {
        ticket.work.claim.workflow_id for ticket in batch if isinstance(ticket.work, _ClaimWork)
    }
    text = msgspec.json.encode(sorted(claimed)).decode()
    (found,) = connection.execute(_STANDINGS, (text,)).fetchone()
    return {
        workflow_id: _Standing(epoch or 0, known=bool(known))
        for workflow_id, epoch, known in _standings.decode(found)
    }


def _opened(claim: Claim, won: _Won, last: int) -> list[Record]:
    events: list[AnyEvent] = [_ACTIVATED, *claim.opening]
    first = last - len(events) + 1
    return [
        Record(
            workflow_id=claim.workflow_id,
            epoch=won.epoch,
            owner=claim.owner,
            seq=seq,
            at_ms=claim.at_ms,
            event=event,
            traceparent=claim.traceparent,
            offset=first + seq,
        )
        for seq, event in enumerate(events)
    ]


_ACTIVATION: Final = (type_of(_ACTIVATED), encode_event(_ACTIVATED).decode())


def _claim_row(claim: Claim, epoch: int, seq: int, kind: str, data: str) -> Row:
    return (
        claim.workflow_id,
        epoch,
        claim.owner,
        seq,
        claim.at_ms,
        kind,
        claim.traceparent,
        SCHEMA_VERSION,
        data,
    )


def _row(record: Record) -> Row:
    return (
        record.workflow_id,
        record.epoch,
        record.owner,
        record.seq,
        record.at_ms,
        type_of(record.event),
        record.traceparent,
        record.version,
        encode_event(record.event).decode(),
    )


def _record(line: _Line) -> Record:
    return Record(
        workflow_id=line.workflow_id,
        epoch=line.epoch,
        owner=line.owner,
        seq=line.seq,
        at_ms=line.at_ms,
        event=line.event,
        traceparent=line.traceparent,
        version=line.version,
        offset=line.offset,
    )
