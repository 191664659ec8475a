"""run: a child ends with the task that awaits it, and children have limits."""

from __future__ import annotations

from collections import deque

import pytest

from orchx.domain import decide_leaves as leaves
from orchx.domain import messages as m
from orchx.domain.children import MAX_CHILDREN, MAX_GENERATIONS
from orchx.domain.decide import decide, open_workflow
from orchx.domain.events import (
    Request,
    TaskCancelled,
    TaskFaulted,
    TaskStarted,
    decode_event,
    encode_event,
)
from orchx.domain.evolve import fold
from orchx.domain.state import WorkflowState
from orchx.testing.rehearsal import START_MS
from tests.unit.domain.stage import WORKFLOW_ID, Stage, World, document, kind_of, unavailable

RUN = "{run: {workflow: {namespace: a, name: b}}}"
DETACHED = "{run: {workflow: {namespace: a, name: b}, await: false}}"
LATE = "{run: {workflow: {namespace: a, name: b}}, timeout: {after: {seconds: 10}}}"


def started(stage: Stage) -> list[str]:
    return [effect.child.workflow_id for effect in stage.of(m.StartChild)]


def cancelled(stage: Stage) -> list[str]:
    """Return the children that were given up, which effects and events must agree on."""
    children = [effect.workflow_id for effect in stage.of(m.CancelChild)]
    assert {effect.parent_id for effect in stage.of(m.CancelChild)} <= {WORKFLOW_ID}
    recorded = [
        event.abandoned_child
        for event, _ in stage.history
        if isinstance(event, TaskCancelled | TaskFaulted) and event.abandoned_child is not None
    ]
    assert recorded == children
    return children


# --- a child that nobody awaits any more --------------------------------------------------


def test_a_child_that_takes_too_long_is_cancelled_before_another_is_tried() -> None:
    once = "retry: {limit: {attempt: {count: 1}}}"
    stage = Stage(f"do: [{{t: {{try: [{{r: {LATE}}}], catch: {{{once}}}}}}}]")
    stage.wait(10_000)
    stage.wait(0)
    first, second = started(stage)
    assert cancelled(stage) == [first]
    stage.finish_child("r", "done")

    assert stage.state.output == "done"
    assert second not in cancelled(stage)


@pytest.mark.parametrize("end", ["cancel", "fault", "end", "timeout", "race"])
def test_the_children_of_what_ends_are_cancelled(end: str) -> None:
    then = "end" if end == "end" else "continue"
    stage = Stage(f"""
        timeout: {{after: {{seconds: 60}}}}
        do:
          - both:
              fork:
                compete: {str(end == "race").lower()}
                branches:
                  - r: {RUN}
                  - d: {{do: [{{inner: {RUN}}}]}}
                  - a: {{do: [{{c: {{call: work, then: {then}}}}}]}}
    """)
    children = started(stage)
    if end == "cancel":
        stage.cancel()
    elif end == "fault":
        stage.answer("c", error=unavailable())
    elif end == "timeout":
        stage.wait(60_000)
    else:
        stage.answer("c")

    assert stage.state.terminal
    assert cancelled(stage) == children


def test_a_child_that_is_over_is_not_cancelled() -> None:
    stage = Stage(f"do: [{{r: {RUN}}}, {{c: {{call: work}}}}]")
    stage.finish_child("r")
    stage.cancel()
    assert cancelled(stage) == []

    failing = Stage(f"do: [{{r: {RUN}}}]")
    failing.finish_child("r", error=unavailable())
    assert (failing.state.status, cancelled(failing)) == ("faulted", [])


def test_a_detached_child_is_left_alone() -> None:
    stage = Stage(f"do: [{{r: {DETACHED}}}, {{c: {{call: work}}}}]")
    stage.cancel()
    assert (len(started(stage)), cancelled(stage)) == (1, [])

    # an owner that dies before the task is over leaves its frame behind
    begun = next(i for i, (event, _) in enumerate(stage.history) if isinstance(event, TaskStarted))
    half = fold(WORKFLOW_ID, stage.history[: begun + 1])
    gone = decide(half, stage.definition, m.TimerFired(), stage.world)
    cancel = m.CancelWorkflow(id="c", workflow_id=WORKFLOW_ID, created_at_ms=START_MS)
    over = decide(gone.state, stage.definition, cancel, stage.world)
    assert over.state.status == "cancelled"
    assert not [effect for effect in over.effects if isinstance(effect, m.CancelChild)]


