"""The owner over the in-memory log: turns, failures, leases."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import pytest

from orchx.domain import messages as m
from orchx.domain.events import (
    DefinitionRef,
    Record,
    Request,
    WorkflowCompleted,
    WorkflowStarted,
    encode_event,
    type_of,
)
from orchx.domain.turn import MAX_BYTES_PER_TURN
from orchx.ports.event_log import Claim
from orchx.ports.supervision import Assignment
from orchx.testing.memory_event_log import MemoryEventLog
from tests.unit.engine.owning import CALL, Stage, until


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    made = Stage(MemoryEventLog())
    yield made
    made.owner.close()


async def test_a_first_turn_that_is_cut_short_goes_on(stage: Stage) -> None:
    loop = {"for": {"in": ".items"}, "do": [{"s": {"set": {"items": "${ .items }"}}}]}
    await stage.start("wf_long", loop, input_={"items": list(range(1_500))})
    await until(lambda: stage.dispatcher.ended)
    assert stage.dispatcher.ended == ["wf_long completed"]
    assert isinstance((await stage.history("wf_long"))[-1].event, WorkflowCompleted)


async def test_an_append_that_fails_lets_go_of_what_was_in_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.start("wf_one", CALL)
    await until(lambda: stage.pool.requests)
    append: Callable[[Sequence[Record]], Awaitable[None]] = stage.log.append

    async def broken(records: Sequence[Record]) -> None:
        raise RecursionError("too deep")

    monkeypatch.setattr(stage.log, "append", broken)
    request = stage.pool.requests[0]
    outcome = m.TaskOutcome(workflow_id="wf_one", frame=request.frame, key=request.key, output=1)
    stage.owner.outcomes([outcome])
    await until(lambda: stage.dispatcher.lost)
    assert stage.dispatcher.lost == ["wf_one"]
    assert stage.owner.states() == {}

    monkeypatch.setattr(stage.log, "append", append)
    stage.owner.deliver([Assignment(workflow_id="wf_one")])
    await until(lambda: len(stage.pool.requests) == 2)
    stage.owner.outcomes([outcome])
    await until(lambda: stage.dispatcher.ended)
    assert stage.dispatcher.ended == ["wf_one completed"]


async def test_after_its_lease_an_owner_lets_go_of_what_others_took(stage: Stage) -> None:
    await stage.start("wf_taken", CALL, CALL)
    await stage.start("wf_kept", CALL, CALL)
    await until(lambda: len(stage.pool.requests) == 2)
    await stage.log.claim(Claim(workflow_id="wf_taken", owner="owner#2", at_ms=1))
    await stage.clock.advance(20)
    outcomes = [
        m.TaskOutcome(workflow_id=r.workflow_id, frame=r.frame, key=r.key, output={})
        for r in stage.pool.requests
    ]
    stage.owner.outcomes(outcomes)
    assert set(stage.owner.states()) == {"wf_taken", "wf_kept"}

    stage.owner.status(["wf_taken", "wf_kept"])
    await until(lambda: "wf_taken" not in stage.owner.states())
    stage.owner.outcomes(outcomes)
    assert [r.workflow_id for r in stage.pool.requests[:2]] == ["wf_taken", "wf_kept"]
    assert all(r.workflow_id == "wf_kept" for r in stage.pool.requests[2:])
    assert type_of((await stage.history("wf_taken"))[-1].event) == "workflow.activated"


@pytest.mark.parametrize(("set_s", "passed_s", "decides"), [(3_600, 9, True), (-3_600, 11, False)])
async def test_a_lease_is_not_measured_on_the_wall(
    stage: Stage, set_s: int, passed_s: int, decides: bool
) -> None:
    await stage.start("wf", CALL, CALL)
    await until(lambda: len(stage.pool.requests) == 1)
    [call] = stage.pool.requests
    stage.clock.set_wall(set_s)
    await stage.clock.advance(passed_s)
    stage.owner.outcomes(
        [m.TaskOutcome(workflow_id="wf", frame=call.frame, key=call.key, output={})]
    )
    await stage.clock.advance(0)
    assert (len(stage.pool.requests) == 2) == decides


async def test_a_lost_call_is_found_though_the_clock_was_set_back(stage: Stage) -> None:
    await stage.start("wf", CALL)
    await until(lambda: len(stage.pool.requests) == 1)
    stage.clock.set_wall(-3_600)
    await stage.owner.sweep()
    await stage.owner.sweep()
    await until(lambda: len(stage.pool.requests) == 2)


async def test_a_sweep_lets_go_of_what_others_took(stage: Stage) -> None:
    """Turns that matter to nobody else do not look: a chain of calls would be made in vain."""
    await stage.start("wf_taken", CALL, CALL)
    await stage.start("wf_kept", CALL, CALL)
    await until(lambda: len(stage.pool.requests) == 2)
    await stage.log.claim(Claim(workflow_id="wf_taken", owner="owner#2", at_ms=1))
    await stage.owner.sweep()
    assert set(stage.owner.states()) == {"wf_kept"}


async def test_large_messages_go_into_the_log_a_few_at_a_time(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.start("wf_large", {"listen": {"to": {"all": [{"with": {"type": "never"}}]}}}, CALL)
    await until(lambda: stage.owner.states())
    sizes: list[int] = []
    append: Callable[[Sequence[Record]], Awaitable[None]] = stage.log.append

    async def measured(records: Sequence[Record]) -> None:
        sizes.append(sum(len(encode_event(record.event)) for record in records))
        await append(records)

    monkeypatch.setattr(stage.log, "append", measured)
    stage.owner.deliver(
        [
            Assignment(
                workflow_id="wf_large",
                command=m.DeliverEvent(
                    id=f"ev-{number}",
                    workflow_id="wf_large",
                    created_at_ms=0,
                    event={"type": "t", "data": "x" * 1_000_000},
                ),
            )
            for number in range(20)
        ]
    )
    await until(lambda: len(stage.owner.states()["wf_large"].inbox) == 20)
    assert len(sizes) >= 4
    assert max(sizes) <= MAX_BYTES_PER_TURN + 2_000_000


async def test_the_dispatcher_is_told_of_a_workflow_that_ends_for_want_of_its_plan(
    stage: Stage,
) -> None:
    ref = DefinitionRef(namespace="t", name="w", version="1.0.0", digest="unreadable")
    claim = Claim(
        workflow_id="wf_old",
        owner="owner#0",
        at_ms=1,
        opening=[WorkflowStarted(definition=ref, request=Request(), input=None)],
        digest="unreadable",
        definition=b"{}",
    )
    await stage.log.claim(claim)
    cancel = m.CancelWorkflow(id="c", workflow_id="wf_old", created_at_ms=1)
    stage.owner.deliver([Assignment(workflow_id="wf_old", command=cancel)])
    await until(lambda: stage.dispatcher.ended)
    assert stage.dispatcher.ended == ["wf_old faulted"]
    assert [i for r in stage.dispatcher.reports for i in r.applied] == ["c"]
    assert stage.dispatcher.lost == []
