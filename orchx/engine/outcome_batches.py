"""Outcomes on their way to their owners: one push per owner and event-loop turn."""

from __future__ import annotations

import asyncio

from orchx.domain.messages import TaskOutcome
from orchx.ports.task_pool import OutcomeSink


class OutcomeBatches:
    """Collects outcomes and pushes them when the running turn of the loop is over."""

    __slots__ = ("_batches", "_is_scheduled", "_sink")

    def __init__(self, sink: OutcomeSink) -> None:
        self._sink = sink
        self._batches: dict[str, list[TaskOutcome]] = {}
        self._is_scheduled = False

    def add(self, owner: str, outcome: TaskOutcome) -> None:
        """Push `outcome` to `owner` soon."""
        batch = self._batches.get(owner)
        if batch is not None:
            batch.append(outcome)
            return
        self._batches[owner] = [outcome]
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        """Push everything now. What a sink raises is its own loss, not the next owner's."""
        self._is_scheduled = False
        while self._batches:
            owner, batch = self._batches.popitem()
            is_pushed = False
            try:
                self._sink.push(owner, batch)
                is_pushed = True
            finally:
                if not is_pushed and self._batches:
                    self._reschedule()

    def _reschedule(self) -> None:
        # Only reached on the way out of an error: the loop's handler reports that one.
        self._is_scheduled = True
        asyncio.get_running_loop().call_soon(self.flush)
