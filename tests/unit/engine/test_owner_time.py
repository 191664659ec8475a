"""An owner's decisions never keep the event loop, however long they take."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest

from orchx.domain import messages as m
from orchx.domain.events import EventReceived
from orchx.domain.expressions import Expression, evaluate
from orchx.domain.json_values import JSON
from orchx.engine.environment import MAX_STEP_S, MAX_TURN_S
from orchx.engine.loop_share import LoopShare
from orchx.ports.evaluator import WouldBlock
from orchx.ports.supervision import Assignment
from orchx.testing.memory_event_log import MemoryEventLog
from tests.unit.engine.owning import CALL, Stage, until

STEP_S = 0.005
WITHIN_S = 2 * MAX_TURN_S + 2 * STEP_S  # a round may begin its last turn just before its end
SLOW = {"set": {"n": "${ (.n // 0) + 1 }"}}  # no path: it has to be evaluated
LARGE = {"set": {"large": '${ .large + "y" }'}}
HARD = {"set": {"n": "${ . as $x | $x.n }"}}  # not bounded: a child's work
LOOP = {"for": {"in": ".items"}, "do": [{"s": SLOW}]}
ITEMS: JSON = {"items": list(range(100))}


class SlowEvaluator:
    """Every evaluation takes `STEP_S` of the stage's time; data with `large` takes a child."""

    def __init__(self) -> None:
        self.stage: Stage | None = None
        self.refused = 0
        self.away_s = 0.0

    def evaluate(
        self,
        expression: Expression,
        data: JSON,
        variables: Mapping[str, JSON],
        *,
        may_block: bool = True,
    ) -> JSON:
        assert self.stage is not None
        if expression.plan is None:
            if isinstance(data, dict) and "large" in data and not may_block:
                self.refused += 1
                raise WouldBlock
            if not may_block:
                self.stage.ticks_s += STEP_S
            else:
                self.away_s += STEP_S
        return evaluate(expression, data, variables)

    def close(self) -> None:
        """Let go of nothing."""


@pytest.fixture
def evaluator() -> SlowEvaluator:
    return SlowEvaluator()


@pytest.fixture
async def stage(evaluator: SlowEvaluator) -> AsyncIterator[Stage]:
    made = Stage(MemoryEventLog(), evaluator)
    evaluator.stage = made
    yield made
    made.owner.close()


@asynccontextmanager
async def watched(stage: Stage) -> AsyncIterator[list[float]]:
    """Note how much of the stage's time passes between two turns of the loop."""
    gaps: list[float] = []

    async def watch() -> None:
        last_s = stage.ticks_s
        while True:
            await asyncio.sleep(0)
            gaps.append(stage.ticks_s - last_s)
            last_s = stage.ticks_s

    task = asyncio.create_task(watch())
    yield gaps
    task.cancel()


def event(workflow_id: str, number: int) -> Assignment:
    command = m.DeliverEvent(
        id=f"{workflow_id}-{number}",
        workflow_id=workflow_id,
        created_at_ms=0,
        event={"type": "t", "data": number},
    )
    return Assignment(workflow_id=workflow_id, command=command)


async def test_a_long_first_turn_gives_the_loop_back(stage: Stage) -> None:
    async with watched(stage) as gaps:
        await stage.start("wf_a", LOOP, input_=ITEMS)
        await until(lambda: stage.dispatcher.ended)
    assert stage.dispatcher.ended == ["wf_a completed"]
    assert stage.ticks_s >= 100 * STEP_S
    assert max(gaps) <= WITHIN_S


async def test_a_long_turn_gives_the_loop_back(stage: Stage) -> None:
    await stage.start("wf_a", CALL, LOOP)
    await until(lambda: stage.pool.requests)
    request = stage.pool.requests[0]
    outcome = m.TaskOutcome(workflow_id="wf_a", frame=request.frame, key=request.key, output=ITEMS)
    async with watched(stage) as gaps:
        stage.owner.outcomes([outcome])
        await until(lambda: stage.dispatcher.ended)
    assert stage.dispatcher.ended == ["wf_a completed"]
    assert max(gaps) <= WITHIN_S
    assert stage.offloaded == 0


async def test_much_mail_is_answered_a_little_at_a_time(stage: Stage) -> None:
    wanted = {"with": {"type": "t", "data": "${ . < 0 }"}}
    await stage.start("wf_a", {"listen": {"to": {"one": wanted}}})
    await until(lambda: stage.owner.states())
    async with watched(stage) as gaps:
        for number in range(8):  # each looks at all that came before, in a single step
            stage.owner.deliver([event("wf_a", number)])
        await until(lambda: len(stage.owner.states()["wf_a"].inbox) == 8)
    assert max(gaps) <= WITHIN_S
    history = [r.event for r in await stage.history("wf_a")]
    received = [found.command_id for found in history if isinstance(found, EventReceived)]
    assert received == [f"wf_a-{number}" for number in range(8)]


