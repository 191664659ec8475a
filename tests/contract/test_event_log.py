"""What every event log does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from orchx.domain.events import Record, TaskCompleted, TaskSkipped, WorkflowActivated
from orchx.domain.lineage import AcceptedRecords
from orchx.ports.event_log import Claim, EventLog

FIRST = TaskSkipped(parent=0, reference="/do/0/first")
SECOND = TaskSkipped(parent=0, reference="/do/1/second")


def record(workflow_id: str, seq: int, **changes: object) -> Record:
    event = TaskCompleted(
        parent=0, reference=f"/do/{seq}", output={"text": 'é "quoted"\n\u2028', "n": 1.5}
    )
    fields = {"epoch": 1, "owner": "owner-1", "at_ms": 1000 + seq, "event": event, **changes}
    return Record(workflow_id=workflow_id, seq=seq, **fields)  # type: ignore[arg-type]


def claim(workflow_id: str = "w", owner: str = "owner-1", **changes: object) -> Claim:
    fields = {"at_ms": 5, "opening": (FIRST, SECOND), **changes}
    return Claim(workflow_id=workflow_id, owner=owner, **fields)  # type: ignore[arg-type]


class TestEventLog:
    async def test_is_empty_at_first(self, log: EventLog) -> None:
        assert await log.partitions() == 1
        assert await log.last_offset() == 0
        assert await log.tail(0, limit=10) == []
        assert await log.read("w") == []
        assert await log.definition("none") is None

    async def test_gives_back_what_was_appended(self, log: EventLog) -> None:
        written = [
            record("w", 1, traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01"),
            record("w", 2, event=TaskCompleted(parent=0, reference="/x")),  # output absent
            record("w", 3, event=TaskCompleted(parent=0, reference="/x", output=None), version=0),
        ]
        await log.append(written)
        read = await log.read("w")
        first = read[0].offset
        assert [r.offset for r in read] == [first, first + 1, first + 2]
        assert first > 0
        assert [(r.event, r.traceparent, r.version, r.at_ms, r.owner) for r in read] == [
            (r.event, r.traceparent, r.version, r.at_ms, r.owner) for r in written
        ]

    async def test_appending_nothing_changes_nothing(self, log: EventLog) -> None:
        await log.append([record("w", 1)])
        last = await log.last_offset()
        await log.append([])
        assert await log.last_offset() == last

    async def test_what_was_appended_is_read_at_once_and_stands_together(
        self, log: EventLog
    ) -> None:
        async def append(number: int) -> bool:
            count = number % 5 + 1
            await log.append([record(f"w{number}", seq) for seq in range(1, count + 1)])
            offsets = [r.offset for r in await log.read(f"w{number}")]
            # Nobody's records stand between them.
            return offsets == list(range(offsets[0], offsets[0] + count))

        assert all(await asyncio.gather(*(append(number) for number in range(100))))

    async def test_takes_a_large_append_in_order(self, log: EventLog) -> None:
        await log.append([record("w", seq) for seq in range(1, 1001)])
        read = await log.read("w")
        assert [r.seq for r in read] == list(range(1, 1001))
        last = await log.last_offset()
        assert last >= read[-1].offset
        assert await log.tail(last, limit=10) == []

    async def test_reads_a_workflow_in_parts(self, log: EventLog) -> None:
        for seq in range(1, 6):
            await log.append([record("w", seq), record("other", seq)])
        part = await log.read("w", limit=2)
        rest = await log.read("w", after_offset=part[-1].offset)
        assert [r.seq for r in (*part, *rest)] == [1, 2, 3, 4, 5]
        assert await log.read("w", limit=0) == []

    async def test_tails_all_workflows_in_log_order(self, log: EventLog) -> None:
        for seq in range(1, 6):
            await log.append([record("a", seq), record("b", seq)])
        found = list(await log.tail(0, limit=7))
        assert 0 < len(found) <= 7
        while page := await log.tail(found[-1].offset, limit=7):
            assert len(page) <= 7
            found += page
        offsets = [r.offset for r in found]
        assert offsets == sorted(set(offsets))
        assert len(offsets) == 10
        assert offsets[-1] <= await log.last_offset()

    async def test_a_first_claim_opens_the_workflow(self, log: EventLog) -> None:
        claimed = await log.claim(
            claim(traceparent="trace", digest="d1", definition=b'{"do":[{"\xc3\xa9":1}]}')
        )
        assert claimed.opened
        assert claimed.epoch == 1
        assert [r.event for r in claimed.history] == [WorkflowActivated(), FIRST, SECOND]
        assert [r.seq for r in claimed.history] == [0, 1, 2]
        assert list(claimed.history) == list(await log.read("w"))
        assert {(r.owner, r.at_ms, r.traceparent) for r in claimed.history} == {
            ("owner-1", 5, "trace")
        }
        assert await log.definition("d1") == b'{"do":[{"\xc3\xa9":1}]}'

    async def test_a_later_claim_only_activates(self, log: EventLog) -> None:
        await log.claim(claim())
        await log.append([record("w", 3)])
        later = await log.claim(claim(owner="owner-2", digest="d2", definition=b"{}"))
        assert not later.opened
        assert later.epoch == 2
        assert [(r.epoch, r.owner, r.seq) for r in later.history] == [
            (1, "owner-1", 0),
            (1, "owner-1", 1),
            (1, "owner-1", 2),
            (1, "owner-1", 3),
            (2, "owner-2", 0),
        ]
        assert await log.definition("d2") is None

    async def test_a_claim_without_opening_opens_nothing(self, log: EventLog) -> None:
        claimed = await log.claim(claim(opening=()))
        assert not claimed.opened
        assert [r.event for r in claimed.history] == [WorkflowActivated()]
        assert not (await log.claim(claim())).opened

    async def test_records_of_an_old_epoch_do_not_lower_the_next(self, log: EventLog) -> None:
        for _ in range(3):
            await log.claim(claim())
        await log.append([record("w", 9, epoch=1)])
        assert (await log.claim(claim())).epoch == 4

    async def test_history_is_what_stands_up_to_the_claim(self, log: EventLog) -> None:
        """Whatever stands behind it, appended at once or while the claim reads, is not in it."""

        async def append(seq: int) -> None:
            await log.append([record("w", seq)])

        await log.claim(claim())
        before = asyncio.create_task(append(3))
        claiming = asyncio.create_task(log.claim(claim(owner="owner-2")))
        after = [asyncio.create_task(append(seq)) for seq in range(4, 40)]
        claimed = await claiming
        await asyncio.gather(before, *after)
        read = await log.read("w")
        (place,) = (number for number, r in enumerate(read) if r.epoch == claimed.epoch == 2)
        assert list(claimed.history) == list(read[: place + 1])
        assert claimed.history[-1].owner == "owner-2"
        assert [r.seq for r in claimed.history[:4]] == [0, 1, 2, 3]
        assert len(read) == 41

    async def test_claims_at_once_get_epochs_of_their_own(self, log: EventLog) -> None:
        owners = [f"owner-{number}" for number in range(20)]
        claims = await asyncio.gather(*(log.claim(claim(owner=owner)) for owner in owners))
        assert sorted(c.epoch for c in claims) == list(range(1, 21))
        assert [c.opened for c in claims].count(True) == 1
        for owner, claimed in zip(owners, claims, strict=True):
            assert next(r.owner for r in claimed.history if r.epoch == claimed.epoch) == owner

    async def test_tells_the_highest_epoch_of_each_workflow(self, log: EventLog) -> None:
        await log.claim(claim())
        await log.claim(claim(owner="owner-2"))
        await log.append([record("w", 9, epoch=7), record("unclaimed", 1)])
        await log.claim(claim("other"))
        found = await log.epochs(["w", "other", "unclaimed", "nobody"])
        assert found == {"w": 2, "other": 1}
        assert await log.epochs([]) == {}

    async def test_an_append_just_before_a_claim_is_history(self, log: EventLog) -> None:
        activated = record("w", 0, epoch=6, event=WorkflowActivated())
        _, claimed = await asyncio.gather(log.append([activated]), log.claim(claim()))
        assert claimed.epoch == 7
        assert not claimed.opened
        # In between there may be a claim that was made in vain, and that nobody believes.
        assert claimed.history[0].epoch == 6
        assert [r.epoch for r in AcceptedRecords().of(claimed.history)] == [6, 7]

    async def test_another_opening_sees_the_same_log(
        self, event_logs: Callable[[], EventLog]
    ) -> None:
        one, other = event_logs(), event_logs()
        await one.claim(claim(digest="d", definition=b"{}"))
        await other.append([record("w", 3)])
        assert await one.read("w") == await other.read("w")
        assert await other.definition("d") == b"{}"
        claims = await asyncio.gather(
            one.claim(claim("new")), other.claim(claim("new", owner="owner-2"))
        )
        assert sorted((c.epoch, c.opened) for c in claims) == [(1, True), (2, False)]
