"""The gateway over memory adapters, and its mail when the Dispatcher's side fails."""

from __future__ import annotations

import asyncio

import pytest

from orchx.domain import events as e
from orchx.domain.events import Record
from orchx.domain.messages import CancelWorkflow
from orchx.engine import gateway as gateway_module
from orchx.engine.endings import RETRY_PAUSE_S
from orchx.engine.gateway import pending
from orchx.errors import DriverError, NotFound, Unavailable
from tests.unit.engine.gateway_rig import Rig, ending, make_rig, start
from tests.unit.engine.histories import simple_run, started, task_completed, turn
from tests.unit.engine.short_pages import ShortPages

FAILURES = [Unavailable("away"), DriverError("broken"), RuntimeError("unforeseen")]


@pytest.fixture
async def rig() -> Rig:
    return make_rig()


async def test_what_was_accepted_is_found_with_its_input(rig: Rig) -> None:
    await rig.gateway.submit([start(), CancelWorkflow(id="c", workflow_id="wf", created_at_ms=1)])
    assert await rig.gateway.accepted(["wf", "c", "nope"]) == {"wf": start()}


async def test_no_input_is_kept_and_an_end_that_was_told_is_forgotten(rig: Rig) -> None:
    rig.mail.start()
    await rig.gateway.submit([start()])
    kept = rig.gateway._recent["wf"]
    assert kept.input is None
    assert await rig.gateway.show("wf") == pending(start()) == pending(kept)
    waits = [asyncio.create_task(rig.gateway.wait("wf", 60)) for _ in range(2)]
    await rig.clock.advance(0)
    rig.link.answers.put_nowait([ending()])
    first, second = await asyncio.gather(*waits)
    assert first == second
    assert first is not None
    assert (first.status, first.output, first.labels) == ("completed", 3, {"a": "b"})
    assert not rig.gateway._recent
    rig.mail.close()


async def test_what_still_runs_when_time_is_up_is_kept(rig: Rig) -> None:
    await rig.gateway.submit([start()])
    assert await rig.gateway.wait("wf", 0) is None
    assert "wf" in rig.gateway._recent


async def test_what_the_projection_shows_as_ended_is_forgotten(rig: Rig) -> None:
    await rig.gateway.submit([start()])
    await rig.store.save([gateway_module.ended(start(), ending())], offset=1)
    assert (await rig.gateway.show("wf")).status == "completed"
    assert not rig.gateway._recent


@pytest.mark.parametrize("failure", FAILURES)
async def test_listening_survives_any_error(rig: Rig, failure: Exception) -> None:
    rig.mail.start()
    future = rig.mail.expect("wf")
    await rig.clock.advance(0)
    assert rig.link.watched == ["wf"]
    for _ in range(2):
        rig.link.answers.put_nowait(failure)
        await rig.clock.advance(RETRY_PAUSE_S)
    assert rig.link.watched == ["wf"] * 3  # a new Dispatcher is told what is waited for
    rig.link.answers.put_nowait([ending()])
    await rig.clock.advance(0)
    assert future.result() == ending()
    rig.mail.close()


@pytest.mark.parametrize("failure", FAILURES)
async def test_sending_survives_any_error(rig: Rig, failure: Exception) -> None:
    rig.link.offers = [failure, failure]
    rig.mail.offer([start()])
    await rig.clock.advance(0)
    assert (rig.mail.reachable, rig.link.offered) == (False, [])
    await rig.clock.advance(2 * RETRY_PAUSE_S)
    assert (rig.mail.reachable, rig.link.offered) == (True, [start()])


async def history_of(rig: Rig, count: int, size: int = 0) -> None:
    """Write a start and as many more records, of an owner who is fenced halfway."""
    begun: list[e.AnyEvent] = [e.WorkflowActivated(), started()]
    begun += [task_completed(n, output="x" * size) for n in range(count)]
    records = [*turn("wf", 1, "a", begun), *turn("wf", 2, "b", [e.WorkflowActivated()])]
    fenced = turn("wf", 1, "a", begun[2:], first_seq=len(begun))
    await rig.log.append([*records, *fenced])


async def test_a_history_is_read_in_pages_without_what_fenced_owners_wrote(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_module, "READ_RECORDS", 7)
    await history_of(rig, 30)
    seen: list[int] = []
    after, pages = 0, 0
    while True:
        learnt: list[Record] = []
        page = await rig.gateway.history("wf", after_offset=after, limit=10, learn=learnt.extend)
        assert [record.offset for record in learnt] == seen
        seen += [record.offset for record in page.records]
        after, pages = seen[-1], pages + 1
        if not page.more:
            break
    assert seen == list(range(1, 34))
    assert pages == 4


async def test_a_page_of_a_history_is_bounded_in_bytes(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_module, "HISTORY_BYTES", 2_500)
    await history_of(rig, 5, 1_000)
    page = await rig.gateway.history("wf", after_offset=2, limit=100)
    assert (len(page.records), page.more) == (2, True)
    monkeypatch.setattr(gateway_module, "HISTORY_BYTES", 10)
    page = await rig.gateway.history("wf", after_offset=2, limit=100)
    assert (len(page.records), page.more) == (1, True)


async def test_a_history_of_nothing(rig: Rig) -> None:
    with pytest.raises(NotFound):
        await rig.gateway.history("nobody")
    await rig.gateway.submit([start()])
    assert not (await rig.gateway.history("wf")).records


async def test_a_history_is_whole_though_pages_of_the_log_end_early() -> None:
    rig = make_rig(ShortPages())
    await history_of(rig, 5)
    page = await rig.gateway.history("wf", limit=100)
    assert [record.offset for record in page.records] == list(range(1, 9))
    assert not page.more


async def test_following_goes_on_though_pages_of_the_log_end_early() -> None:
    rig = make_rig(ShortPages())
    await rig.gateway.submit([start()])
    await rig.log.append(simple_run("wf", tasks=3))
    # the clock stands still: whoever sleeps before the end never wakes
    followed = asyncio.create_task(_all_of(rig))
    await rig.clock.advance(0)
    await rig.clock.advance(0)
    assert followed.done()
    assert [record.offset for record in followed.result()] == list(range(1, 10))


async def _all_of(rig: Rig) -> list[Record]:
    return [one async for one in rig.gateway.follow("wf") if one is not None]
