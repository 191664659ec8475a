"""The state of one workflow: a tree of frames, one per task that is under way.

A frame is the activation of a composite, waiting or calling task; tasks that are over
within the turn that starts them never have one. Frames are immutable and replaced;
`WorkflowState` is changed only by `evolve`, on a copy.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

from orchx.domain.events import CallDetails, ChildDetails, DefinitionRef, Request
from orchx.domain.faults import Fault
from orchx.domain.json_values import JSON

ROOT = 0  # the frame of the workflow's own block

Status: TypeAlias = Literal["new", "running", "completed", "faulted", "cancelled"]

# What a frame is doing; only `try` uses more than "run".
Phase: TypeAlias = Literal["run", "backoff", "catch"]


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """One task under way.

    For a block: `last` is the child that ended last, `then` the directive it left, `data`
    what flows to the next child, `active` how many children run, `raised` an error of a
    child that is not handled yet, `visits` how often each child has ended (so that a task
    reached again by a jump is a new iteration). Times are epoch milliseconds.
    """

    id: int
    parent: int
    reference: str
    kind: str
    iteration: str = ""
    raw: JSON = None
    input: JSON = None
    started_at_ms: int = 0
    timeout_at_ms: int | None = None
    due_at_ms: int | None = None
    last: str | None = None
    then: str = "continue"
    data: JSON = None
    active: int = 0
    raised: Fault | None = None
    visits: dict[str, int] = {}
    variables: dict[str, JSON] = {}
    phase: Phase = "run"
    attempt: int = 1
    names: dict[str, str] | None = None  # for: the names of item and index
    items: list[JSON] | None = None
    index: int = -1
    results: dict[int, JSON] = {}  # fork: branch -> output
    faulted: frozenset[int] = frozenset()  # fork: branches that ended with an error
    begun: frozenset[int] = frozenset()  # fork: branches that were started
    skipped: frozenset[int] = frozenset()  # fork: branches whose `if` did not hold
    consumed: tuple[tuple[int, JSON], ...] = ()  # listen: (filter, value) in order
    correlations: dict[str, JSON] = {}
    call: CallDetails | None = None
    child: ChildDetails | None = None
    outcome: tuple[JSON, Fault | None] | None = None  # run: how the child ended


class KeptEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event that no task has taken yet, by the command that brought it."""

    command_id: str
    event: dict[str, Any]
    broadcast: bool


class WorkflowState:
    """Everything that the log says about one workflow, folded."""

    __slots__ = (
        "bytes",
        "cancel_reason",
        "children",
        "commands",
        "context",
        "definition",
        "ended_at_ms",
        "error",
        "events",
        "failures",
        "frames",
        "inbox",
        "input",
        "next_frame",
        "output",
        "passivated",
        "request",
        "retries",
        "started_at_ms",
        "status",
        "task",
        "tasks_completed",
        "tasks_faulted",
        "workflow_id",
    )

    def __init__(self, workflow_id: str) -> None:
        self.workflow_id = workflow_id
        self.status: Status = "new"
        self.definition: DefinitionRef | None = None
        self.request = Request()
        self.input: JSON = None
        self.context: JSON = None
        self.output: JSON = None
        self.error: Fault | None = None
        self.started_at_ms = 0
        self.events = 0  # how many were folded
        self.bytes = 0  # how long they are in their stored form
        self.ended_at_ms: int | None = None
        self.task: str | None = None  # the task most recently begun
        self.tasks_completed = 0
        self.tasks_faulted = 0
        self.retries = 0
        self.children = 0  # how many were started
        self.frames: dict[int, Frame] = {}
        self.next_frame = 1
        self.commands: set[str] = set()
        self.inbox: tuple[KeptEvent, ...] = ()
        self.failures: dict[str, dict[str, int]] = {}  # call site -> service -> weight
        self.cancel_reason: str | None = None
        self.passivated = False

    def copy(self) -> WorkflowState:
        """Return an independent copy (frames are immutable and shared)."""
        twin = WorkflowState.__new__(WorkflowState)
        for name in WorkflowState.__slots__:
            setattr(twin, name, getattr(self, name))
        twin.frames = self.frames.copy()
        twin.commands = self.commands.copy()
        twin.failures = self.failures.copy()
        return twin

    def as_json(self) -> dict[str, JSON]:
        """Return the whole state as plain data, to be compared and shown."""
        shown: dict[str, JSON] = {}
        for name in WorkflowState.__slots__:
            value = getattr(self, name)
            if name == "commands":
                value = sorted(value)
            elif name == "frames":
                value = {str(key): msgspec.to_builtins(frame) for key, frame in value.items()}
                for frame in value.values():
                    frame["faulted"] = sorted(frame["faulted"])
                    frame["begun"] = sorted(frame["begun"])
                    frame["skipped"] = sorted(frame["skipped"])
            shown[name] = msgspec.to_builtins(value)
        return shown

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WorkflowState) and self.as_json() == other.as_json()

    __hash__ = None  # type: ignore[assignment]  # mutable: must not be a key

    @property
    def terminal(self) -> bool:
        """Whether the workflow is over."""
        return self.status in ("completed", "faulted", "cancelled")

    def next_due_ms(self) -> int | None:
        """Return when the next timer is due, if there is one."""
        due = None
        for frame in self.frames.values():
            for moment in (frame.timeout_at_ms, frame.due_at_ms):
                if moment is not None and (due is None or moment < due):
                    due = moment
        return due

    def executing(self) -> list[Frame]:
        """Return the frames whose call is with a pool."""
        return [frame for frame in self.frames.values() if frame.kind == "call"]

    def awaiting_children(self) -> list[Frame]:
        """Return the frames that wait for a child workflow."""
        return [
            frame for frame in self.frames.values() if frame.kind == "run" and frame.outcome is None
        ]

    def only_waits(self) -> bool:
        """Whether nothing can happen before a timer, an event or a child's end."""
        return not self.terminal and bool(self.frames) and not self.executing()


# A service that may have acted is asked again, with the same key, before another one is
# (ADR 0010): so many failures of unknown effect weigh as much as one that is certain.
CERTAIN_WEIGHT = 3
UNKNOWN_WEIGHT = 1


def call_site(reference: str, iteration: str) -> str:
    """Name one task in one iteration: what an idempotency key and a retry are about."""
    return f"{reference}#{iteration}"
