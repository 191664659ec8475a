"""What the Kafka event log does with several processes, foreign records and missing servers."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence

import pytest
from kafka import KafkaAdminClient, KafkaProducer

from orchx.adapters import kafka_log_follower, kafka_log_tail
from orchx.adapters.kafka_connection import open_client, partition_of
from orchx.adapters.kafka_event_log import KafkaEventLog
from orchx.adapters.kafka_plans import KafkaPlans
from orchx.adapters.kafka_records import EncodedTurn
from orchx.adapters.kafka_writer import KafkaWriter, Outgoing
from orchx.domain.events import Record, TaskCompleted, TaskSkipped, WorkflowActivated
from orchx.domain.lineage import AcceptedRecords
from orchx.errors import DriverError, OrchxError, Unavailable
from orchx.ports.event_log import Claim, Claimed
from orchx.settings import KafkaSettings
from orchx.testing.memory_archive import MemoryArchive
from tests import servers
from tests.integration.kafka_installation import (
    FIRST,
    PARTITIONS,
    SECOND,
    Installation,
    archive_all,
    claim,
    record,
    until,
    whole,
)


class TestPartitions:
    async def test_each_has_its_workflows_in_order(self, here: Installation) -> None:
        log = here.log()
        ids = [f"w{number}" for number in range(30)]
        for seq in (1, 2):
            await log.append([record(each, seq) for each in ids])
        assert await log.partitions() == PARTITIONS
        for partition in range(PARTITIONS):
            found = await whole(log, partition)
            mine = {each for each in ids if partition_of(each, PARTITIONS) == partition}
            assert mine
            assert {r.workflow_id for r in found} == mine
            for each in mine:
                assert [r.seq for r in found if r.workflow_id == each] == [1, 2]
            offsets = [r.offset for r in found]
            assert offsets == sorted(set(offsets))
            last = await log.last_offset(partition)
            assert offsets[-1] <= last
            assert await log.tail(last, limit=10, partition=partition) == []
        assert [r.seq for r in await here.log().read("w7")] == [1, 2]

    async def test_a_tail_goes_on_anywhere(self, here: Installation) -> None:
        log = here.log()
        for seq in range(1, 10, 3):
            await log.append([record("w", seq), record("w", seq + 1), record("w", seq + 2)])
        partition = partition_of("w", PARTITIONS)
        everything = await whole(log, partition)
        assert [r.seq for r in everything] == list(range(1, 10))
        for start in (everything[3], everything[0], everything[7], everything[4]):
            page = await log.tail(start.offset, limit=2, partition=partition)
            assert [r.seq for r in page] == [n for n in (start.seq + 1, start.seq + 2) if n < 10]

    async def test_a_tail_sees_what_others_append(self, here: Installation) -> None:
        log, other = here.log(), here.log()
        partition = partition_of("w", PARTITIONS)
        offset = 0
        for seq in range(1, 20):
            await other.append([record("w", seq)])
            await log.last_offset(partition)
            [found] = await log.tail(offset, limit=10, partition=partition)
            assert found.seq == seq
            offset = found.offset

    async def test_two_readers_of_one_partition_do_not_disturb_each_other(
        self, here: Installation
    ) -> None:
        log = here.log()
        for seq in range(1, 21):
            await log.append([record("w", seq)])
        partition = partition_of("w", PARTITIONS)
        for found in await asyncio.gather(*(whole(log, partition, limit) for limit in (3, 7))):
            assert [r.seq for r in found] == list(range(1, 21))

    async def test_a_tail_takes_what_comes_while_nobody_asks(
        self, here: Installation, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """More than it buffers: it stops reading, and goes on when there is room."""
        monkeypatch.setattr(kafka_log_tail, "BUFFER_BYTES_MAX", 5_000)
        monkeypatch.setattr(kafka_log_tail, "PAGE_BYTES_MAX", 2_000)
        log = here.log()
        for start in range(1, 201, 20):
            await log.append([record(f"w{seq}", seq) for seq in range(start, start + 20)])
        found = [r.seq for partition in range(3) for r in await whole(log, partition, 7)]
        assert sorted(found) == list(range(1, 201))


class TestClaims:
    async def test_of_two_processes_never_get_one_epoch_twice(self, here: Installation) -> None:
        logs = {"one": here.log(), "other": here.log()}
        for log in logs.values():
            await log.claim(claim("warm-up"))
        ids = [f"w{number}" for number in range(20)]
        claims = [claim(each, owner) for each in ids for owner in logs for _ in range(2)]
        made = await asyncio.gather(*(logs[each.owner].claim(each) for each in claims))
        for each in ids:
            its = [c for wish, c in zip(claims, made, strict=True) if wish.workflow_id == each]
            assert len({c.epoch for c in its}) == len(its)
            assert [c.opened for c in its].count(True) == 1
            [opened] = [c for c in its if c.opened]
            assert opened.epoch == min(c.epoch for c in its)
            self.assert_won(opened, each)
            accepted = list(AcceptedRecords().of(await logs["one"].read(each)))
            assert [r.event for r in accepted].count(FIRST) == 1
            epochs = [r.epoch for r in accepted if isinstance(r.event, WorkflowActivated)]
            assert epochs == sorted(c.epoch for c in its)
            await logs["other"].read(each)  # epochs() alone waits for own appends only
            assert await logs["other"].epochs([each]) == {each: max(epochs)}

    def assert_won(self, claimed: Claimed, workflow_id: str) -> None:
        reader = AcceptedRecords()
        for each in claimed.history:
            assert each.workflow_id == workflow_id
            reader.judge(each)
        assert reader.epoch == claimed.epoch

    async def test_an_own_claim_needs_no_archive_until_it_is_forgotten(
        self, here: Installation
    ) -> None:
        class Asked(MemoryArchive):
            asked = 0

            async def epochs(self, workflow_ids: Sequence[str]) -> dict[str, int]:
                self.asked += 1
                return dict(await super().epochs(workflow_ids))

        archive = Asked()
        log = here.log(archive)
        await asyncio.gather(*(log.claim(claim(f"w{number}")) for number in range(50)))
        assert archive.asked <= 3  # together
        asked = archive.asked
        await archive_all(log, archive)
        await log._follower.trim()
        assert len(log._follower.window) == 0
        assert await log.epochs([f"w{number}" for number in range(50)]) == {
            f"w{number}": 1 for number in range(50)
        }
        await here.log().claim(claim("w3", "other"))
        await log.append([record("w3", 3)])  # epochs() counts what stands before own appends
        assert (await log.epochs(["w3"])) == {"w3": 2}
        assert archive.asked == asked

    @pytest.mark.parametrize("arrives", ["at once", "in between", "late", "never"])
    async def test_one_that_failed_opens_once_when_it_is_repeated(
        self, here: Installation, monkeypatch: pytest.MonkeyPatch, arrives: str
    ) -> None:
        """When the first attempt arrives in the log, if at all, its own process cannot know."""
        log = here.log()
        append, open_late = log._appender.append, log._claims._open_late
        lost: list[EncodedTurn] = []

        async def lose(turns: Sequence[EncodedTurn]) -> Sequence[tuple[int, int]]:
            lost.extend(turns)
            if arrives == "at once":
                await append(turns)
            raise DriverError("no answer")

        async def open_after_the_lost(claim: Claim, epoch: int) -> list[Record]:
            await append(lost)
            return await open_late(claim, epoch)

        monkeypatch.setattr(log._appender, "append", lose)
        with pytest.raises(DriverError):
            await log.claim(claim("w"))
        monkeypatch.setattr(log._appender, "append", append)
        if arrives == "in between":
            monkeypatch.setattr(log._claims, "_open_late", open_after_the_lost)
        other = (SECOND, FIRST, TaskSkipped(parent=0, reference="/do/2/third"))
        claimed = await log.claim(claim("w", opening=other))
        if arrives == "late":
            await append(lost)
        assert claimed.opened is (arrives != "at once")
        history = await log.read("w")
        accepted = list(AcceptedRecords().of(history))
        events = [r.event for r in accepted if not isinstance(r.event, WorkflowActivated)]
        assert events == list((FIRST, SECOND) if arrives == "at once" else other)
        assert claimed.epoch == max(r.epoch for r in accepted)
        assert not log._claims._unsettled


class TestPoison:
    async def test_is_skipped_by_all_readers_and_told_once(self, here: Installation) -> None:
        told: list[tuple[int, str]] = []
        log = here.log(on_poison=lambda message, reason: told.append((message.offset, reason)))
        await log.claim(claim("w"))
        await here.write(b"w", b"not JSON")
        await here.write(None, b"{}")
        await here.write(b"w", None)
        await here.write(b"w", b'{"epoch":9,"owner":"x","records":[]}', ("activates", b"9"))
        unknown = b'{"epoch":1,"owner":"o","records":[[3,1,null,1,{"type":"never.heard"}]]}'
        await here.write(b"w", unknown)
        await log.append([record("w", 3)])
        assert await log.epochs(["w"]) == {"w": 1}
        assert [r.seq for r in await log.read("w")] == [0, 1, 2, 3]
        assert (await log.claim(claim("w", "next"))).epoch == 2
        partition = partition_of("w", PARTITIONS)
        for _ in range(2):
            assert [r.seq for r in await whole(log, partition)] == [0, 1, 2, 3, 0]
        assert len(told) == 5
        assert len({offset for offset, _ in told}) == 5
        assert all(reason for _, reason in told)
        assert log.skipped >= 5

    async def test_alone_is_no_reason_to_wait(self, here: Installation) -> None:
        await here.write(b"w", b"not JSON")
        log = here.log()
        assert await whole(log, partition_of("w", PARTITIONS)) == []
        assert await log.read("w") == []


class TestStrangers:
    async def test_markers_of_transactions_are_no_records_to_wait_for(
        self, here: Installation
    ) -> None:
        """They take offsets at the end of the log, and are shown to nobody."""

        def commit() -> None:
            producer = open_client(
                KafkaProducer, here.settings, "stranger", transactional_id=here.topic
            )
            producer.init_transactions()
            producer.begin_transaction()
            partition = partition_of("w", PARTITIONS)
            producer.send(here.topic, key=b"w", value=b"{}", partition=partition)
            producer.commit_transaction()
            producer.close(timeout=5)

        log = here.log()
        await log.append([record("w", 1)])
        await asyncio.to_thread(commit)
        assert [r.seq for r in await log.read("w")] == [1]
        assert [r.seq for r in await whole(log, partition_of("w", PARTITIONS))] == [1]


class TestWriter:
    async def test_goes_on_with_a_new_producer_after_a_refusal(self, here: Installation) -> None:
        """kafka-python's own never sends again after an error that cannot be tried again."""
        topic = f"{here.topic}-small"
        admin = await asyncio.to_thread(open_client, KafkaAdminClient, here.settings, "test")
        try:
            small = {"num_partitions": 1, "configs": {"max.message.bytes": "1000"}}
            await asyncio.to_thread(admin.create_topics, {topic: small}, wait_for_metadata=True)
        finally:
            await asyncio.to_thread(admin.close)
        writer = KafkaWriter(here.settings, "test")
        landed: list[tuple[int, int]] = []
        fits = Outgoing(topic=topic, partition=0, key=None, value=b"x" * 100)
        refused = Outgoing(topic=topic, partition=0, key=None, value=b"x" * 2_000)
        try:
            for turn in range(3):
                assert await writer.send([fits]) == [turn]
                with pytest.raises(DriverError, match=r"max\.message\.bytes"):
                    await writer.send([refused], lambda *told: landed.append(told))
            assert writer.bytes_in_flight == 0
            assert landed == []
        finally:
            await writer.close()

    async def test_what_is_durable_is_told_though_the_caller_has_left(
        self, here: Installation
    ) -> None:
        writer = KafkaWriter(here.settings, "test")
        landed: list[tuple[int, int]] = []
        one = Outgoing(topic=here.topic, partition=0, key=b"k", value=b"v")
        try:
            assert await writer.send([one], lambda *told: landed.append(told)) == [0]
            assert landed == [(0, 0)]
            sending = asyncio.create_task(writer.send([one] * 3, lambda *told: landed.append(told)))
            await asyncio.sleep(0)  # the producer has them now
            assert writer.bytes_in_flight > 0
            sending.cancel()
            await until(lambda: landed == [(0, 0), (0, 1), (1, 2), (2, 3)])
            assert sending.cancelled()
        finally:
            await writer.close()


