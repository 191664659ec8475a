"""A SQLite connection with a thread of its own, used from asyncio."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, TypeVar

from orchx.adapters.sqlite_connection import Database
from orchx.errors import DriverError

T = TypeVar("T")


class SqliteSession:
    """Runs functions on one connection, one after another, off the event loop."""

    def __init__(
        self,
        path: Path,
        schema: Sequence[str],
        synchronous: Literal["FULL", "NORMAL"],
        *,
        read_only: bool = False,
    ) -> None:
        """Open the file; see `Database`."""
        self._database = Database(path, schema, synchronous, read_only=read_only)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"{path.stem}-session")
        self._closed = False

    async def read(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Run `function` outside any transaction: one statement sees one state.

        Raises:
            DriverError: SQLite failed, or the session is closed.
        """

        def run() -> T:
            with self._database.translating():
                return function(self._database.connection)

        return await self._submit(run)

    async def write(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Run `function` in a transaction, rolled back if it raises.

        Raises:
            StorageFull: the disk took no more; nothing was written.
            DriverError: SQLite failed, or the session is closed.
        """

        def run() -> T:
            with self._database.writing() as connection:
                return function(connection)

        return await self._submit(run)

    async def close(self) -> None:
        """Finish what was submitted and close the file."""
        if not self._closed:
            self._closed = True
            await asyncio.get_running_loop().run_in_executor(self._thread, self._database.close)
            self._thread.shutdown()

    async def _submit(self, run: Callable[[], T]) -> T:
        if self._closed:
            raise DriverError(f"{self._database.path} is closed")
        return await asyncio.get_running_loop().run_in_executor(self._thread, run)
