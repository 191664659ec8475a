"""Runtime expressions: jq programs in `${ }`, alone or anywhere inside a JSON template.

Parsing finds every mistake that can be found without data; what remains is an expression
fault (400) at run time. No output means null; of several outputs the first one counts.
Numbers: a value that is only passed on keeps all its digits; what jq computes is a double,
so arithmetic beyond 2**53 is rounded.
Source: Serverless Workflow DSL 1.0.3, "Runtime Expressions"; ADR 0003.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from orchx.domain import expression_plans as plans
from orchx.domain import jq_programs
from orchx.domain.expression_templates import OPEN, expression_part, template_part
from orchx.domain.jq_tokens import ExpressionSyntaxError, Scanner
from orchx.domain.json_values import JSON

__all__ = [
    "Expression",
    "ExpressionSyntaxError",
    "Template",
    "evaluate",
    "parse_expression",
    "parse_template",
]


@dataclass(frozen=True, slots=True)
class Expression:
    """A checked jq program.

    `source` is its text without `${ }` (and without comments), `variables` are the names
    it takes from outside, `bounded` says that static analysis proved it cheap, so that it
    may run in the engine's process.
    """

    source: str
    variables: frozenset[str]
    bounded: bool
    plan: plans.Plan | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Template:
    """A JSON value with `${ }` expressions anywhere inside.

    `constant` is the value when there is no expression in it; else `expression` is the
    whole template as one program.
    """

    constant: JSON
    expression: Expression | None

    @property
    def bounded(self) -> bool:
        """Tell whether the template may be evaluated in this process."""
        return self.expression is None or self.expression.bounded


def parse_expression(text: str) -> Expression:
    """Return the expression of `.a.b` or `${ .a.b }`.

    Raises:
        ExpressionSyntaxError: not valid jq, too long, nested too deeply, or it names
            something impure.
    """
    stripped = text.strip()
    if stripped.startswith(OPEN):
        end = Scanner(stripped, len(OPEN)).scan(until_brace=True)
        if end != len(stripped) - 1:
            raise ExpressionSyntaxError("there is more text after the expression's `}`")
        stripped = stripped[len(OPEN) : end]
    part = expression_part(stripped)
    return Expression(part.source, part.variables, part.work is not None, part.plan)


def parse_template(value: JSON) -> Template:
    """Return a template: strings of the form `${ ... }` in it are expressions.

    A string that holds an expression and other text becomes a string, with each
    expression's value in its place (as jq's `tostring` writes it). Keys are constants.

    Raises:
        ExpressionSyntaxError: an expression in it is wrong (the message has its place as
            a JSON pointer), or the template is too large.
    """
    part = template_part(value)
    if isinstance(part.plan, plans.ConstantPlan):
        return Template(value, None)
    expression = Expression(part.source, part.variables, part.work is not None, part.plan)
    return Template(None, expression)


def evaluate(expression: Expression, data: JSON, variables: Mapping[str, JSON]) -> JSON:
    """Return the value of an expression for `.` = data, evaluated in this process.

    Nothing limits time and memory here: only bounded expressions belong here, the others
    into an `Evaluator`. The result may share parts with `data` and `variables`.

    Raises:
        WorkflowFault: type expression, status 400.
    """
    if expression.plan is not None:
        return plans.run_plan(expression.plan, data, variables)
    return evaluate_with_jq(expression, data, variables)


def evaluate_with_jq(expression: Expression, data: JSON, variables: Mapping[str, JSON]) -> JSON:
    """Do what `evaluate` does, always by jq.

    Raises:
        WorkflowFault: type expression, status 400.
    """
    encoded = jq_programs.encode_input(data, variables, expression.variables)
    program = jq_programs.program_text(expression.source, expression.variables)
    output = jq_programs.run(program, encoded)
    return None if output is None else jq_programs.decode_output(output)
