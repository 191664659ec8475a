"""Documents that are wrong, each in one way, and where the parser says that it is."""

import textwrap
from typing import Any

import pytest

from orchx.adapters.definition_source import read_definition
from orchx.domain.document_limits import MAX_TASKS
from orchx.domain.document_parser import parse_definition
from orchx.domain.document_report import MAX_VIOLATIONS
from orchx.errors import CallerError, InvalidDocument, UnsupportedFeature

HEADER = {"dsl": "1.0.3", "namespace": "test", "name": "sample", "version": "0.1.0"}
SET = {"set": {"a": 1}}


def document(*tasks: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {"document": HEADER, "do": list(tasks) or [{"a": SET}], **members}


def task(definition: Any) -> dict[str, Any]:
    return document({"a": definition})


def header(**members: Any) -> dict[str, Any]:
    return {"document": {**HEADER, **members}, "do": [{"a": SET}]}


def caught(**catch: Any) -> dict[str, Any]:
    return task({"try": [{"b": SET}], "catch": catch})


def retried(**retry: Any) -> dict[str, Any]:
    return caught(retry=retry)


def http(**arguments: Any) -> dict[str, Any]:
    given = {"method": "get", "endpoint": "https://example.com", **arguments}
    return task({"call": "http", "with": given})


def branches(*after: tuple[str, list[Any]]) -> dict[str, Any]:
    tasks = [{name: {**SET, "metadata": {"orchx": {"after": names}}}} for name, names in after]
    return task({"fork": {"branches": tasks}})


def violations(source: Any, kind: type[CallerError] = InvalidDocument) -> dict[str, str]:
    """Return the message of each pointer of what parsing `source` raises."""
    with pytest.raises(kind) as caught:
        parse_definition(source)
    assert type(caught.value) is kind
    assert caught.value.violations
    found: dict[str, str] = {}
    for violation in caught.value.violations:
        found[violation.pointer] = f"{found.get(violation.pointer, '')}\n{violation}"
    return found


AFTER = "/do/0/a/fork/branches/{}/metadata/orchx/after"
CATCH = "/do/0/a/catch"
RETRY = f"{CATCH}/retry"
INVALID: list[tuple[Any, str, str]] = [
    # the root and the header
    ([], "", "must be an object"),
    ({}, "", "'document' is required"),
    ({"document": HEADER}, "", "'do' is required"),
    (document(doo=[]), "/doo", "did you mean 'do'?"),
    (header(dsl="2.0.0"), "/document/dsl", "expected 1.0.0, 1.0.1, 1.0.2, 1.0.3"),
    (header(dsl="1.0.4"), "/document/dsl", "not supported"),
    (header(dsl=1.0), "/document/dsl", "quote it"),
    (header(dsl="1.0"), "/document/dsl", "not supported"),
    (header(namespace="a.b"), "/document/namespace", "DNS label"),
    (header(name="-a"), "/document/name", "DNS label"),
    (header(name="a\n"), "/document/name", "DNS label"),
    (header(name="a" * 64), "/document/name", "DNS label"),
    (header(name=""), "/document/name", "must not be empty"),
    (header(version="1.0"), "/document/version", "semantic version"),
    (header(version="01.0.0"), "/document/version", "semantic version"),
    (header(title=7), "/document/title", "a string"),
    (header(tags=[]), "/document/tags", "an object"),
    (header(metadata=""), "/document/metadata", "an object"),
    (header(Version="1.0.0"), "/document/Version", "did you mean 'version'?"),
    # blocks and names
    (document(do=[]), "/do", "at least one task"),
    (document(do={"a": SET}), "/do", "an array"),
    (document(do=["a"]), "/do/0", "an object"),
    (document(do=[{"a": SET, "b": SET}]), "/do/0", "one property"),
    (document(do=[{}]), "/do/0", "one property"),
    (document({"a": SET}, {"a": SET}), "/do/1/a", "twice in this block, first at /do/0/a"),
    (document({"end": SET}), "/do/0", "flow directive"),
    (document({"": SET}), "/do/0/", "usable name"),
    (document({"a\u200b": SET}), "/do/0/a\u200b", "usable name"),
    (document({"a" * 256: SET}), "/do/0/" + "a" * 256, "usable name"),
    (task({"do": []}), "/do/0/a/do", "at least one task"),
    (task({"try": [], "catch": {}}), "/do/0/a/try", "at least one task"),
    (caught(do=[]), f"{CATCH}/do", "at least one task"),
    (task({"fork": {"branches": []}}), "/do/0/a/fork/branches", "at least one task"),
    # which task
    (task({}), "/do/0/a", "exactly one property that says what it does"),
    (task(None), "/do/0/a", "an object"),
    (task({"call": "x", "set": {"a": 1}}), "/do/0/a", "found call, set"),
    (task({"sett": {"a": 1}}), "/do/0/a/sett", "did you mean 'set'?"),
    (task({"wiat": "PT1S"}), "/do/0/a/wiat", "did you mean 'wait'?"),
    (task({**SET, "Then": "end"}), "/do/0/a/Then", "did you mean 'then'?"),
    (task({**SET, "with": {}}), "/do/0/a/with", "unknown property"),
    (task({**SET, "a/b~c": 1}), "/do/0/a/a~1b~0c", "unknown property"),
    # what every task may have
    (task({**SET, "if": ".a =="}), "/do/0/a/if", "jq expression"),
    (task({**SET, "if": True}), "/do/0/a/if", "a string"),
    (task({**SET, "if": ""}), "/do/0/a/if", "must not be empty"),
    (task({**SET, "then": "b"}), "/do/0/a/then", "no such task in this block"),
    (task({**SET, "then": 1}), "/do/0/a/then", "a string"),
    (task({**SET, "input": {"as": "."}}), "/do/0/a/input/as", "unknown property"),
    (task({**SET, "input": {"from": 1}}), "/do/0/a/input/from", "a string or an object"),
    (task({**SET, "output": {"as": {"b": ["${ .[ }"]}}}), "/do/0/a/output/as/b/0", "jq"),
    (task({**SET, "input": {"schema": {}}}), "/do/0/a/input/schema", "exactly one"),
    (
        task({**SET, "input": {"schema": {"document": "x"}}}),
        "/do/0/a/input/schema/document",
        "JSON schema",
    ),
    (task({**SET, "timeout": "soon"}), "/do/0/a/timeout", "no such name in use.timeouts"),
    (task({**SET, "timeout": "PT1S"}), "/do/0/a/timeout", "write {after: PT1S}"),
    (task({**SET, "timeout": {}}), "/do/0/a/timeout", "'after' is required"),
    (task({**SET, "timeout": {"after": "PT0S"}}), "/do/0/a/timeout/after", "longer than nothing"),
    (task({**SET, "timeout": {"after": {"seconds": 0}}}), "/do/0/a/timeout/after", "longer"),
    (task({**SET, "metadata": {"orchx": {"aftr": []}}}), "/do/0/a/metadata/orchx/aftr", "'after'"),
    (task({**SET, "metadata": {"orchx.pool": "x"}}), "/do/0/a/metadata/orchx.pool", "orchx: {"),
    (
        task({**SET, "metadata": {"orchx": {"isolation": "x"}}}),
        "/do/0/a/metadata/orchx/isolation",
        "dedicated",
    ),
    # set, switch, wait, raise
    (task({"set": {}}), "/do/0/a/set", "nothing to set"),
    (task({"set": []}), "/do/0/a/set", "a string or an object"),
    (task({"set": {"b": {"c": "${ ( }"}}}), "/do/0/a/set/b/c", "jq"),
    (task({"switch": []}), "/do/0/a/switch", "at least one case"),
    (task({"switch": [{"x": {}}]}), "/do/0/a/switch/0/x", "'then' is required"),
    (task({"switch": [{"x": {"then": "zz"}}]}), "/do/0/a/switch/0/x/then", "no such task"),
    (
        task({"switch": [{"x": {"then": "end"}}, {"y": {"then": "end"}}]}),
        "/do/0/a/switch/1/y",
        "one default case at most",
    ),
    (
        task({"switch": [{"x": {"when": ".", "then": "end"}}] * 2}),
        "/do/0/a/switch/1/x",
        "stands twice",
    ),
    (task({"wait": "1s"}), "/do/0/a/wait", "ISO 8601"),
    (task({"wait": "P1Y"}), "/do/0/a/wait", "no fixed length"),
    (task({"wait": "P" + "9" * 50 + "D"}), "/do/0/a/wait", "century"),
    (task({"wait": {}}), "/do/0/a/wait", "at least one unit"),
    (task({"wait": {"second": 1}}), "/do/0/a/wait/second", "did you mean 'seconds'?"),
    (task({"wait": {"seconds": -1}}), "/do/0/a/wait/seconds", "out of range"),
    (task({"wait": {"seconds": 1.5}}), "/do/0/a/wait/seconds", "an integer"),
    (task({"wait": {"seconds": True}}), "/do/0/a/wait/seconds", "an integer"),
    (task({"wait": 5}), "/do/0/a/wait", "not a duration"),
    (task({"raise": {}}), "/do/0/a/raise", "'error' is required"),
    (task({"raise": {"error": "x"}}), "/do/0/a/raise/error", "no such name in use.errors"),
    (task({"raise": {"error": {"status": 1}}}), "/do/0/a/raise/error", "'type' is required"),
    (
        task({"raise": {"error": {"type": "x", "status": 400}}}),
        "/do/0/a/raise/error/type",
        "not a URI",
    ),
    (
        task({"raise": {"error": {"type": "https://x", "status": "x"}}}),
        "/do/0/a/raise/error/status",
        "an integer",
    ),
    # for, fork, try
    (task({"for": {"in": "."}}), "/do/0/a", "'do' is required"),
    (task({"for": {}, "do": [{"b": SET}]}), "/do/0/a/for", "'in' is required"),
    (
        task({"for": {"in": ".", "each": "x", "at": "x"}, "do": [{"b": SET}]}),
        "/do/0/a/for",
        "both named 'x'",
    ),
    (
        task({"for": {"in": ".", "each": "index"}, "do": [{"b": SET}]}),
        "/do/0/a/for",
        "both named 'index'",
    ),
    (task({"for": {"in": ".", "each": "$x"}, "do": [{"b": SET}]}), "/do/0/a/for/each", "without $"),
    (
        task({"for": {"in": ".", "at": "context"}, "do": [{"b": SET}]}),
        "/do/0/a/for/at",
        "$context already means",
    ),
    (task({"for": {"in": [1]}, "do": [{"b": SET}]}), "/do/0/a/for/in", "a string"),
    (task({"fork": {"branches": [{"b": SET}], "compete": 1}}), "/do/0/a/fork/compete", "true or"),
    (
        task({"fork": {"branches": [{"b": {**SET, "then": "c"}}, {"c": SET}]}}),
        "/do/0/a/fork/branches/0/b/then",
        "cannot go on with another branch",
    ),
    (branches(("b", ["x"])), AFTER.format("0/b") + "/0", "no such branch"),
    (branches(("b", ["b"])), AFTER.format("0/b"), "b -> b"),
    (branches(("b", ["c"]), ("c", ["d"]), ("d", ["c"])), AFTER.format("1/c"), "c -> d -> c"),
    (task({**SET, "metadata": {"orchx": {"after": []}}}), "/do/0/a/metadata/orchx/after", "fork"),
    (task({"try": [{"b": SET}]}), "/do/0/a", "'catch' is required"),
    (caught(error={}), f"{CATCH}/error", "did you mean 'errors'?"),
    (caught(errors={"with": {}}), f"{CATCH}/errors/with", "at least one member"),
    (caught(errors={"with": {"status": "404"}}), f"{CATCH}/errors/with/status", "an integer"),
    (caught(**{"as": "a-b"}), f"{CATCH}/as", "variable"),
    (caught(retry="x"), RETRY, "no such name in use.retries"),
    (retried(limit={"attempt": {"count": 0}}), f"{RETRY}/limit/attempt/count", "from 1 to"),
    (retried(limit={"attempt": {"count": 10**6}}), f"{RETRY}/limit/attempt/count", "from 1 to"),
    (retried(limit={"duration": "PT0S"}), f"{RETRY}/limit/duration", "longer"),
    (retried(backoff={}), f"{RETRY}/backoff", "exactly one"),
    (retried(backoff={"constant": {}, "linear": {}}), f"{RETRY}/backoff", "found constant, linear"),
    (
        retried(backoff={"exponential": {"factor": 0.5}}),
        f"{RETRY}/backoff/exponential/factor",
        "a number from 1",
    ),
    (
        retried(backoff={"linear": {"incremnt": "PT1S"}}),
        f"{RETRY}/backoff/linear/incremnt",
        "did you mean 'increment'?",
    ),
    (retried(jitter={"from": "PT1S"}), f"{RETRY}/jitter", "'to' is required"),
    (retried(jitter={"from": "PT2S", "to": "PT1S"}), f"{RETRY}/jitter", "longer than its `to`"),
    (retried(delay="${ .[ }"), f"{RETRY}/delay", "jq"),
    # call and run
    (task({"call": 1}), "/do/0/a/call", "a string"),
    (task({"call": "a b"}), "/do/0/a/call", "name of a function"),
    (task({"call": "x", "with": []}), "/do/0/a/with", "an object"),
    (task({"call": "http"}), "/do/0/a", "'with' is required"),
    (http(url="x"), "/do/0/a/with/url", "unknown property"),
    (http(method=""), "/do/0/a/with/method", "empty"),
    (http(method="GET /"), "/do/0/a/with/method", "HTTP method"),
    (http(endpoint="example.com"), "/do/0/a/with/endpoint", "not a URI"),
    (http(endpoint={}), "/do/0/a/with/endpoint", "'uri' is required"),
    (http(headers={"x": {}}), "/do/0/a/with/headers/x", "sent as text"),
    (http(headers="x"), "/do/0/a/with/headers", "an object"),
    (http(output="text"), "/do/0/a/with/output", "one of content, raw, response"),
    (http(redirect="yes"), "/do/0/a/with/redirect", "true or false"),
    (task({"call": "openapi", "with": {}}), "/do/0/a/with", "'operationId' is required"),
    (
        task({"call": "openapi", "with": {"document": {}, "operationId": "x"}}),
        "/do/0/a/with/document",
        "'endpoint' is required",
    ),
    (task({"run": {}}), "/do/0/a/run", "exactly one"),
    (task({"run": {"workflow": {"name": "x"}}}), "/do/0/a/run/workflow", "'namespace' is required"),
    (
        task({"run": {"workflow": {"name": "x", "namespace": "y", "version": "1"}}}),
        "/do/0/a/run/workflow/version",
        "semantic version",
    ),
    (task({"run": {"shell": {}, "script": {}}}), "/do/0/a/run", "found script, shell"),
    # emit and listen
    (task({"emit": {}}), "/do/0/a/emit", "'event' is required"),
    (task({"emit": {"event": {"with": {"type": "x"}}}}), "/do/0/a/emit/event/with", "'source'"),
    (
        task({"emit": {"event": {"with": {"type": 1, "source": "https://x"}}}}),
        "/do/0/a/emit/event/with/type",
        "a string",
    ),
    (task({"listen": {}}), "/do/0/a/listen", "'to' is required"),
    (task({"listen": {"to": {}}}), "/do/0/a/listen/to", "exactly one"),
    (
        task({"listen": {"to": {"one": {"with": {"type": "order.(made"}}}}}),
        "/do/0/a/listen/to/one/with/type",
        "not a regular expression",
    ),
    (
        task({"listen": {"to": {"any": [{"with": {"source": "https://x/[a-"}}]}}}),
        "/do/0/a/listen/to/any/0/with/source",
        "not a regular expression",
    ),
    (
        task({"listen": {"to": {"one": {"with": {"source": "no uri"}}}}}),
        "/do/0/a/listen/to/one/with/source",
        "not a URI",
    ),
    (
        task({"emit": {"event": {"with": {"source": ".*", "type": "t"}}}}),
        "/do/0/a/emit/event/with/source",
        "not a URI",
    ),
    (task({"listen": {"to": {"one": {}}}}), "/do/0/a/listen/to/one", "'with' is required"),
    (
        task({"listen": {"to": {"one": {"with": {}}}}}),
        "/do/0/a/listen/to/one/with",
        "at least one attribute",
    ),
    (task({"listen": {"to": {"all": []}}}), "/do/0/a/listen/to/all", "at least one filter"),
    (task({"listen": {"to": {"any": {}}}}), "/do/0/a/listen/to/any", "an array"),
    (task({"listen": {"to": {"any": []}, "read": "x"}}), "/do/0/a/listen/read", "envelope"),
    (
        task({"listen": {"to": {"one": {"with": {"type": "x"}, "correlate": {"r": {}}}}}}),
        "/do/0/a/listen/to/one/correlate/r",
        "'from' is required",
    ),
    # reusable components, checked whether used or not
    (document(use=[]), "/use", "an object"),
    (document(use={"error": {}}), "/use/error", "did you mean 'errors'?"),
    (document(use={"errors": {"x": {}}}), "/use/errors/x", "'type' is required"),
    (document(use={"timeouts": {"x": {"after": "x"}}}), "/use/timeouts/x/after", "ISO 8601"),
    (document(use={"retries": {"x": {"when": "("}}}), "/use/retries/x/when", "jq"),
    (document(use={"functions": {"x": {}}}), "/use/functions/x", "exactly one property"),
    (document(use={"functions": {"x": 1}}), "/use/functions/x", "an object"),
    (document(use={"functions": {"http": SET}}), "/use/functions/http", "reserved"),
    (
        document(use={"functions": {"x": {**SET, "then": "a"}}}),
        "/use/functions/x/then",
        "no such task",
    ),
    (document(timeout="x"), "/timeout", "use.timeouts"),
    (document(evaluate={"mode": "lose"}), "/evaluate/mode", "one of strict, loose"),
]


@pytest.mark.parametrize(
    ("source", "pointer", "part"), INVALID, ids=[f"{row[1]}-{row[2]}" for row in INVALID]
)
def test_what_is_wrong_is_said_where_it_is(source: Any, pointer: str, part: str) -> None:
    found = violations(source)
    assert pointer in found
    assert part in found[pointer]


UNSUPPORTED: list[tuple[dict[str, Any], str]] = [
    *((task({"call": name, "with": {}}), "/do/0/a/call") for name in ("grpc", "mcp", "a2a")),
    (task({"call": "log:1.0.0@global"}), "/do/0/a/call"),
    (task({"call": "https://example.com/function.yaml"}), "/do/0/a/call"),
    (task({"run": {"shell": {"command": "ls"}}}), "/do/0/a/run/shell"),
    (
        task({"run": {"workflow": {"namespace": "n", "name": "x"}, "return": "none"}}),
        "/do/0/a/run/return",
    ),
    (
        http(endpoint={"uri": "https://x", "authentication": {"use": "y"}}),
        "/do/0/a/with/endpoint/authentication",
    ),
    (document(use={"secrets": ["x"]}), "/use/secrets"),
    (document(use={"catalogs": {"x": {"endpoint": "https://x"}}}), "/use/catalogs"),
    (document(schedule={"cron": "* * * * *"}), "/schedule"),
    (document(evaluate={"mode": "loose"}), "/evaluate/mode"),
    (document(evaluate={"language": "js"}), "/evaluate/language"),
    (
        document(input={"schema": {"resource": {"endpoint": "https://x"}}}),
        "/input/schema",
    ),
    (document(input={"schema": {"format": "avro", "document": {}}}), "/input/schema/format"),
    (task({"set": {"a": "${ $secrets.x }"}}), "/do/0/a/set"),
    (
        task({"listen": {"to": {"one": {"with": {"type": "${ .x }"}}}}}),
        "/do/0/a/listen/to/one/with/type",
    ),
]


@pytest.mark.parametrize(("source", "pointer"), UNSUPPORTED, ids=[row[1] for row in UNSUPPORTED])
def test_valid_but_not_run_is_told_apart_from_invalid(source: Any, pointer: str) -> None:
    assert "not supported" in violations(source, UnsupportedFeature)[pointer]


def test_an_invalid_document_is_never_called_unsupported() -> None:
    source = document({"a": {"call": "grpc"}}, {"b": {"set": {}}})
    assert set(violations(source)) == {"/do/1/b/set"}


def test_everything_wrong_is_said_at_once_up_to_a_limit() -> None:
    found = violations({"document": {}, "do": [{"a": {"wait": "x", "if": 1}}], "use": 3})
    assert {"/document", "/do/0/a/wait", "/do/0/a/if", "/use"} <= set(found)
    many = document(*({f"t{index}": {"wait": "x"}} for index in range(200)))
    assert len(violations(many)) == MAX_VIOLATIONS


def test_too_many_tasks() -> None:
    parse_definition(document(*({f"t{i}": SET} for i in range(MAX_TASKS))))
    found = violations(document(*({f"t{i}": SET} for i in range(MAX_TASKS + 1))))
    assert str(MAX_TASKS) in found[""]


def test_functions_cannot_multiply_beyond_the_limit_of_tasks() -> None:
    twice = {
        f"f{i}": {"do": [{"a": {"call": f"f{i + 1}"}}, {"b": {"call": f"f{i + 1}"}}]}
        for i in range(30)
    }
    source = document({"a": {"call": "f0"}}, use={"functions": {**twice, "f30": SET}})
    assert any("nested" in text or str(MAX_TASKS) in text for text in violations(source).values())


@pytest.mark.parametrize(
    "functions", [{"f": {"call": "f"}}, {"f": {"call": "g"}, "g": {"call": "f"}}]
)
def test_a_function_cannot_call_itself(functions: dict[str, Any]) -> None:
    source = document({"a": {"call": "f"}}, use={"functions": functions})
    assert any("calls itself: f -> " in text for text in violations(source).values())


def test_a_wrong_function_is_reported_once_however_often_it_is_called() -> None:
    source = document(
        {"a": {"call": "f"}}, {"b": {"call": "f"}}, use={"functions": {"f": {"wait": "x"}}}
    )
    assert list(violations(source)) == ["/use/functions/f/wait"]


def test_lines_are_those_of_the_text() -> None:
    text = textwrap.dedent(
        """\
        document:
          dsl: '1.0.3'
          namespace: test
          name: lines
          version: 1.0
        do:
          - first:
              set:
                a: ${ .b | }
              then: nowhere
          - second:
              switch:
                - x: {when: .a}
        """
    )
    expected = {
        "/document/version": 5,
        "/do/0/first/set/a": 9,
        "/do/0/first/then": 10,
        "/do/1/second/switch/0/x": 13,
    }
    with pytest.raises(InvalidDocument) as caught:
        read_definition(text)
    assert {v.pointer: v.line for v in caught.value.violations} == expected
    assert "/do/0/first/then (line 10): " in str(caught.value)


def test_json_text_has_lines_too() -> None:
    text = '{\n "document": {},\n "do": [\n  {"a": {"wait":\n   "x"}}\n ]\n}'
    with pytest.raises(InvalidDocument) as caught:
        read_definition(text, content_type="application/json")
    lines = {v.pointer: v.line for v in caught.value.violations}
    assert lines["/do/0/a/wait"] == 4
    assert lines["/document"] == 2
