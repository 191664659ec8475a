"""Rows as one JSON text, in pages that are bounded in bytes.

Fetching rows one by one costs the interpreter's lock at each, so SQLite joins them into one
text (docs/adr/0004-embedded-storage.md). It refuses to make one of over 1e9 bytes, and far
less is too much for the event loop that has to decode it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Final

from orchx.adapters.sqlite_connection import Row

PAGE_BYTES: Final = 16 * 1_048_576
_JOINED: Final = "SELECT '[' || coalesce(group_concat(line, ','), '') || ']' FROM"


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPage:
    """A JSON array of rows. `cut`: there are more, which would have made it too large."""

    text: str
    cut: bool


class Pages:
    """One query, read in pages of at most `PAGE_BYTES`, or of one row that is larger.

    A page that would be too large is read row by row until it is full, and so are those after
    it until one is whole again: only the first of them is read in vain.
    """

    def __init__(self, lines: str) -> None:
        """`lines` selects the rows in order, each as one JSON text named `line`."""
        self._lines = lines
        self._joined = f"{_JOINED} ({lines})"
        self._large = False

    def read(self, connection: sqlite3.Connection, values: Row) -> TextPage:
        """Return the page that the query gives for these values."""
        if not self._large:
            try:
                with _texts_of_a_page(connection):
                    (text,) = connection.execute(self._joined, values).fetchone()
                return TextPage(text=text, cut=False)
            except sqlite3.DataError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_TOOBIG:
                    raise
        return self._filled(connection, values)

    def _filled(self, connection: sqlite3.Connection, values: Row) -> TextPage:
        lines: list[str] = []
        size = 0
        self._large = True
        with closing(connection.execute(self._lines, values)) as rows:
            for (line,) in rows:
                size += len(line)
                if lines and size > PAGE_BYTES:
                    break
                lines.append(line)
            else:
                self._large = False
        return TextPage(text=f"[{','.join(lines)}]", cut=self._large)


@contextmanager
def _texts_of_a_page(connection: sqlite3.Connection) -> Iterator[None]:
    """Have SQLite refuse to make a text that is larger than a page."""
    before = connection.getlimit(sqlite3.SQLITE_LIMIT_LENGTH)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, min(before, PAGE_BYTES))
    try:
        yield
    finally:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, before)
