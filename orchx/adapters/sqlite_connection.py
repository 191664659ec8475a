"""Opening SQLite files that several processes write to, and saying what went wrong.

SQLite lets one process write at a time. Whoever finds it taken sleeps and tries again,
by turns of luck; so a writer here first takes a `flock` on a file beside the database,
which the kernel hands over at once. Checkpoints run under the same lock (they are part of
a commit or of `close`), so that no checkpoint ever meets a writer: SQLite before 3.51.3
can corrupt a WAL file there (https://sqlite.org/wal.html#walresetbug).
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from orchx.errors import DriverError, OrchxError, StorageFull

BUSY_TIMEOUT_S: Final = 5.0  # a net: a writer that ignores the lock file (a SQLite shell)
CHECKPOINT_PAGES: Final = 1000
STATEMENT_ROWS_MAX: Final = 128
CACHED_STATEMENTS: Final = 256
SCHEMA_VERSION: Final = 3

Row: TypeAlias = tuple[Any, ...]


def translated(error: sqlite3.Error, path: Path) -> OrchxError:
    """Return the error of our tree that a SQLite error stands for; raise it `from` the latter.

    `StorageFull` is returned only where SQLite has rolled back: it reports a full disk
    before it writes a commit record. A failed fsync is a `DriverError`: what it left
    on the disk nobody knows.
    """
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None and code & 0xFF == sqlite3.SQLITE_FULL:
        return StorageFull(f"no room to write {path}: {error}")
    name = getattr(error, "sqlite_errorname", None) or type(error).__name__
    return DriverError(f"{path}: {error} ({name})")


class WriteLock:
    """The right to write to one database file, among all processes of the machine."""

    def __init__(self, path: Path) -> None:
        """Open the lock file beside the database at `path`, making it if need be."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._file = os.open(path.with_name(path.name + ".lock"), flags, 0o600)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Wait for the lock and hold it; for no longer than one transaction, please."""
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the lock file."""
        os.close(self._file)


class Database:
    """One connection to a file, to be used by one thread at a time.

    Opening a file that is up to date takes no lock: a process that starts, or only reads,
    does not wait for one that hangs inside a commit.

    Raises `StorageFull` or `DriverError` when the file cannot be opened.
    """

    def __init__(
        self,
        path: Path,
        schema: Sequence[str],
        synchronous: Literal["FULL", "NORMAL"],
        *,
        read_only: bool = False,
    ) -> None:
        """Open `path`, making folder, file and tables if need be.

        `synchronous=FULL` makes each commit durable (one fsync in WAL mode); `NORMAL` may
        lose the latest commits in a power cut, but never the file's consistency.
        `read_only` makes nothing, and never waits for a writer.
        """
        self.path = path
        try:
            if not read_only:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = None if read_only else WriteLock(path)
        except OSError as error:
            raise DriverError(f"cannot open {path}: {error}") from error
        try:
            self.connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}",
                uri=True,
                timeout=BUSY_TIMEOUT_S,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=CACHED_STATEMENTS,
            )
        except sqlite3.Error as error:
            self._close_lock()
            raise translated(error, path) from error
        try:
            self._prepare(schema, synchronous)
        except BaseException:
            self.connection.close()
            self._close_lock()
            raise

    def _prepare(self, schema: Sequence[str], synchronous: str) -> None:
        with self.translating():
            execute = self.connection.execute
            execute(f"PRAGMA synchronous = {synchronous}")
            execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
            if self._is_up_to_date() or self._lock is None:
                return
            with self._lock.held():
                execute("PRAGMA journal_mode = WAL")
                if self._is_up_to_date():
                    return
                with self._transaction():
                    for statement in schema:
                        execute(statement)
                    execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _is_up_to_date(self) -> bool:
        (found,) = self.connection.execute("PRAGMA user_version").fetchone()
        if found not in (0, SCHEMA_VERSION):
            age = "a newer" if found > SCHEMA_VERSION else "an older, unreleased"
            raise DriverError(f"{self.path} was written by {age} orchx (schema {found})")
        return bool(found == SCHEMA_VERSION)

    @contextmanager
    def translating(self) -> Iterator[None]:
        """Turn SQLite's errors into ours; a broken constraint is for the adapter to judge."""
        try:
            yield
        except sqlite3.IntegrityError:
            raise
        except sqlite3.Error as error:
            raise translated(error, self.path) from error

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield self.connection
            self.connection.execute("COMMIT")
        except BaseException:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction that writes; whatever is raised inside rolls it back."""
        with self.translating(), self._alone(), self._transaction() as connection:
            yield connection

    @contextmanager
    def writing_once(self) -> Iterator[sqlite3.Connection]:
        """The lock alone, for a single statement, which SQLite commits by itself.

        That is one call into SQLite instead of three: one loss of the GIL, not three.
        """
        with self.translating(), self._alone():
            yield self.connection

    def close(self) -> None:
        """Close; the last writer out moves the WAL into the database."""
        with self.translating(), self._alone():
            self.connection.close()
        self._close_lock()

    def _alone(self) -> AbstractContextManager[None]:
        return nullcontext() if self._lock is None else self._lock.held()

    def _close_lock(self) -> None:
        if self._lock is not None:
            self._lock.close()


class RowInsert:
    """`INSERT` of many rows in one statement.

    `executemany` lets go of the GIL at every row, and waits up to 5 ms to get it back from
    a busy event loop; see docs/adr/0004-embedded-storage.md.
    """

    def __init__(self, table: str, columns: Sequence[str], suffix: str = "") -> None:
        """Insert into `columns` of `table`; `suffix` may say what to do on conflict."""
        self._head = f"INSERT INTO {table} ({', '.join(columns)}) VALUES "  # noqa: S608  constants
        self._row = f"({', '.join('?' * len(columns))})"
        self._suffix = suffix
        self._statement = lru_cache(maxsize=STATEMENT_ROWS_MAX)(self._build)

    def _build(self, count: int) -> str:
        return f"{self._head}{', '.join([self._row] * count)} {self._suffix}"

    def fits_one_statement(self, rows: int) -> bool:
        """Say whether `run` will make a single statement of so many rows."""
        return rows <= STATEMENT_ROWS_MAX

    def run(self, connection: sqlite3.Connection, rows: Sequence[Row]) -> int:
        """Insert the rows in order; return the last one's row id (0: there were none)."""
        last = 0
        for start in range(0, len(rows), STATEMENT_ROWS_MAX):
            part = rows[start : start + STATEMENT_ROWS_MAX]
            values = [value for row in part for value in row]
            last = connection.execute(self._statement(len(part)), values).lastrowid or 0
        return last
