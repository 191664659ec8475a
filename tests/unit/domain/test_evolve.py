"""The fold: what one event changes, that it changes nothing else, and that it is total."""

from __future__ import annotations

import copy
from typing import get_args

import pytest

from orchx.domain import events as e
from orchx.domain.evolve import apply, branch_of, evolve, fold, iteration_of_child
from orchx.domain.faults import Fault
from orchx.domain.state import ROOT, Frame, WorkflowState
from tests.unit.domain.stage import WORKFLOW_ID, Stage, check_consistent, unavailable

EVERYTHING = """
    do:
      - a: {set: {n: 1}, export: {as: .}}
      - skipped: {if: .no, set: {n: 2}}
      - careful:
          try: [{work: {call: cap}}]
          catch:
            retry: {delay: {seconds: 1}, limit: {attempt: {count: 1}}}
            do: [{handled: {set: {n: 3}}}]
      - tell: {emit: {event: {with: {source: 'https://x', type: told}}}}
      - loop: {for: {in: '[1, 2]'}, do: [{again: {call: cap}}]}
      - hear: {listen: {to: {one: {with: {type: t}, correlate: {k: {from: .subject}}}}}}
      - child: {run: {workflow: {namespace: a, name: b}}}
      - race: {fork: {compete: true, branches: [{x: {wait: {seconds: 1}}}, {y: {call: cap}}]}}
"""


def history_of_everything() -> list[tuple[e.AnyEvent, int]]:
    stage = Stage(EVERYTHING, services={"cap": ["one", "two"]})
    stage.deliver("early")
    stage.answer("work", error=unavailable())
    stage.wait(1_000)
    stage.answer("work", error=unavailable())
    stage.answer("again")
    stage.answer("again")
    stage.deliver("t", {"n": 1}, subject="s")
    stage.finish_child("child", 1)
    stage.wait(1_000)
    assert stage.state.status == "completed"
    return stage.history


HISTORY = history_of_everything()
EXTRA: list[e.AnyEvent] = [
    e.WorkflowActivated(),
    e.WorkflowPassivated(due_at_ms=5),
    e.CommandRefused(command_id="c", reason="late"),
    e.EventsDropped(command_ids=["x"]),
    e.CancelRequested(command_id="d", reason="why"),
    e.WorkflowCancelled(reason="why"),
    e.WorkflowFaulted(error=unavailable()),
]


def test_every_event_has_a_transition_that_leaves_the_state_before_as_it_was() -> None:
    seen = set()
    state = WorkflowState(WORKFLOW_ID)
    for event, at_ms in HISTORY:
        before, stored = copy.deepcopy(state.as_json()), e.encode_event(event)
        others = [(extra, evolve(state, extra, at_ms)) for extra in EXTRA]
        after = evolve(state, event, at_ms)
        assert state.as_json() == before
        assert e.encode_event(event) == stored
        assert after.events == state.events + 1
        check_consistent(after)
        seen |= {type(event), *(type(extra) for extra, _ in others)}
        state = after

    assert seen == set(get_args(e.AnyEvent))
    assert state == fold(WORKFLOW_ID, HISTORY)


def test_a_stored_history_folds_to_the_same_state() -> None:
    stored = [(e.decode_event(e.encode_event(event)), at_ms) for event, at_ms in HISTORY]

    assert fold(WORKFLOW_ID, stored) == fold(WORKFLOW_ID, HISTORY)
    assert [e.type_of(event) for event, _ in stored] == [e.type_of(event) for event, _ in HISTORY]


def test_being_passive_ends_with_the_next_event() -> None:
    state = evolve(WorkflowState("w"), e.WorkflowPassivated(), 1)
    assert state.passivated
    assert not evolve(state, e.WorkflowActivated(), 2).passivated


@pytest.mark.parametrize("event", EXTRA[-2:])
def test_an_end_leaves_nothing_under_way(event: e.AnyEvent) -> None:
    half = fold(WORKFLOW_ID, HISTORY[: len(HISTORY) // 2])
    over = evolve(half, event, 1)

    assert over.terminal
    assert (over.frames, over.inbox, over.failures) == ({}, (), {})
    assert over.next_due_ms() is None
    assert not over.only_waits()


def test_commands_are_remembered_whatever_became_of_them() -> None:
    state = fold("w", [(event, 0) for event in EXTRA[:5]])

    assert state.commands == {"c", "d"}
    assert state.cancel_reason == "why"


def test_only_a_workflow_without_calls_only_waits() -> None:
    stage = Stage("do: [{a: {wait: {seconds: 1}}}, {b: {call: work}}]")
    assert stage.state.only_waits()
    stage.wait(1_000)
    assert not stage.state.only_waits()


def test_the_branch_and_the_iteration_of_a_child() -> None:
    assert branch_of("/do/0/f", "/do/0/f/fork/branches/12/b") == 12
    parent = Frame(id=ROOT, parent=ROOT, reference="", kind="root", iteration=".1")
    assert iteration_of_child(parent, "/do/0/a") == ".1"
    looping = Frame(id=1, parent=0, reference="/do/0/l", kind="for", iteration=".1", index=3)
    assert iteration_of_child(looping, "/do/0/l/do/0/a") == ".1.3"
    again = Frame(id=1, parent=0, reference="", kind="root", visits={"/do/0/a": 2})
    assert iteration_of_child(again, "/do/0/a") == "~2@3"


def test_states_are_compared_by_what_is_in_them() -> None:
    one, other = WorkflowState("w"), WorkflowState("w")
    assert one == other
    assert one != "w"
    with pytest.raises(TypeError):
        hash(one)


def test_a_fault_shows_the_members_that_it_has() -> None:
    assert Fault(type="t", status=1).as_json() == {"type": "t", "status": 1, "title": ""}


def test_a_fold_copies_nothing_that_grows() -> None:
    """Ten thousand refused events are a fold of milliseconds, not of seconds."""
    stage = Stage("do: [{a: {call: work}}]")
    state = fold(WORKFLOW_ID, stage.history)
    known = state.commands
    for number in range(10_000):
        apply(state, e.CommandRefused(command_id=f"c{number}", reason="not for it"), 1)
    assert state.commands is known
    assert len(known) == 10_001