def test_who_reads_the_log_finds_the_child_that_was_given_up() -> None:
    stage = Stage(f"do: [{{r: {LATE}}}]")
    stage.wait(10_000)
    (event,) = stage.events(TaskFaulted)

    assert decode_event(encode_event(event)) == event
    assert event.abandoned_child == started(stage)[0]


# --- limits -------------------------------------------------------------------------------


def test_a_child_is_one_generation_below_its_parent() -> None:
    stage = Stage(f"do: [{{r: {RUN}}}, {{d: {DETACHED}}}]", request=Request(generation=3))
    stage.finish_child("r")

    assert [effect.request.generation for effect in stage.of(m.StartChild)] == [4, 4]


@pytest.mark.parametrize("run", [RUN, DETACHED])
def test_the_last_generation_has_no_children(run: str) -> None:
    allowed = Stage(f"do: [{{r: {run}}}]", request=Request(generation=MAX_GENERATIONS - 1))
    assert len(started(allowed)) == 1

    stage = Stage(f"do: [{{r: {run}}}]", request=Request(generation=MAX_GENERATIONS))
    error = stage.state.error
    assert error is not None
    assert (kind_of(error), error.instance) == ("runtime", "/do/0/r")
    assert str(MAX_GENERATIONS) in (error.detail or "")
    assert started(stage) == []


def test_too_many_generations_can_be_caught() -> None:
    body = f"do: [{{t: {{try: [{{r: {RUN}}}], catch: {{do: [{{s: {{set: {{n: 1}}}}}}]}}}}}}]"
    stage = Stage(body, request=Request(generation=MAX_GENERATIONS))

    assert (stage.state.status, stage.state.output) == ("completed", {"n": 1})


@pytest.mark.parametrize("run", [RUN, DETACHED])
def test_one_workflow_starts_so_many_children_and_no_more(
    run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MAX_CHILDREN == 10_000
    monkeypatch.setattr(leaves, "MAX_CHILDREN", 3)
    stage = Stage(f"do: [{{loop: {{for: {{in: '[range(9)]'}}, do: [{{r: {run}}}]}}}}]")
    while stage.state.awaiting_children():
        stage.finish_child("r")

    assert len(started(stage)) == 3
    assert kind_of(stage.state.error) == "runtime"
    assert stage.state.error is not None
    assert "3" in (stage.state.error.detail or "")


def test_a_workflow_that_runs_itself_twice_comes_to_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaves, "MAX_GENERATIONS", 4)
    itself = "{run: {workflow: {namespace: test, name: staged}, await: false}}"
    plan = document(f"do: [{{both: {{fork: {{branches: [{{a: {itself}}}, {{b: {itself}}}]}}}}}}]")
    todo, ends = deque([(WORKFLOW_ID, Request())]), []
    while todo:
        workflow_id, request = todo.popleft()
        start = m.StartWorkflow(
            id=workflow_id,
            workflow_id=workflow_id,
            created_at_ms=START_MS,
            namespace="test",
            name="staged",
            version="1.0.0",
            digest=plan.digest,
            input={},
            request=request,
        )
        turn = open_workflow(start, plan, World({}))
        ends.append(turn.state.status)
        children = [effect for effect in turn.effects if isinstance(effect, m.StartChild)]
        todo += [(effect.child.workflow_id, effect.request) for effect in children]

    assert (ends.count("completed"), ends.count("faulted")) == (2**4 - 1, 2**4)


def test_children_are_counted_in_the_fold() -> None:
    stage = Stage(f"do: [{{r: {RUN}}}, {{d: {DETACHED}}}]")
    stage.finish_child("r")

    assert stage.state.children == 2
    assert WorkflowState("w").children == 0
