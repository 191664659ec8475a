"""Port: what evaluates runtime expressions, under limits where it must."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from orchx.domain.expressions import Expression
from orchx.domain.json_values import JSON


class Evaluator(Protocol):
    """Evaluates checked expressions. Safe to call from several threads; blocks."""

    def evaluate(self, expression: Expression, data: JSON, variables: Mapping[str, JSON]) -> JSON:
        """Return the expression's value for `.` = data; null if it has none.

        Raises:
            WorkflowFault: the expression failed or went over a limit (type expression,
                400), or no evaluator became free in time (type runtime, 503).
        """
        ...

    def close(self) -> None:
        """Let go of what the evaluator holds; it evaluates nothing afterwards."""
        ...
