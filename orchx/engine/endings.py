"""Sending commands to the Dispatcher, and waiting for workflows to end, from another process."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence

import structlog

from orchx.domain import messages as m
from orchx.engine.unsent_commands import UnsentCommands
from orchx.errors import OrchxError
from orchx.ports.clock import Clock
from orchx.ports.supervision import DispatcherLink, Ending, Load

logger = structlog.get_logger(__name__)

POLL_S = 10.0
RETRY_PAUSE_S = 0.25
FRESH_MS = 100


class DispatcherMail:
    """Everything that one process sends to the Dispatcher and hears from it.

    Commands offered in one turn of the event loop go out as one batch. When one does not arrive,
    an empty one is sent now and then; once that arrives, so does what was kept meanwhile. It is
    sent no more than once again: the Dispatcher finds in the queue what it was not given.
    Endings come in by one long poll at a time.
    """

    def __init__(self, link: DispatcherLink, watcher: str, clock: Clock) -> None:
        self._link = link
        self._watcher = watcher
        self._clock = clock
        self._commands: list[m.AnyCommand] = []
        self._unsent = UnsentCommands()
        self._watched: dict[str, None] = {}  # in order
        self._waiters: dict[str, list[asyncio.Future[Ending]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._planned = False
        self._asked: asyncio.Task[None] | None = None
        self._load_at_ms = -FRESH_MS  # in ticks
        self.load = Load(waiting=0, by_tenant={}, running=0)
        self.reachable = True
        self._troubles: dict[str, type[Exception]] = {}

    def offer(self, commands: Sequence[m.AnyCommand]) -> None:
        """Send commands at the end of this turn of the loop."""
        self._commands.extend(commands)
        self._plan()

    def expect(self, workflow_id: str) -> asyncio.Future[Ending]:
        """Return a future of the workflow's end; let go of it with `forget`."""
        future: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        waiting = self._waiters.setdefault(workflow_id, [])
        waiting.append(future)
        if len(waiting) == 1:
            self._watched[workflow_id] = None
            self._plan()
        return future

    def expects(self, workflow_id: str) -> bool:
        """Return whether anyone waits for the workflow's end."""
        return workflow_id in self._waiters

    def forget(self, workflow_id: str, future: asyncio.Future[Ending]) -> None:
        """Nobody waits on this future any more."""
        waiting = self._waiters.get(workflow_id)
        if waiting is not None and future in waiting:
            waiting.remove(future)
            if not waiting:
                del self._waiters[workflow_id]

    async def unknown(self, workflow_id: str) -> bool:
        """Return whether the Dispatcher says that this workflow is not live."""
        return workflow_id in await self._link.watch(self._watcher, [workflow_id])

    async def refresh(self) -> None:
        """Ask for the load, if what is known of it is old; all who ask share one question.

        While the Dispatcher cannot be reached, nothing is asked and the old load holds.
        """
        if self._clock.ticks_ms() - self._load_at_ms <= FRESH_MS:
            return
        if self._asked is None or self._asked.done():
            self._asked = self._spawn(self._send([], []))
        await asyncio.shield(self._asked)

    def start(self) -> None:
        """Begin to listen for endings."""
        self._spawn(self._listen())

    def close(self) -> None:
        """Stop sending and listening."""
        for task in self._tasks:
            task.cancel()

    def _plan(self) -> None:
        if not self._planned:
            self._planned = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._planned = False
        commands, self._commands = self._commands, []
        self._spawn(self._send(commands, self._take_watched()))

    def _take_watched(self) -> list[str]:
        watched, self._watched = self._watched, {}
        return [workflow_id for workflow_id in watched if workflow_id in self._waiters]

    async def _send(self, commands: list[m.AnyCommand], watched: list[str]) -> None:
        """Send now if the Dispatcher can be reached, else once it can be again."""
        if self.reachable and await self._offer(commands, watched):
            return
        self._unsent.keep(commands)
        self._watched.update(dict.fromkeys(watched))
        if self.reachable:
            self.reachable = False
            self._spawn(self._knock())

    async def _offer(self, commands: list[m.AnyCommand], watched: list[str]) -> bool:
        """Return whether this arrived."""
        try:
            self.load = await self._link.offer(commands, watcher=self._watcher, watched=watched)
        except Exception as error:  # the edge: nobody above could send it again
            self._note("offer", error)
            return False
        self._load_at_ms = self._clock.ticks_ms()
        self._troubles.pop("offer", None)
        return True

    async def _knock(self) -> None:
        """Ask until the Dispatcher answers, then send it what has been kept."""
        while not self.reachable:
            await self._clock.sleep(RETRY_PAUSE_S)
            if not await self._offer([], []):
                continue
            dropped = self._unsent.dropped
            commands, watched = self._unsent.take(), self._take_watched()
            if await self._offer(commands, watched):
                self.reachable = True
            else:
                dropped += len(commands)
                self._watched.update(dict.fromkeys(watched))
            if dropped:
                logger.warning("commands left to the queue", count=dropped)
        self._commands[:0] = self._unsent.take()  # what came in meanwhile
        if self._commands or self._watched:
            self._plan()

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _listen(self) -> None:
        while True:
            try:
                endings = await self._link.endings(self._watcher, POLL_S)
                self._hand_out(endings)
                self._troubles.pop("endings", None)
            except Exception as error:  # the edge: whoever waits would never be told again
                self._note("endings", error)
                await self._clock.sleep(RETRY_PAUSE_S)
                # a new Dispatcher does not know what this process waits for
                self._watched.update(dict.fromkeys(self._waiters))
                self._plan()

    def _hand_out(self, endings: Sequence[Ending]) -> None:
        for ending in endings:
            for future in self._waiters.pop(ending.workflow_id, ()):
                if not future.done():
                    future.set_result(ending)

    def _note(self, what: str, error: Exception) -> None:
        """Log an error, but not again and again while it stays the same."""
        if self._troubles.get(what) is type(error):
            return
        self._troubles[what] = type(error)
        if isinstance(error, OrchxError):
            logger.warning("dispatcher unreachable", at=what, error=str(error))
        else:
            logger.error("dispatcher link failed", at=what, exc_info=error)
