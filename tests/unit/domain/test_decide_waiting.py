"""wait, listen, emit, and whatever time ends: timeouts and deadlines."""

from __future__ import annotations

import pytest

from orchx.domain import messages as m
from orchx.domain.events import CorrelationStarted, EventConsumed, Request, TaskCancelled
from orchx.domain.json_values import JSON
from orchx.testing.rehearsal import START_MS, rehearse
from tests.unit.domain.stage import Stage, document, kind_of

# --- wait ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("duration", "ms"),
    [
        ("{seconds: 10}", 10_000),
        ("PT1M30S", 90_000),
        ("'${ .how_long }'", 250),
        ("'${ {minutes: 1, milliseconds: 5} }'", 60_005),
        ("{seconds: 0}", 0),
    ],
)
def test_wait_ends_when_its_time_has_come_and_not_before(duration: str, ms: int) -> None:
    stage = Stage(f"do: [{{pause: {{wait: {duration}}}}}]", {"how_long": "PT0.25S"})
    if ms:
        stage.wait(ms - 1)
        assert stage.state.status == "running"
        stage.wait(1)

    assert (stage.state.status, stage.state.output) == ("completed", {"how_long": "PT0.25S"})


@pytest.mark.parametrize("value", ["soon", 3, None, {}, {"days": 1e300}, {"weeks": 1}, "P1M"])
def test_what_is_no_duration_is_an_expression_error(value: JSON) -> None:
    outcome = rehearse(document("do: [{pause: {wait: '${ .d }'}}]"), {"d": value})

    assert (outcome.status, kind_of(outcome.error)) == ("faulted", "expression")


# --- timeouts ------------------------------------------------------------------------------


def test_a_call_that_takes_too_long_times_out_and_is_given_up() -> None:
    stage = Stage("do: [{slow: {call: work, timeout: {after: {seconds: 2}}}}]")
    (request,) = stage.requests()
    assert request.deadline_at_ms == START_MS + 2_000
    assert request.call.timeout_ms == 2_000
    stage.wait(2_000)

    error = stage.state.error
    assert error is not None
    assert (kind_of(error), error.status, error.instance) == ("timeout", 408, "/do/0/slow")
    assert [effect.execution for effect in stage.of(m.Abandon)] == [request.execution]


def test_a_composite_times_out_with_all_that_is_in_it() -> None:
    stage = Stage("""
        use: {timeouts: {short: {after: '${ .limit }'}}}
        do:
          - outer:
              timeout: short
              do: [{both: {fork: {branches: [{a: {call: work}}, {b: {wait: {hours: 1}}}]}}}]
    """, {"limit": "PT5S"})  # fmt: skip
    stage.wait(5_000)

    assert kind_of(stage.state.error) == "timeout"
    assert len(stage.events(TaskCancelled)) == 3
    assert len(stage.of(m.Abandon)) == 1


def test_a_timeout_can_be_caught_around_the_task() -> None:
    stage = Stage("""
        do:
          - careful:
              try: [{slow: {call: work, timeout: {after: {seconds: 1}}}}]
              catch:
                errors: {with: {type: 'https://serverlessworkflow.io/spec/1.0.0/errors/timeout'}}
                do: [{instead: {set: {n: 1}}}]
    """)
    stage.wait(1_000)

    assert (stage.state.status, stage.state.output) == ("completed", {"n": 1})


def test_the_workflow_times_out_and_cannot_catch_it() -> None:
    stage = Stage("""
        timeout: {after: {seconds: 3}}
        do: [{careful: {try: [{slow: {call: work}}], catch: {}}}]
    """)
    stage.wait(2_999)
    assert stage.state.status == "running"
    stage.wait(1)

    assert (stage.state.status, kind_of(stage.state.error)) == ("faulted", "timeout")


@pytest.mark.parametrize(("deadline_s", "timeout_s"), [(2, 9), (9, 2)])
def test_the_earlier_of_deadline_and_timeout_counts(deadline_s: int, timeout_s: int) -> None:
    stage = Stage(
        f"timeout: {{after: {{seconds: {timeout_s}}}}}\ndo: [{{slow: {{call: work}}}}]",
        request=Request(deadline_ms=START_MS + deadline_s * 1_000),
    )

    assert stage.state.next_due_ms() == START_MS + 2_000


def test_a_request_that_comes_after_its_deadline_calls_nobody() -> None:
    stage = Stage("do: [{slow: {call: work}}]", request=Request(deadline_ms=START_MS - 1))

    assert kind_of(stage.state.error) == "timeout"
    assert stage.requests() == []


