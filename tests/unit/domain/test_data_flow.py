"""Data on its way: schemas, transformations, context, and the arguments of expressions."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchx.domain.json_values import JSON
from orchx.testing.rehearsal import START_MS, Outcome, rehearse
from tests.unit.domain.stage import document, kind_of


def run(body: str, input_: JSON = None) -> Outcome:
    return rehearse(document(body), input_, functions={"echo": lambda arguments: arguments})


def test_the_workflows_input_is_transformed_and_is_the_first_context() -> None:
    outcome = run(
        """
        input: {from: "${ .body }"}
        do: [{a: {set: {data: "${ . }", ctx: "${ $context }", raw: "${ $workflow.input }"}}}]
        """,
        {"body": {"n": 1}},
    )

    assert outcome.output == {"data": {"n": 1}, "ctx": {"n": 1}, "raw": {"body": {"n": 1}}}


def test_the_workflows_output_is_transformed_and_checked() -> None:
    body = """
        do: [{a: {set: {n: 1}, export: {as: '{m: 2}'}}}]
        output: {as: '{n, m: $context.m}', schema: {document: {required: [%s]}}}
    """

    assert run(body % "n").output == {"n": 1, "m": 2}
    faulted = run(body % "x")
    assert (faulted.status, kind_of(faulted.error)) == ("faulted", "validation")


def test_a_task_sees_its_input_after_from_and_its_raw_input_by_its_descriptor() -> None:
    outcome = run(
        """
        do:
          - a:
              input: {from: {only: "${ .x }"}}
              set: {data: "${ . }", input: "${ $input }", raw: "${ $task.input }"}
        """,
        {"x": 1, "y": 2},
    )

    assert outcome.output == {"data": {"only": 1}, "input": {"only": 1}, "raw": {"x": 1, "y": 2}}


def test_output_as_sees_the_raw_output_and_export_the_transformed_one() -> None:
    outcome = run(
        """
        do:
          - a:
              input: {from: .x}
              set: {n: 5}
              output: {as: '{n: .n, raw: $task.output, input: $input}'}
              export: {as: '{dot: ., out: $output, raw: $task.output, was: $context, in: $input}'}
          - b: {set: {data: "${ . }", ctx: "${ $context }"}}
        """,
        {"x": 1},
    )

    shown = {"n": 5, "raw": {"n": 5}, "input": 1}
    assert outcome.output["data"] == shown
    assert outcome.output["ctx"] == {
        "dot": shown, "out": shown, "raw": {"n": 5}, "was": {"x": 1}, "in": 1,
    }  # fmt: skip


def test_export_sees_the_raw_output_also_where_nothing_transforms_it() -> None:
    outcome = run("""
        do:
          - a: {set: {n: 5}, export: {as: '{raw: $task.output, out: $output}'}}
          - b: {set: "${ $context }"}
    """)

    assert outcome.output == {"raw": {"n": 5}, "out": {"n": 5}}


def test_context_stays_until_it_is_exported_anew() -> None:
    outcome = run("""
        do:
          - a: {set: {n: 1}, export: {as: '{seen: [.n]}'}}
          - b: {set: {n: 2}}
          - c: {set: {n: 3}, export: {as: '$context + {more: .n}'}}
          - d: {set: "${ $context }"}
    """)

    assert outcome.output == {"seen": [1], "more": 3}


@pytest.mark.parametrize(
    "task",
    [
        "{set: {n: 1}, input: {schema: {document: {required: [x]}}}}",
        "{set: {n: 1}, output: {schema: {document: {required: [x]}}}}",
        "{set: {n: 1}, export: {as: ., schema: {document: {required: [x]}}}}",
        "{set: {n: 1}, export: {schema: {document: {required: [x]}}}}",
        "{call: echo, with: {n: 1}, output: {schema: {document: {required: [x]}}}}",
        "{do: [{b: {set: {n: 1}}}], output: {as: ., schema: {document: {required: [x]}}}}",
    ],
)
def test_data_that_breaks_a_schema_is_a_validation_error_of_the_task(task: str) -> None:
    outcome = run(f"do: [{{a: {task}}}]")

    assert outcome.error is not None
    assert (kind_of(outcome.error), outcome.error.instance) == ("validation", "/do/0/a")
    assert "x" in (outcome.error.detail or "")


def test_schemas_check_the_input_before_and_the_output_after_it_is_transformed() -> None:
    outcome = run(
        """
        do:
          - a:
              input: {from: .x, schema: {document: {required: [x]}}}
              set: {n: "${ . }"}
              output: {as: .n, schema: {document: {type: integer}}}
        """,
        {"x": 1},
    )

    assert outcome.output == 1


@pytest.mark.parametrize(
    "schema",
    [
        "{type: nonsense}",
        "{$ref: 'http://127.0.0.1:9/schema.json'}",
        "{$ref: 'file:///etc/hostname'}",
        "{$ref: '#/nowhere'}",
    ],
)
def test_a_schema_that_cannot_be_used_is_a_configuration_error_and_nothing_is_fetched(
    schema: str,
) -> None:
    outcome = run(f"do: [{{a: {{set: {{n: 1}}, output: {{schema: {{document: {schema}}}}}}}}}]")

    assert (outcome.status, kind_of(outcome.error)) == ("faulted", "configuration")


def test_a_schema_reads_no_file_that_happens_to_be_there(tmp_path: Path) -> None:
    target = tmp_path / "schema.json"
    target.write_text('{"type": "object"}', encoding="utf-8")
    schema = f"{{document: {{$ref: '{target.as_uri()}'}}}}"
    outcome = run(f"do: [{{a: {{set: {{n: 1}}, output: {{schema: {schema}}}}}}}]")

    assert (outcome.status, kind_of(outcome.error)) == ("faulted", "configuration")


def test_the_descriptors() -> None:
    outcome = run(
        """
        do:
          - pause: {wait: {seconds: 1}}
          - see:
              set:
                task: "${ $task }"
                workflow: "${ $workflow }"
                runtime: "${ $runtime.name }"
        """,
        {"n": 1},
    )
    task, workflow = outcome.output["task"], outcome.output["workflow"]

    assert (task["name"], task["reference"]) == ("see", "/do/1/see")
    assert task["definition"]["set"]["runtime"] == "${ $runtime.name }"
    assert task["startedAt"]["epoch"] == {
        "seconds": START_MS // 1_000 + 1,
        "milliseconds": START_MS + 1_000,
    }
    assert workflow["id"] == "wf_rehearsal"
    assert workflow["definition"]["document"]["name"] == "staged"
    assert workflow["startedAt"]["iso8601"] == "2026-01-01T00:00:00.000Z"
    assert outcome.output["runtime"] == "orchx"


def test_a_task_that_took_time_knows_when_it_began() -> None:
    outcome = run("do: [{a: {wait: {seconds: 5}, output: {as: $task.startedAt.epoch.seconds}}}]")

    assert outcome.output == START_MS // 1_000


def test_variables_of_a_loop_are_known_inside_and_only_there() -> None:
    inside = "do: [{loop: {for: {in: '[1]'}, do: [{a: {do: [{b: {set: {n: '${ $item }'}}}]}}]}}%s]"

    assert run(inside % "").output == {"n": 1}
    outcome = run(inside % ", {after: {set: {n: '${ $item }'}}}")
    assert kind_of(outcome.error) == "expression"


def test_what_is_exported_in_a_loop_is_seen_by_the_next_iteration() -> None:
    outcome = run(
        """
        do:
          - start: {set: {}, export: {as: '{sum: 0}'}}
          - loop:
              for: {in: '[1, 2, 3]'}
              do:
                - add: {set: {n: "${ $item }"}, export: {as: '{sum: ($context.sum + .n)}'}}
          - see: {set: "${ $context.sum }"}
    """.replace("set: {},", "set: {n: 0},")
    )

    assert outcome.output == 6


@pytest.mark.parametrize("value", [None, False, 0, "", [], {}, "text", 1.5, 2**60])
def test_any_json_flows_as_it_is(value: JSON) -> None:
    body = """
        do:
          - a: {call: echo, with: {value: "${ .value }"}}
          - b: {wait: {seconds: 1}, output: {as: .value}}
          - c: {do: [{d: {wait: {seconds: 1}}}]}
    """
    outcome = run(body, {"value": value})

    assert outcome.output == value
    assert type(outcome.output) is type(value)
