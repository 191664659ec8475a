"""A simulated process: what runs together, and dies together at any await."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine
from typing import Any

from orchx.testing.simulated_loop import SimulatedClock, SimulatedLoop

CURRENT: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)
"""The process that the running code belongs to; None: the simulation itself."""


class Process:
    """One life of a process.

    Attributes:
        name: its address on the network, the same in every life.
        life: counts from 1.
        incarnation: unique for this life.
        service: the object that answers what arrives for this process.
        fuse: how many points (reads, writes, sends) are left before it dies; None: no plan.
    """

    def __init__(
        self, name: str, life: int, loop: SimulatedLoop, *, skew_ms: int, fuse: int | None
    ) -> None:
        self.name = name
        self.life = life
        self.incarnation = f"{name}#{life}"
        self.clock = SimulatedClock(loop, skew_ms)
        self.alive = True
        self.service: Any = None
        self.fuse = fuse
        self._loop = loop
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self.context = contextvars.Context()
        self.context.run(CURRENT.set, self)

    def start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a coroutine as a part of this process."""
        return self._loop.create_task(work, context=self.context)

    def adopt(self, task: asyncio.Task[Any]) -> None:
        """Take a task in: it is cancelled when the process dies."""
        self._tasks[task] = None
        task.add_done_callback(self._let_go)
        if not self.alive:
            task.cancel()

    def burn(self) -> bool:
        """Note a point at which the process may die; return whether it does so now."""
        if self.fuse is None or not self.alive:
            return False
        self.fuse -= 1
        return self.fuse <= 0

    def die(self) -> None:
        """Stop at once: every task is cancelled where it waits; nothing gets out any more."""
        self.alive = False
        for task in list(self._tasks):
            task.cancel()

    def failures(self) -> list[BaseException]:
        """Return what tasks that are over and still referenced have raised."""
        return [
            error
            for task in self._tasks
            if task.done() and not task.cancelled() and (error := task.exception()) is not None
        ]

    def _let_go(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