async def test_many_workflows_with_mail_take_turns(stage: Stage) -> None:
    names = [f"wf_{number}" for number in range(40)]
    for name in names:
        await stage.start(name, CALL, SLOW)
    await until(lambda: len(stage.pool.requests) == len(names))
    async with watched(stage) as gaps:
        stage.owner.outcomes(
            [
                m.TaskOutcome(workflow_id=r.workflow_id, frame=r.frame, key=r.key, output={})
                for r in stage.pool.requests
            ]
        )
        await until(lambda: len(stage.dispatcher.ended) == len(names))
    assert stage.ticks_s >= len(names) * STEP_S
    assert max(gaps) <= WITHIN_S


async def test_many_workflows_that_start_take_turns(stage: Stage) -> None:
    commands = [await stage.publish(f"wf_{number}", SLOW) for number in range(40)]
    async with watched(stage) as gaps:
        stage.owner.deliver([Assignment(workflow_id=c.workflow_id, command=c) for c in commands])
        await until(lambda: len(stage.dispatcher.ended) == len(commands))
    assert stage.ticks_s >= len(commands) * STEP_S
    assert max(gaps) <= WITHIN_S


async def test_a_step_that_takes_too_long_is_made_in_a_thread(
    stage: Stage, evaluator: SlowEvaluator
) -> None:
    cases = [{f"c{n}": {"when": f".n == {n + 1}", "then": "end"}} for n in range(100)]
    await stage.start("wf_a", CALL, {"switch": cases})
    await until(lambda: stage.pool.requests)
    request = stage.pool.requests[0]
    outcome = m.TaskOutcome(
        workflow_id="wf_a", frame=request.frame, key=request.key, output={"n": 0}
    )
    async with watched(stage) as gaps:
        stage.owner.outcomes([outcome])
        await until(lambda: stage.dispatcher.ended)
    assert stage.dispatcher.ended == ["wf_a completed"]
    assert max(gaps) <= MAX_TURN_S + MAX_STEP_S + STEP_S
    assert stage.offloaded == 1
    assert evaluator.away_s == pytest.approx(100 * STEP_S)


async def test_what_takes_a_child_is_decided_in_a_thread_from_then_on(
    stage: Stage, evaluator: SlowEvaluator
) -> None:
    await stage.start("wf_a", CALL, LARGE, CALL, LARGE)
    for number in range(2):
        await until(lambda: len(stage.pool.requests) > number)  # noqa: B023  awaited here
        r = stage.pool.requests[number]
        stage.owner.outcomes(
            [m.TaskOutcome(workflow_id="wf_a", frame=r.frame, key=r.key, output={"large": "x"})]
        )
    await until(lambda: stage.dispatcher.ended)
    assert stage.dispatcher.ended == ["wf_a completed"]
    assert evaluator.refused == 1
    assert stage.offloaded == 2


async def test_mail_before_what_takes_a_child_is_answered_and_none_is_lost(
    stage: Stage, evaluator: SlowEvaluator
) -> None:
    await stage.start(
        "wf_a",
        {
            "fork": {
                "branches": [
                    {"a": CALL},
                    {"b": {"do": [{"c": CALL}, {"s": {"set": {"n": "${ .large | length }"}}}]}},
                ]
            }
        },
    )
    await until(lambda: len(stage.pool.requests) == 2)
    stage.owner.deliver([event("wf_a", 1)])
    stage.owner.outcomes(
        [
            m.TaskOutcome(workflow_id="wf_a", frame=r.frame, key=r.key, output={"large": "xy"})
            for r in stage.pool.requests
        ]
    )
    stage.owner.deliver([event("wf_a", 2)])
    await until(lambda: stage.dispatcher.ended)
    assert stage.dispatcher.ended == ["wf_a completed"]
    assert evaluator.refused == 1
    assert stage.offloaded >= 1
    applied = [i for report in stage.dispatcher.reports for i in report.applied]
    assert sorted(applied) == ["wf_a", "wf_a-1", "wf_a-2"]


async def test_a_first_turn_that_takes_a_child_is_made_in_a_thread(
    stage: Stage, evaluator: SlowEvaluator
) -> None:
    await stage.start("wf_a", {"set": {"n": "${ .large | length }"}}, input_={"large": "xyz"})
    await until(lambda: stage.dispatcher.ended)
    assert stage.dispatcher.ended == ["wf_a completed"]
    assert (evaluator.refused, stage.offloaded) == (1, 1)
    assert [r.event for r in await stage.history("wf_a")][-1].output == {"n": 3}  # type: ignore[union-attr]


async def test_what_is_known_to_take_a_child_is_not_tried_on_the_loop(
    stage: Stage, evaluator: SlowEvaluator
) -> None:
    await stage.start("wf_a", HARD, CALL, HARD, input_={"n": 1, "large": "x"})
    await until(lambda: stage.pool.requests)
    r = stage.pool.requests[0]
    stage.owner.outcomes(
        [m.TaskOutcome(workflow_id="wf_a", frame=r.frame, key=r.key, output={"large": "x"})]
    )
    await until(lambda: stage.dispatcher.ended)
    assert (evaluator.refused, stage.offloaded) == (0, 2)


async def test_whoever_begins_a_turn_of_the_loop_has_it_in_any_case(stage: Stage) -> None:
    share = LoopShare(stage.world)
    assert not share.spent()
    stage.ticks_s += MAX_TURN_S
    assert share.spent()
    await asyncio.sleep(0)
    stage.ticks_s += MAX_TURN_S
    assert not share.spent()