def test_timers_that_fire_early_or_twice_change_nothing() -> None:
    stage = Stage("do: [{a: {wait: {seconds: 1}}}, {b: {wait: {seconds: 1}}}]")
    assert stage.wait(500).events == []
    assert stage.wait(500).events != []
    assert stage.wait(0).events == []


def test_what_is_overdue_in_an_outer_task_ends_it_whatever_is_due_inside() -> None:
    stage = Stage("""
        do:
          - outer: {timeout: {after: {seconds: 2}}, do: [{a: {wait: {seconds: 1}}}, {b: {call: w}}]}
    """)
    stage.wait(60_000)  # nobody was there in between

    assert kind_of(stage.state.error) == "timeout"
    assert stage.requests() == []


# --- listen --------------------------------------------------------------------------------


def listening(to: str, extra: str = "") -> Stage:
    return Stage(f"do: [{{hear: {{listen: {{to: {to}{extra}}}}}}}]", {"room": 7})


def test_one_ends_with_the_data_of_the_first_event_that_matches() -> None:
    stage = listening("{one: {with: {type: wanted}}}")
    stage.deliver("other", 1)
    assert stage.state.status == "running"
    stage.deliver("wanted", {"n": 2})

    assert stage.state.output == [{"n": 2}]


def test_any_ends_with_the_first_event_that_matches_any_filter() -> None:
    stage = listening("{any: [{with: {type: a}}, {with: {type: b}}]}")
    stage.deliver("b", 1)

    assert stage.state.output == [1]
    assert [event.filter for event in stage.events(EventConsumed)] == [1]


def test_an_empty_any_takes_every_event() -> None:
    stage = listening("{any: []}")
    stage.deliver("whatever", 1)

    assert stage.state.output == [1]


def test_all_needs_an_event_for_each_filter_and_keeps_their_order() -> None:
    stage = listening("{all: [{with: {type: a}}, {with: {type: b}}]}")
    stage.deliver("b", 1)
    stage.deliver("b", 2)
    assert stage.state.status == "running"
    stage.deliver("a", 3)

    assert stage.state.output == [1, 3]


def test_the_envelope_can_be_read() -> None:
    stage = listening("{one: {with: {type: a}}}", ", read: envelope")
    stage.deliver("a", {"n": 1}, subject="s")

    assert stage.state.output[0]["subject"] == "s"
    assert stage.state.output[0]["data"] == {"n": 1}


@pytest.mark.parametrize(
    ("wanted", "matches"),
    [
        ("{type: order.made, subject: s}", True),
        ("{subject: t}", False),
        ("{priority: 3}", True),
        ("{priority: '3'}", False),
        ("{missing: x}", False),
        ("{source: 'https://tests'}", True),
        ("{type: order.made, data: '${ .n > 1 }'}", True),
        ("{type: order.made, data: '${ .n > 2 }'}", False),
        ("{data: {n: 2}}", True),
        ("{data: {n: 3}}", False),
        ("{data: '${ .n == $input.room - 5 }'}", True),
        # regular expressions, of the whole value
        ("{type: 'order\\.(made|paid)'}", True),
        ("{type: 'order\\.(lost|paid)'}", False),
        ("{type: 'rder\\.made'}", False),
        ("{type: 'order.*'}", True),
        ("{type: '^order.*$'}", True),
        ("{type: 'orderxmade'}", False),
        ("{type: order.made, source: 'https?://t.*'}", True),
        ("{source: '.*tests'}", True),
        ("{subject: '[a-r]'}", False),
        ("{priority: '\\d'}", False),
        ("{missing: '.*'}", False),
        ("{odd: 'a+b?'}", True),  # as it is written
        ("{odd: 'a\\+b\\?'}", True),
        ("{lines: 'a*'}", False),
    ],
)
def test_filters(wanted: str, matches: bool) -> None:
    stage = listening(f"{{one: {{with: {wanted}}}}}")
    stage.deliver("order.made", {"n": 2}, subject="s", priority=3, odd="a+b?", lines="a\n")

    assert (stage.state.status == "completed") is matches


def test_the_types_to_be_routed_are_recorded_if_all_of_them_are_known() -> None:
    def types(to: str) -> list[str]:
        (event,) = listening(to).events(CorrelationStarted)
        return list(event.types)

    assert types("{all: [{with: {type: b}}, {with: {type: a}}]}") == ["a", "b"]
    assert types("{any: [{with: {type: b}}, {with: {subject: a}}]}") == []
    assert types("{one: {with: {type: 'b.*'}}}") == []
    assert types("{any: []}") == []


