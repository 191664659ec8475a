"""Port: what evaluates runtime expressions, under limits where it must."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from orchx.domain.expressions import Expression
from orchx.domain.json_values import JSON


class WouldBlock(Exception):
    """No error: this evaluation may take long, and the caller may not. Do it in a thread."""


class Evaluator(Protocol):
    """Evaluates checked expressions. Safe to call from several threads."""

    def evaluate(
        self,
        expression: Expression,
        data: JSON,
        variables: Mapping[str, JSON],
        *,
        may_block: bool = True,
    ) -> JSON:
        """Return the expression's value for `.` = data; null if it has none.

        Args:
            expression: what to evaluate.
            data: what it calls `.`.
            variables: the values of its variables, by name without the `$`.
            may_block: whether the caller can wait for another process to answer.

        Raises:
            WorkflowFault: the expression failed or went over a limit (type expression,
                400), or no evaluator became free in time (type runtime, 503).
            WouldBlock: the caller would have to wait, and must not.
            TryLater, DriverError: nothing can be evaluated at the moment.
        """
        ...

    def close(self) -> None:
        """Let go of what the evaluator holds; it evaluates nothing afterwards."""
        ...
