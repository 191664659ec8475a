"""Group commit: the writes of all calls of one event-loop turn share one transaction."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from typing import Any, Final, TypeVar

from orchx.sandbox.problems import Problem

PENDING_MAX: Final = 10_000
BATCH_MAX: Final = 512

T = TypeVar("T")
_Pending = tuple[Callable[[], Any], "asyncio.Future[Any]"]


class GroupCommit:
    """Runs pieces of work one after another in shared transactions.

    Work sees what earlier work wrote, so nothing needs a lock. It must raise `Problem`
    before its first write: a batch is not rolled back for a refused call. The connection
    must be in autocommit mode, and belong to the thread of the event loop.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._pending: list[_Pending] = []
        self._wake = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the background writer on the running loop."""
        self._writer = asyncio.create_task(self._write_batches())

    async def stop(self) -> None:
        """Commit what is pending and end the writer."""
        if self._writer is not None:
            self._writer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._writer
        while self._pending:
            self._commit_batch()

    async def run(self, work: Callable[[], T]) -> T:
        """Run `work` within the next transaction; returns once that is committed.

        Raises:
            Problem: raised by `work`, or 503 when `PENDING_MAX` calls wait already.
            sqlite3.Error: the transaction failed; nothing of it is written.
        """
        if len(self._pending) >= PENDING_MAX:
            raise Problem(503, "overloaded", f"{PENDING_MAX} writes are waiting already.")
        committed: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._pending.append((work, committed))
        self._wake.set()
        return await committed

    async def _write_batches(self) -> None:
        while True:
            await self._wake.wait()
            # Let the other calls of this turn of the loop join the batch.
            await asyncio.sleep(0)
            self._commit_batch()
            if not self._pending:
                self._wake.clear()

    def _commit_batch(self) -> None:
        batch, self._pending = self._pending[:BATCH_MAX], self._pending[BATCH_MAX:]
        outcomes: list[tuple[asyncio.Future[Any], Any, Problem | None]] = []
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for work, committed in batch:
                try:
                    outcomes.append((committed, work(), None))
                except Problem as problem:
                    outcomes.append((committed, None, problem))
            self._connection.execute("COMMIT")
        except Exception as error:
            # The edge of the writer: the waiting calls get the error, and the writer lives on.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            for _, committed in batch:
                if not committed.done():
                    committed.set_exception(error)
            return
        for committed, result, refusal in outcomes:
            if committed.done():  # The caller went away; its effect stays, as in real life.
                continue
            if refusal is None:
                committed.set_result(result)
            else:
                committed.set_exception(refusal)
