"""The plain-Python paths give what jq gives; the cost analysis bounds what jq builds."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from orchx.domain.expression_costs import WORK_LIMIT
from orchx.domain.expressions import (
    Expression,
    evaluate,
    evaluate_with_jq,
    parse_expression,
    parse_template,
)
from orchx.domain.faults import WorkflowFault

NAMES = ("a", "b", "_c", "if", "and", "D9")
names = st.sampled_from(NAMES)
leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names | st.text(max_size=2).filter(
        lambda key: key.isascii()), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
fields = st.lists(names, max_size=4).map(lambda path: "".join(f".{name}" for name in path))
spaces = st.sampled_from(["", " ", "\n", " # c\n"])


@st.composite
def paths(draw: st.DrawFn) -> str:
    root = draw(st.sampled_from(["", "$x", "$context"]))
    path = root + draw(fields)
    return draw(spaces) + (path or ".") + draw(spaces)


templates = st.recursive(
    paths().map(lambda path: f"${{{path}}}") | leaves.filter(lambda leaf: "${" not in str(leaf)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)


def outcome(run: Any, expression: Expression, data: Any, variables: dict[str, Any]) -> Any:
    try:
        return ("value", run(expression, data, variables))
    except WorkflowFault as fault:
        return ("fault", fault.fault)


@settings(max_examples=150, deadline=None)
@given(path=paths(), data=values, x=values)
def test_a_path_gives_what_jq_gives(path: str, data: Any, x: Any) -> None:
    expression = parse_expression(path)
    variables = {"x": x, "context": {"a": data}}
    assert expression.plan is not None
    assert outcome(evaluate, expression, data, variables) == outcome(
        evaluate_with_jq, expression, data, variables
    )


@settings(max_examples=150, deadline=None)
@given(template=templates, data=values)
def test_a_template_of_paths_gives_what_jq_gives(template: Any, data: Any) -> None:
    expression = parse_template(template).expression
    if expression is None:
        return
    variables = {"x": data, "context": {"a": data}}
    assert expression.plan is not None
    assert outcome(evaluate, expression, data, variables) == outcome(
        evaluate_with_jq, expression, data, variables
    )


STEPS = r"""
[.,.] ; . + . ; {a: ., b: .} ; tojson ; tostring ; map(.) ; map([.,.]) ; map({a: .})
; map(tojson) ; to_entries ; split("") ; [.[]?] ; . * 8 ; add ; sort ; "\(.)!" ; ["\([.])"]
; map(select(. == $x)) ; [.[] | [., 1]] ; with_entries(.) ; join("--") ; keys ; ascii_upcase
; .a // .
"""
steps = st.sampled_from([step.strip() for step in STEPS.split(";")])


@settings(max_examples=150, deadline=None)
@given(program=st.lists(steps, min_size=1, max_size=5), data=values)
def test_a_bounded_program_builds_a_bounded_value(program: list[str], data: Any) -> None:
    expression = parse_expression(" | ".join(program))
    if not expression.bounded:
        return
    kind, value = outcome(evaluate, expression, data, {"x": data})
    if kind == "value":
        size = len(json.dumps(data)) + len(expression.source) + 16
        assert len(json.dumps(value)) <= WORK_LIMIT * size
