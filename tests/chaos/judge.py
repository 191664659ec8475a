"""Whether ledger, log, MongoDB, Redis and the API tell one story of a row's workflows."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import httpx

from orchx.adapters.kafka_connection import partition_of
from orchx.adapters.redis_state_cache import RedisStateCache
from orchx.domain.events import Record
from orchx.ports.event_log import EventLog
from orchx.ports.state_cache import LOOKUP_MAX
from orchx.ports.state_store import StateStore, WorkflowSummary
from orchx.settings import Settings
from orchx.stores import open_stores
from tests.chaos.load import Load, Request
from tests.chaos.site import Site
from tests.e2e import checker
from tests.e2e.checker import Story
from tests.e2e.sandbox_ledger import SandboxLedger

PAGE_RECORDS = 5_000
PROJECTION_TIMEOUT_S = 30.0
API_SAMPLE = 50
FINDINGS_MAX = 20
_POLL_S = 0.5


@dataclass(slots=True, kw_only=True)
class Verdict:
    """What is wrong with a row's workflows; all nought and nothing, if all is well."""

    lost: int = 0
    doubled: int = 0
    stuck: int = 0
    findings: list[str] = field(default_factory=list)
    statuses: dict[str, int] = field(default_factory=dict)

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.lost or self.doubled or self.stuck or self.findings)


