"""Claiming workflows in Kafka, where nobody can append on a condition.

A claim is appended in the hope that it is the first with its epoch; then the log is followed up
to it, and what stands before it decides. One that came too late is void to every reader (see
`orchx.domain.lineage`), and is tried again with the next epoch.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from orchx.adapters.kafka_log_appender import KafkaLogAppender
from orchx.adapters.kafka_log_follower import KafkaLogFollower
from orchx.adapters.kafka_log_histories import KafkaLogHistories
from orchx.adapters.kafka_plans import KafkaPlans
from orchx.adapters.kafka_records import TURN_OFFSETS, encode_turns
from orchx.domain.events import AnyEvent, Record, WorkflowActivated
from orchx.domain.lineage import AcceptedRecords
from orchx.errors import Unavailable
from orchx.ports.event_log import Claim, Claimed

ATTEMPTS_MAX: Final = 16
UNSETTLED_MAX: Final = 10_000

_ACTIVATED: Final = WorkflowActivated()


class KafkaClaims:
    """Makes claims; those of one workflow in one process one after the other."""

    def __init__(
        self,
        appender: KafkaLogAppender,
        follower: KafkaLogFollower,
        histories: KafkaLogHistories,
        plans: KafkaPlans,
    ) -> None:
        """Claim with the parts of one log."""
        self._appender = appender
        self._follower = follower
        self._window = follower.window
        self._histories = histories
        self._plans = plans
        self._locks: dict[str, asyncio.Lock] = {}
        self._claiming: Counter[str] = Counter()
        # Epochs of claims that failed, or were cancelled, and may yet appear in the log.
        self._unsettled: OrderedDict[str, int] = OrderedDict()

    async def claim(self, claim: Claim) -> Claimed:
        """Claim a workflow; see `EventLog.claim`.

        Raises:
            Unavailable: others claim it as fast, or the log cannot be followed.
            DriverError: whether the claim was appended is unknown.
        """
        async with self._alone(claim.workflow_id):
            partition = await self._appender.partition_of(claim.workflow_id)
            # Followed from here on: what stands before the claim must be seen, whatever comes.
            await self._follower.reach({partition: 0})
            with self._window.holding(claim.workflow_id):
                return await self._claim(claim)

    @asynccontextmanager
    async def _alone(self, workflow_id: str) -> AsyncIterator[None]:
        lock = self._locks.setdefault(workflow_id, asyncio.Lock())
        self._claiming[workflow_id] += 1
        try:
            async with lock:
                yield
        finally:
            self._claiming[workflow_id] -= 1
            if not self._claiming[workflow_id]:
                del self._claiming[workflow_id], self._locks[workflow_id]

    async def _claim(self, claim: Claim) -> Claimed:
        workflow_id = claim.workflow_id
        standing = await self._histories.standing(workflow_id)
        unsettled = self._unsettled.get(workflow_id, 0)
        if not standing.known and claim.digest is not None and claim.definition is not None:
            await self._plans.pin(claim.digest, claim.definition)
        for _ in range(ATTEMPTS_MAX):
            turns = self._window.turns(workflow_id)
            epoch = max(standing.epoch, unsettled, self._window.epoch(workflow_id)) + 1
            new = not standing.known and not turns and not unsettled
            own = _records(claim, epoch, (_ACTIVATED, *(claim.opening if new else ())))
            place = await self._append(claim, epoch, own)
            before = [t for t in self._window.turns(workflow_id) if t.offset < place]
            if any(turn.activates >= epoch for turn in before):
                continue
            # What was followed already may stand behind the claim, and be higher.
            self._window.remember(workflow_id, max(epoch, self._window.epoch(workflow_id)))
            if new:
                self._window.mark_whole(workflow_id)
            history: list[Record] = []
            if standing.known or before:
                history = await self._histories.read(workflow_id, until=place)
            history += _at(own, place)
            opened = new and bool(claim.opening)
            if unsettled and not opened and claim.opening and not _begun(history):
                history += await self._open_late(claim, epoch)
                opened = True
            return Claimed(epoch=epoch, history=history, opened=opened)
        raise Unavailable(f"{workflow_id}: claimed by others {ATTEMPTS_MAX} times in a row")

    async def _append(self, claim: Claim, epoch: int, records: Sequence[Record]) -> int:
        """Append and follow up to it; return its Kafka offset.

        Until it has been seen in the log, it may appear there at any time: a repetition with
        the same epoch could then count in part, for both have the same owner.
        """
        workflow_id = claim.workflow_id
        before = self._unsettled.get(workflow_id)
        self._unsettled[workflow_id] = epoch
        self._unsettled.move_to_end(workflow_id)
        while len(self._unsettled) > UNSETTLED_MAX:
            self._unsettled.popitem(last=False)
        try:
            [(partition, offset)] = await self._appender.append(encode_turns(records))
        except Unavailable:  # nothing was appended
            if before is None:
                self._unsettled.pop(workflow_id, None)
            else:
                self._unsettled[workflow_id] = before
            raise
        await self._follower.reach({partition: offset + 1})
        self._unsettled.pop(workflow_id, None)
        return offset

    async def _open_late(self, claim: Claim, epoch: int) -> list[Record]:
        """Append the opening behind an activation that fences the earlier, unsettled one."""
        own = _records(claim, epoch, claim.opening, first_seq=1)
        place = await self._append(claim, epoch, own)
        turns = self._window.turns(claim.workflow_id)
        if any(turn.activates > epoch and turn.offset < place for turn in turns):
            raise Unavailable(f"{claim.workflow_id}: claimed by another before it was opened")
        return _at(own, place)


def _records(
    claim: Claim, epoch: int, events: Sequence[AnyEvent], first_seq: int = 0
) -> list[Record]:
    return [
        Record(
            workflow_id=claim.workflow_id,
            epoch=epoch,
            owner=claim.owner,
            seq=seq,
            at_ms=claim.at_ms,
            event=event,
            traceparent=claim.traceparent,
        )
        for seq, event in enumerate(events, first_seq)
    ]


def _at(records: Sequence[Record], place: int) -> list[Record]:
    first = place * TURN_OFFSETS + 1
    return [msgspec.structs.replace(r, offset=first + i) for i, r in enumerate(records)]


def _begun(history: Sequence[Record]) -> bool:
    """Return whether anything but activations counts."""
    counted = AcceptedRecords().of(history)
    return any(type(record.event) is not WorkflowActivated for record in counted)
