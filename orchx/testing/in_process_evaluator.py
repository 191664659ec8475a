"""An evaluator without processes and without limits: for tests and the simulator."""

from __future__ import annotations

from collections.abc import Mapping

from orchx.domain.expressions import Expression, evaluate
from orchx.domain.json_values import JSON
from orchx.errors import Unavailable


class InProcessEvaluator:
    """Runs every expression here. Only for expressions that the test's author wrote."""

    def __init__(self) -> None:
        self._closed = False

    def evaluate(
        self,
        expression: Expression,
        data: JSON,
        variables: Mapping[str, JSON],
        *,
        may_block: bool = True,
    ) -> JSON:
        """Return the expression's value; see `Evaluator`."""
        if self._closed:
            raise Unavailable("the evaluator is closed")
        return evaluate(expression, data, variables)

    def close(self) -> None:
        """Evaluate nothing from now on."""
        self._closed = True
