"""The command queue in one SQLite file."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

import msgspec
import structlog

from orchx.adapters.sqlite_connection import Database, Row, RowInsert
from orchx.adapters.sqlite_group_commit import GroupCommit, Ticket
from orchx.adapters.sqlite_pages import Pages
from orchx.adapters.sqlite_session import SqliteSession
from orchx.adapters.system_clock import SystemClock
from orchx.domain.messages import AnyCommand, StartWorkflow, content_of
from orchx.errors import Conflict, DriverError
from orchx.ports.clock import Clock
from orchx.ports.command_queue import Accepted, Backlog, Known

ARRIVALS_PAUSE_S: Final = 1.0
PRUNE_ROWS_MAX: Final = 5_000  # per transaction, so that nobody waits long for the lock

SCHEMA: Final = (
    # AUTOINCREMENT: a position that was pruned is never given again.
    """CREATE TABLE commands (
        position INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        workflow_id TEXT NOT NULL,
        kind TEXT NOT NULL,
        tenant TEXT,
        priority INTEGER,
        created_at_ms INTEGER NOT NULL,
        digest TEXT NOT NULL,
        payload TEXT NOT NULL,
        done_at_ms INTEGER
    )""",
    # `done_at_ms` only makes it cover the backlog's query.
    """CREATE INDEX waiting ON commands (position, tenant, done_at_ms)
        WHERE done_at_ms IS NULL""",
    """CREATE INDEX done ON commands (created_at_ms) WHERE done_at_ms IS NOT NULL""",
    "CREATE TABLE pruned (id INTEGER PRIMARY KEY CHECK (id = 1), before_ms INTEGER NOT NULL)",
    "INSERT INTO pruned VALUES (1, 0)",
)
_INSERT: Final = RowInsert(
    "commands",
    (
        "id",
        "workflow_id",
        "kind",
        "tenant",
        "priority",
        "created_at_ms",
        "digest",
        "payload",
    ),
)
_KNOWN: Final = """
    SELECT json_group_array(json_array(id, digest)) FROM commands
    WHERE id IN (SELECT value FROM json_each(?))"""
_PENDING: Final = """
    SELECT '[' || position || ',' || payload || ']' AS line
    FROM commands INDEXED BY waiting
    WHERE done_at_ms IS NULL AND position > ? ORDER BY position LIMIT ?"""
_BACKLOG: Final = """
    SELECT tenant, count(*) FROM commands INDEXED BY waiting
    WHERE done_at_ms IS NULL GROUP BY tenant"""
_ACKNOWLEDGE: Final = """
    UPDATE commands SET done_at_ms = ?
    WHERE id IN (SELECT value FROM json_each(?)) AND done_at_ms IS NULL"""
_PRUNE: Final = """
    DELETE FROM commands WHERE position IN (
        SELECT position FROM commands
        WHERE done_at_ms IS NOT NULL AND created_at_ms < ? LIMIT ?)"""

T = TypeVar("T")

logger = structlog.get_logger(__name__)

_content: Final = msgspec.json.Encoder(order="sorted")
_encoder: Final = msgspec.json.Encoder()
_command: Final = msgspec.json.Decoder(AnyCommand)
_pending: Final = msgspec.json.Decoder(list[tuple[int, AnyCommand]])
_raw_pending: Final = msgspec.json.Decoder(list[tuple[int, msgspec.Raw]])
_known: Final = msgspec.json.Decoder(list[tuple[str, str]])


@dataclass(frozen=True, slots=True)
class _Put:
    rows: list[Row]


@dataclass(frozen=True, slots=True)
class _Acknowledge:
    command_ids: Sequence[str]


_Work: TypeAlias = _Put | _Acknowledge


class SqliteCommandQueue:
    """A `CommandQueue`. Puts cost one fsync for all that wait; acknowledgements none."""

    def __init__(self, path: Path, clock: Clock | None = None) -> None:
        """Open the queue at `path`, making it if need be.

        Raises:
            StorageFull, DriverError: the file cannot be opened or is not a queue.
        """
        self._clock = clock or SystemClock()
        self._database = Database(path, SCHEMA, "FULL")
        self._quick = Database(path, SCHEMA, "NORMAL")
        self._reader = SqliteSession(path, SCHEMA, "NORMAL")
        self._pages = Pages(_PENDING)
        self._commits: GroupCommit[_Work] = GroupCommit(
            f"{path.stem}-commit", self._commit, self._close_databases
        )

    async def put(self, commands: Sequence[AnyCommand]) -> Sequence[Accepted]:
        """Store commands; on return they are durable."""
        if not commands:
            return ()
        rows = [_row(command) for command in commands]
        size = sum(len(row[-1]) for row in rows)
        accepted: Sequence[Accepted] = await self._commits.submit(_Put(rows), size)
        return accepted

    async def pending(self, *, after_position: int, limit: int) -> Sequence[tuple[int, AnyCommand]]:
        """Return commands not yet acknowledged, oldest first."""
        while True:
            values = (after_position, max(limit, 0))
            page = await self._reader.read(partial(self._pages.read, values=values))
            try:
                return _pending.decode(page.text)
            except msgspec.MsgspecError:
                rows = self._decoded(_raw_pending, page.text)
            readable = [row for position, raw in rows for row in _readable(position, raw)]
            if readable:
                return readable
            after_position = rows[-1][0]

    async def hold(self, partitions: Collection[int]) -> None:
        """Do nothing: there is one partition."""

    async def arrivals(
        self, *, after_position: int, known: Known
    ) -> tuple[int, Sequence[AnyCommand]]:
        """Return nothing, after a while: whatever is put is offered."""
        await asyncio.sleep(ARRIVALS_PAUSE_S)
        return after_position, ()

    async def find(self, command_id: str) -> AnyCommand | None:
        """Return a command, acknowledged or not, unless it was pruned."""
        query = "SELECT payload FROM commands WHERE id = ?"
        found = await self._reader.read(lambda db: db.execute(query, (command_id,)).fetchone())
        return None if found is None else self._decoded(_command, found[0])

    async def acknowledge(self, command_ids: Sequence[str]) -> None:
        """Mark commands as applied."""
        if command_ids:
            await self._commits.submit(_Acknowledge(command_ids))

    async def backlog(self) -> Backlog:
        """Count what is not acknowledged; commands of no tenant only count in the total."""
        found = await self._reader.read(lambda db: db.execute(_BACKLOG).fetchall())
        by_tenant = {tenant: count for tenant, count in found if tenant is not None}
        return Backlog(total=sum(count for _, count in found), by_tenant=by_tenant)

    async def prune(self, *, older_than_ms: int) -> int:
        """Forget acknowledged commands accepted before this time; return how many."""

        def prune(connection: sqlite3.Connection) -> int:
            connection.execute("UPDATE pruned SET before_ms = max(before_ms, ?)", (older_than_ms,))
            return connection.execute(_PRUNE, (older_than_ms, PRUNE_ROWS_MAX)).rowcount

        total = 0
        while True:
            count = await self._reader.write(prune)
            total += count
            if count < PRUNE_ROWS_MAX:
                return total

    async def pruned_before_ms(self) -> int:
        """Return the latest time that `prune` was called with; 0 if it never was."""
        query = "SELECT before_ms FROM pruned"
        found: int = await self._reader.read(lambda db: db.execute(query).fetchone()[0])
        return found

    async def close(self) -> None:
        """Commit what is under way and close the file."""
        await self._commits.close()
        await self._reader.close()

    @staticmethod
    def _decoded(decoder: msgspec.json.Decoder[T], text: str) -> T:
        try:
            return decoder.decode(text)
        except msgspec.MsgspecError as error:
            raise DriverError(f"the queue holds what this release cannot read: {error}") from error

    def _close_databases(self) -> None:
        self._quick.close()
        self._database.close()

    def _commit(self, batch: Sequence[Ticket[_Work]]) -> Iterator[Sequence[Ticket[_Work]]]:
        puts = [ticket for ticket in batch if isinstance(ticket.work, _Put)]
        if puts:
            try:
                self._put_new(puts)
            except sqlite3.IntegrityError:
                self._put_with_known(puts)
            yield puts
        acknowledgements = [ticket for ticket in batch if isinstance(ticket.work, _Acknowledge)]
        if acknowledgements:
            self._acknowledge(acknowledgements)
            yield acknowledgements

    def _put_new(self, puts: Sequence[Ticket[_Work]]) -> None:
        """Insert everything at once, as if no id were known: it nearly always is so.

        Raises:
            IntegrityError: an id was known, or came twice; nothing was stored.
        """
        one = _INSERT.fits_one_statement(sum(len(_rows(ticket)) for ticket in puts))
        database = self._database
        with database.writing_once() if one else database.writing() as connection:
            rows = [row for ticket in puts if not ticket.abandoned for row in _rows(ticket)]
            _INSERT.run(connection, rows)
        for ticket in puts:
            ticket.outcome = [Accepted(command_id=row[0], duplicate=False) for row in _rows(ticket)]

    def _put_with_known(self, puts: Sequence[Ticket[_Work]]) -> None:
        ids = sorted({row[0] for ticket in puts for row in _rows(ticket)})
        fresh: list[Row] = []
        with self._database.writing() as connection:
            (text,) = connection.execute(_KNOWN, (_encoder.encode(ids).decode(),)).fetchone()
            known = dict(_known.decode(text))
            for ticket in puts:
                if not ticket.abandoned:
                    fresh.extend(_judge(ticket, known))
            _INSERT.run(connection, fresh)

    def _acknowledge(self, tickets: Sequence[Ticket[_Work]]) -> None:
        ids = [
            command_id
            for ticket in tickets
            if isinstance(ticket.work, _Acknowledge)
            for command_id in ticket.work.command_ids
        ]
        with self._quick.writing_once() as connection:
            text = _encoder.encode(ids).decode()
            connection.execute(_ACKNOWLEDGE, (self._clock.now_ms(), text))


def _readable(position: int, raw: msgspec.Raw) -> list[tuple[int, AnyCommand]]:
    """Return the row, or nothing for one that only another release can read."""
    try:
        return [(position, _command.decode(raw))]
    except msgspec.MsgspecError as error:
        logger.error("a command cannot be read, and waits", position=position, error=str(error))
        return []


def _judge(ticket: Ticket[_Work], known: dict[str, str]) -> list[Row]:
    """Set the outcome of one put; return its new rows and note them in `known`."""
    fresh: dict[str, Row] = {}
    accepted: list[Accepted] = []
    for row in _rows(ticket):
        command_id, digest = row[0], row[_DIGEST]
        there = fresh[command_id][_DIGEST] if command_id in fresh else known.get(command_id)
        if there is None:
            fresh[command_id] = row
        elif there != digest:
            ticket.outcome = Conflict(
                f"command id {command_id!r} was used before with another content"
            )
            return []
        accepted.append(Accepted(command_id=command_id, duplicate=there is not None))
    known.update((command_id, row[_DIGEST]) for command_id, row in fresh.items())
    ticket.outcome = accepted
    return list(fresh.values())


def _rows(ticket: Ticket[_Work]) -> list[Row]:
    return ticket.work.rows if isinstance(ticket.work, _Put) else []


_DIGEST: Final = 6


def _row(command: AnyCommand) -> Row:
    start = command if isinstance(command, StartWorkflow) else None
    return (
        command.id,
        command.workflow_id,
        str(command.__struct_config__.tag),
        start.request.tenant if start else None,
        start.request.priority if start else None,
        command.created_at_ms,
        _digest(command),
        _encoder.encode(command).decode(),
    )


def _digest(command: AnyCommand) -> str:
    """Return what tells a repetition from another use of the id."""
    return hashlib.sha256(_content.encode(content_of(command))).hexdigest()
