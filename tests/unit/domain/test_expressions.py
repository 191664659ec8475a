"""What expressions and templates mean, and what is refused before it runs."""

from __future__ import annotations

import pickle
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from orchx.domain import jq_tokens
from orchx.domain.expressions import (
    Expression,
    ExpressionSyntaxError,
    Template,
    evaluate,
    evaluate_with_jq,
    parse_expression,
    parse_template,
)
from orchx.domain.faults import EXPRESSION, Fault, WorkflowFault
from orchx.domain.jq_programs import MAX_DETAIL_CHARS

BEYOND_DOUBLE = 2**60 + 1


def value_of(text: str, data: Any = None, **variables: Any) -> Any:
    return evaluate(parse_expression(text), data, variables)


def fault_of(text: str, data: Any = None, **variables: Any) -> Fault:
    with pytest.raises(WorkflowFault) as caught:
        value_of(text, data, **variables)
    return caught.value.fault


def filled(template: Any, data: Any = None, **variables: Any) -> Any:
    parsed = parse_template(template)
    if parsed.expression is None:
        return parsed.constant
    return evaluate(parsed.expression, data, variables)


@pytest.mark.parametrize(
    ("text", "data", "expected"),
    [
        (".", {"a": 1}, {"a": 1}),
        ("${ .a.b }", {"a": {"b": 2}}, 2),
        ("${.a}", {"a": False}, False),
        (".a.b", {"a": None}, None),
        (".a.b", None, None),
        (".and.if", {"and": {"if": 1}}, 1),
        ("empty", 1, None),
        (".[]", [], None),
        (".[]", [7, 8], 7),
        (".a | length", {"a": "xyz"}, 3),
        ('${ {a: {b: "}"}} }', None, {"a": {"b": "}"}}),
        (".a # a comment with a ( and a \\\n + 1", {"a": 1}, 2),
        ('"\\(.a) and \\(.b | "<\\(.)>")"', {"a": 1, "b": "x"}, "1 and <x>"),
        ("[limit(3; repeat(1))]", None, [1, 1, 1]),
        ('"ab" * 3', None, "ababab"),
        ("-2 * 3", None, -6),
    ],
)
def test_an_expression_gives_its_first_output_or_null(text: str, data: Any, expected: Any) -> None:
    assert value_of(text, data) == expected


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (".a", set()),
        ("$input", {"input"}),
        ("$context.a == .b", {"context"}),
        (". as $x | $x + $y", {"y"}),
        ("($c.a as $c | $c)", {"c"}),
        (". as [$a, {k: $b, $d}] | $a + $b + $d + $e", {"e"}),
        ("reduce .[] as $x (0; . + $x + $y)", {"y"}),
        ("foreach .[] as $x (0; . + $x)", set()),
        ("def f($p; $q): $p + $q; f(1; $r)", {"r"}),
        ("label $out | 1, break $out", set()),
        ("{$a, b: $b}", {"a", "b"}),
    ],
)
def test_variables_are_those_an_expression_does_not_bind_itself(text: str, names: set[str]) -> None:
    assert parse_expression(text).variables == names


def test_variables_are_bound_at_run_time() -> None:
    assert value_of("$context.n + $input + .", 1, context={"n": 10}, input=100, more=5) == 111
    expression = parse_expression(". as $x | {$x, $y, data: $data, if: $if}")
    variables = {"y": 2, "data": 3, "if": 4}
    assert evaluate(expression, 1, variables) == {"x": 1, "y": 2, "data": 3, "if": 4}


@pytest.mark.parametrize("text", ["$gone", "$gone.a", "1 + $gone"])
def test_a_variable_that_is_not_given_is_named_in_the_fault(text: str) -> None:
    fault = fault_of(text, {})
    assert (fault.type, fault.status) == (EXPRESSION, 400)
    assert fault.detail == "$gone is not available here"


