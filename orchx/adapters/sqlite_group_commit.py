"""Group commit: a thread that makes everything that waits durable with one fsync."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Generic, TypeVar

from orchx.errors import Bug, DriverError, OrchxError, Unavailable

PENDING_MAX: Final = 100_000
PENDING_BYTES_MAX: Final = 256 * 1_048_576
SUBMIT_TIMEOUT_S: Final = 30.0  # longer than a frozen holder of the write lock lives
BATCH_MAX: Final = 1_024

Work = TypeVar("Work")


class Ticket(Generic[Work]):
    """One caller's work, and what became of it: a result or an exception in `outcome`."""

    __slots__ = ("future", "outcome", "size", "work")

    def __init__(self, work: Work, future: asyncio.Future[Any], size: int) -> None:
        self.work = work
        self.future = future
        self.size = size
        self.outcome: Any = None

    @property
    def abandoned(self) -> bool:
        """Whether nobody waits any more: what is late must not be written (a claim least of all).

        To be asked again once the write lock is held, which may have taken long.
        """
        return self.future.cancelled()


class GroupCommit(Generic[Work]):
    """Hands what callers submit, in order and in batches, to a commit thread.

    While one batch is being made durable the next one gathers, so that the batches grow
    with the load and one lone call waits for nobody.
    """

    def __init__(
        self,
        name: str,
        commit: Callable[[Sequence[Ticket[Work]]], Iterable[Sequence[Ticket[Work]]]],
        close: Callable[[], None],
    ) -> None:
        """Start the thread.

        Args:
            name: of the thread, for whoever looks at stacks.
            commit: runs in the thread; sets the tickets' outcomes and yields those that are
                done, in one part or more. What it raises is the outcome of all the others. It
                leaves out tickets that are `abandoned`.
            close: runs in the thread, last.
        """
        self._commit = commit
        self._close = close
        self._pending: deque[Ticket[Work]] = deque()
        self._submitted_bytes = 0  # by the loop's thread
        self._taken_bytes = 0  # by the commit thread
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._signalled = False
        self._closing = False
        # A daemon, so that a process whose owner forgot to close can still end: what was
        # not acknowledged may be lost.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    async def submit(self, work: Work, size: int = 0) -> Any:
        """Return the work's outcome once it is durable; `size` is what it holds, in bytes.

        Raises:
            Unavailable: as many calls or bytes wait already as may; or the work was not
                durable within `SUBMIT_TIMEOUT_S`, and whether it will be is unknown.
            StorageFull, DriverError: the commit failed.
            CancelledError: of work that is not being written yet, nothing will be.
        """
        if self._closing:
            raise DriverError(f"{self._thread.name} is closed")
        if len(self._pending) >= PENDING_MAX:
            raise Unavailable(f"{self._thread.name}: {PENDING_MAX} writes wait already")
        if self._submitted_bytes - self._taken_bytes > PENDING_BYTES_MAX:
            raise Unavailable(f"{self._thread.name}: {PENDING_BYTES_MAX} bytes wait already")
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._submitted_bytes += size
        self._pending.append(Ticket(work, future, size))
        if not self._signalled:
            self._signalled = True
            self._wake.put(None)
        try:
            async with asyncio.timeout(SUBMIT_TIMEOUT_S):
                return await future
        except TimeoutError as error:
            raise Unavailable(
                f"{self._thread.name}: not durable after {SUBMIT_TIMEOUT_S:g} s: the disk, or "
                "the process that holds the write lock, hangs"
            ) from error

    async def close(self) -> None:
        """Commit what waits and end the thread."""
        self._closing = True
        self._wake.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        while True:
            self._wake.get()
            # Cleared before the queue is read: whoever comes later signals again.
            self._signalled = False
            while self._pending:
                count = min(len(self._pending), BATCH_MAX)
                batch = [self._pending.popleft() for _ in range(count)]
                self._commit_batch(batch)
            if self._closing and not self._pending:
                # A file that cannot be closed has nobody left to hear of it.
                with contextlib.suppress(OrchxError):
                    self._close()
                return

    def _commit_batch(self, batch: list[Ticket[Work]]) -> None:
        left = dict.fromkeys(batch)
        try:
            for done in self._commit(batch):
                for ticket in done:
                    del left[ticket]
                self._make_room(done)
                _resolve(done)
            self._make_room(left)  # abandoned: nobody waits for these
        except OrchxError as error:
            self._make_room(left)
            _fail(list(left), error)
        except Exception as error:  # the thread's edge: callers get it, the thread lives on
            bug = Bug(f"{self._thread.name}: {type(error).__name__}: {error}")
            bug.__cause__ = error
            self._make_room(left)
            _fail(list(left), bug)

    def _make_room(self, tickets: Iterable[Ticket[Work]]) -> None:
        """Count these as waiting no more, before anyone hears of them."""
        self._taken_bytes += sum(ticket.size for ticket in tickets)


def _fail(tickets: Sequence[Ticket[Any]], error: OrchxError) -> None:
    for ticket in tickets:
        # One exception object each: being raised changes it.
        ticket.outcome = type(error)(*error.args)
        ticket.outcome.__cause__ = error.__cause__
    _resolve(tickets)


def _resolve(tickets: Sequence[Ticket[Any]]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[Ticket[Any]]] = {}
    for ticket in tickets:
        by_loop.setdefault(ticket.future.get_loop(), []).append(ticket)
    for loop, its in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits there
            loop.call_soon_threadsafe(_set_outcomes, its)


def _set_outcomes(tickets: Sequence[Ticket[Any]]) -> None:
    for ticket in tickets:
        if ticket.future.done():  # the caller was cancelled; what was written stays
            continue
        if isinstance(ticket.outcome, BaseException):
            ticket.future.set_exception(ticket.outcome)
        else:
            ticket.future.set_result(ticket.outcome)
