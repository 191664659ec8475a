"""The books of the Dispatcher: places, the waiting rooms, timers, what is sent when."""

from __future__ import annotations

from orchx.engine.placement import Entry
from orchx.engine.roster import MAX_TIMER_S
from tests.unit.engine.dispatching import Desk, cancel, event, start

HOUR_MS = 3_600_000


def asleep(desk: Desk, workflow_id: str, due_at_ms: int | None) -> Entry:
    entry = desk.roster.entries.setdefault(workflow_id, Entry(workflow_id, isolation="shared"))
    desk.roster.sleep(entry, due_at_ms)
    return entry


# -- commands ------------------------------------------------------------------------------


async def test_an_owner_gets_what_one_turn_brought_in_one_delivery() -> None:
    desk = Desk()
    await desk.submit(start("a"), start("b"), cancel("c", "a"))
    (delivery,) = desk.owners["owner-1"].deliveries
    assert [a.workflow_id for a in delivery] == ["a", "a", "b"]


async def test_a_command_that_is_known_is_not_sent_again() -> None:
    desk = Desk()
    await desk.submit(start("wf"))
    await desk.submit(start("wf"), cancel("c", "wf"))
    assert desk.owners["owner-1"].commands == ["wf", "c"]


async def test_an_applied_command_is_not_sent_again_with_the_others() -> None:
    desk = Desk()
    await desk.submit(start("wf"), cancel("c", "wf"))
    desk.roster.applied("wf")
    desk.roster.resend(desk.roster.entries["wf"])
    await desk.pass_s()
    assert desk.owners["owner-1"].commands == ["wf", "c", "c"]


async def test_what_has_no_commands_left_is_sent_only_to_be_claimed() -> None:
    desk = Desk()
    await desk.submit(start("wf"))
    desk.roster.applied("wf")
    entry = desk.roster.entries["wf"]
    desk.roster.resend(entry)
    await desk.pass_s()
    assert desk.owners["owner-1"].commands == ["wf"]
    desk.roster.resend(entry, claim=True)
    await desk.pass_s()
    assert desk.owners["owner-1"].commands == ["wf", ""]


async def test_removal_names_the_commands_that_came_too_late_and_forgets_them() -> None:
    desk = Desk()
    await desk.submit(start("wf"), cancel("c", "wf"))
    desk.roster.applied("wf")
    assert desk.roster.remove("wf") == ["c"]
    assert desk.roster.remove("wf") == []
    assert desk.roster.stations.held == 0
    await desk.submit(cancel("c", "wf"))
    assert desk.owners["owner-1"].commands == ["wf", "c", "c"]


# -- places --------------------------------------------------------------------------------


async def test_a_place_that_gets_free_goes_to_who_waits() -> None:
    desk = Desk(capacity=1)
    await desk.submit(start("a"), start("b"))
    assert (desk.owners["owner-1"].got, desk.roster.waiting) == (["a"], 1)
    desk.roster.remove("a")
    await desk.pass_s()
    assert (desk.owners["owner-1"].got, desk.roster.waiting) == (["a", "b"], 0)


async def test_the_waiting_room_is_left_by_priority_and_deadline() -> None:
    desk = Desk(running_limit=1)
    await desk.submit(start("first"))
    await desk.submit(
        start("low", priority=9),
        start("plain"),
        start("soon", deadline_ms=10),
        start("high", priority=1),
    )
    for workflow_id in ("first", "high", "soon", "plain"):
        desk.roster.remove(workflow_id)
        await desk.pass_s()
    assert desk.owners["owner-1"].got == ["first", "high", "soon", "plain", "low"]


async def test_the_running_limit_holds_fresh_workflows_back() -> None:
    desk = Desk(running_limit=2)
    await desk.submit(start("a"), start("b"), start("c"))
    assert (desk.owners["owner-1"].got, desk.roster.waiting) == (["a", "b"], 1)


async def test_the_running_limit_does_not_hold_back_what_has_begun() -> None:
    desk = Desk(shared=2, running_limit=2)
    await desk.submit(start("a"), start("b"), start("c"))
    desk.roster.entries["d"] = begun = Entry("d", isolation="shared")
    desk.roster.displace(begun)
    await desk.pass_s()
    assert desk.owner_of("d") is not None
    assert desk.owner_of("c") is None
    assert desk.roster.stations.held == 3


async def test_a_workflow_that_was_applied_goes_first_when_it_is_displaced() -> None:
    desk = Desk(capacity=1)
    await desk.submit(start("begun"))
    desk.roster.applied("begun")
    await desk.submit(start("fresh", priority=1))
    desk.roster.displace(desk.roster.entries["begun"])
    await desk.pass_s()
    assert (desk.owner_of("begun"), desk.owner_of("fresh")) == ("owner-1", None)


async def test_who_waits_for_a_dedicated_owner_does_not_block_those_that_share() -> None:
    desk = Desk(dedicated=1)
    await desk.submit(
        start("a", isolation="dedicated"), start("b", isolation="dedicated", priority=1)
    )
    await desk.submit(start("c", priority=9))
    assert (desk.owner_of("b"), desk.owner_of("a"), desk.owner_of("c")) == (
        "lone-1",
        None,
        "owner-1",
    )


async def test_who_waits_for_a_shared_owner_does_not_block_the_dedicated() -> None:
    desk = Desk(dedicated=1, capacity=1)
    await desk.submit(start("a"), start("b", priority=1))
    await desk.submit(start("c", isolation="dedicated", priority=9))
    assert (desk.owner_of("b"), desk.owner_of("a"), desk.owner_of("c")) == (
        "owner-1",
        None,
        "lone-1",
    )