@pytest.mark.parametrize(
    ("text", "data", "kind"),
    [(".a", 1, "number"), (".a", "s", "string"), (".a", [], "array"), (".a", True, "boolean")],
)
def test_indexing_what_has_no_members_is_a_fault(text: str, data: Any, kind: str) -> None:
    fault = fault_of(text, data)
    assert (fault.type, fault.status) == (EXPRESSION, 400)
    assert fault.detail == f'Cannot index {kind} with string ("a")'


def test_a_fault_quotes_a_limited_part_of_what_jq_says() -> None:
    detail = fault_of('error("x" * 100000)').detail
    assert detail is not None
    assert len(detail) <= MAX_DETAIL_CHARS + len("...")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("${ }", "empty"),
        ("# nothing", "empty"),
        (".a |", "unexpected"),
        (".a |\n  foo(1)", "foo/1 is not defined at line 2, column 3"),
        (".a)|(.b", "unexpected `)` at line 1, column 3"),
        ("[.a", "`[` is not closed at line 1, column 1"),
        ('"abc', "a string is not closed at line 1, column 1"),
        ('"abc \\(.a', "is not closed at line 1, column 6"),
        ("${ .a", "not closed"),
        ("${ .a } .b", "more text"),
        (".é", "unexpected"),
        ("." + " " * jq_tokens.MAX_TEXT_CHARS + "| .", "longer than"),
        ("+".join("." * jq_tokens.MAX_TOKENS), "more than"),
        ("(" * 65 + "." + ")" * 65, "nested deeper"),
    ],
)
def test_a_syntax_error_says_what_and_where(text: str, message: str) -> None:
    with pytest.raises(ExpressionSyntaxError, match=re.escape(message)):
        parse_expression(text)


@pytest.mark.parametrize(
    "text",
    [
        "env",
        "env.HOME",
        "$ENV",
        "$ENV.HOME",
        "input",
        "[inputs]",
        "debug",
        'debug("x")',
        "halt",
        'halt_error("x")',
        "stderr",
        "input_filename",
        "input_line_number",
        "modulemeta",
        "get_search_list",
        "now | localtime",
        'import "a" as a; .',
        'include "a"; .',
        "$__loc__",
        "$__data",
        "{a: (1, env, 2)}",
        "{a: if .x then 1, env, 2 else 3 end}",
        "{a: env}",
        "{(env): 1}",
        '"\\(env)"',
        '"\\("\\(env)")"',
        "[1, env]",
        "{a: 1} | env",
        ". # \\\n | env",
        "def f: env; f",
        "f(1; env)",
    ],
)
def test_what_reads_more_than_the_data_is_refused(text: str) -> None:
    with pytest.raises(ExpressionSyntaxError, match=r"not available|reserved"):
        parse_expression(text)


def test_a_member_may_be_called_like_a_refused_function() -> None:
    data = {"env": 1, "input": 2, "debug": 3}
    assert value_of("{input: .input, env, debug : .debug}", data) == data
    assert value_of('"env input"') == "env input"


def test_compiling_does_not_repeat_strings() -> None:
    """Folded at compile time this would take 2 GB, before any limit applies."""
    for factor in ("2000000000", "(2000000000)", "200 * 10000000", "2e9"):
        for text in (f'"x" * {factor}', f'{factor} * "x"', f'("x" * {factor}) | length'):
            assert not parse_expression(text).bounded


def test_numbers_that_are_passed_on_keep_their_digits() -> None:
    data = {"id": BEYOND_DOUBLE, "list": [BEYOND_DOUBLE, 0.1, 1e300, 10**40]}
    for text in (".", "{id, list}", "[.id, .list] | {id: .[0], list: .[1]}"):
        assert value_of(text, data) == data
    assert value_of(".id + 0", data) != BEYOND_DOUBLE  # jq computes with doubles


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("levels", [5_000, 200_000])
def test_deep_nesting_is_a_fault(levels: int) -> None:
    assert "deep" in fault_of("[.]", deep(levels)).title
    assert "deep" in fault_of(f"reduce range({levels}) as $i (0; [.])").title


@pytest.mark.parametrize("data", [object(), {"a": 1j}, "\ud800", b"\xff"])
def test_what_is_not_json_is_a_fault_or_text(data: Any) -> None:
    if isinstance(data, bytes):
        assert isinstance(value_of("[.]", data), list)
    else:
        assert "not JSON" in fault_of("[.]", data).title


