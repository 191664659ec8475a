"""Telling whether a SQLite file is in use, and being the only one of a kind that uses it."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from orchx.adapters.sqlite_connection import translated
from orchx.errors import Conflict, DriverError

SIDES: Final = ("-wal", "-shm")


def check_unused(path: Path) -> None:
    """Check that no process has the file open. One that is damaged is not in use either.

    Raises:
        Conflict: one has.
        DriverError: it cannot be told.
    """
    if not path.exists():
        return
    connection = sqlite3.connect(path, timeout=0, isolation_level=None)
    try:
        # What uses a file in WAL mode keeps others from having it to themselves.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise Conflict(f"{path} is in use: stop orchx first") from error
        raise translated(error, path) from error
    except sqlite3.DatabaseError:
        return
    finally:
        connection.close()


def remove(path: Path) -> None:
    """Delete a file that nobody uses, with what SQLite keeps beside it."""
    for each in (path, *(path.with_name(path.name + side) for side in SIDES)):
        each.unlink(missing_ok=True)


def put_in_place(made: Path, path: Path) -> None:
    """Let a file that is complete and closed take the place of another that nobody uses.

    Raises:
        Conflict: somebody uses it.
        DriverError: the file system refuses.
    """
    check_unused(path)
    try:
        # What stands beside the old one belongs to it alone.
        for side in SIDES:
            path.with_name(path.name + side).unlink(missing_ok=True)
        os.replace(made, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise DriverError(f"cannot put {made} in the place of {path}: {error}") from error


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Be the only one who is inside with this lock file.

    Raises:
        Conflict: another is.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Conflict(f"another command is at work in {path.parent}") from error
        yield
    finally:
        os.close(file)
