"""What holds for every turn: cancellation, what comes late or twice, limits, being resumed."""

from __future__ import annotations

import pytest

from orchx.domain import decide as deciding
from orchx.domain import decide_listen
from orchx.domain import messages as m
from orchx.domain import turn as turning
from orchx.domain.decide import decide
from orchx.domain.document import DoTask, ForTask
from orchx.domain.events import CommandRefused, TaskCancelled, TaskStarted, WorkflowStarted
from orchx.domain.evolve import fold
from orchx.domain.json_values import JSON
from orchx.domain.messages import Abandon, DeliverEvent, Execute, Finish, Resume, StartChild
from orchx.domain.state import WorkflowState
from orchx.domain.turn import MAX_EVENTS_PER_TURN
from orchx.errors import Bug
from tests.unit.domain.stage import WORKFLOW_ID, Stage, World, document, kind_of, unavailable

BUSY = """
    do:
      - all:
          fork:
            branches:
              - a: {call: work}
              - b: {do: [{pause: {wait: {hours: 1}}}]}
              - c: {run: {workflow: {namespace: a, name: b}}}
              - d: {listen: {to: {any: []}}}
"""


def test_cancelling_ends_everything_that_is_under_way() -> None:
    stage = Stage(BUSY)
    stage.cancel("changed my mind")

    assert stage.state.status == "cancelled"
    assert len(stage.events(TaskCancelled)) == 6
    assert len(stage.of(Abandon)) == 1
    (finish,) = stage.of(Finish)
    assert (finish.status, finish.error) == ("cancelled", None)


def test_nothing_happens_to_a_workflow_that_is_over() -> None:
    stage = Stage("do: [{a: {call: work}}]")
    (frame,) = stage.calling("a")
    stage.answer("a", 1)
    before = stage.state.as_json()
    for message in (Resume(), m.TimerFired()):
        assert stage.take(message).effects == []
    stage.outcome(frame, 2)
    stage.cancel()
    stage.deliver("t")

    assert stage.state.as_json() == before


def test_nothing_happens_to_a_workflow_that_has_not_begun() -> None:
    stage = Stage("do: [{a: {call: work}}]")
    turn = decide(WorkflowState("new"), stage.definition, Resume(), stage.world)

    assert (turn.events, turn.effects) == ([], [])


def test_an_outcome_counts_once() -> None:
    stage = Stage("do: [{a: {call: work}}, {b: {call: work}}]")
    (frame,) = stage.calling("a")
    stage.outcome(frame, 1)

    assert stage.outcome(frame, 2).events == []
    assert stage.outcome(frame, error=unavailable()).events == []
    assert stage.calls() == ["b"]


def test_an_outcome_for_what_is_no_call_is_ignored() -> None:
    stage = Stage("do: [{a: {wait: {hours: 1}}}]")
    (frame,) = [f for f in stage.state.frames.values() if f.kind == "wait"]

    assert stage.outcome(frame, 1).events == []


def test_a_command_counts_once() -> None:
    stage = Stage("do: [{a: {call: work}}]")
    stage.deliver("t", id_="same")

    assert stage.deliver("t", id_="same").events == []
    assert len(stage.state.inbox) == 1


def test_the_inbox_is_bounded_and_what_is_refused_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(decide_listen, "MAX_INBOX", 2)
    stage = Stage("do: [{a: {call: work}}]")
    for number in range(4):
        stage.deliver("t", number)

    assert len(stage.state.inbox) == 2
    assert len(stage.events(CommandRefused)) == 2


def test_an_endless_loop_gives_way_after_each_full_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = 3 * MAX_EVENTS_PER_TURN
    monkeypatch.setattr(deciding, "MAX_EVENTS_PER_WORKFLOW", limit)
    stage = Stage("do: [{a: {set: {n: 1}, then: a}}]")

    assert stage.turns == 4
    assert stage.state.events <= limit + 2
    assert stage.state.error is not None
    assert (kind_of(stage.state.error), stage.state.error.title) == (
        "runtime",
        "History limit reached",
    )


GROWING = "do: [{a: {set: {text: '${ \"x\" * 100000 }'}, then: a}}]"


def test_large_values_end_a_turn_before_many_events_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turning, "MAX_BYTES_PER_TURN", 1_000_000)
    monkeypatch.setattr(deciding, "MAX_BYTES_PER_WORKFLOW", 5_000_000)

    assert Stage(GROWING).turns == 6


def test_a_history_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deciding, "MAX_BYTES_PER_WORKFLOW", 3_000_000)
    stage = Stage(GROWING)

    assert 3_000_000 < stage.state.bytes < 3_300_000
    assert stage.state.error is not None
    assert stage.state.error.title == "History limit reached"
    assert stage.state.error.detail == "more than 3000000 bytes of events"


def test_commands_cannot_make_a_history_endless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deciding, "MAX_EVENTS_PER_WORKFLOW", 20)
    stage = Stage("do: [{a: {call: work}}]")
    for number in range(40):
        stage.deliver("t", number)

    assert stage.state.status == "faulted"
    assert stage.state.events <= 25


