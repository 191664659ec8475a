"""Who waits for which workflow's end. Endings are handed out by long polls, in batches."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from orchx.ports.clock import Clock
from orchx.ports.supervision import Ending

FORGET_AFTER_MS = 120_000
MAX_KEPT = 10_000


class Watcher:
    """One process that waits, for any number of workflows."""

    __slots__ = ("endings", "seen_ms", "waiter", "wanted")

    def __init__(self, seen_ms: int) -> None:
        self.wanted: set[str] = set()
        self.endings: list[Ending] = []
        self.waiter: asyncio.Future[None] | None = None
        self.seen_ms = seen_ms  # in ticks


class Watchers:
    """All watchers; one that has not polled for two minutes is forgotten."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._watchers: dict[str, Watcher] = {}
        self._by_workflow: dict[str, set[str]] = {}

    def watch(self, watcher_id: str, workflow_ids: Iterable[str]) -> None:
        """Have the endings of these workflows handed to a watcher."""
        watcher = self._watcher(watcher_id)
        for workflow_id in workflow_ids:
            watcher.wanted.add(workflow_id)
            self._by_workflow.setdefault(workflow_id, set()).add(watcher_id)

    def forget(self, watcher_id: str, workflow_ids: Iterable[str]) -> None:
        """Do not wait for these, for this watcher: they are not live, so no end will be told."""
        watcher = self._watchers.get(watcher_id)
        for workflow_id in workflow_ids:
            if watcher is not None:
                watcher.wanted.discard(workflow_id)
            self._drop(watcher_id, workflow_id)

    def _drop(self, watcher_id: str, workflow_id: str) -> None:
        waiting = self._by_workflow.get(workflow_id, set())
        waiting.discard(watcher_id)
        if not waiting:
            self._by_workflow.pop(workflow_id, None)

    def watched(self, workflow_id: str) -> bool:
        """Return whether anyone waits for this workflow."""
        return workflow_id in self._by_workflow

    def ended(self, ending: Ending) -> None:
        """Hand an ending to whoever waits for it."""
        for watcher_id in self._by_workflow.pop(ending.workflow_id, ()):
            watcher = self._watchers.get(watcher_id)
            if watcher is None:
                continue
            watcher.wanted.discard(ending.workflow_id)
            if len(watcher.endings) < MAX_KEPT:
                watcher.endings.append(ending)
            if watcher.waiter is not None and not watcher.waiter.done():
                watcher.waiter.set_result(None)

    async def endings(self, watcher_id: str, timeout_s: float) -> Sequence[Ending]:
        """Return endings as soon as there are some; none when time is up."""
        watcher = self._watcher(watcher_id)
        if not watcher.endings:
            watcher.waiter = asyncio.get_running_loop().create_future()
            try:
                await asyncio.wait_for(watcher.waiter, timeout_s)
            except TimeoutError:
                pass
            finally:
                watcher.waiter = None
        taken, watcher.endings = watcher.endings, []
        return taken

    def hand_back(self, watcher_id: str, endings: Sequence[Ending]) -> None:
        """Keep endings that were taken for the next poll: they do not fit into one answer."""
        self._watcher(watcher_id).endings[:0] = endings

    def forget_silent(self) -> None:
        """Drop watchers that have not asked for long."""
        oldest_ms = self._clock.ticks_ms() - FORGET_AFTER_MS
        for watcher_id, watcher in list(self._watchers.items()):
            if watcher.seen_ms < oldest_ms and watcher.waiter is None:
                del self._watchers[watcher_id]
                for workflow_id in watcher.wanted:
                    self._drop(watcher_id, workflow_id)

    def _watcher(self, watcher_id: str) -> Watcher:
        seen_ms = self._clock.ticks_ms()
        watcher = self._watchers.get(watcher_id)
        if watcher is None:
            watcher = self._watchers[watcher_id] = Watcher(seen_ms)
        watcher.seen_ms = seen_ms
        return watcher
