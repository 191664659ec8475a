"""Sweeps and audits: what the books, the owners and the projection tell differently."""

from __future__ import annotations

import asyncio

import pytest

from orchx.engine.supervision import RESEND_AFTER_MS, SWEEPS_PER_AUDIT
from orchx.engine.watchers import FORGET_AFTER_MS
from orchx.errors import DriverError, Unavailable
from tests.unit.engine.dispatching import LEASE_S, SWEEP_S, Desk, cancel, event, start, summary

AUDIT_S = SWEEP_S * SWEEPS_PER_AUDIT
RESEND_AFTER_S = RESEND_AFTER_MS / 1000


async def sweep(desk: Desk, *, after_s: float = SWEEP_S) -> None:
    await desk.pass_s(after_s)
    await desk.supervision.sweep()
    await desk.pass_s()


async def audit(desk: Desk) -> None:
    await desk.supervision.audit()
    await desk.pass_s()


# -- for ever ------------------------------------------------------------------------------


async def supervised(desk: Desk, for_s: float) -> None:
    task = desk.begin(desk.supervision.run())
    await desk.pass_s(for_s)
    task.cancel()


@pytest.mark.parametrize("part", ["barrier", "store", "queue"])
async def test_sweeps_go_on_while_an_audit_hangs(
    part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk()

    async def hang(**_: object) -> None:
        await asyncio.Event().wait()

    desk.state.hangs = part == "barrier"
    if part == "store":
        monkeypatch.setattr(desk.store, "unfinished", hang)
    elif part == "queue":
        monkeypatch.setattr(desk.queue, "pending", hang)
    await supervised(desk, 3 * AUDIT_S)
    assert desk.owners["owner-1"].asked == 3 * SWEEPS_PER_AUDIT


async def test_audits_go_on_while_a_sweep_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk()
    await desk.project(summary("wf"))

    async def hang(_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(desk.owners["owner-1"], "reconcile", hang)
    await supervised(desk, 2 * AUDIT_S)
    assert desk.owner_of("wf") == "owner-1"


async def test_an_audit_that_fails_is_made_again() -> None:
    desk = Desk()
    desk.state.errors = [Unavailable("away"), DriverError("disk")]
    await desk.project(summary("wf"))
    await supervised(desk, 3 * AUDIT_S)
    assert "wf" not in desk.roster.entries
    await supervised(desk, 2 * AUDIT_S)
    assert desk.owner_of("wf") == "owner-1"


# -- owners that are silent ----------------------------------------------------------------


async def test_an_owner_silent_beyond_its_lease_loses_what_it_held_to_others() -> None:
    desk = Desk(shared=2)
    await desk.submit(start("a"), start("b"))
    silent, other = desk.owners["owner-1"], desk.owners["owner-2"]
    assert (silent.got, other.got) == (["a"], ["b"])
    await desk.report("owner-2", applied=["b"])
    silent.away = True
    await sweep(desk, after_s=LEASE_S)
    assert desk.owner_of("a") == "owner-1"
    await sweep(desk, after_s=0.001)
    assert (desk.owner_of("a"), desk.owner_of("b")) == ("owner-2", "owner-2")
    assert other.commands == ["b", "a"]


@pytest.mark.parametrize("set_s", [-3_600, 3_600])
async def test_silence_is_not_measured_on_the_wall(set_s: int) -> None:
    desk = Desk(shared=2)
    await desk.submit(start("a"), start("b"))
    await desk.report("owner-2", applied=["b"])
    desk.owners["owner-1"].away = True
    desk.clock.set_wall(set_s)
    await sweep(desk, after_s=LEASE_S)
    assert desk.owner_of("a") == "owner-1"
    await sweep(desk, after_s=0.001)
    assert desk.owner_of("a") == "owner-2"


async def test_an_owner_out_of_reach_gets_nothing_until_it_answers() -> None:
    desk = Desk()
    await desk.submit(start("a"))
    desk.owners["owner-1"].away = True
    await sweep(desk, after_s=LEASE_S + SWEEP_S)
    await desk.submit(start("b"))
    assert (desk.owner_of("a"), desk.owner_of("b")) == (None, None)
    desk.owners["owner-1"].away = False
    await sweep(desk)
    assert (desk.owner_of("a"), desk.owner_of("b")) == ("owner-1", "owner-1")


async def test_an_owner_that_reports_is_not_silent() -> None:
    desk = Desk()
    await desk.submit(start("wf"))
    desk.owners["owner-1"].away = True
    await desk.pass_s(LEASE_S)
    await desk.report("owner-1")
    await sweep(desk, after_s=LEASE_S)
    assert desk.owner_of("wf") == "owner-1"


async def test_an_owner_that_answers_is_not_silent() -> None:
    desk = Desk()
    await desk.submit(start("wf"))
    await sweep(desk, after_s=LEASE_S)
    desk.owners["owner-1"].away = True
    await sweep(desk, after_s=LEASE_S)
    assert desk.owner_of("wf") == "owner-1"
    await sweep(desk, after_s=0.001)
    assert desk.owner_of("wf") is None


async def test_a_silent_owner_does_not_cost_the_others_their_lease() -> None:
    desk = Desk(shared=2)

    async def silent(_: object) -> None:
        await desk.clock.sleep(60.0)

    desk.owners["owner-1"].reconcile = silent  # type: ignore[method-assign,assignment]
    sweeping = desk.begin(desk.supervision.sweep())
    await desk.pass_s()
    assert (desk.owners["owner-2"].asked, sweeping.done()) == (1, False)
    sweeping.cancel()


async def test_a_sweep_that_meets_a_new_incarnation_sends_everything_again() -> None:
    desk = Desk()
    await desk.submit(start("a"), start("b"))
    await desk.report("owner-1", applied=["a"])
    desk.owners["owner-1"].restart()
    await sweep(desk)
    assert sorted(desk.owners["owner-1"].commands) == ["", "b"]
    await sweep(desk)
    assert len(desk.owners["owner-1"].got) == 2


# -- what got lost on the way --------------------------------------------------------------


async def test_commands_that_are_not_applied_in_time_are_sent_again() -> None:
    desk = Desk()
    await desk.submit(start("wf"), cancel("c", "wf"))
    await desk.report("owner-1", applied=["wf"])
    await sweep(desk, after_s=RESEND_AFTER_S)
    assert desk.owners["owner-1"].commands == ["wf", "c"]
    await sweep(desk, after_s=0.001)
    assert desk.owners["owner-1"].commands == ["wf", "c", "c"]
    await sweep(desk, after_s=RESEND_AFTER_S)
    assert desk.owners["owner-1"].commands == ["wf", "c", "c"]


async def test_a_workflow_that_never_reached_its_owner_is_sent_again() -> None:
    desk = Desk()
    await desk.submit(start("wf"))
    await desk.report("owner-1", applied=["wf"])
    desk.owners["owner-1"].holds.clear()
    await sweep(desk, after_s=SWEEP_S)
    assert desk.owners["owner-1"].commands == ["wf"]  # it may be on its way still
    await sweep(desk, after_s=0.001)
    assert desk.owners["owner-1"].commands == ["wf", ""]


async def test_a_workflow_that_waits_is_left_with_an_owner_that_has_it() -> None:
    desk = Desk(shared=2, capacity=1)
    await desk.submit(start("a"), start("b"))
    desk.owners["owner-1"].away = True
    await sweep(desk, after_s=LEASE_S + SWEEP_S)
    await desk.report("owner-2", applied=["a", "b"])
    assert desk.owner_of("a") is None
    desk.owners["owner-1"].away = False
    await sweep(desk)
    assert (desk.owner_of("a"), desk.roster.waiting) == ("owner-1", 0)
    assert desk.owners["owner-1"].got == ["a"]


async def test_a_sweep_forgets_watchers_that_have_not_asked_for_long() -> None:
    desk = Desk()
    desk.dispatcher.watch("w", ["wf"])
    await sweep(desk, after_s=FORGET_AFTER_MS / 1000)
    assert desk.dispatcher.watchers.watched("wf")
    await sweep(desk, after_s=0.001)
    assert not desk.dispatcher.watchers.watched("wf")


# -- audits --------------------------------------------------------------------------------


async def test_a_workflow_that_two_audits_in_a_row_miss_is_taken_up() -> None:
    desk = Desk()
    await desk.project(summary("wf", isolation="dedicated", tenant="evil", priority=2))
    await audit(desk)
    assert "wf" not in desk.roster.entries
    await audit(desk)
    entry = desk.roster.entries["wf"]
    assert (entry.owner, entry.isolation, entry.tenant, entry.priority) == (
        "owner-1",
        "dedicated",
        "evil",
        2,
    )
    assert desk.owners["owner-1"].commands == [""]


async def test_a_workflow_that_is_known_between_two_audits_is_not_suspected() -> None:
    desk = Desk()
    await desk.project(summary("wf"))
    await audit(desk)
    await desk.submit(start("wf"))
    await audit(desk)
    desk.roster.remove("wf")
    await audit(desk)
    assert "wf" not in desk.roster.entries


async def test_a_passive_workflow_that_audits_miss_sleeps_on() -> None:
    desk = Desk()
    due_at_ms = desk.clock.now_ms() + 5_000
    await desk.project(summary("wf", status="waiting", passivated=True, due_at_ms=due_at_ms))
    await audit(desk)
    await audit(desk)
    assert desk.owner_of("wf") is None
    await desk.pass_s(5.0)
    assert desk.owner_of("wf") == "owner-1"


async def test_an_audit_adds_again_what_workflows_listen_for() -> None:
    desk = Desk()
    await desk.submit(start("wf"))
    await desk.report("owner-1", applied=["wf"])
    await desk.project(summary("wf", status="waiting", listens=("hr.moved",)))
    await audit(desk)
    await desk.submit(event("e"))
    assert desk.owners["owner-1"].got == ["wf", "wf"]


async def test_an_audit_offers_commands_that_nobody_was_told_of() -> None:
    desk = Desk()
    await desk.queue.put([start("wf")])
    await audit(desk)
    assert desk.owners["owner-1"].commands == ["wf"]
    await audit(desk)
    assert desk.owners["owner-1"].commands == ["wf"]
