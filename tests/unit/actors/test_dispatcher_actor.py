"""The Dispatcher's actor, without Ray: it does nothing on anyone's word before it has recovered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import msgspec
import pytest

from orchx.actors import message_parts
from orchx.actors.dispatcher_actor import DispatcherActor
from orchx.domain.keys import event_command_id
from orchx.engine.partition_keeper import PartitionKeeper
from orchx.engine.sole_membership import SoleMembership
from orchx.errors import Unavailable
from orchx.ports.supervision import Ending, Load, OwnerReport, Subscription
from orchx.settings import Settings
from tests.unit.engine.dispatching import SWEEP_S, Desk, ending, event, start, summary

Question = Callable[[DispatcherActor], Coroutine[Any, Any, object]]

encode = msgspec.msgpack.encode
REPORT = OwnerReport(owner="owner-1", incarnation="owner-1#1", ended=[ending("old")])

REFUSED: dict[str, Question] = {
    "offer": lambda actor: actor.offer(encode([start("new")]), "w", encode(["new"])),
    "watch": lambda actor: actor.watch("w", encode(["old", "over"])),
}
DROPPED: dict[str, Question] = {
    "offered": lambda actor: actor.offered(encode([start("new")])),
    "report": lambda actor: actor.report(encode(REPORT)),
}


class UnwiredActor(DispatcherActor):
    """The actor over a desk: it has no process, socket or file of its own, and tells nobody."""

    def __init__(self, desk: Desk) -> None:
        self.settings = Settings()
        self._ready = asyncio.Event()
        self._dispatcher = desk.dispatcher
        self._supervision = desk.supervision
        self._membership = SoleMembership()
        self._keeper = PartitionKeeper(desk.supervision, desk.clock)
        self._leaving = False
        self.kept: list[asyncio.Task[None]] = []
        self.running = desk.begin(self._run())

    def keep(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something beside the test; nothing ends if it fails."""
        self.kept.append(asyncio.get_running_loop().create_task(work))

    def push_metrics(self) -> None:
        """Do nothing."""

    def watch_over(self, actors: Sequence[str]) -> None:
        """Do nothing."""


async def recovering(*, after_s: int = 0) -> tuple[Desk, UnwiredActor]:
    """Return an actor that recovers `after_s` seconds from now; the projection holds `old`."""
    desk = Desk(met=False)
    await desk.project(summary("old"))
    desk.state.errors = [Unavailable("a long log")] * round(after_s / SWEEP_S)
    return desk, UnwiredActor(desk)


@pytest.mark.parametrize("question", REFUSED)
async def test_who_asks_before_the_recovery_is_over_is_refused_at_once(question: str) -> None:
    desk, actor = await recovering(after_s=3)
    asked = asyncio.create_task(REFUSED[question](actor))
    await desk.pass_s()
    assert asked.done()
    with pytest.raises(Unavailable, match="recovering"):
        await asked
    assert (desk.roster.entries, desk.dispatcher.watchers.watched("old")) == ({}, False)
    await desk.pass_s(3)
    await REFUSED[question](actor)


@pytest.mark.parametrize("message", DROPPED)
async def test_what_is_told_before_the_recovery_is_over_is_dropped_at_once(message: str) -> None:
    desk, actor = await recovering(after_s=3)
    told = asyncio.create_task(DROPPED[message](actor))
    await desk.pass_s()
    assert told.done()
    assert desk.roster.entries == {}
    await desk.pass_s(3)
    assert list(desk.roster.entries) == ["old"]


async def test_only_a_ping_waits_for_the_recovery() -> None:
    desk, actor = await recovering(after_s=3)
    asked = asyncio.create_task(actor.ping())
    await desk.pass_s(2.999)
    assert not asked.done()
    await desk.pass_s(0.001)
    assert asked.done()


async def test_what_a_dropped_offer_was_about_is_found_in_the_queue() -> None:
    desk, actor = await recovering(after_s=3)
    await desk.queue.put([start("new")])
    await actor.offered(encode([start("new")]))
    await desk.pass_s(3)
    assert desk.owners["owner-1"].got == ["old", "new"]


async def test_an_event_right_after_the_recovery_finds_who_began_to_listen_during_it() -> None:
    desk, actor = await recovering(after_s=1)
    await actor.report(
        encode(
            OwnerReport(
                owner="owner-1",
                incarnation="owner-1#1",
                listening=[Subscription(workflow_id="old", types=["hr.moved"])],
            )
        )
    )
    await desk.pass_s(SWEEP_S)
    await desk.submit(event("e"))
    await desk.pass_s(1.0)
    assert event_command_id("old", "/test", "e") in desk.owners["owner-1"].commands


async def test_an_end_whose_report_was_dropped_is_told_again_when_the_owner_is_asked() -> None:
    desk, actor = await recovering()
    owner = desk.owners["owner-1"]
    await actor.report(encode(REPORT))
    await desk.pass_s()
    assert owner.got == ["old"]
    owner.holds.clear()  # it is over: an owner that is given it finds that out, and says so
    owner.deliveries.clear()
    await desk.pass_s(3 * SWEEP_S)
    assert owner.got[0] == "old"
    await actor.report(encode(REPORT))
    assert desk.roster.entries == {}


async def test_an_offer_is_answered_with_the_load_and_what_is_not_known_is_named() -> None:
    desk, actor = await recovering()
    await desk.pass_s()
    load = await actor.offer(encode([start("new")]), "w", encode(["new"]))
    expected = Load(waiting=1, by_tenant={"acme": 1}, running=1)
    assert msgspec.msgpack.decode(load, type=Load) == expected
    await actor.offered(encode([start("other")]))
    await desk.pass_s()
    assert desk.owners["owner-1"].got == ["old", "new", "other"]
    assert await actor.watch("w", encode(["new", "over"])) == ["over"]


async def test_nobody_is_kept_waiting_for_what_is_not_live() -> None:
    desk, actor = await recovering()
    await desk.pass_s()
    watched = desk.dispatcher.watchers.watched
    await actor.watch("w", encode(["old", "over"]))
    assert (watched("old"), watched("over")) == (True, False)
    await actor.offer(encode([start("new")]), "w", encode(["new", "gone"]))
    assert (watched("new"), watched("gone")) == (True, False)
    await desk.pass_s()
    await desk.report("owner-1", ended=[ending("new")])
    assert [e.workflow_id for e in await endings(actor)] == ["new"]


async def test_endings_that_do_not_fit_into_one_answer_come_with_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk, actor = await recovering()
    await desk.pass_s()
    ids = [f"w{number}" for number in range(5)]
    await actor.offer(encode([start(i) for i in ids]), "w", encode(ids))
    await desk.pass_s()
    await desk.report("owner-1", ended=[ending(i) for i in ids])
    monkeypatch.setattr(message_parts, "PART_BYTES", 2 * len(encode(ending("w0"))))
    polls = [[e.workflow_id for e in await endings(actor)] for _ in range(4)]
    assert polls == [["w0", "w1"], ["w2", "w3"], ["w4"], []]


async def endings(actor: DispatcherActor) -> list[Ending]:
    return msgspec.msgpack.decode(await actor.endings("w", 0), type=list[Ending])


async def test_one_that_leaves_hands_over_and_refuses_from_then_on() -> None:
    desk, actor = await recovering()
    await desk.pass_s()

    class Leaving(SoleMembership):
        left = False

        async def leave(self) -> None:
            self.left = True

    actor._membership = leaving = Leaving()
    await actor.leave()
    assert leaving.left
    for question in REFUSED.values():
        with pytest.raises(Unavailable, match="being stopped"):
            await question(actor)
