"""The event log in a Kafka topic that many processes append to.

One Kafka record is one turn of one workflow; see `kafka_records`. Histories come from the
window that every process keeps of the log's end, and from the archive behind it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from orchx.adapters.kafka_claims import KafkaClaims
from orchx.adapters.kafka_connection import Topics
from orchx.adapters.kafka_end_offsets import EndOffsets
from orchx.adapters.kafka_log_appender import KafkaLogAppender
from orchx.adapters.kafka_log_follower import KafkaLogFollower
from orchx.adapters.kafka_log_histories import KafkaLogHistories
from orchx.adapters.kafka_log_tail import KafkaLogTail, OnPoison
from orchx.adapters.kafka_plans import KafkaPlans
from orchx.adapters.kafka_records import TURN_OFFSETS, encode_turns
from orchx.adapters.kafka_writer import KafkaWriter
from orchx.domain.events import Record
from orchx.errors import DriverError
from orchx.ports.archive import Archive
from orchx.ports.event_log import Claim, Claimed
from orchx.settings import KafkaSettings

_CLOSED: Final = "the log is closed"


class KafkaEventLog:
    """An `EventLog`. Connects on first use; what a process never asks for costs it nothing.

    Claims, histories and epochs need the log to be followed, in a thread of its own; so does
    tailing, in another.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        archive: Archive | None = None,
        *,
        on_poison: OnPoison | None = None,
    ) -> None:
        """Use the topics that `ensure_topics` has made.

        Args:
            settings: where Kafka is.
            archive: has what the window was cut off from; it stays open. Without one, the
                whole log is kept in memory.
            on_poison: hears, from `tail`, of records that are skipped.
        """
        topic = Topics(settings.topic_prefix).events
        self._ends = EndOffsets(settings, topic, "log-ends")
        self._writer = KafkaWriter(settings, "log")
        self._plans = KafkaPlans(settings, self._writer)
        self._tail = KafkaLogTail(settings, self._ends, on_poison)
        self._follower = KafkaLogFollower(settings, self._ends, archive)
        self._histories = KafkaLogHistories(self._follower.window, archive)
        self._appender = KafkaLogAppender(
            settings, self._writer, self._ends, self._tail.reaches, self._follower.wrote
        )
        self._claims = KafkaClaims(self._appender, self._follower, self._histories, self._plans)
        self._closed = False

    @property
    def skipped(self) -> int:
        """How many Kafka records this process skipped because they are no turns."""
        return self._follower.skipped + self._tail.skipped

    async def append(self, records: Sequence[Record]) -> None:
        """Append; on return the records are durable, each workflow's as one Kafka record."""
        self._check_open()
        if records:
            await self._appender.append(encode_turns(records))

    async def claim(self, claim: Claim) -> Claimed:
        """Append `activated{epoch: highest + 1}`, again if another one was faster."""
        self._check_open()
        return await self._claims.claim(claim)

    async def read(
        self, workflow_id: str, *, after_offset: int = 0, limit: int | None = None
    ) -> Sequence[Record]:
        """Return records of the workflow, up to what was durable at the time of the call."""
        self._check_open()
        partition = await self._appender.partition_of(workflow_id)
        await self._follower.reach(await self._appender.ends([partition]))
        return await self._histories.read(workflow_id, after_offset=after_offset, limit=limit)

    async def epochs(self, workflow_ids: Sequence[str]) -> Mapping[str, int]:
        """Return the highest epoch of each workflow that has one."""
        self._check_open()
        if not workflow_ids:
            return {}
        partitions = {await self._appender.partition_of(each) for each in workflow_ids}
        own_ends = self._appender.own_ends
        targets = {each: own_ends[each] for each in partitions if each in own_ends}
        unknown = partitions - targets.keys()
        if unknown:
            targets.update(await self._appender.ends(unknown))
        await self._follower.reach(targets)
        return await self._histories.epochs(workflow_ids)

    async def partitions(self) -> int:
        """Return how many partitions the topic has; asked once."""
        self._check_open()
        return await self._ends.partitions()

    async def tail(self, after_offset: int, *, limit: int, partition: int = 0) -> Sequence[Record]:
        """Return up to `limit` records after an offset; for one reader per partition."""
        self._check_open()
        return await self._tail.page(after_offset, limit=limit, partition=partition)

    async def last_offset(self, partition: int = 0) -> int:
        """Return an offset that no durable record is behind; 0 if there is none.

        A `tail` that comes after this, and finds nothing, has seen all records up to it.
        """
        self._check_open()
        ends = await self._appender.ends([partition])
        return ends[partition] * TURN_OFFSETS

    async def definition(self, digest: str) -> bytes | None:
        """Return the plan pinned under this digest."""
        self._check_open()
        return await self._plans.find(digest)

    async def close(self) -> None:
        """Commit what is under way and end the connections; the archive stays open."""
        self._closed = True
        await self._writer.close()
        await self._follower.close()
        await self._tail.close()
        await self._plans.close()
        await self._ends.close()

    def _check_open(self) -> None:
        if self._closed:
            raise DriverError(_CLOSED)
