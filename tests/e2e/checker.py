"""Whether log, projection and API tell the same story: read from the files, told as findings.

The log is read by `SqliteEventLog`, judged by `AcceptedRecords` and folded by `fold` and by the
projector's own summary; the answers of the API are compared with both.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from orchx.adapters.sqlite_event_log import SqliteEventLog
from orchx.adapters.sqlite_state_store import SqliteStateStore
from orchx.domain.events import TERMINAL_EVENTS, Record, WorkflowActivated, WorkflowPassivated
from orchx.domain.evolve import fold
from orchx.domain.lineage import AcceptedRecords
from orchx.domain.state import WorkflowState
from orchx.engine.summary import LiveSummary
from orchx.ports.state_store import WorkflowSummary
from orchx.serve.answers import workflow_json
from tests.e2e.server_process import ServerProcess

PAGE_RECORDS = 5_000


@dataclass(slots=True)
class Story:
    """One workflow as the log tells it."""

    state: WorkflowState
    summary: WorkflowSummary
    terminal_events: int
    gaps: int
    epochs: int
    verdicts: Counter[str] = field(default_factory=Counter)


def read_log(path: Path, after_offset: int = 0) -> dict[str, list[Record]]:
    """Return the records of a log file after an offset, by workflow, in log order."""

    async def read() -> dict[str, list[Record]]:
        log = SqliteEventLog(path, read_only=True)
        found: dict[str, list[Record]] = {}
        offset = after_offset
        try:
            while page := await log.tail(offset, limit=PAGE_RECORDS):
                offset = page[-1].offset
                for record in page:
                    found.setdefault(record.workflow_id, []).append(record)
        finally:
            await log.close()
        return found

    return asyncio.run(read())


def story_of(workflow_id: str, records: Iterable[Record]) -> Story:
    """Fold what counts of one workflow's records."""
    reader, live = AcceptedRecords(), LiveSummary(workflow_id)
    accepted: list[Record] = []
    verdicts: Counter[str] = Counter()
    for record in records:
        verdict = reader.judge(record)
        verdicts[verdict] += 1
        live.lineage.judge(record)
        if verdict == "accepted":
            accepted.append(record)
            live.apply(record)
    return Story(
        state=fold(workflow_id, [(record.event, record.at_ms) for record in accepted]),
        summary=live.freeze(),
        terminal_events=sum(isinstance(record.event, TERMINAL_EVENTS) for record in accepted),
        gaps=reader.gaps,
        epochs=reader.epoch,
        verdicts=verdicts,
    )


def last_offset(path: Path) -> int:
    """Return the offset of a log's last record."""

    async def read() -> int:
        log = SqliteEventLog(path, read_only=True)
        try:
            return await log.last_offset()
        finally:
            await log.close()

    return asyncio.run(read())


def is_any_taken_over(path: Path, after_offset: int) -> bool:
    """Return whether an owner has taken a workflow from another that had not let go of it.

    Looks at workflows that began after an offset.
    """
    for records in read_log(path, after_offset).values():
        before: Record | None = None
        for record in AcceptedRecords().of(records):
            if isinstance(record.event, WorkflowActivated) and before is not None:
                was_held = not isinstance(before.event, WorkflowPassivated)
                if was_held and before.owner != record.owner:
                    return True
            before = record
    return False


def stored_summaries(path: Path, workflow_ids: Iterable[str]) -> Mapping[str, WorkflowSummary]:
    """Return the projection's rows."""

    async def read() -> Mapping[str, WorkflowSummary]:
        store = SqliteStateStore(path)
        try:
            return await store.load(list(workflow_ids))
        finally:
            await store.close()

    return asyncio.run(read())


def check(server: ServerProcess, workflow_ids: Iterable[str]) -> list[str]:
    """Return what is wrong with workflows that all are over; nothing, if all is well."""
    wanted = list(workflow_ids)
    records = read_log(server.data / "events.db")
    rows = stored_summaries(server.data / "state.db", wanted)
    findings: list[str] = []
    with httpx.Client(base_url=server.url, headers=server.authorization, timeout=30) as http:
        for workflow_id in wanted:
            story = story_of(workflow_id, records.get(workflow_id, ()))
            told = http.get(f"/v1/workflows/{workflow_id}").json()
            findings += [
                f"{workflow_id}: {finding}"
                for finding in _judge(story, rows.get(workflow_id), told)
            ]
    return findings


def _judge(story: Story, row: WorkflowSummary | None, told: Any) -> list[str]:
    findings: list[str] = []
    if story.terminal_events != 1:
        findings.append(f"{story.terminal_events} terminal events")
    if story.gaps:
        findings.append(f"{story.gaps} gaps ({dict(story.verdicts)})")
    if not story.state.terminal:
        findings.append(f"the log says it is {story.state.status}")
    if story.state.status != story.summary.status:
        findings.append(f"state {story.state.status}, summary {story.summary.status}")
    if row != story.summary:
        findings.append(f"the projection has {row}, the log makes {story.summary}")
    expected = json.loads(json.dumps(workflow_json(story.summary)))
    if told != expected:
        findings.append(f"the API tells {told}, the log makes {expected}")
    return findings
