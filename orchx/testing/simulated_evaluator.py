"""The evaluator of simulated owners: now and then it has nobody who could evaluate."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from orchx.domain.expressions import Expression, evaluate
from orchx.domain.json_values import JSON
from orchx.errors import Unavailable


class SimulatedEvaluator:
    """Runs every expression here, unless it is short of children.

    Args:
        is_short: asked before each evaluation.
    """

    def __init__(self, is_short: Callable[[], bool]) -> None:
        self._is_short = is_short

    def evaluate(
        self,
        expression: Expression,
        data: JSON,
        variables: Mapping[str, JSON],
        *,
        may_block: bool = True,
    ) -> JSON:
        """Return the expression's value; see `Evaluator`.

        Raises:
            Unavailable: for now.
        """
        if self._is_short():
            raise Unavailable("no expression evaluator can be started")
        return evaluate(expression, data, variables)

    def close(self) -> None:
        """Let go of nothing."""
