"""Stores in memory that can fail or crash at any await, and a clock that a test moves."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from orchx.domain.events import Record
from orchx.engine.webhook_sending import Answer
from orchx.errors import DriverError
from orchx.ports.deliveries import Delivery, DeliveryStatus, EndedStatus, Place
from orchx.ports.event_log import Claim, Claimed
from orchx.ports.state_store import TERMINAL, Filter, Page, WorkflowSummary
from tests.unit.engine.histories import numbered


class CrashError(BaseException):
    """The process is gone: nothing may catch this."""


class Awaits:
    """Counts awaits; at number `crash_at` (from 1) the process crashes, `failures` fail first."""

    def __init__(self) -> None:
        self.count = 0
        self.crash_at: int | None = None
        self.fail_at: set[int] = set()

    async def point(self) -> None:
        self.count += 1
        if self.count == self.crash_at:
            raise CrashError
        if self.count in self.fail_at:
            raise DriverError(f"await {self.count} failed")
        await asyncio.sleep(0)


class FakeLog:
    def __init__(self, awaits: Awaits | None = None) -> None:
        self.records: list[Record] = []
        self.awaits = awaits or Awaits()
        self.reads = 0

    def add(self, records: Sequence[Record]) -> list[Record]:
        last = self.records[-1].offset if self.records else 0
        added = numbered(records, last)
        self.records += added
        return added

    async def append(self, records: Sequence[Record]) -> None:
        await self.awaits.point()
        self.add(records)

    async def claim(self, claim: Claim) -> Claimed:
        raise NotImplementedError

    async def epochs(self, workflow_ids: Sequence[str]) -> Mapping[str, int]:
        await self.awaits.point()
        found: dict[str, int] = {}
        for record in self.records:
            if record.workflow_id in workflow_ids:
                found[record.workflow_id] = max(found.get(record.workflow_id, 0), record.epoch)
        return found

    async def read(
        self, workflow_id: str, *, after_offset: int = 0, limit: int | None = None
    ) -> Sequence[Record]:
        await self.awaits.point()
        self.reads += 1
        found = [
            record
            for record in self.records
            if record.workflow_id == workflow_id and record.offset > after_offset
        ]
        return found[:limit]

    async def partitions(self) -> int:
        return 1

    async def tail(self, after_offset: int, *, limit: int, partition: int = 0) -> Sequence[Record]:
        await self.awaits.point()
        return [record for record in self.records if record.offset > after_offset][:limit]

    async def last_offset(self, partition: int = 0) -> int:
        await self.awaits.point()
        return self.records[-1].offset if self.records else 0

    async def definition(self, digest: str) -> bytes | None:
        return None

    async def close(self) -> None:
        pass


class FakeStore:
    def __init__(self, awaits: Awaits | None = None) -> None:
        self.rows: dict[str, WorkflowSummary] = {}
        self.saved_offset = 0
        self.saves = 0
        self.loads: list[str] = []
        self.awaits = awaits or Awaits()

    async def load(self, workflow_ids: Sequence[str]) -> Mapping[str, WorkflowSummary]:
        await self.awaits.point()
        self.loads += workflow_ids
        return {key: self.rows[key] for key in workflow_ids if key in self.rows}

    async def save(
        self, summaries: Sequence[WorkflowSummary], *, offset: int, partition: int = 0
    ) -> None:
        await self.awaits.point()
        if offset > self.saved_offset:
            self.rows |= {row.workflow_id: row for row in summaries}
            self.saved_offset = offset
            self.saves += 1
        await self.awaits.point()  # stored, but nobody was told

    async def offset(self, partition: int = 0) -> int:
        await self.awaits.point()
        return self.saved_offset

    async def list(self, filter_: Filter) -> Page:
        raise NotImplementedError

    async def unfinished(self, *, after_id: str, limit: int) -> Sequence[WorkflowSummary]:
        rows = sorted(self.rows.values(), key=lambda row: row.workflow_id)
        live = [row for row in rows if row.status not in TERMINAL and row.workflow_id > after_id]
        return live[:limit]

    async def counts(self) -> Mapping[str, int]:
        raise NotImplementedError

    async def reset(self) -> None:
        await self.awaits.point()
        self.rows.clear()
        self.saved_offset = 0
        await self.awaits.point()

    async def close(self) -> None:
        pass


class FakeDeliveries:
    def __init__(self, awaits: Awaits | None = None) -> None:
        self.rows: dict[str, Delivery] = {}
        self.saved_offset = 0
        self.adds = 0
        self.awaits = awaits or Awaits()

    async def add(self, deliveries: Sequence[Delivery], *, offset: int, partition: int = 0) -> None:
        await self.awaits.point()
        self.adds += 1
        for delivery in deliveries:
            self.rows.setdefault(delivery.id, delivery)
        self.saved_offset = max(self.saved_offset, offset)
        await self.awaits.point()

    async def offset(self, partition: int = 0) -> int:
        await self.awaits.point()
        return self.saved_offset

    async def due(
        self, *, now_ms: int, limit: int, without_hosts: Collection[str] = ()
    ) -> Sequence[Delivery]:
        await self.awaits.point()
        heads: dict[str, Delivery] = {}
        for row in self.of():
            if row.status == "pending":
                heads.setdefault(row.workflow_id, row)
        due = [row for row in heads.values() if row.next_attempt_at_ms <= now_ms]
        return [row for row in due if row.host not in without_hosts][:limit]

    async def update(self, deliveries: Sequence[Delivery]) -> None:
        await self.awaits.point()
        self.rows |= {row.id: row for row in deliveries}
        await self.awaits.point()

    async def list(
        self,
        *,
        status: DeliveryStatus | None = None,
        workflow_id: str | None = None,
        after: Place | None = None,
        limit: int = 100,
    ) -> Sequence[Delivery]:
        return [row for row in self.of(workflow_id) if status in (None, row.status)][:limit]

    async def replay(self, ids: Sequence[str], *, now_ms: int) -> int:
        count = 0
        for key in ids:
            row = self.rows.get(key)
            if row is not None and row.status == "undelivered":
                self.rows[key] = replace(
                    row, status="pending", attempts=0, next_attempt_at_ms=now_ms, ended_at_ms=None
                )
                count += 1
        return count

    async def prune(self, *, status: EndedStatus, ended_before_ms: int, limit: int) -> int:
        raise NotImplementedError

    async def close(self) -> None:
        pass

    def of(self, workflow_id: str | None = None) -> Sequence[Delivery]:
        """Return rows in their order."""
        rows = sorted(self.rows.values(), key=lambda row: row.position)
        return [row for row in rows if workflow_id in (None, row.workflow_id)]


class FakeClock:
    """Stands still until `advance` moves it."""

    def __init__(self, now_ms: int = 1_000_000) -> None:
        self._now_ms = now_ms
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._count = 0

    def now_ms(self) -> int:
        return self._now_ms

    def ticks_ms(self) -> int:
        return self._now_ms + 7_000_000

    async def sleep(self, delay_s: float) -> None:
        self._count += 1
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        due_at_ms = self._now_ms + round(delay_s * 1000)
        heapq.heappush(self._sleepers, (due_at_ms, self._count, woken))
        await woken

    async def advance(self, delay_s: float) -> None:
        """Move on, waking sleepers in order, with time for each to do its work."""
        end_ms = self._now_ms + round(delay_s * 1000)
        await settle()
        while self._sleepers and self._sleepers[0][0] <= end_ms:
            due_at_ms, _, woken = heapq.heappop(self._sleepers)
            if woken.done():
                continue
            self._now_ms = max(self._now_ms, due_at_ms)
            woken.set_result(None)
            await settle(100)
        self._now_ms = end_ms
        await settle()


class FakeSender:
    """Answers as a test says, 200 by default, and remembers what it sent, when."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.answers: dict[str, list[Answer]] = {}  # by workflow; the last one stays
        self.gates: dict[str, asyncio.Event] = {}  # by workflow: hangs until set
        self.sent: list[tuple[int, Delivery]] = []
        self.most_at_once = 0
        self._now = 0

    async def send(self, delivery: Delivery, *, at_ms: int) -> Answer:
        self.sent.append((at_ms, delivery))
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            await asyncio.sleep(0)
            gate = self.gates.get(delivery.workflow_id)
            if gate is not None:
                await gate.wait()
        finally:
            self._now -= 1
        answers = self.answers.get(delivery.workflow_id, [Answer(status=200)])
        return answers.pop(0) if len(answers) > 1 else answers[0]

    async def close(self) -> None:
        pass

    def order(self, workflow_id: str) -> list[str]:
        """Return the ids of what one workflow's receiver got."""
        return [sent.id for _, sent in self.sent if sent.workflow_id == workflow_id]


async def settle(turns: int = 600) -> None:
    """Let every task that can run do so, for so many turns of the loop."""
    for _ in range(turns):
        await asyncio.sleep(0)
