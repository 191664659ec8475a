"""Whether log, projection and API tell the same story: read from the stores, told as findings.

The log is read whole, judged by `AcceptedRecords` and folded by `fold` and by the
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
from orchx.domain.events import TERMINAL_EVENTS, Record, WorkflowActivated, WorkflowPassivated
from orchx.domain.evolve import fold
from orchx.domain.lineage import AcceptedRecords
from orchx.domain.state import WorkflowState
from orchx.engine.summary import LiveSummary
from orchx.ports.event_log import EventLog
from orchx.ports.state_store import StateStore, WorkflowSummary
from orchx.serve.answers import workflow_json
from orchx.stores import open_stores
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


def read_log(path: Path) -> dict[str, list[Record]]:
    """Return the records of a log file, by workflow, in log order."""
    return asyncio.run(_read_whole(SqliteEventLog(path, read_only=True)))


async def _read_whole(log: EventLog) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    try:
        for partition in range(await log.partitions()):
            offset = 0
            while page := await log.tail(offset, limit=PAGE_RECORDS, partition=partition):
                offset = page[-1].offset
                for record in page:
                    found.setdefault(record.workflow_id, []).append(record)
    finally:
        await log.close()
    return found


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


def known_workflows(server: ServerProcess) -> frozenset[str]:
    """Return the workflows that the log knows."""
    return frozenset(_records_of(server))


def is_any_taken_over(server: ServerProcess, besides: frozenset[str]) -> bool:
    """Return whether an owner has taken a workflow from another that had not let go of it.

    Looks at workflows `besides` those.
    """
    for workflow_id, records in _records_of(server).items():
        before: Record | None = None
        for record in AcceptedRecords().of(() if workflow_id in besides else records):
            if isinstance(record.event, WorkflowActivated) and before is not None:
                was_held = not isinstance(before.event, WorkflowPassivated)
                if was_held and before.owner != record.owner:
                    return True
            before = record
    return False


def _records_of(server: ServerProcess) -> dict[str, list[Record]]:
    return asyncio.run(_read_whole(open_stores(server.settings).event_log()))


async def _stored(store: StateStore, workflow_ids: list[str]) -> Mapping[str, WorkflowSummary]:
    try:
        return await store.load(workflow_ids)
    finally:
        await store.close()


def stories(server: ServerProcess, workflow_ids: Iterable[str]) -> dict[str, Story]:
    """Return what the log tells of workflows."""
    records = _records_of(server)
    return {key: story_of(key, records.get(key, ())) for key in workflow_ids}


def check(server: ServerProcess, workflow_ids: Iterable[str]) -> list[str]:
    """Return what is wrong with workflows that all are over; nothing, if all is well."""
    wanted = list(workflow_ids)
    records = _records_of(server)
    rows = asyncio.run(_stored(open_stores(server.settings).state_store(), wanted))
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
