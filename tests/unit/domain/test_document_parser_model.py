"""What a valid document becomes."""

import hashlib
import json
from typing import Any

import pytest

from orchx.domain.document import (
    CallTask,
    Definition,
    DoTask,
    Duration,
    EmitTask,
    ErrorFilter,
    ForkTask,
    ForTask,
    ListenTask,
    RaiseTask,
    RunWorkflowTask,
    SetTask,
    SwitchTask,
    TryTask,
    WaitTask,
)
from orchx.domain.document_durations import iso8601_ms
from orchx.domain.document_parser import DSL_VERSIONS, parse_definition
from orchx.domain.expressions import Expression, evaluate
from orchx.errors import UnsupportedFeature

HEADER = {"dsl": "1.0.3", "namespace": "test", "name": "sample", "version": "0.1.0"}
SET = {"set": {"a": 1}}


def parse(*tasks: dict[str, Any], **members: Any) -> Definition:
    return parse_definition({"document": HEADER, "do": list(tasks), **members})


def test_the_header() -> None:
    source = {"document": {**HEADER, "metadata": {"owner": "it"}}, "do": [{"a": SET}]}
    definition = parse_definition(source)
    assert (definition.namespace, definition.name, definition.version) == (
        "test",
        "sample",
        "0.1.0",
    )
    assert definition.metadata == {"owner": "it"}
    assert definition.source is source


@pytest.mark.parametrize("version", DSL_VERSIONS)
def test_supported_versions_of_the_dsl(version: str) -> None:
    parse_definition({"document": {**HEADER, "dsl": version}, "do": [{"a": SET}]})


