"""A workflow's tasks as its events tell of them: folded into one row per task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from orchx.client.models import Event

MAX_ROWS: Final = 10_000
_ENDS: Final = {"completed": "completed", "faulted": "faulted", "cancelled": "cancelled"}
_PREFIXES: Final = ("io.serverlessworkflow.", "io.orchx.")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRow:
    """One task, however often it ran: `runs` counts retries and iterations too."""

    reference: str
    status: str = "running"
    service: str = ""
    runs: int = 0
    started_at: datetime | None = None
    duration_ms: float | None = None
    error: str = ""


def kind_of(event: Event) -> str:
    """Return an event's type in short: `task.completed`."""
    kind = event.type
    for prefix in _PREFIXES:
        kind = kind.removeprefix(prefix)
    return kind.removesuffix(".v1")


class ProgressFold:
    """Takes events in order; `rows`, `status` and `error` are what they add up to."""

    def __init__(self) -> None:
        self.rows: dict[str, TaskRow] = {}
        self.status = "pending"
        self.error = ""

    def take(self, event: Event) -> TaskRow | None:
        """Add one event; return the row that it changed, if it did."""
        kind = kind_of(event)
        data = event.data if isinstance(event.data, dict) else {}
        if kind.startswith("workflow."):
            self._take_workflow(kind.removeprefix("workflow."), data)
            return None
        reference = event.taskreference or data.get("task")
        if not reference or not kind.startswith("task."):
            return None
        if reference not in self.rows and len(self.rows) >= MAX_ROWS:
            return None
        before = self.rows.get(reference) or TaskRow(reference=reference)
        row = _after(before, kind.removeprefix("task."), event, data)
        if row == before:
            return None
        self.rows[reference] = row
        return row

    def _take_workflow(self, what: str, data: Mapping[str, Any]) -> None:
        if what in ("started", "activated"):
            self.status = "running"
        elif what == "correlation-started" or what == "passivated":
            self.status = "waiting"
        elif what in _ENDS:
            self.status = _ENDS[what]
            self.error = error_text(data.get("error")) or str(data.get("reason") or "")


def error_text(error: Any) -> str:
    """Return a DSL error in one line."""
    if not isinstance(error, dict):
        return ""
    kind = str(error.get("type", "")).rpartition("/")[2]
    text = str(error.get("detail") or error.get("title") or "")
    status = error.get("status")
    head = " ".join(str(part) for part in (kind, status) if part)
    return f"{head}: {text}" if text else head


def _after(row: TaskRow, what: str, event: Event, data: Mapping[str, Any]) -> TaskRow:
    call = data.get("call") if isinstance(data.get("call"), dict) else {}
    service = str(data.get("service") or (call or {}).get("service") or row.service)
    row = replace(row, service=service)
    if what == "started":
        return replace(
            row,
            status="running",
            runs=row.runs + 1,
            started_at=event.time,
            duration_ms=None,
            error="",
        )
    if what in _ENDS:
        instantaneous = not data.get("frame")
        runs = row.runs + 1 if instantaneous else max(row.runs, 1)
        duration_ms = data.get("durationMs")
        if duration_ms is None and row.started_at is not None and event.time is not None:
            duration_ms = (event.time - row.started_at).total_seconds() * 1000
        error = error_text(data.get("error"))
        return replace(row, status=_ENDS[what], runs=runs, duration_ms=duration_ms, error=error)
    if what == "skipped":
        return replace(row, status="skipped")
    if what == "retried":
        return replace(row, status="retrying", error=error_text(data.get("error")))
    if what == "resumed":
        return replace(row, status="running", runs=row.runs + 1, error="")
    if what == "caught":
        return replace(row, status="caught", error=error_text(data.get("error")))
    return row
