"""What every webhook outbox does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from orchx.ports.deliveries import Deliveries, Delivery


def delivery(id_: str, workflow_id: str = "w", position: int = 1, **changes: object) -> Delivery:
    made = Delivery(
        id=id_,
        workflow_id=workflow_id,
        tenant="acme",
        position=position,
        url="http://receiver",
        event_type="t",
        body=b'{"raw":"\xff"}',
        created_at_ms=100,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def ids(deliveries: Sequence[Delivery]) -> list[str]:
    return [delivery.id for delivery in deliveries]


class TestDeliveries:
    async def test_gives_back_what_was_added(self, outbox: Deliveries) -> None:
        assert await outbox.offset() == 0
        await outbox.add([delivery("a"), delivery("b", position=2)], offset=7)
        assert await outbox.offset() == 7
        assert await outbox.list() == [delivery("a"), delivery("b", position=2)]

    async def test_known_ids_stay_as_they_are(self, outbox: Deliveries) -> None:
        await outbox.add([delivery("a")], offset=1)
        await outbox.update([delivery("a", status="delivered", attempts=1)])
        await outbox.add([delivery("a"), delivery("b")], offset=2)
        assert (await outbox.list(status="delivered"))[0].attempts == 1
        assert await outbox.offset() == 2

    async def test_the_offset_never_goes_back(self, outbox: Deliveries) -> None:
        await outbox.add([], offset=5)
        await outbox.add([], offset=3)
        assert await outbox.offset() == 5

    async def test_each_partition_has_an_offset_of_its_own(self, outbox: Deliveries) -> None:
        await outbox.add([delivery("a")], offset=5, partition=2)
        await outbox.add([], offset=9)
        assert [await outbox.offset(p) for p in (0, 1, 2)] == [9, 0, 5]

    async def test_a_later_one_waits_for_the_earlier(self, outbox: Deliveries) -> None:
        first, second = delivery("1"), delivery("2", position=2)
        await outbox.add([second, first, delivery("other", "v", next_attempt_at_ms=50)], offset=1)
        assert ids(await outbox.due(now_ms=10, limit=9)) == ["1"]
        await outbox.update([replace(first, attempts=1, next_attempt_at_ms=99, last_error="x")])
        assert ids(await outbox.due(now_ms=50, limit=9)) == ["other"]
        assert ids(await outbox.due(now_ms=99, limit=9)) == ["other", "1"]
        assert ids(await outbox.due(now_ms=99, limit=1)) == ["other"]
        await outbox.update([replace(first, status="delivered", ended_at_ms=99)])
        assert ids(await outbox.due(now_ms=10, limit=9)) == ["2"]

    async def test_hosts_are_left_out_however_much_waits_for_them(self, outbox: Deliveries) -> None:
        dead = [delivery(f"d{n:04}", f"dead-{n}", url="http://DEAD:80/x") for n in range(300)]
        late = delivery("late", "l", next_attempt_at_ms=50)
        await outbox.add([*dead, late], offset=1)
        assert ids(await outbox.due(now_ms=99, limit=2)) == ["d0000", "d0001"]
        assert ids(await outbox.due(now_ms=99, limit=2, without_hosts={"dead:80"})) == ["late"]
        assert ids(await outbox.due(now_ms=49, limit=2, without_hosts=["dead:80"])) == []
        both = ("dead:80", "receiver")
        assert ids(await outbox.due(now_ms=99, limit=2, without_hosts=both)) == []

    async def test_one_that_is_left_out_still_holds_back_those_behind_it(
        self, outbox: Deliveries
    ) -> None:
        moved = delivery("2", position=2, url="http://elsewhere")
        await outbox.add([delivery("1"), moved], offset=1)
        assert ids(await outbox.due(now_ms=0, limit=9, without_hosts=["receiver"])) == []

    async def test_one_given_up_blocks_nobody(self, outbox: Deliveries) -> None:
        await outbox.add([delivery("1"), delivery("2", position=2)], offset=1)
        await outbox.update([delivery("1", status="undelivered", attempts=8, last_error="gone")])
        assert ids(await outbox.due(now_ms=0, limit=9)) == ["2"]
        assert (await outbox.list(status="undelivered"))[0].last_error == "gone"

    async def test_updates_only_what_it_knows(self, outbox: Deliveries) -> None:
        await outbox.update([delivery("unknown")])
        assert await outbox.list() == []

    async def test_lists_by_status_and_workflow_oldest_first(self, outbox: Deliveries) -> None:
        await outbox.add(
            [
                delivery("c", "v", created_at_ms=300),
                delivery("b", position=2, created_at_ms=200),
                delivery("a", created_at_ms=200, status="delivered"),
            ],
            offset=1,
        )
        assert ids(await outbox.list()) == ["a", "b", "c"]
        assert ids(await outbox.list(limit=1)) == ["a"]
        assert ids(await outbox.list(status="pending")) == ["b", "c"]
        assert ids(await outbox.list(status="pending", workflow_id="w")) == ["b"]

    async def test_lists_page_by_page(self, outbox: Deliveries) -> None:
        made = [
            delivery("d", "v", created_at_ms=100),
            delivery("c", "v", created_at_ms=100, status="delivered"),
            delivery("b", "v", position=2, created_at_ms=100),
            delivery("a", "w", created_at_ms=50),
        ]
        await outbox.add(made, offset=1)
        whole = await outbox.list()
        assert ids(whole) == ["a", "c", "d", "b"]
        for number, row in enumerate(whole):
            assert await outbox.list(after=row.place) == whole[number + 1 :]
        assert ids(await outbox.list(after=whole[0].place, limit=1)) == ["c"]
        assert ids(await outbox.list(after=whole[0].place, status="pending")) == ["d", "b"]
        await outbox.prune(status="delivered", ended_before_ms=999, limit=9)
        assert ids(await outbox.list(after=whole[1].place)) == ["d", "b"]

    async def test_forgets_what_ended_long_ago(self, outbox: Deliveries) -> None:
        ended = [
            delivery("new", "a", status="delivered", ended_at_ms=30),
            delivery("older", "b", status="delivered", ended_at_ms=20),
            delivery("oldest", "c", status="delivered", ended_at_ms=10),
            delivery("given-up", "d", status="undelivered", ended_at_ms=10),
        ]
        await outbox.add([*ended, delivery("waits", "e")], offset=7)
        assert await outbox.prune(status="delivered", ended_before_ms=30, limit=1) == 1
        assert "oldest" not in ids(await outbox.list())
        assert await outbox.prune(status="delivered", ended_before_ms=30, limit=9) == 1
        assert await outbox.prune(status="delivered", ended_before_ms=30, limit=9) == 0
        assert sorted(ids(await outbox.list())) == ["given-up", "new", "waits"]
        assert await outbox.replay(["given-up"], now_ms=40) == 1
        assert await outbox.prune(status="undelivered", ended_before_ms=99, limit=9) == 0
        assert await outbox.offset() == 7

    async def test_replays_what_was_given_up(self, outbox: Deliveries) -> None:
        await outbox.add([delivery("a"), delivery("b", "v"), delivery("c", "u")], offset=1)
        one, other = delivery("a"), delivery("b", "v")
        await outbox.update(
            [
                replace(one, status="undelivered", attempts=8, ended_at_ms=9),
                replace(other, status="undelivered", attempts=8, ended_at_ms=9),
            ]
        )
        assert await outbox.replay(["a", "c", "none"], now_ms=500) == 1
        again = (await outbox.list(workflow_id="w"))[0]
        assert again == delivery("a", next_attempt_at_ms=500)
        assert ids(await outbox.due(now_ms=500, limit=9)) == ["c", "a"]

    async def test_another_opening_sees_the_same_outbox(
        self, outboxes: Callable[[], Deliveries]
    ) -> None:
        one, other = outboxes(), outboxes()
        await one.add([delivery("a")], offset=4)
        assert ids(await other.due(now_ms=0, limit=9)) == ["a"]
        assert await other.offset() == 4
