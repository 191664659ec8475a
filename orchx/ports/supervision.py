"""What Dispatcher and owners tell each other.

Pushes are fire and forget: a lost one is found by `reconcile`, a repeated one is known by
its ids. What must not be lost is durable before it is pushed.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Literal, Protocol

import msgspec

from orchx.domain.faults import Fault
from orchx.domain.json_values import JSON
from orchx.domain.messages import AnyCommand


class Assignment(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A workflow for an owner to own, and a command for it, if there is one.

    `watched`: someone waits for the outcome, so the note of its end carries the output.
    """

    workflow_id: str
    command: AnyCommand | None = None
    watched: bool = False


class Ending(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A workflow is over.

    All but the first three are there if `told`: the workflow was watched. They are what its
    summary will say, in the same words.
    """

    workflow_id: str
    status: Literal["completed", "faulted", "cancelled"]
    ended_at_ms: int
    output: JSON = None
    error: Fault | None = None
    told: bool = False
    epoch: int = 0
    task: str | None = None
    tasks_completed: int = 0
    tasks_faulted: int = 0
    retries: int = 0


class Passivation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A workflow was let go: wake it at `due_at_ms`, or for a command.

    `listens` are the event types that it listens for now (`*`: any); none, if it does not.
    """

    workflow_id: str
    due_at_ms: int | None = None
    listens: list[str] = []


class Subscription(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A workflow listens for events of these types (none: for any)."""

    workflow_id: str
    types: list[str]


class OwnerReport(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What happened at an owner since its last report.

    `applied` are ids of commands that are in the log now; `lost` are workflows that it
    does not own after all (fenced, or it could not read them); `commands` are new ones
    that its workflows caused: children to start, parents to tell.
    """

    owner: str
    incarnation: str
    hello: bool = False
    applied: list[str] = []
    ended: list[Ending] = []
    passivated: list[Passivation] = []
    listening: list[Subscription] = []
    lost: list[str] = []
    commands: list[AnyCommand] = []
    published: list[dict[str, Any]] = []
    renewed: bool = False


class OwnerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """An owner's answer: who it is, what it was expected to hold and does not, its load."""

    incarnation: str
    unknown: list[str]
    live: int
    unexpected: list[str]


class OwnerLink(Protocol):
    """The way from the Dispatcher to one owner."""

    @property
    def name(self) -> str:
        """The owner's name."""
        ...

    def deliver(self, assignments: Sequence[Assignment]) -> None:
        """Hand over workflows and commands; may be lost, and may be repeated."""
        ...

    async def reconcile(self, expected: Sequence[str]) -> OwnerStatus:
        """Renew the owner's lease and compare what it holds with what it should.

        Raises:
            Unavailable: the owner cannot be reached now.
        """
        ...

    async def release(self, workflow_ids: Sequence[str]) -> None:
        """Have the owner let go of workflows that another engine is to own.

        It finishes the turns that it is at, and returns when it has none of them; a second or
        two at most.

        Raises:
            Unavailable: the owner cannot be reached now.
        """
        ...


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What admission is decided by: workflows that wait for a place, and that have one."""

    waiting: int
    by_tenant: dict[str, int]
    running: int


class DispatcherLink(Protocol):
    """The way from ingestion to the Dispatcher. All raise `Unavailable` when it is away."""

    async def offer(
        self, commands: Sequence[AnyCommand], *, watcher: str, watched: Sequence[str]
    ) -> Load:
        """Hand over commands that are durable, and name workflows whose end is of interest."""
        ...

    async def watch(self, watcher: str, workflow_ids: Sequence[str]) -> Sequence[str]:
        """Ask to be told of endings; returns the ids that are not live (any more)."""
        ...

    async def endings(self, watcher: str, timeout_s: float) -> Sequence[Ending]:
        """Return endings as they come; none when time is up."""
        ...


class SupervisorLink(Protocol):
    """The way from an owner to the Dispatcher."""

    def report(self, report: OwnerReport) -> None:
        """Send a report; may be lost."""
        ...


class StateServiceLink(Protocol):
    """The way from the Dispatcher to what follows the log: the projector and the reporter."""

    def serve(self, partitions: Collection[int]) -> None:
        """Say which partitions this engine serves; to be said again now and then."""
        ...

    async def barrier(self, partitions: Collection[int]) -> None:
        """Return when what is in the log now of these partitions is projected.

        Raises:
            Unavailable: it is not yet, or the projector cannot be reached now.
        """
        ...


class ProcessLink(Protocol):
    """The way to one process of the engine, from the one that watches over it."""

    @property
    def name(self) -> str:
        """The process's name, the same before and after a restart."""
        ...

    async def alive(self) -> None:
        """Return once the process has answered.

        Raises:
            NoAnswer: it was reached and said nothing within the time limit.
            Unavailable: it is known to be away, and is being started.
        """
        ...

    async def restart(self) -> None:
        """Kill the process, whatever it is doing, and have another started.

        Raises:
            Unavailable: there is nothing to kill.
        """
        ...
