"""Watches the demo's workflows through the API, and says in plain words what happens to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from orchx.cli.demo_board import Board
from orchx.cli.demo_cases import Case
from orchx.cli.demo_evidence import avoided
from orchx.cli.progress import kind_of
from orchx.client import Client, Event, Workflow

HISTORIES_PER_LOOK: Final = 8
"""Histories read per look at the list: what happens faster is counted, not told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far the requests of one type are. `failed` counts all that faulted."""

    total: int
    running: int = 0
    waiting: int = 0
    completed: int = 0
    failed: int = 0

    @property
    def over(self) -> int:
        """How many have ended, one way or the other."""
        return self.completed + self.failed


class Watch:
    """Looks at the list of workflows, and into the histories of those that changed.

    Args:
        client: may see all systems' workflows.
        cases: all that will be submitted.
        run: the label of this run.
    """

    def __init__(self, client: Client, cases: Sequence[Case], run: str) -> None:
        self._client = client
        self._cases = {case.key: case for case in cases}
        self._totals = Counter(case.type for case in cases)
        self._run = run
        self._told: dict[str, tuple[object, int]] = {}  # by workflow: as of when, log offset
        self.workflows: tuple[Workflow, ...] = ()

    def look(self, board: Board) -> None:
        """Read the list, and tell the board what is new in some histories."""
        self.workflows = tuple(self._client.list(label={"demo": self._run}))
        left = HISTORIES_PER_LOOK
        for workflow in self.workflows:
            as_of, offset = self._told.get(workflow.id, (None, 0))
            if as_of == workflow.updated_at:
                continue
            case = self._cases.get(workflow.labels.get("request", ""))
            if left == 0 or case is None:
                continue
            left -= 1
            events = list(self._client.history(workflow.id, after=offset))
            for words, style in told(events, case):
                board.tell(words, style)
            offset = int(events[-1].logoffset) if events else offset
            self._told[workflow.id] = (workflow.updated_at, offset)

    def progress(self) -> dict[str, Progress]:
        """Return the counts per type, as of the last look."""
        statuses: dict[str, Counter[str]] = {kind: Counter() for kind in self._totals}
        for workflow in self._requested():
            statuses[workflow.type or ""][workflow.status] += 1
        return {
            kind: Progress(
                total=self._totals[kind],
                running=count["running"] + count["pending"],
                waiting=count["waiting"] + count["suspended"],
                completed=count["completed"],
                failed=count["faulted"] + count["cancelled"],
            )
            for kind, count in statuses.items()
        }

    def retries(self) -> int:
        """Return how often tasks were tried again, as of the last look."""
        return sum(workflow.tasks.retries for workflow in self.workflows)

    def unfinished(self, ids: Iterable[str]) -> list[str]:
        """Return those of these workflows that are not known to be over."""
        over = {workflow.id for workflow in self.workflows if workflow.ended}
        return [workflow_id for workflow_id in ids if workflow_id not in over]

    def _requested(self) -> Iterator[Workflow]:
        for workflow in self.workflows:
            if workflow.type in self._totals and workflow.parent_id is None:
                yield workflow


def told(events: Iterable[Event], case: Case) -> Iterator[tuple[str, str]]:
    """Yield what is worth telling of a history, in plain words, each with its style."""
    name = f"{case.type} {case.number}"
    for event in events:
        data: Mapping[str, Any] = event.data if isinstance(event.data, dict) else {}
        kind = kind_of(event)
        if services := avoided(event):
            words = f"{services[0]} is down, switched to {data['chosen']}"
            yield f"{data['question']}: {words}", "bold green"
        elif kind == "task.retried":
            error = data.get("error") or {}
            task = _short(event.taskreference)
            yield f"{name}: {task} failed ({_reason(error)}), trying again", "yellow"
        elif kind == "task.caught" and _is_timeout(data):
            yield f"{name}: nobody has decided in time, escalated", "magenta"
        elif kind == "event.consumed":
            yield f"{name}: {_verdict(data.get('value'))}", "cyan"
        elif kind == "workflow.faulted":
            error = data.get("error") or {}
            yield f"{name}: ended with “{error.get('title') or _reason(error)}”", "dim"


def _short(reference: str | None) -> str:
    return (reference or "").rpartition("/")[2]


def _is_timeout(data: Mapping[str, Any]) -> bool:
    return str((data.get("error") or {}).get("type", "")).endswith("/timeout")


def _reason(error: Mapping[str, Any]) -> str:
    status, title = error.get("status"), error.get("title") or ""
    if title == "Injected fault":
        return f"answered {status}"
    return {408: "no answer in time", 502: title or "no answer"}.get(
        status or 0, f"{status} {title}"
    )


def _verdict(value: Any) -> str:
    event = value if isinstance(value, dict) else {}
    data = event.get("data") if isinstance(event.get("data"), dict) else event
    data = data or {}
    approved = data.get("approved", str(event.get("type", "")).endswith("approved"))
    return f"{data.get('by') or 'somebody'} has {'approved' if approved else 'said no'}"
