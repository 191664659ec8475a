"""What the projection in a SQLite file holds, row by row, for comparing two files."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from orchx.adapters.sqlite_session import SqliteSession
from orchx.adapters.sqlite_state_store import COLUMNS, SCHEMA
from orchx.engine.comparison import Item
from orchx.ports.state_store import WorkflowSummary

PAGE_ROWS: Final = 1_000

_ROWS: Final = f"SELECT {', '.join(COLUMNS)} FROM workflows "  # noqa: S608  constants
_NEXT: Final = _ROWS + "WHERE workflow_id > ? ORDER BY workflow_id LIMIT ?"
_THESE: Final = _ROWS + "WHERE workflow_id IN (SELECT value FROM json_each(?))"  # noqa: S608  constants
_OFFSET: Final = "SELECT coalesce(max(offset), 0) FROM projection WHERE partition = 0"

_summary: Final = msgspec.json.Decoder(WorkflowSummary)


class SqliteStates:
    """The rows of `SqliteStateStore`, each true up to where the file was when it was read."""

    def __init__(self, path: Path) -> None:
        """Open the file at `path`.

        Raises:
            DriverError: it cannot be opened.
        """
        self._session = SqliteSession(path, SCHEMA, "NORMAL")

    async def items(self) -> AsyncIterator[Item]:
        """Yield all of them, in ascending order of the workflows' ids."""
        after = ""
        while page := await self._read(_NEXT, (after, PAGE_ROWS)):
            for item in page:
                yield item
            after = page[-1].key

    async def look_up(self, keys: Sequence[str]) -> Mapping[str, Item]:
        """Return those that exist."""
        wanted = msgspec.json.encode(list(keys)).decode()
        return {item.key: item for item in await self._read(_THESE, (wanted,))}

    async def close(self) -> None:
        """Close the file."""
        await self._session.close()

    async def _read(self, query: str, values: tuple[Any, ...]) -> list[Item]:
        def read(connection: sqlite3.Connection) -> list[Item]:
            connection.execute("BEGIN")  # one moment for both
            try:
                (offset,) = connection.execute(_OFFSET).fetchone()
                rows = connection.execute(query, values).fetchall()
            finally:
                connection.execute("COMMIT")
            return [_item(row, offset) for row in rows]

        return await self._session.read(read)


def _item(row: tuple[Any, ...], offset: int) -> Item:
    return Item(key=row[0], raw=row, fields=lambda: _fields(row), offset=offset)


def _fields(row: tuple[Any, ...]) -> Mapping[str, object]:
    fields = dict(zip(COLUMNS, row, strict=True))
    data = fields.pop("data")
    try:
        # By what it says, not how: an older release wrote fewer fields.
        summary = msgspec.to_builtins(_summary.decode(data))
    except (msgspec.MsgspecError, TypeError) as error:
        return {**fields, "data": data, "data is unreadable": str(error)}
    return {**fields, **{f"data.{name}": value for name, value in summary.items()}}
