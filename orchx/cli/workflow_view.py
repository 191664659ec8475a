"""Workflows on the screen: in a table, one in full, and one as it goes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from orchx.cli.progress import ProgressFold, TaskRow, error_text, kind_of
from orchx.cli.screen import age, clock_time, one_line, span, status_text, table
from orchx.client.models import Event, Workflow

MAX_JSON_LINES: Final = 40
LIVE_ROWS_MARGIN: Final = 6  # lines around the rows of the live view
TOLD_AGE_MS: Final = 2_000  # what is younger is as good as new to a person
_REFRESH_PER_S: Final = 8


def workflow_table(workflows: Iterable[Workflow], now: datetime) -> Table:
    """Return the table of `orchx list`."""
    made = table("ID", "STATUS", "DEFINITION", "AGE", "NOW AT", right=("AGE",), grow="NOW AT")
    for workflow in workflows:
        made.add_row(
            workflow.id,
            status_text(workflow.status),
            f"{workflow.namespace}/{workflow.name}:{workflow.version}",
            age(workflow.created_at, now),
            one_line(now_at(workflow, now)),
        )
    return made


def now_at(workflow: Workflow, now: datetime) -> Text:
    """Return where a workflow stands, in a few words."""
    if workflow.error is not None:
        return Text(error_text(_plain_error(workflow)), style="red")
    if workflow.ended:
        return Text("")
    text = Text(workflow.task or "", style="dim")
    for reason in waits(workflow, now):
        text.append(f" {reason}" if text else reason, style="yellow")
    return text


def waits(workflow: Workflow, now: datetime) -> list[str]:
    """Return what a workflow waits for."""
    waiting = workflow.waiting
    if waiting is None or workflow.ended:
        return []
    reasons = []
    if waiting.event_types:
        reasons.append("for " + " or ".join(waiting.event_types))
    if waiting.until is not None:
        left_s = (waiting.until - now).total_seconds()
        reasons.append(f"for {span(left_s)}" if left_s > 0 else "for its time, now due")
    return reasons


def workflow_detail(workflow: Workflow, rows: Iterable[TaskRow], now: datetime) -> RenderableType:
    """Return all about one workflow: `orchx show`."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold")
    facts.add_column(overflow="fold")
    for name, value in _facts(workflow, now):
        facts.add_row(name, value)
    parts: list[RenderableType] = [facts]
    rows = list(rows)
    if rows:
        parts.append(task_table(rows, now))
    return Group(*parts, outcome(workflow))


def outcome(workflow: Workflow) -> RenderableType:
    """Return what came out of a workflow: its output, or its error and where it arose."""
    if workflow.error is not None:
        line = Text("error  ", style="bold red").append(
            error_text(_plain_error(workflow)), style="not bold"
        )
        return line.append(f"\n   at  {workflow.error.instance}" if workflow.error.instance else "")
    if workflow.status == "completed":
        return Group(Text("output", style="bold"), _json_text(workflow.output))
    return Text(f"it is {workflow.status}", style="dim") if workflow.ended else Group()


def _facts(workflow: Workflow, now: datetime) -> Iterator[tuple[str, RenderableType]]:
    yield "workflow", Text(workflow.id)
    yield "status", status_text(workflow.status)
    if workflow.age_ms is not None and workflow.age_ms > TOLD_AGE_MS:
        told = f"{span(workflow.age_ms / 1000)} ago: the state service is behind"
        yield "as of", Text(told, style="yellow")
    for reason in waits(workflow, now):
        yield "waits", Text(reason, style="yellow")
    yield "definition", Text(f"{workflow.namespace}/{workflow.name}:{workflow.version}")
    if workflow.type:
        yield "type", Text(workflow.type)
    yield "tenant", Text(f"{workflow.tenant}, priority {workflow.priority}")
    if workflow.labels:
        yield "labels", Text(", ".join(f"{k}={v}" for k, v in sorted(workflow.labels.items())))
    if workflow.correlation_id:
        yield "correlation", Text(workflow.correlation_id)
    if workflow.parent_id:
        yield "parent", Text(workflow.parent_id)
    if workflow.deadline is not None:
        yield "deadline", Text(clock_time(workflow.deadline))
    yield "created", Text(f"{clock_time(workflow.created_at)}, {age(workflow.created_at, now)} ago")
    if workflow.ended_at is not None and workflow.created_at is not None:
        took = (workflow.ended_at - workflow.created_at).total_seconds()
        yield "ended", Text(f"{clock_time(workflow.ended_at)}, after {span(took)}")


