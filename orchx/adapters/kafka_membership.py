"""Which partitions of the command queue this engine has: Kafka's consumer group decides.

The group's members are engines, each under a name of its own (static membership, KIP-345): one
that is restarted within the session timeout has its partitions at once, and nobody else is
disturbed. Partitions move one by one (cooperative, KIP-429): while one is handed over, all
others are served. What is on the topic is read by the command queue, not here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, Final, NoReturn

import structlog
from kafka import KafkaConsumer, TopicPartition
from kafka.admin import KafkaAdminClient, MemberToRemove
from kafka.consumer.subscription_state import ConsumerRebalanceListener
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.errors import FencedInstanceIdError
from kafka.structs import OffsetAndMetadata

from orchx.adapters.kafka_command_records import partition_of_command
from orchx.adapters.kafka_connection import (
    DRIVER_ERRORS,
    Topics,
    ask_metadata,
    group_of,
    open_client,
    partition_of,
    partitions_of,
    translated,
)
from orchx.domain.messages import AnyCommand
from orchx.errors import Bug, DriverError, OrchxError
from orchx.ports.membership import PartitionHolder
from orchx.settings import KafkaSettings

POLL_WAIT_MS: Final = 20  # while a heartbeat is late, kafka-python spins for so long
PAUSE_S: Final = 0.08  # between polls, so that this costs little
HAND_OVER_LIMIT_S: Final = 3.0  # heartbeats pause meanwhile: less than any session timeout
RETRY_PAUSE_S: Final = 1.0
COMMIT_INTERVAL_S: Final = 5.0
CLOSE_TIMEOUT_MS: Final = 2_000
HEARTBEATS_PER_SESSION: Final = 4
METADATA_AGE_MS: Final = 15_000  # how late a member hears of more partitions

logger = structlog.get_logger(__name__)


class KafkaMembership:
    """A `Membership`.

    Args:
        settings: where Kafka is; `partitions` is the number that the topics have.
        engine: this engine's name: no two of an installation have the same.
        watermarks: below which offsets all is acknowledged. They are committed for the group now
            and then, for whoever watches its lag: nothing begins at them.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        engine: str,
        watermarks: Callable[[], Mapping[int, int]],
    ) -> None:
        self.count = settings.partitions
        self._settings = settings
        self._engine = engine
        self._watermarks = watermarks
        self._topic = Topics(settings.topic_prefix).commands
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="kafka-membership")
        self._consumer: KafkaConsumer | None = None
        self._held: set[int] = set()
        self._joined = asyncio.Event()
        self._leaving = False
        self._idle = asyncio.Event()  # nothing is polled
        self._idle.set()
        self._committed_at_s = -COMMIT_INTERVAL_S

    async def run(self, holder: PartitionHolder) -> NoReturn:
        """Take part for ever; what fails is logged and tried again.

        Raises:
            Bug: another process has this engine's name, and has taken its place.
        """
        loop = asyncio.get_running_loop()
        listener = _Listener(holder, loop, self._held)
        self._idle.clear()
        try:
            while not self._leaving:
                calls = listener.calls
                marks = self._watermarks()  # here, where the loop does not change them meanwhile
                try:
                    mine = await loop.run_in_executor(self._thread, self._step, listener, marks)
                except OrchxError as error:
                    logger.error("partitions not shared", engine=self._engine, error=str(error))
                    await asyncio.sleep(RETRY_PAUSE_S)
                    continue
                if mine is not None and calls == listener.calls:  # if not, it may have changed
                    await self._follow(holder, mine)
                await asyncio.sleep(PAUSE_S)
        except FencedInstanceIdError as error:
            await holder.give_up(sorted(self._held))
            raise Bug(
                f"another engine has the name {self._engine!r} (ORCHX_ENGINE), and this one's "
                "partitions"
            ) from error
        finally:
            self._idle.set()
        await asyncio.Event().wait()
        raise Bug("nobody sets this event")

    async def joined(self) -> None:
        """Return once the holder was told what is this engine's at first."""
        await self._joined.wait()

    async def leave(self) -> None:
        """Hand everything over, and tell the group not to wait for this engine."""
        if self._leaving:
            return
        self._leaving = True
        await self._idle.wait()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    def partition_of(self, command: AnyCommand) -> int:
        """Return the partition that a command is in."""
        return partition_of_command(command, self.count)

    def partition_of_workflow(self, workflow_id: str) -> int:
        """Return the partition that a workflow's commands, and its records, are in."""
        return partition_of(workflow_id, self.count)

    async def _follow(self, holder: PartitionHolder, mine: Collection[int]) -> None:
        """Tell the holder what its callbacks have not."""
        stale = self._held.difference(mine)
        if stale:
            self._held.difference_update(stale)
            await holder.give_up(sorted(stale))
        new = sorted(set(mine) - self._held)
        if new:
            self._held.update(new)
            logger.info("partitions given", engine=self._engine, partitions=new)
            holder.given(new)
        self._joined.set()

    # -- in the thread ---------------------------------------------------------------------

    def _step(self, listener: _Listener, watermarks: Mapping[int, int]) -> Collection[int] | None:
        """Poll the group once; return what it gives this member, None before it has joined."""
        try:
            if self._consumer is None:
                self._consumer = self._open(listener)
            self._consumer.poll(timeout_ms=POLL_WAIT_MS, max_records=1)
            resume_join(self._consumer)
            self._commit(self._consumer, watermarks)
            metadata: Any = self._consumer.group_metadata()  # type: ignore[no-untyped-call]
            if metadata.generation_id < 0:
                return None
            return [one.partition for one in self._consumer.assignment()]
        except FencedInstanceIdError:
            raise
        except DRIVER_ERRORS as error:
            raise translated(error, self._settings, f"share {self._topic}") from error

    def _open(self, listener: _Listener) -> KafkaConsumer:
        session_ms = self._settings.session_timeout_ms
        options: dict[str, Any] = {
            "group_id": group_of(self._settings),
            "group_instance_id": self._engine,
            "partition_assignment_strategy": (CooperativeStickyAssignor,),
            "session_timeout_ms": session_ms,
            "heartbeat_interval_ms": session_ms // HEARTBEATS_PER_SESSION,
            "max_poll_interval_ms": session_ms,
            "enable_auto_commit": False,
            "auto_offset_reset": "latest",
            "allow_auto_create_topics": False,
            "metadata_max_age_ms": METADATA_AGE_MS,
            "metrics_enabled": False,
        }
        consumer = open_client(KafkaConsumer, self._settings, "membership", **options)
        try:
            # Known before it joins: a group whose leader knows of no partitions stays without
            # any, and a question that `subscribe` asks while another is under way gets lost.
            partitions_of(consumer, self._topic, self._settings.request_timeout_ms)
            listener.consumer = consumer
            consumer.subscribe([self._topic], listener=listener)
            # Heard again once it is subscribed: what it hears later makes it join once more.
            ask_metadata(consumer, self._settings.request_timeout_ms)
        except DRIVER_ERRORS:
            consumer.close(autocommit=False, timeout_ms=CLOSE_TIMEOUT_MS)
            raise
        return consumer

    def _commit(self, consumer: KafkaConsumer, watermarks: Mapping[int, int]) -> None:
        """Commit watermarks for those who watch; that it fails is no matter.

        But that another process has this one's name is heard in this way only: the consumer
        stops its heartbeats then, and says nothing. An engine without partitions does not hear
        of it, and has none to serve.
        """
        if time.monotonic() - self._committed_at_s < COMMIT_INTERVAL_S:
            return
        self._committed_at_s = time.monotonic()
        mine = {one.partition for one in consumer.assignment()}
        offsets = {
            TopicPartition(self._topic, number): OffsetAndMetadata(offset, "", -1)
            for number, offset in watermarks.items()
            if number in mine
        }
        if not offsets:
            return
        try:
            consumer.commit(offsets, timeout_ms=CLOSE_TIMEOUT_MS)
        except FencedInstanceIdError:
            raise
        except DRIVER_ERRORS as error:
            logger.info("watermarks not shown", error=str(error))

    def _close(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is None:
            return
        try:
            consumer.close(autocommit=False, timeout_ms=CLOSE_TIMEOUT_MS)  # hands over
        except (*DRIVER_ERRORS, DriverError) as error:
            logger.warning("the group was not left in good order", error=str(error))
        try:
            admin = open_client(KafkaAdminClient, self._settings, "membership")
            try:
                member = MemberToRemove(group_instance_id=self._engine)
                admin.remove_group_members(group_of(self._settings), [member])
            finally:
                admin.close()
        except (*DRIVER_ERRORS, DriverError) as error:
            logger.warning("the others wait for the session's end", error=str(error))


def resume_join(consumer: KafkaConsumer) -> None:
    """Have a join ended that the client has forgotten.

    A leader that joins for news of the topic needs no more to join as soon as it has assigned; if
    a poll ends before the join does, no later one awaits it, and the member stays without
    heartbeats until the group drops it (kafka-python 3.0.12).
    """
    coordinator: Any = consumer._coordinator  # type: ignore[attr-defined]
    if coordinator.rebalance_in_progress() and not coordinator.need_rejoin():
        coordinator.request_rejoin()


class _Listener(ConsumerRebalanceListener):
    """Hands partitions over before the group gives them to others; called in Kafka's thread.

    `held` is shared with the membership, which does not look at it while this runs.
    """

    def __init__(
        self, holder: PartitionHolder, loop: asyncio.AbstractEventLoop, held: set[int]
    ) -> None:
        self._holder = holder
        self._loop = loop
        self._held = held
        self.consumer: KafkaConsumer | None = None
        self.calls = 0

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Read nothing of these: others do."""
        self.calls += 1
        if self.consumer is not None:
            self.consumer.pause(*assigned)

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Give partitions up; the group waits meanwhile."""
        numbers = sorted(one.partition for one in revoked)
        logger.info("partitions handed over", partitions=numbers)
        self.calls += 1
        self._held.difference_update(numbers)
        work = asyncio.run_coroutine_threadsafe(self._holder.give_up(numbers), self._loop)
        try:
            work.result(HAND_OVER_LIMIT_S)
        except FutureTimeoutError:  # it goes on; the log's epochs keep the two apart
            logger.warning("partitions go before they are let go", partitions=numbers)

    def on_partitions_lost(self, lost: Collection[TopicPartition]) -> None:
        """Give partitions up that others may have already."""
        logger.warning("partitions lost", partitions=sorted(one.partition for one in lost))
        self.on_partitions_revoked(lost)