def test_a_long_loop_is_the_same_in_several_turns_as_in_one() -> None:
    stage = Stage("""
        do:
          - loop: {for: {in: '[range(1500)]'}, do: [{add: {set: {n: "${ (.n // 0) + $item }"}}}]}
    """)

    assert stage.turns > 1
    assert stage.state.output == {"n": 1499 * 750}


class Hurried(World):
    """A world that never has time."""

    def out_of_time(self) -> bool:
        return True


def test_a_turn_without_time_makes_one_step_and_the_next_goes_on() -> None:
    body = "do: [{a: {set: {n: 1}}}, {b: {set: {n: 2}}}, {c: {set: {n: 3}}}, {d: {call: work}}]"
    at_once, hurried = Stage(body), Stage(body, world=Hurried({}))

    assert (at_once.turns, hurried.turns) == (1, 6)
    assert hurried.types() == at_once.types()
    assert hurried.state == at_once.state
    assert hurried.requests() == at_once.requests()


def test_a_turn_without_time_that_has_nothing_to_record_ends() -> None:
    stage = Stage(BUSY, world=Hurried({}))
    turn = stage.take(Resume())

    assert (turn.events, turn.unsettled) == ([], False)


def test_the_input_of_a_workflow_is_checked_before_anything_runs() -> None:
    body = """
        input: {schema: {document: {type: object, required: [n]}}}
        do: [{a: {call: work}}]
    """
    stage = Stage(body, {"m": 1})

    assert (stage.state.status, kind_of(stage.state.error)) == ("faulted", "validation")
    assert stage.requests() == []
    assert stage.types() == ["workflow.started", "workflow.faulted"]


# --- resuming ------------------------------------------------------------------------------


def test_a_new_owner_starts_again_what_was_under_way_and_records_nothing() -> None:
    stage = Stage(BUSY)
    turn = stage.take(Resume())

    assert turn.events == []
    assert [type(effect) for effect in turn.effects] == [Execute, StartChild]
    first, again = stage.requests()
    assert first == again


def test_what_a_turn_has_just_started_is_not_started_twice() -> None:
    stage = Stage("do: [{pause: {wait: {seconds: 1}}}, {a: {call: work}}]")
    stage.world.now_ms += 1_000
    turn = stage.take(Resume())

    assert len(turn.effects) == 1


def test_going_on_after_a_full_turn_starts_nothing_again() -> None:
    assert Stage(BUSY).take(Resume(again=False)).effects == []


def test_a_cancellation_that_was_cut_short_is_carried_out() -> None:
    stage = Stage(BUSY)
    stage.cancel("enough")
    cut = next(i for i, (event, _) in enumerate(stage.history) if isinstance(event, TaskCancelled))
    state = fold(WORKFLOW_ID, stage.history[: cut + 1])
    assert not state.terminal
    turn = decide(state, stage.definition, Resume(), stage.world)

    assert turn.state.status == "cancelled"
    assert not [effect for effect in turn.effects if isinstance(effect, Execute)]


def test_an_input_that_was_wrong_stays_wrong_for_the_next_owner() -> None:
    body = "input: {from: .a.b}\ndo: [{a: {call: work}}]"
    stage = Stage(body, {"a": 1})
    assert isinstance(stage.history[0][0], WorkflowStarted)
    turn = decide(fold(WORKFLOW_ID, stage.history[:1]), stage.definition, Resume(), stage.world)

    assert (turn.state.status, kind_of(turn.state.error)) == ("faulted", "expression")


def test_a_detached_child_is_started_by_whoever_completes_the_task() -> None:
    stage = Stage("do: [{c: {run: {workflow: {namespace: a, name: b}, await: false}}}]")
    cut = next(i for i, (event, _) in enumerate(stage.history) if isinstance(event, TaskStarted))
    turn = decide(
        fold(WORKFLOW_ID, stage.history[: cut + 1]), stage.definition, Resume(), stage.world
    )

    assert turn.state.status == "completed"
    (again,) = [effect for effect in turn.effects if isinstance(effect, StartChild)]
    assert again.child == stage.of(StartChild)[0].child


@pytest.mark.parametrize("data", [None, {"n": 1}])
def test_an_event_that_was_kept_is_found_by_the_next_owner(data: JSON) -> None:
    stage = Stage("do: [{d: {listen: {to: {one: {with: {type: t}}}}}}]")
    stage.deliver("t", data)
    received = stage.types().index("event.received")
    state = fold(WORKFLOW_ID, stage.history[: received + 1])

    assert decide(state, stage.definition, Resume(), stage.world).state.output == [data]


def test_a_plan_knows_its_tasks_by_kind() -> None:
    plan = document("do: [{a: {do: [{b: {set: {n: 1}}}]}}]")

    assert plan.task("/do/0/a", DoTask).name == "a"
    with pytest.raises(Bug, match="no ForTask"):
        plan.task("/do/0/a", ForTask)
    with pytest.raises(Bug, match="NoneType"):
        plan.task("/do/1/z", DoTask)


def test_a_request_in_person_is_delivered_to_the_workflow_it_names() -> None:
    stage = Stage(BUSY)
    stage.take(DeliverEvent(id="x", workflow_id=WORKFLOW_ID, created_at_ms=0, event={"type": "t"}))

    assert stage.state.inbox == ()