def test_the_digest_is_of_the_canonical_json() -> None:
    source = {"do": [{"ä": SET}], "document": HEADER}
    text = json.dumps(source, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert parse_definition(source).digest == hashlib.sha256(text.encode()).hexdigest()
    turned = {"document": dict(reversed(HEADER.items())), "do": [{"ä": SET}]}
    assert parse_definition(turned).digest == parse_definition(source).digest


def test_references() -> None:
    definition = parse(
        {"f": {"fork": {"branches": [{"b": SET}]}}},
        {"l": {"for": {"in": ".x"}, "do": [{"x": SET}]}},
        {"t": {"try": [{"x": SET}], "catch": {"do": [{"x": SET}]}}},
        {"d": {"do": [{"a/b~c": SET}]}},
    )
    assert list(definition.tasks) == [
        "/do/0/f/fork/branches/0/b",
        "/do/0/f",
        "/do/1/l/do/0/x",
        "/do/1/l",
        "/do/2/t/try/0/x",
        "/do/2/t/catch/do/0/x",
        "/do/2/t",
        "/do/3/d/do/0/a~1b~0c",
        "/do/3/d",
    ]
    assert all(task.reference == reference for reference, task in definition.tasks.items())
    assert definition.block.reference == "/do"
    assert definition.block.position == {"f": 0, "l": 1, "t": 2, "d": 3}


def test_what_every_task_may_have() -> None:
    body = {
        **SET,
        "if": "${ .go }",
        "input": {"from": ".x", "schema": {"document": {"type": "object"}}},
        "output": {"as": {"b": "${ .c }"}, "schema": {"format": "json", "document": True}},
        "export": {"as": "."},
        "timeout": "short",
        "then": "last",
        "metadata": {"orchx": {"priority": 3, "isolation": "dedicated"}, "mine": 1},
    }
    definition = parse(
        {"a": body}, {"last": SET}, use={"timeouts": {"short": {"after": {"seconds": 3}}}}
    )
    task = definition.tasks["/do/0/a"]
    assert task.definition == body
    assert task.condition is not None
    assert task.condition.source == ".go"
    assert task.data.input_schema is not None
    assert task.data.input_schema.document == {"type": "object"}
    assert task.data.input_from is not None
    assert task.data.input_from.expression is not None
    assert task.data.input_from.expression.source == ".x"
    assert task.data.output_as is not None
    assert task.data.export_as is not None
    assert task.timeout == Duration(constant_ms=3_000)
    assert task.then == "last"
    assert task.metadata["mine"] == 1


def test_the_workflow_has_data_and_a_timeout_too() -> None:
    definition = parse(
        {"a": SET}, input={"from": ".a"}, output={"as": ".b"}, timeout={"after": "PT1H"}
    )
    assert definition.data.input_from is not None
    assert definition.data.output_as is not None
    assert definition.timeout == Duration(constant_ms=3_600_000)


def test_switch() -> None:
    task = parse(
        {"a": {"switch": [{"x": {"when": ".x", "then": "b"}}, {"y": {"then": "exit"}}]}},
        {"b": SET},
    ).block.tasks[0]
    assert isinstance(task, SwitchTask)
    assert [(case.name, case.when is None, case.then) for case in task.cases] == [
        ("x", False, "b"),
        ("y", True, "exit"),
    ]


def test_for() -> None:
    loop = {"each": "pet", "in": ".pets", "at": "i"}
    task = parse({"a": {"for": loop, "while": ".go", "do": [{"b": SET}]}}).block.tasks[0]
    assert isinstance(task, ForTask)
    assert (task.each, task.at, task.items.source) == ("pet", "i", ".pets")
    assert task.while_ is not None
    assert task.while_.source == ".go"


def test_fork_branches_may_wait_for_each_other() -> None:
    def branch(*after: str) -> dict[str, Any]:
        return {**SET, "metadata": {"orchx": {"after": list(after)}}}

    branches = [{"d": branch("b", "c")}, {"b": branch("a")}, {"c": branch("a")}, {"a": SET}]
    task = parse({"f": {"fork": {"branches": branches}}}).block.tasks[0]
    assert isinstance(task, ForkTask)
    assert task.after == ((1, 2), (3,), (3,), ())
    assert task.compete is False


def test_try() -> None:
    catch = {
        "errors": {"with": {"type": "https://x", "status": 503, "details": "d"}},
        "as": "err",
        "when": ".a",
        "exceptWhen": ".b",
        "retry": "patient",
        "do": [{"c": SET}],
    }
    policy = {
        "when": ".w",
        "exceptWhen": ".e",
        "delay": {"seconds": 3},
        "backoff": {"exponential": {"factor": 1.5, "maxDelay": "PT1M"}},
        "limit": {"attempt": {"count": 5, "duration": "PT5S"}, "duration": "PT1H"},
        "jitter": {"from": "PT0S", "to": "PT1S"},
    }
    task = parse(
        {"a": {"try": [{"b": SET}], "catch": catch}}, use={"retries": {"patient": policy}}
    ).block.tasks[0]
    assert isinstance(task, TryTask)
    assert task.catch.errors == ErrorFilter(type="https://x", status=503, detail="d")
    assert task.catch.variable == "err"
    assert task.catch.block is not None
    retry = task.catch.retry
    assert retry is not None
    assert (retry.backoff, retry.backoff_factor) == ("exponential", 1.5)
    assert retry.delay == Duration(constant_ms=3_000)
    assert retry.max_delay == Duration(constant_ms=60_000)
    assert retry.limit_attempts == 5
    assert retry.limit_attempt_duration == Duration(constant_ms=5_000)
    assert retry.limit_duration == Duration(constant_ms=3_600_000)
    assert (retry.jitter_from, retry.jitter_to) == (
        Duration(constant_ms=0),
        Duration(constant_ms=1_000),
    )


def test_raise_a_reusable_error() -> None:
    error = {"type": "https://x", "status": 500, "detail": "${ .why }"}
    task = parse({"a": {"raise": {"error": "e"}}}, use={"errors": {"e": error}}).block.tasks[0]
    assert isinstance(task, RaiseTask)
    assert task.error.expression is not None


def test_emit_and_listen() -> None:
    event = {"source": "https://x", "type": "t", "data": {"a": "${ .a }"}}
    wanted = {"type": "t.*", "data": "${ .a > 1 }"}
    correlate = {"room": {"from": ".room", "expect": "${ $context.room }"}}
    definition = parse(
        {"a": {"emit": {"event": {"with": event}}}},
        {"b": {"listen": {"to": {"all": [{"with": wanted, "correlate": correlate}]}}}},
        {"c": {"listen": {"to": {"any": []}, "read": "raw"}}},
    )
    emit, listen, anything = definition.block.tasks
    assert isinstance(emit, EmitTask)
    assert isinstance(listen, ListenTask)
    assert isinstance(anything, ListenTask)
    assert listen.mode == "all"
    pattern = listen.filters[0].attributes["type"]
    assert isinstance(pattern, Expression)
    assert evaluate(pattern, "tea", {}) is True
    assert listen.filters[0].data.source == ".a > 1"
    assert listen.filters[0].correlate[0].name == "room"
    assert listen.filters[0].correlate[0].expect is not None
    assert (anything.mode, anything.filters, anything.read) == ("any", (), "raw")


@pytest.mark.parametrize(
    ("value", "is_pattern"),
    [
        ("com.example.order-made", False),
        ("urn:a_b/c d", False),
        ("order.*", True),
        ("a|b", True),
        ("https://x/?q=1", True),
        (3, False),
        (True, False),
    ],
)
def test_a_filter_that_looks_like_a_regular_expression_needs_the_sandbox(
    value: Any, is_pattern: bool
) -> None:
    definition = parse({"a": {"listen": {"to": {"one": {"with": {"subjects": value}}}}}})
    (task,) = definition.block.tasks
    assert isinstance(task, ListenTask)
    wanted = task.filters[0].attributes["subjects"]

    assert isinstance(wanted, Expression) is is_pattern
    assert definition.needs_sandbox is is_pattern
    assert is_pattern or wanted == value
    # the text itself always matches
    assert not isinstance(wanted, Expression) or evaluate(wanted, value, {}) is True


def test_call_and_run() -> None:
    definition = parse(
        {"a": {"call": "it.provision-laptop"}},
        {"b": {"call": "http", "with": {"method": "get", "endpoint": "https://x/{id}"}}},
        {"c": {"run": {"workflow": {"namespace": "n", "name": "w"}, "await": False}}},
    )
    capability, http, run = definition.block.tasks
    assert isinstance(capability, CallTask)
    assert capability.function == "it.provision-laptop"
    assert capability.arguments.constant == {}
    assert isinstance(http, CallTask)
    assert http.arguments.constant["method"] == "get"
    assert isinstance(run, RunWorkflowTask)
    assert (run.namespace, run.workflow_name, run.version, run.await_) == (
        "n",
        "w",
        "latest",
        False,
    )


def test_a_function_is_expanded_where_it_is_called() -> None:
    function = {"input": {"schema": {"document": {}}}, "set": {"x": "${ .id }"}, "then": "exit"}
    definition = parse(
        {"a": {"call": "f", "with": {"id": "${ .pet }"}, "output": {"as": ".x"}}},
        {"b": {"call": "f"}},
        use={"functions": {"f": function, "unused": SET}},
    )
    call = definition.block.tasks[0]
    assert isinstance(call, DoTask)
    assert call.data.output_as is not None
    arguments, body = call.block.tasks
    assert isinstance(arguments, SetTask)
    assert arguments.reference == "/do/0/a/call/0/with"
    assert isinstance(body, SetTask)
    assert (body.reference, body.then) == ("/do/0/a/call/1/f", "exit")
    assert body.definition == function
    assert body.data.input_schema is not None
    without = definition.tasks["/do/1/b/call/0/with"]
    assert isinstance(without, SetTask)
    assert without.value.constant == {}
    assert not any(reference.startswith("/use") for reference in definition.tasks)


def test_needs_sandbox_when_any_expression_is_unbounded() -> None:
    assert not parse({"a": {"set": {"b": "${ .c }"}}}).needs_sandbox
    assert parse({"a": {"set": {"b": ["${ [range(1e9)] }"]}}}).needs_sandbox
    assert parse({"a": {**SET, "if": "[range(1e9)]"}}).needs_sandbox


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("PT30S", 30_000),
        ("PT1H30M", 5_400_000),
        ("P1W", 604_800_000),
        ("P1DT1H", 90_000_000),
        ("PT0.5S", 500),
        ("PT0.0004S", 0),
        ("PT0.0005S", 1),
        ("PT0S", 0),
        ("P36500D", 36_500 * 86_400_000),
    ],
)
def test_iso8601(text: str, ms: int) -> None:
    assert iso8601_ms(text) == ms
    task = parse({"a": {"wait": text}}).block.tasks[0]
    assert isinstance(task, WaitTask)
    assert task.duration == Duration(constant_ms=ms)