def task_table(rows: Iterable[TaskRow], now: datetime) -> Table:
    """Return a workflow's tasks, one a line."""
    columns = ("STATUS", "TASK", "SERVICE", "RUNS", "TIME", "ERROR")
    made = table(*columns, right=("RUNS", "TIME"), grow="ERROR")
    for row in rows:
        made.add_row(
            status_text(row.status),
            row.reference,
            row.service,
            str(row.runs or ""),
            duration_text(row, now),
            Text(row.error, style="red" if row.status == "faulted" else "yellow"),
        )
    return made


def duration_text(row: TaskRow, now: datetime) -> str:
    """Return how long a task took, or takes so far."""
    if row.duration_ms is not None:
        return span(row.duration_ms / 1000)
    if row.status == "running" and row.started_at is not None:
        return span(max((now - row.started_at).total_seconds(), 0.0))
    return ""


def event_line(event: Event) -> Text:
    """Return one event of a history as one line."""
    data = event.data if isinstance(event.data, dict) else {}
    at = "" if event.time is None else event.time.astimezone().strftime("%H:%M:%S.%f")[:-3]
    kind = kind_of(event)
    line = Text(f"{at}  ", style="dim").append(f"{kind:<30}", style=_style_of(kind))
    line.append(f" {event.taskreference or ''}")
    call = data.get("call") if isinstance(data.get("call"), dict) else {}
    service = data.get("service") or (call or {}).get("service")
    if service:
        line.append(f"  by {service}", style="cyan")
    if isinstance(data.get("durationMs"), (int, float)):
        line.append(f"  {span(data['durationMs'] / 1000)}", style="dim")
    if data.get("error"):
        line.append(f"  {error_text(data['error'])}", style="red")
    elif kind == "decision.made":
        line.append(f"  {data.get('question', '')} → {data.get('chosen', '')}", style="cyan")
    elif data.get("reason"):
        line.append(f"  {data['reason']}", style="yellow")
    return line


def watch(events: Iterable[Event], workflow_id: str, screen: Console) -> ProgressFold:
    """Show a workflow's tasks as they happen, until the events end; return what came out.

    On a terminal it is one table that changes in place; elsewhere one line per change.
    """
    fold = ProgressFold()
    if not screen.is_terminal:
        for event in events:
            row = fold.take(event)
            if row is not None:
                screen.print(_change_line(row, event), soft_wrap=True)
        return fold
    view = _LiveView(fold, workflow_id, screen)
    with Live(view, console=screen, refresh_per_second=_REFRESH_PER_S, transient=False):
        for event in events:
            fold.take(event)
    return fold


class _LiveView:
    """Drawn anew at each refresh, so that running times run."""

    def __init__(self, fold: ProgressFold, workflow_id: str, screen: Console) -> None:
        self._fold = fold
        self._id = workflow_id
        self._screen = screen

    def __rich__(self) -> RenderableType:
        now = datetime.now(UTC)
        rows = list(self._fold.rows.values())
        room = max(self._screen.height - LIVE_ROWS_MARGIN, 3)
        hidden = max(len(rows) - room, 0)
        head = Text(f"{self._id}  ").append_text(status_text(self._fold.status))
        if hidden:
            head.append(f"  ({hidden} earlier tasks not shown)", style="dim")
        return Group(head, task_table(rows[hidden:], now)) if rows else head


def _change_line(row: TaskRow, event: Event) -> Text:
    now = event.time or datetime.now(UTC)
    at = now.astimezone().strftime("%H:%M:%S")
    line = Text(f"{at}  ").append_text(status_text(f"{row.status}"))
    line.append(" " * max(11 - len(row.status), 1) + row.reference)
    took = "" if row.duration_ms is None else span(row.duration_ms / 1000)
    for extra in (row.service and f"by {row.service}", took, row.error):
        if extra:
            line.append(f"  {extra}")
    return line


def _style_of(kind: str) -> str:
    for end, style in (("faulted", "red"), ("completed", "green"), ("cancelled", "magenta")):
        if kind.endswith(end):
            return style
    return "yellow" if kind in ("task.retried", "task.caught") else ""


def _plain_error(workflow: Workflow) -> dict[str, Any]:
    error = workflow.error
    return {} if error is None else {name: getattr(error, name) for name in error.__struct_fields__}


def _json_text(value: Any) -> Text:
    lines = json.dumps(value, indent=2, ensure_ascii=False).splitlines()
    if len(lines) > MAX_JSON_LINES:
        rest = len(lines) - MAX_JSON_LINES
        lines = [*lines[:MAX_JSON_LINES], f"… {rest} more lines: use --json"]
    return Text("\n".join(lines))
