"""An event loop whose time is virtual: it never waits, it moves on to the next timer.

Everything that runs in it is deterministic: one thread, no sockets, no signals, callbacks
in the order in which they were asked for. A minute of sleeping costs nothing.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, NoReturn

from orchx.errors import Bug

START_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z
START_TICKS_MS = 5_000_000
CLOCK_RESOLUTION_S = 1e-9

MAX_TURNS = 300_000
"""Turns of the loop in one simulation: far more than any that ends by itself."""

LONG_S = 1.0
"""Longer than any turn may take."""

Adopt = Callable[[asyncio.Task[Any], Context | None], None]


class SimulatedLoop(asyncio.BaseEventLoop):
    """Runs callbacks in virtual time, which starts at 0 s.

    Args:
        adopt: told of every new task and the context that it runs in (None: the current
            one), so that a simulated process knows what to cancel when it dies.
    """

    def __init__(self, adopt: Adopt) -> None:
        super().__init__()
        self._now_s = 0.0
        self._turns = 0
        self._clock_resolution = CLOCK_RESOLUTION_S
        self._selector = self  # the base class asks it how long to wait
        self._adopt = adopt
        self.set_task_factory(self._make_task)  # type: ignore[arg-type]  # typeshed: no context

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._now_s

    def select(self, timeout_s: float | None) -> list[Any]:
        """Move on to the next timer instead of waiting for it.

        Raises:
            Bug: nothing can ever happen again, or there is no end to it.
        """
        if timeout_s is None:
            raise Bug("the simulation waits for something that nobody will ever do")
        self._turns += 1
        if self._turns == MAX_TURNS:
            raise Bug(f"no end after {MAX_TURNS} turns of the loop")
        if timeout_s > 0:
            self._now_s += timeout_s
        return []

    def _process_events(self, event_list: list[Any]) -> None:
        """Do nothing: there are no sockets."""

    def _write_to_self(self) -> NoReturn:
        raise Bug("another thread called into the simulation")

    def _make_task(
        self,
        loop: asyncio.AbstractEventLoop,
        work: Coroutine[Any, Any, Any],
        context: Context | None = None,
    ) -> asyncio.Task[Any]:
        task = asyncio.Task(work, loop=loop, context=context)
        self._adopt(task, context)
        return task


class SimulatedClock:
    """One process's clocks: the loop's time, and a wall's time with a skew of its own."""

    def __init__(self, loop: asyncio.AbstractEventLoop, skew_ms: int = 0) -> None:
        self._loop = loop
        self._start_ms = START_MS + skew_ms

    def now_ms(self) -> int:
        """Return this process's idea of the time, epoch milliseconds."""
        return self._start_ms + int(self._loop.time() * 1_000 + 1e-6)

    def ticks_ms(self) -> int:
        """Return milliseconds that nobody can set."""
        return START_TICKS_MS + int(self._loop.time() * 1_000 + 1e-6)

    def set_skew(self, skew_ms: int) -> None:
        """Set this process's idea of the time, as an operator or NTP does."""
        self._start_ms = START_MS + skew_ms

    async def sleep(self, delay_s: float) -> None:
        """Return after `delay_s` virtual seconds."""
        await asyncio.sleep(max(delay_s, 0.0))


class SimulatedTicks:
    """How long decisions take: no time at all, or now and then far too long.

    Args:
        chance: decides when.
        slow: the probability that, at any look at the time, it is late.
    """

    def __init__(self, chance: random.Random, slow: float) -> None:
        self._chance = chance
        self._slow = slow
        self._now_s = 0.0

    def now_s(self) -> float:
        """Return seconds that have nothing to do with the virtual time."""
        if self._chance.random() < self._slow:
            self._now_s += LONG_S
        return self._now_s
