"""Pages of rows as one text: whole as a rule, cut where they would be too large."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import msgspec
import pytest

from orchx.adapters import sqlite_pages
from orchx.adapters.sqlite_pages import Pages

LINES = "SELECT json_array(id, data) AS line FROM things WHERE id > ? ORDER BY id LIMIT ?"
PAGE_BYTES = 1_000


@pytest.fixture
def connection(monkeypatch: pytest.MonkeyPatch) -> Iterator[sqlite3.Connection]:
    monkeypatch.setattr(sqlite_pages, "PAGE_BYTES", PAGE_BYTES)
    made = sqlite3.connect(":memory:")
    made.execute("CREATE TABLE things (id INTEGER PRIMARY KEY, data TEXT)")
    yield made
    made.close()


def fill(connection: sqlite3.Connection, *sizes: int) -> None:
    connection.executemany("INSERT INTO things (data) VALUES (?)", [("x" * n,) for n in sizes])


def walk(connection: sqlite3.Connection, pages: Pages, limit: int = 100) -> list[list[int]]:
    """Read to the end; return the sizes of the rows, by page."""
    found: list[list[int]] = []
    last = 0
    while rows := msgspec.json.decode(pages.read(connection, (last, limit)).text):
        last = rows[-1][0]
        found.append([len(data) for _, data in rows])
    return found


def test_what_fits_comes_as_one_page(connection: sqlite3.Connection) -> None:
    fill(connection, 300, 300, 300)
    page = Pages(LINES).read(connection, (0, 10))
    assert not page.cut
    assert [row[0] for row in msgspec.json.decode(page.text)] == [1, 2, 3]


def test_no_rows_are_an_empty_page(connection: sqlite3.Connection) -> None:
    assert Pages(LINES).read(connection, (0, 10)).text == "[]"


def test_a_page_ends_before_the_row_that_would_make_it_too_large(
    connection: sqlite3.Connection,
) -> None:
    fill(connection, 400, 400, 400, 10, 10)
    page = Pages(LINES).read(connection, (0, 10))
    assert page.cut
    assert len(page.text) <= PAGE_BYTES
    assert walk(connection, Pages(LINES)) == [[400, 400], [400, 10, 10]]


def test_a_row_larger_than_a_page_comes_alone(connection: sqlite3.Connection) -> None:
    fill(connection, 10, 5_000, 10)
    assert walk(connection, Pages(LINES)) == [[10], [5_000], [10]]


def test_only_the_first_of_many_large_pages_is_read_in_vain(
    connection: sqlite3.Connection,
) -> None:
    fill(connection, *[400] * 8)
    joins: list[str] = []
    connection.set_trace_callback(lambda sql: joins.append(sql) if "group_concat" in sql else None)
    pages = Pages(LINES)
    assert walk(connection, pages, limit=6) == [[400, 400]] * 4
    # the last two rows are a whole page again: the empty one after it is read at once
    assert len(joins) == 2


def test_a_limit_that_is_there_already_is_neither_loosened_nor_forgotten(
    connection: sqlite3.Connection,
) -> None:
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 700)
    fill(connection, 400, 400)
    assert walk(connection, Pages(LINES)) == [[400, 400]]  # a page takes two, a text one
    assert connection.getlimit(sqlite3.SQLITE_LIMIT_LENGTH) == 700


def test_another_error_is_not_taken_for_a_large_page(connection: sqlite3.Connection) -> None:
    with pytest.raises(sqlite3.OperationalError):
        Pages("SELECT nothing AS line FROM things WHERE id > ? LIMIT ?").read(connection, (0, 1))
