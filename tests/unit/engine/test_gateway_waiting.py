"""Waiting for an end while the projection cannot be asked, and for one that has come already."""

from __future__ import annotations

import asyncio

import pytest

from orchx.engine import gateway as gateway_module
from orchx.errors import Unavailable
from orchx.ports.supervision import Ending
from tests.unit.engine.gateway_rig import Rig, ending, make_rig, start


@pytest.fixture
async def rig() -> Rig:
    return make_rig()


# -- waiting while the projection cannot be asked ------------------------------------------


class Barrier:
    """A projection that is away, or hangs."""

    def __init__(self, *, hangs: bool = False) -> None:
        self.hangs = hangs
        self.asked = asyncio.Event()

    async def __call__(self, partition: int) -> None:
        self.asked.set()
        if self.hangs:
            await asyncio.Event().wait()
        raise Unavailable("the projector restarts")


@pytest.mark.parametrize("hangs", [False, True])
async def test_an_end_is_told_though_the_projection_cannot_be_asked(
    monkeypatch: pytest.MonkeyPatch, hangs: bool
) -> None:
    monkeypatch.setattr(gateway_module, "RECHECK_S", 0.001)
    barrier = Barrier(hangs=hangs)
    rig = make_rig(barrier=barrier)
    rig.mail.start()
    await rig.gateway.submit([start()])
    waiting = asyncio.create_task(rig.gateway.wait("wf", 60))
    await asyncio.wait_for(barrier.asked.wait(), 5)
    rig.link.answers.put_nowait([ending()])
    found = await asyncio.wait_for(waiting, 5)
    assert found is not None
    assert found.output == 3
    rig.mail.close()


@pytest.mark.parametrize("told", [False, True])
async def test_time_is_up_while_the_projection_hangs(
    monkeypatch: pytest.MonkeyPatch, told: bool
) -> None:
    monkeypatch.setattr(gateway_module, "RECHECK_S", 0.001)
    rig = make_rig(barrier=Barrier(hangs=True))
    rig.mail.start()
    await rig.gateway.submit([start()])
    if told:  # that it is over, but not how: the projection has to say so
        bare = Ending(workflow_id="wf", status="completed", ended_at_ms=9)
        rig.link.answers.put_nowait([bare])
    assert await asyncio.wait_for(rig.gateway.wait("wf", 0.01), 5) is None
    assert not rig.mail.expects("wf")
    rig.mail.close()


# -- repeated requests ---------------------------------------------------------------------


@pytest.mark.parametrize("how", ["submitted", "looked up"])
async def test_a_repeated_request_that_is_over_is_answered_without_a_wait(
    rig: Rig, how: str
) -> None:
    await rig.gateway.submit([start()])
    await rig.clock.advance(0)
    await rig.store.save([gateway_module.ended(start(), ending())], offset=1)
    if how == "submitted":
        (accepted,) = await rig.gateway.submit([start()])
        assert accepted.duplicate
    else:
        await rig.gateway.accepted(["wf"])
    found = await rig.gateway.wait("wf", 0)
    assert found is not None
    assert found.output == 3
    await rig.clock.advance(0)
    assert rig.link.watched == []
    assert rig.link.offered == [start()]


async def test_a_repeated_request_that_runs_still_is_waited_for(rig: Rig) -> None:
    rig.mail.start()
    await rig.gateway.submit([start()])
    await rig.gateway.submit([start()])
    waiting = asyncio.create_task(rig.gateway.wait("wf", 60))
    await rig.clock.advance(0)
    assert rig.link.watched == ["wf"]
    await rig.store.save([gateway_module.ended(start(), ending())], offset=1)
    rig.link.answers.put_nowait([ending()])
    found = await asyncio.wait_for(waiting, 5)
    assert found is not None
    assert found.output == 3
    rig.mail.close()
