"""The window of unacknowledged commands, without Kafka."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.consumer.fetcher import ConsumerRecord

from orchx.adapters import kafka_command_window as module
from orchx.adapters.kafka_command_records import PoisonedRecord, ReceivedCommand, encode_command
from orchx.adapters.kafka_command_window import (
    ENTRY_BYTES,
    WINDOW_BYTES_MAX,
    WINDOW_COUNT_MAX,
    CommandWindow,
)
from orchx.adapters.mongo_command_progress import Acknowledged
from orchx.domain.events import Request
from orchx.domain.messages import StartWorkflow


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def received(
    id_: str, offset: int, *, partition: int = 0, tenant: str = "acme", created_at_ms: int = 10
) -> ReceivedCommand:
    command = StartWorkflow(
        id=id_,
        workflow_id=id_,
        created_at_ms=created_at_ms,
        namespace="n",
        name="d",
        version="1.0.0",
        digest="x",
        input={},
        request=Request(tenant=tenant),
    )
    return ReceivedCommand(
        partition=partition,
        offset=offset,
        timestamp_ms=created_at_ms,
        payload=encode_command(command),
        command=command,
    )


def poisoned(offset: int) -> PoisonedRecord:
    record = ConsumerRecord(
        "t", 0, None, offset, 1, 0, None, b"?", [], checksum=None,
        serialized_key_size=0, serialized_value_size=1, serialized_header_size=0,
    )  # fmt: skip
    return PoisonedRecord(record=record, error="no JSON")


def read_from(offset: int) -> Acknowledged:
    return Acknowledged(watermark=offset)


def window_of(
    *ids: str, bytes_max: int = WINDOW_BYTES_MAX, count_max: int = WINDOW_COUNT_MAX
) -> CommandWindow:
    window = CommandWindow(bytes_max=bytes_max, count_max=count_max)
    window.assign({0: read_from(0)})
    window.take([received(id_, offset) for offset, id_ in enumerate(ids)], {0: len(ids)})
    return window


def waiting(window: CommandWindow) -> list[str]:
    ids = {payload: id_ for id_ in "abcdefgh" if (payload := window.payload(id_)) is not None}
    return [ids[payload] for _, payload in window.page(after_position=0, limit=1000)]


class TestPages:
    def test_come_in_the_order_of_reading(self) -> None:
        window = window_of("a", "b", "c")
        assert waiting(window) == ["a", "b", "c"]
        positions = [position for position, _ in window.page(after_position=0, limit=10)]
        assert [p for p, _ in window.page(after_position=positions[0], limit=1)] == [positions[1]]
        assert window.page(after_position=positions[-1], limit=10) == []

    def test_are_bounded_in_bytes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "PAGE_BYTES_MAX", len(received("a", 0).payload) + 1)
        window = window_of("a", "b", "c")
        page = window.page(after_position=0, limit=10)
        assert len(page) == 2
        assert len(window.page(after_position=page[-1][0], limit=10)) == 1

    def test_never_give_a_position_again(self) -> None:
        window = window_of("a")
        ((first, _),) = window.page(after_position=0, limit=1)
        window.acknowledge(["a"])
        window.take([received("b", 1)], {0: 2})
        ((second, _),) = window.page(after_position=first, limit=1)
        assert second > first

    def test_hold_however_many_were_acknowledged_between(self) -> None:
        ids = [f"c{number}" for number in range(5000)]
        window = window_of(*ids)
        window.acknowledge([id_ for number, id_ in enumerate(ids) if number % 10])
        page = window.page(after_position=0, limit=10_000)
        assert [payload for _, payload in page] == [window.payload(id_) for id_ in ids[::10]]
        assert window.page(after_position=page[249][0], limit=10_000) == page[250:]


class TestWatermarks:
    def test_stand_at_the_first_that_waits(self) -> None:
        window = window_of("a", "b", "c")
        assert window.watermarks() == {0: 0}
        window.acknowledge(["b"])
        assert window.watermarks() == {0: 0}
        window.acknowledge(["a"])
        assert window.watermarks() == {0: 2}
        window.acknowledge(["c"])
        assert window.watermarks() == {0: 3}

    def test_pass_what_is_no_command_and_what_is_never_handed_out(self) -> None:
        window = window_of()
        window.take([poisoned(0)], {0: 1})
        assert window.watermarks() == {0: 1}
        window.take([], {0: 4})
        assert window.watermarks() == {0: 4}
        assert window.unread({0: 6}) == 2

    def test_are_those_of_each_partition(self) -> None:
        window = CommandWindow()
        window.assign({0: read_from(5), 1: read_from(7)})
        window.take([received("a", 5), received("b", 7, partition=1)], {0: 6, 1: 8})
        window.acknowledge(["b"])
        assert window.watermarks() == {0: 5, 1: 8}

    @given(st.lists(st.sampled_from("abcdefgh"), max_size=30), st.data())
    def test_never_pass_what_waits(self, read: list[str], data: st.DataObject) -> None:
        window = CommandWindow()
        window.assign({0: read_from(0)})
        for offset, id_ in enumerate(read):
            if data.draw(st.booleans()):
                window.acknowledge([data.draw(st.sampled_from("abcdefgh"))])
            window.take([received(id_, offset)], {0: offset + 1})
        left = waiting(window)
        assert len(set(left)) == len(left) == len(window)
        mark = window.watermarks()[0]
        assert all(read.index(id_) >= mark for id_ in left)
        assert mark == min((read.index(id_) for id_ in left), default=len(read))


class TestAcknowledged:
    def test_before_it_is_read_it_is_left_out(self) -> None:
        window = window_of()
        window.acknowledge(["a"])
        expects = [window.expects]
        window.take([received("a", 0), received("b", 1)], {0: 2})
        assert waiting(window) == ["b"]
        assert window.watermarks() == {0: 1}
        assert [*expects, window.expects] == [True, False]

    def test_once_more_on_the_topic_it_is_left_out(self) -> None:
        window = window_of("a", "b")
        window.take([received("a", 2)], {0: 3})
        assert waiting(window) == ["a", "b"]
        window.acknowledge(["a", "b"])
        window.take([received("a", 3)], {0: 4})
        assert waiting(window) == []
        assert window.watermarks() == {0: 4}

    def test_is_remembered_for_a_while_only(self) -> None:
        clock = Clock()
        window = CommandWindow(now_s=clock)
        window.assign({0: read_from(0)})
        window.acknowledge(["a"])
        clock.now_s = module.ACKNOWLEDGED_AGE_S + 1
        window.take([received("a", 0)], {0: 1})
        assert waiting(window) == ["a"]

    def test_is_forgotten_when_it_is_pruned(self) -> None:
        window = window_of("a")
        window.acknowledge(["a", "b"])
        window.take([received("b", 1, created_at_ms=30)], {0: 2})
        window.forget(older_than_ms=20)
        window.take([received("a", 2), received("b", 3)], {0: 4})
        assert waiting(window) == ["a"]

    def test_twice_is_as_good_as_once(self) -> None:
        window = window_of("a", "b")
        window.acknowledge(["a", "a"])
        window.acknowledge(["a"])
        assert waiting(window) == ["b"]
        assert len(window) == 1


class TestBounds:
    def test_it_is_full_at_so_many_bytes(self) -> None:
        weight = len(received("a", 0).payload) + ENTRY_BYTES
        window = window_of("a", "b", bytes_max=2 * weight + 1)
        full = [window.full]
        window.take([received("c", 2)], {0: 3})
        full.append(window.full)
        window.acknowledge(["b"])
        assert [*full, window.full] == [False, True, False]

    def test_it_is_full_at_so_many_commands(self) -> None:
        window = window_of("a", "b", count_max=2)
        full = [window.full]
        window.acknowledge(["a"])
        assert [*full, window.full] == [True, False]

    def test_it_counts_by_tenant(self) -> None:
        window = window_of("a")
        window.take([received("b", 1, tenant="globex"), received("c", 2)], {0: 3})
        assert window.by_tenant() == {"acme": 2, "globex": 1}
        window.acknowledge(["b"])
        assert window.by_tenant() == {"acme": 2}


class TestPartitions:
    def test_what_is_given_up_is_forgotten(self) -> None:
        window = CommandWindow()
        window.assign({0: read_from(0), 1: read_from(0)})
        window.take([received("a", 0), received("b", 0, partition=1)], {0: 1, 1: 1})
        window.revoke([1, 2])
        assert waiting(window) == ["a"]
        assert window.by_tenant() == {"acme": 1}
        window.take([received("c", 1, partition=1)], {1: 2})
        window.acknowledge(["b"])
        assert waiting(window) == ["a"]
        assert window.next_offsets() == {0: 1}

    def test_what_is_kept_is_not_read_again(self) -> None:
        window = window_of("a", "b")
        window.assign({0: read_from(0), 1: read_from(3)})
        assert window.next_offsets() == {0: 2, 1: 3}

    def test_a_topic_made_anew_is_read_from_its_start(self) -> None:
        window = CommandWindow()
        window.assign({0: read_from(0)})
        window.take([received("a", 0), received("b", 1)], {0: 2})
        window.take([received("c", 0)], {0: 1})
        assert waiting(window) == ["c"]
        assert window.watermarks() == {0: 0}

    def test_what_expired_unread_is_counted(self) -> None:
        window = window_of("a")
        assert window.missed == 0
        window.take([received("b", 4)], {0: 5})
        assert window.missed == 3


class TestProgress:
    def test_it_says_what_need_not_be_read_again(self) -> None:
        window = window_of("a", "b", "c", "d", "e", "f")
        window.acknowledge(["a", "c", "d", "f"])
        found = window.acknowledged(0)
        assert (found.watermark, found.above) == (1, ((2, 4), (5, 6)))

    def test_a_successor_leaves_that_out(self) -> None:
        window = CommandWindow()
        window.assign({0: Acknowledged(watermark=1, above=((2, 4), (5, 6)))})
        window.take([received(id_, n) for n, id_ in enumerate("bcdefg", 1)], {0: 7})
        assert waiting(window) == ["b", "e", "g"]
        assert window.missed == 0
        window.acknowledge(["b"])
        assert window.acknowledged(0) == Acknowledged(watermark=4, above=((5, 6),))

    def test_before_all_of_it_was_read_nothing_of_it_is_forgotten(self) -> None:
        known = Acknowledged(watermark=1, above=((2, 4), (6, 9)))
        window = CommandWindow()
        window.assign({0: known})
        assert window.acknowledged(0) == known
        window.take([received("b", 1), received("c", 2)], {0: 3})
        assert window.acknowledged(0) == Acknowledged(watermark=1, above=((2, 3), (3, 4), (6, 9)))

    def test_ranges_are_limited_and_the_lowest_are_kept(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "RANGES_MAX", 2)
        window = window_of("a", "b", "c", "d", "e", "f", "g", "h")
        window.acknowledge(["b", "d", "f", "h"])
        assert window.acknowledged(0) == Acknowledged(watermark=0, above=((1, 2), (3, 4)))

    def test_a_change_is_counted_where_it_is(self) -> None:
        window = CommandWindow()
        window.assign({0: read_from(0), 1: read_from(0)})
        window.take([received("a", 0)], {0: 1})
        before = window.changes()
        window.acknowledge(["a"])
        after = window.changes()
        assert (after[0] > before[0], after[1]) == (True, before[1])
        window.take([], {0: 1, 1: 4})  # nothing but marks of the topic's own
        assert (window.changes()[0], window.changes()[1] > after[1]) == (after[0], True)

    def test_a_later_tenure_has_other_changes(self) -> None:
        window = CommandWindow()
        seen: list[int] = []
        for _ in range(2):
            window.assign({0: read_from(0)})
            seen.append(window.changes()[0])
            window.take([received("a", 0)], {0: 1})
            window.acknowledge(["a"])
            seen.append(window.changes()[0])
            window.revoke([0])
        assert len(set(seen)) == len(seen)

    def test_what_the_topic_has_forgotten_is_restored(self) -> None:
        window = CommandWindow()
        window.assign({0: Acknowledged(watermark=0, above=((1, 2),))})
        assert window.restore(0, [received(id_, n) for n, id_ in enumerate("abc")], 3) == 2
        window.take([received("d", 3)], {0: 4})
        assert waiting(window) == ["a", "c", "d"]
        assert (window.missed, window.next_offsets()) == (0, {0: 4})


class TestArrivals:
    def test_ids_behind_a_position(self) -> None:
        window = window_of("a", "b", "c")
        window.acknowledge(["b"])
        assert window.ids(after_position=0) == ([(1, "a"), (3, "c")], 3)
        assert window.ids(after_position=3) == ([], 3)

    def test_a_part_tells_up_to_where_it_goes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "IDS_MAX", 2)
        window = window_of("a", "b", "c")
        window.acknowledge(["b"])
        assert window.ids(after_position=0) == ([(1, "a")], 2)
        assert window.ids(after_position=2) == ([(3, "c")], 3)
