"""Which events are kept for later, which are not, and that the own one always gets through."""

from __future__ import annotations

import pytest

from orchx.domain import decide_listen as listening
from orchx.domain import messages as m
from orchx.domain.decide import decide
from orchx.domain.events import CommandRefused, EventReceived, EventsDropped, encode_event
from orchx.domain.evolve import fold
from orchx.domain.json_values import JSON
from orchx.domain.turn import Turn
from tests.unit.domain.stage import WORKFLOW_ID, Stage, kind_of

MINE = "{with: {type: order.paid}, correlate: {order: {from: .data.order, expect: '${ .order }'}}}"
WAITING = f"do: [{{hear: {{listen: {{to: {{one: {MINE}}}}}}}}}]"


def waiting(body: str = WAITING) -> Stage:
    return Stage(body, {"order": "mine", "n": [1, 2]})


def paid(stage: Stage, order: str, *, broadcast: bool = True) -> Turn:
    return stage.deliver("order.paid", {"order": order}, broadcast=broadcast)


def kept(stage: Stage) -> list[JSON]:
    return [entry.event["data"] for entry in stage.state.inbox]


def test_a_listener_gets_its_own_event_however_many_there_are_of_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listening, "MAX_INBOX", 20)
    stage = waiting()
    for number in range(21):
        paid(stage, f"other-{number}")
    assert kept(stage) == []
    paid(stage, "mine")

    assert (stage.state.status, stage.state.output) == ("completed", [{"order": "mine"}])


def test_what_nobody_wants_of_an_event_for_all_is_a_short_refusal() -> None:
    stage = waiting()
    before = stage.state.bytes
    turn = stage.deliver("order.paid", {"order": "x" * 100_000}, id_="foreign", broadcast=True)

    (refused,) = turn.events
    assert isinstance(refused, CommandRefused)
    assert "foreign" in stage.state.commands
    assert stage.state.bytes - before == len(encode_event(refused)) < 200
    again = stage.deliver("order.paid", {"order": "mine"}, id_="foreign", broadcast=True)
    assert again.events == []


def test_an_event_for_this_workflow_is_kept_whoever_listens() -> None:
    stage = waiting(f"{WAITING[:-1]}, {{then: {{listen: {{to: {{any: []}}}}}}}}]")
    paid(stage, "other", broadcast=False)
    assert kept(stage) == [{"order": "other"}]
    paid(stage, "mine")

    assert stage.state.output == [{"order": "other"}]


def test_events_for_this_workflow_cannot_keep_its_own_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "MAX_INBOX", 2)
    stage = waiting()
    for number in range(4):
        paid(stage, f"other-{number}", broadcast=False)
    assert len(stage.state.inbox) == 2
    assert len(stage.events(CommandRefused)) == 2
    paid(stage, "mine", broadcast=False)

    assert stage.state.output == [{"order": "mine"}]


LOOP = f"""
    do:
      - loop:
          for: {{in: .n}}
          input: {{from: "${{ . }}"}}
          do:
            - hear: {{listen: {{to: {{one: {MINE}}}}}, output: {{as: $input}}}}
            - work: {{call: work, output: {{as: $input}}}}
"""


def test_between_two_listening_tasks_an_event_for_all_waits_for_the_second() -> None:
    stage = waiting(LOOP)
    paid(stage, "mine")
    assert stage.calls() == ["work"]
    paid(stage, "mine")
    assert kept(stage) == [{"order": "mine"}]
    stage.answer("work")

    assert stage.calls() == ["work"]
    assert kept(stage) == []


def test_what_the_second_does_not_want_either_is_dropped_when_it_begins() -> None:
    stage = waiting(LOOP)
    paid(stage, "mine")
    for number in range(3):
        paid(stage, f"other-{number}")
    paid(stage, "kept", broadcast=False)
    stage.deliver("order.lost", {"n": 1}, broadcast=True)
    assert len(stage.state.inbox) == 5
    turn = stage.answer("work")

    (dropped,) = [event for event in turn.events if isinstance(event, EventsDropped)]
    received = [event.command_id for event in stage.events(EventReceived)]
    assert dropped.command_ids == received[1:4]
    assert kept(stage) == [{"order": "kept"}, {"n": 1}]
    assert set(received) <= stage.state.commands


def test_an_owner_that_comes_before_the_dropping_does_it() -> None:
    stage = waiting(LOOP)
    paid(stage, "mine")
    paid(stage, "other")
    turn = stage.answer("work")
    assert isinstance(turn.events[-1], EventsDropped)
    cut = fold(WORKFLOW_ID, stage.history[:-1])
    assert len(cut.inbox) == 1
    resumed = decide(cut, stage.definition, m.Resume(), stage.world)

    assert resumed.events == [turn.events[-1]]
    assert resumed.state.inbox == stage.state.inbox == ()


TWO = """
    do:
      - again:
          for: {in: .n}
          do:
            - both:
                fork:
                  branches:
                    - a: {listen: {to: {one: {with: {type: t, subject: a}}}}}
                    - b: {listen: {to: {one: {with: {type: t, subject: b}}}}}
                output: {as: $input}
            - work: {call: work, output: {as: $input}}
"""


def test_listeners_that_begin_together_are_all_asked_before_anything_is_dropped() -> None:
    stage = waiting(TWO)
    for subject in "ab":
        stage.deliver("t", subject=subject, broadcast=True)
    assert stage.calls() == ["work"]
    for number, subject in enumerate("bc"):
        stage.deliver("t", number, subject=subject, broadcast=True)
    assert kept(stage) == [0, 1]
    stage.answer("work")
    assert kept(stage) == []
    stage.deliver("t", subject="a", broadcast=True)

    assert stage.calls() == ["work"]


def test_an_event_of_a_type_that_nobody_listens_for_now_is_kept() -> None:
    stage = waiting("""
        do:
          - both:
              fork:
                branches:
                  - a:
                      do:
                        - first: {listen: {to: {one: {with: {type: line}}}}}
                        - work: {call: work}
                        - second: {listen: {to: {one: {with: {type: line}}}}}
                  - b: {listen: {to: {one: {with: {type: end, subject: s}}}}}
    """)
    stage.deliver("line", 1, broadcast=True)
    stage.deliver("line", 2, broadcast=True)
    stage.deliver("end", 3, broadcast=True)
    assert kept(stage) == [2]
    stage.answer("work")
    stage.deliver("end", 4, subject="s", broadcast=True)

    assert stage.state.output == [[2], [4]]


def test_a_filter_without_a_type_is_asked_of_every_event() -> None:
    stage = waiting("do: [{hear: {listen: {to: {one: {with: {subject: s}}}}}}]")
    stage.deliver("anything", 1, broadcast=True)
    assert kept(stage) == []
    stage.deliver("anything", 2, subject="s", broadcast=True)

    assert stage.state.output == [2]


def test_an_event_that_a_filter_fails_on_is_recorded_with_the_tasks_error() -> None:
    stage = waiting("do: [{hear: {listen: {to: {one: {with: {type: t, data: '${ .a.b }'}}}}}}]")
    stage.deliver("t", {"a": 1}, broadcast=True)

    assert kind_of(stage.state.error) == "expression"
    assert len(stage.events(EventReceived)) == 1
