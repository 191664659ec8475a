"""What the Dispatcher believes of its owners' reports, and what it does with the lost."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from orchx.engine.dispatcher import LOST_PAUSE_S, MAX_LOST_PAUSE_S
from orchx.ports.supervision import OwnerReport, Passivation, Subscription
from tests.unit.engine.dispatching import Desk, cancel, ending, event, start

NEWS_OF_WF: list[dict[str, Any]] = [
    {"ended": [ending("wf")]},
    {"passivated": [Passivation(workflow_id="wf")]},
    {"lost": ["wf"]},
]


async def holder_and_other(desk: Desk) -> tuple[str, str]:
    """Have `wf` begun; return the name of the owner that has it, and of one that has not."""
    await desk.submit(start("wf"))
    holder = desk.owner_of("wf")
    assert holder is not None
    await desk.report(holder, applied=["wf"])
    (other,) = desk.owners.keys() - {holder}
    return holder, other


@pytest.mark.parametrize("news", NEWS_OF_WF, ids=lambda news: next(iter(news)))
async def test_an_owner_is_not_believed_about_a_workflow_that_it_does_not_hold(
    news: dict[str, Any],
) -> None:
    desk = Desk(shared=2)
    holder, other = await holder_and_other(desk)
    await desk.report(other, **news)
    assert desk.owner_of("wf") == holder
    await desk.report(holder, **news)
    assert "wf" not in desk.roster.entries or desk.owner_of("wf") is None


@pytest.mark.parametrize("news", NEWS_OF_WF, ids=lambda news: next(iter(news)))
async def test_news_of_a_workflow_that_is_not_known_change_nothing(news: dict[str, Any]) -> None:
    desk = Desk()
    await desk.report("owner-1", listening=[Subscription(workflow_id="wf", types=[])], **news)
    await desk.pass_s(1.0)
    assert desk.roster.entries == {}
    assert desk.dispatcher.subscriptions.listeners("hr.moved") == []


async def test_an_owner_that_nobody_knows_is_not_heard() -> None:
    desk = Desk()
    await desk.submit(start("wf"))
    stranger = OwnerReport(
        owner="stranger", incarnation="stranger#1", applied=["wf"], ended=[ending("wf")]
    )
    desk.dispatcher.report(stranger)
    await desk.pass_s(1.0)
    assert desk.owner_of("wf") == "owner-1"
    assert await desk.pending() == ["wf"]


@pytest.mark.parametrize("hello", [True, False])
async def test_a_new_incarnation_is_sent_everything_again(hello: bool) -> None:
    desk = Desk()
    await desk.submit(start("a"), start("b"))
    await desk.report("owner-1", applied=["a"])
    desk.owners["owner-1"].restart()
    await desk.report("owner-1", hello=hello)
    assert sorted(desk.owners["owner-1"].commands) == ["", "b"]
    assert sorted(desk.owners["owner-1"].got) == ["a", "b"]
    await desk.report("owner-1")
    assert len(desk.owners["owner-1"].got) == 2


async def test_only_another_incarnation_is_told_of_as_a_restart() -> None:
    desk = Desk()
    await desk.submit(start("wf"))
    with capture_logs() as lines:
        await desk.report("owner-1")
        await desk.report("owner-1", hello=True)
        assert lines == []
        desk.owners["owner-1"].restart()
        await desk.report("owner-1", hello=True)
    assert [line["event"] for line in lines] == ["owner restarted"]


# -- passivation ---------------------------------------------------------------------------


async def test_a_passivation_replaces_what_the_workflow_listened_for() -> None:
    desk = Desk()
    await desk.submit(start("wf"))
    for types in (["hr.moved"], ["hr.left"], []):
        await desk.report("owner-1", listening=[Subscription(workflow_id="wf", types=types)])
    let_go = Passivation(workflow_id="wf", listens=["hr.left"])
    await desk.report("owner-1", applied=["wf"], passivated=[let_go])
    listeners = desk.dispatcher.subscriptions.listeners
    assert (listeners("hr.moved"), listeners("hr.left")) == ([], ["wf"])


async def test_a_workflow_let_go_that_listens_for_nothing_hears_nothing() -> None:
    desk = Desk()
    await desk.submit(start("wf"))
    await desk.report("owner-1", listening=[Subscription(workflow_id="wf", types=["hr.moved"])])
    await desk.report("owner-1", applied=["wf"], passivated=[Passivation(workflow_id="wf")])
    await desk.submit(event("e"))
    assert desk.owners["owner-1"].commands == ["wf"]


async def test_a_passive_workflow_is_woken_by_its_time_or_by_what_it_listens_for() -> None:
    desk = Desk()
    await desk.submit(start("a"), start("b"))
    due_at_ms = desk.clock.now_ms() + 1_000
    let_go = [
        Passivation(workflow_id="a", due_at_ms=due_at_ms),
        Passivation(workflow_id="b", listens=["hr.moved"]),
    ]
    await desk.report("owner-1", applied=["a", "b"], passivated=let_go)
    assert (desk.owner_of("a"), desk.owner_of("b")) == (None, None)
    await desk.submit(event("e"))
    assert (desk.owner_of("a"), desk.owner_of("b")) == (None, "owner-1")
    await desk.pass_s(1.0)
    assert desk.owner_of("a") == "owner-1"


# -- lost workflows ------------------------------------------------------------------------


async def lose(desk: Desk, pause_s: float) -> None:
    """Lose `wf`: it must be placed again after this pause, and not before."""
    await desk.report("owner-1", lost=["wf"])
    await desk.pass_s(pause_s - 0.001)
    assert desk.owner_of("wf") is None
    await desk.pass_s(0.001)
    assert desk.owner_of("wf") == "owner-1"


async def test_a_lost_workflow_is_placed_again_after_a_pause_that_grows_to_a_limit() -> None:
    desk = Desk()
    await desk.submit(start("wf"))
    for times in (1, 2, 4, 8, 16, 32):
        await lose(desk, LOST_PAUSE_S * times)
    for _ in range(12):
        await lose(desk, MAX_LOST_PAUSE_S)
    assert set(desk.owners["owner-1"].commands) == {"wf"}


async def test_the_pause_is_short_again_once_a_command_was_applied() -> None:
    desk = Desk()
    await desk.submit(start("wf"))
    await lose(desk, LOST_PAUSE_S)
    await lose(desk, 2 * LOST_PAUSE_S)
    await desk.report("owner-1", applied=["wf"])
    await lose(desk, LOST_PAUSE_S)


async def test_a_lost_workflow_that_ends_in_the_pause_is_not_placed_again() -> None:
    desk = Desk()
    await desk.submit(start("wf"))
    await desk.report("owner-1", lost=["wf"])
    desk.dispatcher.ended(ending("wf"))
    await desk.pass_s(LOST_PAUSE_S)
    assert desk.roster.entries == {}
    assert desk.owners["owner-1"].got == ["wf"]


async def test_a_lost_workflow_leaves_its_place_to_others_meanwhile() -> None:
    desk = Desk(capacity=1)
    await desk.submit(start("wf"), start("next"))
    await desk.report("owner-1", lost=["wf"])
    await desk.supervision.sweep()
    await desk.pass_s()
    assert (desk.owner_of("wf"), desk.owner_of("next")) == (None, "owner-1")


async def test_a_lost_workflow_makes_room_at_once() -> None:
    desk = Desk(capacity=1)
    await desk.submit(start("wf"), start("next"))
    await desk.report("owner-1", lost=["wf"])
    assert desk.owner_of("next") == "owner-1"


async def test_being_lost_counts_once_a_report_and_not_beyond_an_orderly_sleep() -> None:
    desk = Desk()
    await desk.submit(start("wf"))
    await desk.report("owner-1", applied=["wf"], lost=["wf", "wf"])
    assert desk.roster.entries["wf"].lost == 1
    await desk.pass_s(60.0)
    await desk.report("owner-1", passivated=[Passivation(workflow_id="wf")])
    assert desk.roster.entries["wf"].lost == 0


async def test_an_old_timer_does_not_end_the_pause_of_a_lost_workflow() -> None:
    desk = Desk()
    await desk.submit(start("wf"))
    due_at_ms = desk.clock.now_ms() + 1_000
    await desk.report(
        "owner-1", applied=["wf"], passivated=[Passivation(workflow_id="wf", due_at_ms=due_at_ms)]
    )
    await desk.submit(cancel("c", "wf"))
    await desk.pass_s(0.9)
    await desk.report("owner-1", lost=["wf"])
    await desk.pass_s(0.2)  # the timer's time has come
    assert desk.owner_of("wf") is None
    await desk.pass_s(LOST_PAUSE_S)
    assert desk.owner_of("wf") == "owner-1"