@pytest.mark.parametrize("value", [None, 5, "text", "$ {x}", [1, {"a": "b"}], {}, {"$": "{ .a }"}])
def test_a_template_without_expressions_is_a_constant(value: Any) -> None:
    assert parse_template(value) == Template(value, None)
    assert parse_template(value).bounded


def test_a_template_is_one_program() -> None:
    template = {
        "path": "${ .x }",
        "deep": [1, None, {"a/b": "${ $v.q }"}],
        "text": 'hi \\(1) "${ .x }" and ${ .y }!',
        'key"\\(1)': "é😀\n",
        "nothing": "${ empty }",
        "first": "${ .list[] }",
        "false": "  ${ .no }\n",
        "computed": "${ .x + 1 }",
    }
    parsed = parse_template(template)
    assert parsed.expression is not None
    assert parsed.bounded
    assert parsed.expression.variables == {"v"}
    data = {"x": 1, "list": [4, 5], "no": False}
    assert evaluate(parsed.expression, data, {"v": {"q": [True]}}) == {
        "path": 1,
        "deep": [1, None, {"a/b": [True]}],
        "text": 'hi \\(1) "1" and null!',
        'key"\\(1)': "é😀\n",
        "nothing": None,
        "first": 4,
        "false": False,
        "computed": 2,
    }


@pytest.mark.parametrize(
    ("template", "data", "expected"),
    [
        ("${ .a } ${ .b }", {"a": 1, "b": [2]}, "1 [2]"),
        ('a ${ "\\(.b)" } b', {"b": '"'}, 'a " b'),
        ("${ {a: 1} }", None, {"a": 1}),
        ("${ empty }!", None, "null!"),
        ("${ .a }", {"a": {"b": 1}}, {"b": 1}),
        (["${ .a }", 10**30], {"a": 1}, [1, 10**30]),
        ({"a": "${ .a | length }", "n": 10**30}, {"a": "x"}, {"a": 1, "n": 10**30}),
    ],
)
def test_templates_of_text_and_values(template: Any, data: Any, expected: Any) -> None:
    assert filled(template, data) == expected


def test_template_errors_point_to_the_place() -> None:
    with pytest.raises(ExpressionSyntaxError, match=r"^/a/b~1c~0/0: foo/0 is not defined"):
        parse_template({"a": {"b/c~": ["${ foo }"]}})
    with pytest.raises(ExpressionSyntaxError, match="not closed"):
        parse_template("text ${ .a")
    with pytest.raises(ExpressionSyntaxError, match="/a: not JSON"):
        parse_template({"a": float("nan"), "b": "${ . }"})
    with pytest.raises(ExpressionSyntaxError, match="nested deeper"):
        parse_template(deep(100))
    with pytest.raises(ExpressionSyntaxError, match="template is longer"):
        parse_template({"a": "x" * 300_000, "b": "${ . }"})


def test_a_template_with_one_unbounded_part_is_unbounded() -> None:
    assert not parse_template({"a": "${ .a }", "b": "${ [range(3)] }"}).bounded
    assert not parse_template(["${ .a }"] * 300).bounded
    assert parse_template(["${ .a }"] * 100).bounded


def test_expressions_survive_pickling_and_run_without_a_plan() -> None:
    expression = parse_expression("$x.a")
    assert pickle.loads(pickle.dumps(expression)) == expression  # noqa: S301
    made = Expression(source="$x.a", variables=frozenset({"x"}), bounded=True)
    assert evaluate(made, None, {"x": {"a": 3}}) == 3
    assert evaluate_with_jq(expression, None, {"x": {"a": 3}}) == 3


def test_one_program_runs_in_several_threads() -> None:
    expression = parse_expression("[.items[] | .n + 1] | add")

    def run(n: int) -> bool:
        return bool(evaluate(expression, {"items": [{"n": n}] * 50}, {}) == (n + 1) * 50)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(run, range(500)))
