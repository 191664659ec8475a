"""Task pools, as an owner sees them: batches out, outcomes pushed back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from orchx.domain.messages import TaskOutcome, TaskRequest


class TaskPoolLink(Protocol):
    """The way from an owner to one pool. Sending is fire and forget; `unknown` finds losses."""

    def submit(self, requests: Sequence[TaskRequest]) -> None:
        """Hand over a batch; may be lost, and may be repeated."""
        ...

    def abandon(self, executions: Sequence[str]) -> None:
        """Say that nobody waits for these executions any more."""
        ...

    async def unknown(self, executions: Sequence[str]) -> Sequence[str]:
        """Return those of `executions` that the pool does not have (lost: send again).

        Raises:
            Unavailable: the pool cannot be reached now.
        """
        ...


class OutcomeSink(Protocol):
    """The way from a pool to the owners."""

    def push(self, owner: str, outcomes: Sequence[TaskOutcome]) -> None:
        """Send outcomes to the owner of that name; may be lost, and may be repeated."""
        ...


class TaskRunner(Protocol):
    """Makes one call. The pool around it keeps the limits."""

    async def run(self, request: TaskRequest) -> TaskOutcome:
        """Run to an outcome. Whatever goes wrong is in the outcome's error, never raised."""
        ...
