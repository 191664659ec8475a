"""What a workflow builds stays within limits, whatever it loops over."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import msgspec
import pytest

from orchx.domain.faults import WorkflowFault
from orchx.domain.json_values import JSON
from orchx.domain.value_limits import (
    MAX_DEPTH,
    MAX_INTEGER,
    MAX_SIZE,
    MAX_VALUES,
    MIN_INTEGER,
    checked,
    excess_of,
)
from orchx.testing.rehearsal import Outcome, rehearse
from tests.unit.domain.stage import document, kind_of


def nested(levels: int) -> JSON:
    value: JSON = 1
    for _ in range(levels):
        value = [value]
    return value


def looped(task: str, times: int = 400) -> Outcome:
    """Run a task again and again on what it gave before."""
    return rehearse(
        document(
            f"""
            do:
              - start: {{set: {{n: 1}}}}
              - loop:
                  for: {{in: '[range({times})]'}}
                  do: [{{grow: {task}}}]
            """
        ),
        functions={"wrap": lambda arguments: {"again": arguments}},
    )


def assert_refused(outcome: Outcome, title: str) -> None:
    assert outcome.status == "faulted"
    assert outcome.error is not None
    assert (kind_of(outcome.error), outcome.error.status) == ("expression", 400)
    assert outcome.error.title == title
    msgspec.msgpack.encode(outcome.events)


@pytest.mark.parametrize(
    "task",
    [
        "{set: {a: '${ . }', b: '${ . }'}}",
        "{set: {a: 1}, input: {from: {a: '${ . }', b: '${ . }'}}, output: {as: $input}}",
        "{set: '${ . }', output: {as: {a: '${ . }', b: '${ . }'}}}",
        "{set: '${ . }', export: {as: {a: '${ $context }', b: '${ $context }'}}}",
        "{call: wrap, with: {a: '${ . }', b: '${ . }'}}",
        "{emit: {event: {with: {type: t, source: 'a://b', data: {a: '${ . }', b: '${ . }'}}}}}",
        "{fork: {branches: [{a: {set: '${ . }'}}, {b: {set: '${ . }'}}]}}",
        "{raise: {error: {type: 'https://a.test', status: 400, title: '${ \"x\" * 3000000 }'}}}",
    ],
    ids=["set", "input", "output", "export", "call", "emit", "fork", "raise"],
)
def test_doubling_ends_in_a_fault(task: str) -> None:
    assert_refused(looped(task), "value too large")


@pytest.mark.parametrize(
    "task",
    [
        "{set: {a: {b: {c: '${ . }'}}}}",
        "{set: '${ $task }'}",
        "{set: '${ . }', export: {as: {a: {b: '${ $context }'}}}}",
        "{call: wrap, with: {a: '${ . }'}}",
        "{fork: {branches: [{a: {set: '${ . }'}}]}}",
    ],
    ids=["set", "task", "export", "call", "fork"],
)
def test_nesting_ends_in_a_fault(task: str) -> None:
    assert_refused(looped(task), "nested too deeply")


def test_the_fault_can_be_caught() -> None:
    outcome = rehearse(
        document(
            """
            do:
              - safe:
                  try: [{big: {set: {n: '${ 99999999999999999999 }'}}}]
                  catch: {do: [{instead: {set: {title: '${ $error.title }'}}}]}
            """
        )
    )

    assert outcome.output == {"title": "integer out of range"}


@pytest.mark.parametrize(
    "task",
    [
        "{set: {n: '${ 99999999999999999999 }'}}",
        "{set: {n: '${ [{a: -99999999999999999999}] }'}}",
        "{call: wrap, with: {n: '${ 99999999999999999999 }'}}",
    ],
)
def test_integers_that_no_message_can_carry(task: str) -> None:
    assert_refused(looped(task, times=1), "integer out of range")


@pytest.mark.parametrize("where", ["input: {from: %s}", "output: {as: %s}"])
def test_the_workflows_own_transformations(where: str) -> None:
    body = where % "'${ 99999999999999999999 }'" + "\ndo: [{a: {set: {n: 1}}}]"

    assert_refused(rehearse(document(body)), "integer out of range")


@pytest.mark.parametrize(
    ("answer", "title"),
    [
        (2**64, "integer out of range"),
        ([float("nan")], "number is not finite"),
        (nested(MAX_DEPTH + 1), "nested too deeply"),
    ],
)
def test_what_a_service_answers(answer: Any, title: str) -> None:
    definition = document("do: [{a: {call: ask}}]")
    outcome = rehearse(definition, functions={"ask": lambda arguments: answer})

    assert_refused(outcome, title)


@pytest.mark.parametrize(
    "value",
    [
        None,
        nested(MAX_DEPTH),
        [0] * MAX_VALUES,
        "x" * MAX_SIZE,
        [MIN_INTEGER, MAX_INTEGER, 1e308, True, None],
        {"a": {"b": MappingProxyType({"c": (1, 2)})}},
    ],
    ids=["null", "deep", "many", "long", "numbers", "abstract"],
)
def test_just_within_the_limits(value: JSON) -> None:
    assert checked(value) is value


@pytest.mark.parametrize(
    ("value", "limit"),
    [
        (nested(MAX_DEPTH + 1), str(MAX_DEPTH)),
        (nested(100_000), str(MAX_DEPTH)),
        ([0] * (MAX_VALUES + 1), str(MAX_VALUES)),
        ("x" * (MAX_SIZE + 1), str(MAX_SIZE)),
        ({"x" * MAX_SIZE: "y"}, str(MAX_SIZE)),
        ({1: 2}, "must be text"),
        (MAX_INTEGER + 1, str(MAX_INTEGER)),
        (MIN_INTEGER - 1, str(MIN_INTEGER)),
        ({"a": MappingProxyType({"b": (float("inf"),)})}, "infinity"),
        (float("-inf"), "infinity"),
    ],
)
def test_just_beyond_a_limit(value: JSON, limit: str) -> None:
    with pytest.raises(WorkflowFault) as caught:
        checked(value)

    assert limit in (caught.value.fault.detail or "")


def test_shared_parts_count_each_time_and_take_no_time() -> None:
    value: JSON = [1]
    for _ in range(150):
        value = [value, value]  # 2**150 values, if they were written

    excess = excess_of(value)

    assert excess is not None
    assert excess.title == "value too large"