def test_correlation_compares_with_what_is_expected() -> None:
    stage = listening(
        "{one: {with: {type: t}, correlate: {room: {from: .data.room, expect: '${ .room }'}}}}"
    )
    stage.deliver("t", {"room": 8})
    stage.deliver("t", {"room": 7, "ok": True})

    assert stage.state.output == [{"room": 7, "ok": True}]


def test_correlation_without_an_expectation_takes_the_first_value_for_all_filters() -> None:
    keyed = "correlate: {order: {from: .subject}}"
    stage = listening(f"{{all: [{{with: {{type: a}}, {keyed}}}, {{with: {{type: b}}, {keyed}}}]}}")
    stage.deliver("a", 1, subject="x")
    stage.deliver("b", 2, subject="y")
    assert stage.state.status == "running"
    stage.deliver("b", 3, subject="x")

    assert stage.state.output == [1, 3]


def test_events_that_came_before_anyone_listened_are_kept_in_order() -> None:
    stage = Stage("""
        do:
          - first: {call: work}
          - a: {listen: {to: {one: {with: {type: t}}}}, export: {as: '{a: .[0]}'}}
          - b: {listen: {to: {one: {with: {type: t}}}}, export: {as: '$context + {b: .[0]}'}}
          - see: {set: "${ $context }"}
    """)
    stage.deliver("t", 1)
    stage.deliver("other", 2)
    stage.deliver("t", 3)
    stage.answer("first")

    assert stage.state.output == {"a": 1, "b": 3}


def test_an_event_is_consumed_by_one_listener_only() -> None:
    stage = Stage("""
        do:
          - both:
              fork:
                branches:
                  - a: {listen: {to: {one: {with: {type: t}}}}}
                  - b: {listen: {to: {one: {with: {type: t}}}}}
    """)
    stage.deliver("t", 1)
    assert stage.state.status == "running"
    stage.deliver("t", 2)

    assert stage.state.output == [[1], [2]]


def test_an_event_delivered_twice_counts_once() -> None:
    stage = listening("{all: [{with: {type: a}}, {with: {subject: s}}]}")
    stage.deliver("a", 1, id_="e1", subject="s")
    assert stage.deliver("a", 1, id_="e1", subject="s").events == []
    assert stage.state.status == "running"


def test_a_filter_that_fails_is_an_error_of_the_listening_task() -> None:
    stage = listening("{one: {with: {data: '${ .a.b }'}}}")
    stage.deliver("t", {"a": 1})

    assert kind_of(stage.state.error) == "expression"


def test_listening_can_time_out() -> None:
    stage = Stage("""
        do: [{hear: {listen: {to: {any: []}}, timeout: {after: {seconds: 1}}}}]
    """)
    stage.wait(1_000)

    assert kind_of(stage.state.error) == "timeout"


# --- emit ----------------------------------------------------------------------------------


def test_emit_publishes_a_cloud_event_and_gives_it() -> None:
    outcome = rehearse(
        document("""
        do:
          - tell:
              emit:
                event:
                  with: {source: 'https://x', type: told, data: {n: "${ .n }"}}
        """),
        {"n": 1},
    )

    (event,) = outcome.published
    assert outcome.output == event
    assert event["data"] == {"n": 1}
    assert event["specversion"] == "1.0"
    assert event["time"] == "2026-01-01T00:00:00.000Z"


def test_each_iteration_emits_an_event_of_its_own_and_a_retry_the_same_one() -> None:
    outcome = rehearse(
        document("""
        do:
          - loop:
              for: {in: '[1, 2]'}
              do:
                - careful:
                    try:
                      - tell: {emit: {event: {with: {source: 'https://x', type: told}}}}
                      - fail: {raise: {error: {type: 'https://x', status: 500}}}
                    catch: {retry: {limit: {attempt: {count: 1}}}, do: [{a: {set: {n: 1}}}]}
    """)
    )

    ids = [event["id"] for event in outcome.published]
    assert ids[0] == ids[1] != ids[2] == ids[3]


def test_nothing_is_published_by_an_emit_that_fails() -> None:
    outcome = rehearse(
        document("""
        do:
          - tell:
              emit: {event: {with: {source: 'https://x', type: told}}}
              output: {as: .type.name}
    """)
    )

    assert (outcome.status, outcome.published) == ("faulted", [])
