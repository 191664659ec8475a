"""Reads runtime expressions and templates, each parsed once, and notes what running them needs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from orchx.domain.document_limits import MAX_EXPRESSIONS
from orchx.domain.document_reader import Node
from orchx.domain.expressions import (
    Expression,
    ExpressionSyntaxError,
    Template,
    evaluate,
    parse_expression,
    parse_template,
)
from orchx.domain.faults import WorkflowFault
from orchx.domain.json_values import JSON

PLACEHOLDER: Final = parse_expression(".")
_EXPECTED = "a jq expression"
# `.` and `-` are left out: every event type and address has them, and means them.
_PATTERN = re.compile(r"[\\^$*+?{}\[\]|()]")


def is_expression(value: JSON) -> bool:
    """Return whether `value` is text enclosed as the DSL encloses expressions: `${ ... }`."""
    return (
        isinstance(value, str) and value.strip().startswith("${") and value.rstrip().endswith("}")
    )


def is_pattern(value: JSON) -> bool:
    """Return whether `value` is text that looks like a regular expression."""
    return isinstance(value, str) and "${" not in value and _PATTERN.search(value) is not None


class ExpressionReader:
    """Parses the expressions of one document.

    `needs_sandbox` turns true with the first one that is not bounded.
    """

    def __init__(self) -> None:
        self.needs_sandbox = False
        self._expressions: dict[str, Expression] = {}
        self._templates: dict[str, Template] = {}  # by pointer: a function is read once per call
        self._programs = 0

    def expression(self, node: Node) -> Expression:
        """Return the expression at `node`, enclosed in `${ }` or not."""
        text = node.text()
        if not text:
            return PLACEHOLDER
        known = self._expressions.get(text)
        if known is None:
            known = self._parse(node, text)
        self._check_variables(node, known)
        return known

    def optional(self, node: Node | None) -> Expression | None:
        """Return the expression at `node`, or None where there is none."""
        return None if node is None else self.expression(node)

    def pattern(self, node: Node) -> Expression:
        """Return the condition that text is as at `node`, or as the regular expression there.

        The expression has to match the whole text. It is jq's kind (Oniguruma), which may
        take for ever, so it is never bounded.
        """
        text = node.text()
        whole = json.dumps(rf"\A(?:{text})\z")
        same = f'. == {json.dumps(text)} or (type == "string" and test({whole}))'
        found = self.expression(replace(node, value=same))
        if found is not PLACEHOLDER:
            try:
                evaluate(found, "", {})
            except WorkflowFault as error:
                why = error.fault.detail or error.fault.title
                node.fail(f"this is not a regular expression: {why}")
        return found

    def template(self, node: Node) -> Template:
        """Return the template at `node`: JSON of which any text may be an expression."""
        if node.pointer in self._templates:
            return self._templates[node.pointer]
        if not self._has_room(node):
            return Template(constant=None, expression=None)
        try:
            template = parse_template(node.value)
        except ExpressionSyntaxError as error:
            if not self._blame_leaves(node):
                node.fail(str(error), expected=_EXPECTED)
            template = Template(constant=None, expression=None)
        else:
            self.needs_sandbox = self.needs_sandbox or not template.bounded
            if template.expression is not None:
                self._programs += 1
                self._check_variables(node, template.expression)
        self._templates[node.pointer] = template
        return template

    def transformation(self, node: Node) -> Template:
        """Return what makes data of data (`from`, `as`, `set`): an expression or an object."""
        if isinstance(node.value, str):
            return Template(constant=None, expression=self.expression(node))
        if not isinstance(node.value, Mapping):
            node.fail("this must be an expression or an object", expected="a string or an object")
            return Template(constant=None, expression=None)
        return self.template(node)

    def _parse(self, node: Node, text: str) -> Expression:
        if not self._has_room(node):
            return PLACEHOLDER
        try:
            parsed = parse_expression(text)
        except ExpressionSyntaxError as error:
            node.fail(str(error), expected=_EXPECTED)
            return PLACEHOLDER
        self._expressions[text] = parsed
        self._programs += 1
        self.needs_sandbox = self.needs_sandbox or not parsed.bounded
        return parsed

    def _has_room(self, node: Node) -> bool:
        if self._programs < MAX_EXPRESSIONS:
            return True
        node.report.invalid("", f"the document has more than {MAX_EXPRESSIONS} expressions")
        return False

    def _check_variables(self, node: Node, expression: Expression) -> None:
        if "secrets" in {name.lstrip("$") for name in expression.variables}:
            node.report.unsupported(node.pointer, "$secrets")

    def _blame_leaves(self, node: Node) -> bool:
        """Record the very texts inside `node` that do not parse; return whether there were any."""
        children = [child for _, child in node.entries()]
        if isinstance(node.value, (list, tuple)):
            children = node.items()
        if children:
            return sum(self._blame_leaves(child) for child in children) > 0  # every one is asked
        if node.report.is_full or not isinstance(node.value, str) or "${" not in node.value:
            return False
        try:
            parse_template(node.value)
        except ExpressionSyntaxError as error:
            node.fail(str(error), expected=_EXPECTED)
            return True
        return False