@pytest.mark.parametrize(
    "text",
    ["", "P", "PT", "P1S", "T1S", "PT1", "pt1s", "-PT1S", "P1Y", "P2M", "PT1S\n", "PT\u0661S"],
)
def test_not_iso8601(text: str) -> None:
    with pytest.raises(ValueError, match=r"duration|fixed length"):
        iso8601_ms(text)


def test_durations_of_units_and_expressions() -> None:
    units = {"days": 1, "hours": 1, "minutes": 1, "seconds": 1, "milliseconds": 1}
    wait, computed = parse({"a": {"wait": units}}, {"b": {"wait": "${ .delay }"}}).block.tasks
    assert isinstance(wait, WaitTask)
    assert isinstance(computed, WaitTask)
    assert wait.duration == Duration(constant_ms=90_061_001)
    assert computed.duration.expression is not None
    assert computed.duration.expression.source == ".delay"


@pytest.mark.parametrize("key", ["compensate", "pool"])
def test_metadata_that_would_do_nothing_is_refused(key: str) -> None:
    with pytest.raises(UnsupportedFeature) as raised:
        parse({"a": {**SET, "metadata": {"orchx": {key: "x"}}}})
    assert [v.pointer for v in raised.value.violations] == [f"/do/0/a/metadata/orchx/{key}"]