class Judge:
    """Notes where the log ends when it is made, and judges what was written after."""

    def __init__(self, site: Site, ledger: SandboxLedger, steps: Sequence[str]) -> None:
        self._site = site
        self._ledger = ledger
        self._steps = steps
        self._begin = asyncio.run(_ends(site.settings))

    def judge(self, load: Load) -> Verdict:
        """Compare everything, once every workflow has ended or had the time to.

        Args:
            load: that made the workflows; nothing else may have made any meanwhile.
        """
        records = asyncio.run(_read_after(self._site.settings, self._begin))
        stories = {key: checker.story_of(key, found) for key, found in records.items()}
        waiting = self._waiting(load.workflow_ids, stories)
        verdict = verdict_of(load.requests, stories, waiting)
        over = [key for key, story in stories.items() if story.state.status == "completed"]
        missing, doubled = self._ledger.check(over, self._steps)
        verdict.lost += missing
        verdict.doubled += doubled
        summaries = {key: story.summary for key, story in stories.items()}
        verdict.findings += asyncio.run(_projections(self._site.settings, summaries))
        verdict.findings += self._told(summaries)
        del verdict.findings[FINDINGS_MAX:]
        return verdict

    def _waiting(self, ids: Sequence[str], stories: Mapping[str, Story]) -> frozenset[str]:
        """Return those that the log does not know yet, and the engine does: not lost, but late."""
        engine = self._site.engine
        with httpx.Client(base_url=engine.url, headers=engine.authorization, timeout=30) as http:
            return frozenset(
                each
                for each in ids
                if each not in stories and http.get(f"/v1/workflows/{each}").is_success
            )

    def _told(self, summaries: Mapping[str, WorkflowSummary]) -> list[str]:
        """Return what the API says otherwise, of workflows from all of the row."""
        findings = []
        engine = self._site.engine
        ids = list(summaries)
        with httpx.Client(base_url=engine.url, headers=engine.authorization, timeout=30) as http:
            for workflow_id in ids[:: max(1, len(ids) // API_SAMPLE)]:
                told = http.get(f"/v1/workflows/{workflow_id}").json()
                if told.get("status") != summaries[workflow_id].status:
                    findings.append(f"{workflow_id}: the API tells {told}")
        return findings


def verdict_of(
    requests: Sequence[Request],
    stories: Mapping[str, Story],
    waiting: frozenset[str] = frozenset(),
) -> Verdict:
    """Judge what the log tells of requests; a workflow is known by the key in its input.

    Args:
        requests: all that were made, accepted or not.
        stories: every workflow that the log has begun meanwhile, by id.
        waiting: workflows that are still to begin.
    """
    verdict = Verdict(statuses=dict(Counter(story.state.status for story in stories.values())))
    by_key: dict[str, list[str]] = {}
    for workflow_id, story in stories.items():
        by_key.setdefault(str(_key_of(story)), []).append(workflow_id)
        if not story.state.terminal:
            verdict.stuck += 1
        elif story.state.status != "completed":
            verdict.findings.append(f"{workflow_id} is {story.state.status}")
        if story.terminal_events > 1 or story.gaps:
            told = f"{story.terminal_events} ends, {story.gaps} gaps"
            verdict.findings.append(f"{workflow_id}: {told}")
    for request in requests:
        found = by_key.pop(request.key, [])
        verdict.doubled += max(0, len(found) - 1)
        # Accepted without the client's hearing of it is neither lost nor doubled.
        if request.workflow_id in waiting:
            verdict.stuck += 1
        else:
            verdict.lost += request.workflow_id is not None and request.workflow_id not in found
    verdict.findings += [f"{ids}: nobody asked for {key}" for key, ids in by_key.items()]
    return verdict


def _key_of(story: Story) -> str | None:
    given = story.state.input
    return str(given.get("name")) if isinstance(given, dict) else None


async def _ends(settings: Settings) -> dict[int, int]:
    log = open_stores(settings).event_log()
    try:
        return {number: await log.last_offset(number) for number in range(await log.partitions())}
    finally:
        await log.close()


async def _read_after(settings: Settings, begin: Mapping[int, int]) -> dict[str, list[Record]]:
    log = open_stores(settings).event_log()
    found: dict[str, list[Record]] = {}
    try:
        for partition, offset in begin.items():
            await _read_partition(log, partition, offset, found)
    finally:
        await log.close()
    return found


async def _read_partition(
    log: EventLog, partition: int, offset: int, found: dict[str, list[Record]]
) -> None:
    await log.last_offset(partition)  # a page that is empty after this is the end
    while page := await log.tail(offset, limit=PAGE_RECORDS, partition=partition):
        offset = page[-1].offset
        for record in page:
            found.setdefault(record.workflow_id, []).append(record)


async def _projections(settings: Settings, expected: Mapping[str, WorkflowSummary]) -> list[str]:
    """Return what MongoDB and Redis say otherwise, once the projector has had its time."""
    stores = open_stores(settings)
    store = stores.state_store()
    cache = RedisStateCache(settings.redis, settings.kafka.topic_prefix)
    deadline_s = time.monotonic() + PROJECTION_TIMEOUT_S
    try:
        while True:
            findings = await _stored(store, expected)
            findings += await _cached(cache, store, settings.kafka.partitions, expected)
            if not findings or time.monotonic() > deadline_s:
                return findings
            await asyncio.sleep(_POLL_S)
    finally:
        await cache.close()
        await store.close()


async def _stored(store: StateStore, expected: Mapping[str, WorkflowSummary]) -> list[str]:
    rows = await store.load(list(expected))
    return [
        f"{key}: MongoDB has {rows.get(key)}, not {summary}"
        for key, summary in expected.items()
        if rows.get(key) != summary
    ]


async def _cached(
    cache: RedisStateCache,
    store: StateStore,
    partitions: int,
    expected: Mapping[str, WorkflowSummary],
) -> list[str]:
    """Return what Redis says otherwise; single entries that it lacks are no fault."""
    by_partition: dict[int, list[str]] = {}
    for key in expected:
        by_partition.setdefault(partition_of(key, partitions), []).append(key)
    findings = []
    for partition, keys in by_partition.items():
        upto = await store.offset(partition)
        for start in range(0, len(keys), LOOKUP_MAX):
            view = await cache.get(keys[start : start + LOOKUP_MAX], partition=partition)
            if view is None or view.offset < upto:
                behind = "nothing" if view is None else f"{view.offset}"
                findings.append(f"Redis knows {behind} of partition {partition}, up to {upto}")
                continue
            findings += [
                f"{key}: Redis has {summary}, not {expected[key]}"
                for key, summary in view.found.items()
                if summary != expected[key]
            ]
    return findings
