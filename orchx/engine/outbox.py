"""What an owner has to tell the Dispatcher: collected, and sent once per loop turn."""

from __future__ import annotations

import asyncio
from typing import Any

from orchx.domain.messages import AnyCommand
from orchx.ports.supervision import (
    Ending,
    OwnerReport,
    Passivation,
    Subscription,
    SupervisorLink,
)


class Outbox:
    """Collects one report at a time; whoever adds to it causes it to be sent soon."""

    def __init__(self, owner: str, incarnation: str, supervisor: SupervisorLink) -> None:
        self._owner = owner
        self._incarnation = incarnation
        self._supervisor = supervisor
        self._report = self._empty()
        self._planned = False

    def hello(self) -> None:
        """Tell that this owner has just started and holds nothing."""
        self._next().hello = True

    def applied(self, command_id: str) -> None:
        """Tell that a command is in the log."""
        self._next().applied.append(command_id)

    def ended(self, ending: Ending) -> None:
        """Tell that a workflow is over."""
        self._next().ended.append(ending)

    def passivated(self, passivation: Passivation) -> None:
        """Tell that a workflow was let go."""
        self._next().passivated.append(passivation)

    def listening(self, subscription: Subscription) -> None:
        """Tell what events a workflow listens for."""
        self._next().listening.append(subscription)

    def lost(self, workflow_id: str) -> None:
        """Tell that a workflow is not owned here any more, for the Dispatcher to place it."""
        self._next().lost.append(workflow_id)

    def command(self, command: AnyCommand) -> None:
        """Pass on a command that a workflow caused."""
        self._next().commands.append(command)

    def published(self, event: dict[str, Any]) -> None:
        """Pass on an event that a workflow emitted."""
        self._next().published.append(event)

    def _next(self) -> OwnerReport:
        if not self._planned:
            self._planned = True
            asyncio.get_running_loop().call_soon(self._flush)
        return self._report

    def _flush(self) -> None:
        self._planned = False
        report, self._report = self._report, self._empty()
        self._supervisor.report(report)

    def _empty(self) -> OwnerReport:
        return OwnerReport(owner=self._owner, incarnation=self._incarnation)
