"""What an owner cannot decide now is decided later; only a bug of ours ends a workflow."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import pytest

from orchx.domain import messages as m
from orchx.domain.events import WorkflowFaulted
from orchx.domain.expressions import Expression, evaluate
from orchx.domain.json_values import JSON
from orchx.errors import DriverError, Unavailable
from orchx.ports.supervision import Assignment
from orchx.testing.memory_event_log import MemoryEventLog
from tests.unit.engine.owning import CALL, Stage, until

HERE = {"set": {"n": "${ .n + 1 }"}}
AWAY = {"set": {"n": "${ . as $x | $x.n + 1 }"}}  # not bounded: decided in a thread
SHORT = [Unavailable("no expression evaluator can be started"), DriverError("no memory")]


class Evaluator:
    """Raises `error` while there is one, for data whose `n` is not negative."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    def evaluate(
        self,
        expression: Expression,
        data: JSON,
        variables: Mapping[str, JSON],
        *,
        may_block: bool = True,
    ) -> JSON:
        if self.error is not None and isinstance(data, dict) and data.get("n", 0) >= 0:
            raise self.error
        return evaluate(expression, data, variables)

    def close(self) -> None:
        """Let go of nothing."""


@pytest.fixture
def evaluator() -> Evaluator:
    return Evaluator()


@pytest.fixture
async def stage(evaluator: Evaluator) -> AsyncIterator[Stage]:
    made = Stage(MemoryEventLog(), evaluator)
    yield made
    made.owner.close()


def answer(stage: Stage, number: int, n: int) -> m.TaskOutcome:
    r = stage.pool.requests[number]
    return m.TaskOutcome(workflow_id=r.workflow_id, frame=r.frame, key=r.key, output={"n": n})


async def output_of(stage: Stage, workflow_id: str) -> JSON:
    await until(lambda: f"{workflow_id} completed" in stage.dispatcher.ended)
    last: JSON = (await stage.history(workflow_id))[-1].event
    return last.output


@pytest.mark.parametrize("error", SHORT)
@pytest.mark.parametrize("task", [HERE, AWAY])
async def test_a_turn_that_cannot_be_decided_now_is_decided_by_the_next_owner(
    stage: Stage, evaluator: Evaluator, task: object, error: Exception
) -> None:
    await stage.start("wf_a", CALL, task)
    await until(lambda: stage.pool.requests)
    before = await stage.history("wf_a")
    evaluator.error = error
    stage.owner.outcomes([answer(stage, 0, 1)])
    await until(lambda: stage.dispatcher.lost)
    assert stage.dispatcher.lost == ["wf_a"]
    assert stage.dispatcher.ended == []
    assert stage.owner.states() == {}
    assert await stage.history("wf_a") == before

    evaluator.error = None
    stage.owner.deliver([Assignment(workflow_id="wf_a")])
    await until(lambda: len(stage.pool.requests) == 2)
    stage.owner.outcomes([answer(stage, 1, 1)])
    assert await output_of(stage, "wf_a") == {"n": 2}


@pytest.mark.parametrize("error", SHORT)
@pytest.mark.parametrize("task", [HERE, AWAY])
async def test_what_cannot_begin_now_is_not_claimed(
    stage: Stage, evaluator: Evaluator, task: object, error: Exception
) -> None:
    evaluator.error = error
    command = await stage.publish("wf_a", task, input_={"n": 1})
    start = Assignment(workflow_id="wf_a", command=command)
    stage.owner.deliver([start])
    await until(lambda: stage.dispatcher.lost)
    assert stage.dispatcher.ended == []
    assert await stage.log.last_offset() == 0

    evaluator.error = None
    stage.owner.deliver([start])
    assert await output_of(stage, "wf_a") == {"n": 2}


async def test_one_that_cannot_be_decided_costs_the_others_of_its_round_nothing(
    stage: Stage, evaluator: Evaluator
) -> None:
    for name in ("wf_a", "wf_b", "wf_c"):
        await stage.start(name, CALL, HERE)
    await until(lambda: len(stage.pool.requests) == 3)
    evaluator.error = SHORT[0]
    stage.owner.outcomes([answer(stage, number, n) for number, n in enumerate((-1, 0, -1))])
    await until(lambda: len(stage.dispatcher.ended) == 2)
    assert sorted(stage.dispatcher.ended) == ["wf_a completed", "wf_c completed"]
    assert stage.dispatcher.lost == ["wf_b"]


async def test_without_a_thread_to_decide_in_a_workflow_does_not_stay_busy_for_ever(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.start("wf_a", CALL, AWAY)
    await until(lambda: stage.pool.requests)

    async def closed(function: object) -> None:
        raise RuntimeError("cannot schedule new futures after shutdown")

    monkeypatch.setattr(stage, "run_away", closed)
    stage.owner.outcomes([answer(stage, 0, 1)])
    await until(lambda: stage.dispatcher.lost)
    assert stage.owner.states() == {}


@pytest.mark.parametrize("task", [HERE, AWAY])
async def test_a_bug_ends_the_workflow_that_met_it(
    stage: Stage, evaluator: Evaluator, task: object
) -> None:
    await stage.start("wf_a", CALL, task)
    await until(lambda: stage.pool.requests)
    evaluator.error = ZeroDivisionError("oops")
    stage.owner.outcomes([answer(stage, 0, 1)])
    await until(lambda: stage.dispatcher.ended)
    last = (await stage.history("wf_a"))[-1].event
    assert isinstance(last, WorkflowFaulted)
    assert (last.error.title, last.error.detail) == ("Internal error", "ZeroDivisionError: oops")
    assert stage.dispatcher.lost == []