class TestSizes:
    async def test_a_turn_of_four_megabytes(self, here: Installation) -> None:
        log = here.log()
        large = TaskCompleted(parent=0, reference="/x", output="é" * (2 * 1_048_576))
        await log.append([record("w", 1, event=large), record("w", 2)])
        assert (await log.read("w"))[0].event == large
        [one, two] = await whole(here.log(), partition_of("w", PARTITIONS))
        assert (one.event, two.seq) == (large, 2)

    async def test_too_much_in_flight_is_refused(self, here: Installation) -> None:
        log = here.log(in_flight_bytes=1_048_576)
        large = TaskCompleted(parent=0, reference="/x", output="x" * 900_000)
        outcomes = await asyncio.gather(
            *(log.append([record(f"w{n}", 1, event=large)]) for n in range(4)),
            return_exceptions=True,
        )
        refused = [outcome for outcome in outcomes if isinstance(outcome, Unavailable)]
        assert len(refused) == 3
        assert "ORCHX_KAFKA__IN_FLIGHT_BYTES" in str(refused[0])
        await log.append([record("w9", 1, event=large)])  # there is room again
        assert log._writer.bytes_in_flight == 0


class TestWindow:
    async def test_is_cut_off_behind_the_archive_and_read_across(self, here: Installation) -> None:
        archive = MemoryArchive()
        log = here.log(archive)
        await log.claim(claim("w"))
        await log.append([record("w", 3)])
        await archive_all(log, archive)
        await log._follower.trim()
        assert len(log._follower.window) == 0
        await log.append([record("w", 4)])
        for reader in (log, here.log(archive)):  # the second starts where the archive ends
            assert [r.seq for r in await reader.read("w")] == [0, 1, 2, 3, 4]
            assert len(reader._follower.window) == 1
        later = await here.log(archive).claim(claim("w", "next"))
        assert (later.epoch, later.opened) == (2, False)
        assert [r.seq for r in later.history] == [0, 1, 2, 3, 4, 0]
        assert (await here.log(archive).claim(claim("other"))).opened

    async def test_that_is_full_says_so_and_goes_on_when_it_is_not(
        self, here: Installation, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(kafka_log_follower, "REACH_S", 1.0)
        archive = MemoryArchive()
        log = here.log(archive, window_bytes=1_048_576)
        large = TaskCompleted(parent=0, reference="/x", output="x" * 600_000)
        await log.read("w")
        for seq in range(1, 4):
            await log.append([record("w", seq, event=large)])
        await until(lambda: log._follower._full)
        await log.append([record("w", 4)])
        with pytest.raises(Unavailable, match="ORCHX_KAFKA__WINDOW_BYTES"):
            await log.read("w")
        await archive_all(here.log(), archive)
        await log._follower.trim()
        monkeypatch.setattr(kafka_log_follower, "REACH_S", 10.0)
        assert [r.seq for r in await log.read("w")] == [1, 2, 3, 4]


class TestPlans:
    async def test_are_found_by_other_processes_and_after_being_forgotten(
        self, here: Installation
    ) -> None:
        writer = KafkaWriter(here.settings, "plans")
        small = KafkaPlans(here.settings, writer, cache_bytes=25)
        other = KafkaPlans(here.settings, writer, cache_bytes=25)
        try:
            for number in range(5, 10):  # one by one: no reading ever finds too many
                await small.pin(f"d{number}", b"plan %d....." % number)
                assert await other.find(f"d{number}") == b"plan %d....." % number
            assert await other.find("d6") == b"plan 6....."
            for number in range(5):
                await small.pin(f"d{number}", b"plan %d....." % number)
            for number in (0, 4, 1, 3, 2):
                for plans in (small, other):
                    assert await plans.find(f"d{number}") == b"plan %d....." % number
            assert await other.find("none") is None
        finally:
            await small.close()
            await other.close()
            await writer.close()


class TestMissingServers:
    async def test_nobody_answers(self, mute: str) -> None:
        settings = KafkaSettings(bootstrap_servers=(mute,), request_timeout_ms=1_000)
        log = KafkaEventLog(settings)
        asked = (
            log.append([record("w", 1)]),
            log.claim(claim("w")),
            log.read("w"),
            log.epochs(["w"]),
            log.tail(0, limit=1),
            log.last_offset(),
            log.partitions(),
            log.definition("d"),
        )
        started = time.monotonic()
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        for outcome in outcomes:
            assert isinstance(outcome, DriverError)
            assert "ORCHX_KAFKA__BOOTSTRAP_SERVERS" in str(outcome)
            assert mute in str(outcome)
        assert time.monotonic() - started < 10
        await log.close()

    async def test_a_topic_is_missing(self) -> None:
        log = KafkaEventLog(servers.apache_kafka(request_timeout_ms=2_000))
        for asked in (log.append([record("w", 1)]), log.read("w"), log.last_offset()):
            with pytest.raises(DriverError, match="ORCHX_KAFKA__TOPIC_PREFIX"):
                await asked
        await log.close()

    async def test_closing_ends_all_threads_and_may_be_repeated(self, here: Installation) -> None:
        log = here.log()
        await log.claim(claim("w"))
        await log.definition("none")
        await whole(log, 0)
        await log.close()
        await log.close()
        prefix = here.settings.topic_prefix
        await until(
            lambda: (
                not any(
                    prefix in thread.name or thread.name.startswith("kafka-")
                    for thread in threading.enumerate()
                )
            )
        )
        for asked in (log.append([record("w", 9)]), log.read("w"), log.tail(0, limit=1)):
            with pytest.raises(OrchxError, match="closed"):
                await asked
        await KafkaEventLog(here.settings).close()  # one that was never used