async def test_what_is_over_leaves_the_waiting_room_without_a_place() -> None:
    desk = Desk(capacity=1)
    await desk.submit(start("a"), start("b"), start("c"))
    desk.roster.remove("b")
    desk.roster.remove("a")
    await desk.pass_s()
    assert desk.owners["owner-1"].got == ["a", "c"]
    assert (desk.roster.waiting, desk.roster.waiting_by_tenant) == (0, {})


async def test_who_waits_is_counted_by_tenant() -> None:
    desk = Desk(capacity=1)
    await desk.submit(start("a"), start("b"), start("c", tenant="evil"), start("d", tenant="evil"))
    assert desk.roster.waiting_by_tenant == {"acme": 1, "evil": 2}
    desk.roster.remove("a")
    await desk.pass_s()
    assert desk.roster.waiting_by_tenant == {"evil": 2}


# -- time ----------------------------------------------------------------------------------


async def test_a_passive_workflow_gives_its_place_to_another() -> None:
    desk = Desk(capacity=1)
    await desk.submit(start("a"), start("b"))
    desk.roster.applied("a")
    asleep(desk, "a", None)
    await desk.pass_s()
    assert (desk.owner_of("a"), desk.owner_of("b")) == (None, "owner-1")
    assert desk.roster.waiting == 0


async def test_a_timer_wakes_a_passive_workflow_when_it_is_due() -> None:
    desk = Desk()
    asleep(desk, "wf", desk.clock.now_ms() + 5_000)
    await desk.pass_s(4.999)
    assert desk.owner_of("wf") is None
    await desk.pass_s(0.001)
    assert desk.owners["owner-1"].commands == [""]
    assert not desk.roster.entries["wf"].passive


async def test_timers_ring_in_their_own_order_and_also_far_away() -> None:
    desk = Desk()
    now_ms = desk.clock.now_ms()
    asleep(desk, "far", now_ms + 3 * HOUR_MS)
    asleep(desk, "later", now_ms + 2_000)
    asleep(desk, "sooner", now_ms + 1_000)
    asleep(desk, "overdue", now_ms - 1)
    for delay_s, expected in ((0.0, "overdue"), (1.0, "sooner"), (1.0, "later")):
        await desk.pass_s(delay_s)
        assert desk.owners["owner-1"].got[-1] == expected
    await desk.pass_s(3 * MAX_TIMER_S - 2.001)
    assert desk.owners["owner-1"].got[-1] == "later"
    await desk.pass_s(0.001)
    assert desk.owners["owner-1"].got[-1] == "far"


async def test_no_timer_is_set_for_longer_than_it_may_be_wrong() -> None:
    desk = Desk()
    asleep(desk, "wf", desk.clock.now_ms() + 3 * HOUR_MS)
    await desk.pass_s()
    assert desk.clock.next_due_ms() == desk.clock.now_ms() + MAX_TIMER_S * 1_000


async def test_an_outdated_timer_wakes_nobody() -> None:
    desk = Desk()
    now_ms = desk.clock.now_ms()
    asleep(desk, "wf", now_ms + 1_000)
    asleep(desk, "wf", now_ms + 5_000)
    await desk.pass_s(4.999)
    assert desk.owners["owner-1"].got == []
    await desk.pass_s(0.001)
    assert desk.owners["owner-1"].got == ["wf"]


async def test_a_timer_does_not_bother_a_workflow_that_was_woken_before() -> None:
    desk = Desk()
    asleep(desk, "wf", desk.clock.now_ms() + 1_000)
    await desk.submit(event("e", "wf"))
    assert desk.owners["owner-1"].commands == ["e"]
    await desk.pass_s(2.0)
    assert desk.owners["owner-1"].commands == ["e"]


async def test_a_workflow_that_sleeps_again_until_the_same_time_is_woken_once() -> None:
    desk = Desk()
    due_at_ms = desk.clock.now_ms() + 1_000
    for _ in range(2):
        asleep(desk, "wf", due_at_ms)
    await desk.pass_s(1.0)
    assert desk.owners["owner-1"].got == ["wf"]


async def test_a_workflow_that_its_owner_thinks_was_woken_too_early_is_woken_again() -> None:
    desk = Desk()
    due_at_ms = desk.clock.now_ms() + 1_000
    for times in (1, 2):
        asleep(desk, "wf", due_at_ms)
        await desk.pass_s(1.0)
        assert desk.owners["owner-1"].got == ["wf"] * times


async def test_a_workflow_that_is_over_is_not_woken_and_those_after_it_are() -> None:
    desk = Desk()
    for workflow_id in ("over", "same-time", "later"):
        asleep(desk, workflow_id, desk.clock.now_ms() + 1_000 + (workflow_id == "later"))
    desk.roster.remove("over")
    await desk.pass_s(2.0)
    assert desk.owners["owner-1"].got == ["same-time", "later"]


async def test_a_workflow_let_go_with_commands_under_way_is_placed_at_once() -> None:
    desk = Desk()
    await desk.submit(start("wf"), event("e", "wf"))
    desk.roster.applied("wf")
    asleep(desk, "wf", None)
    await desk.pass_s()
    assert desk.owners["owner-1"].commands == ["wf", "e", "e"]


async def test_once_closed_nobody_is_woken_or_placed() -> None:
    desk = Desk()
    asleep(desk, "wf", desk.clock.now_ms() + 1_000)
    await desk.pass_s()
    desk.roster.close()
    await desk.submit(start("late"))
    assert desk.clock.next_due_ms() is None
    await desk.pass_s(2.0)
    assert desk.owners["owner-1"].got == []
