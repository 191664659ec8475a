"""The policy before anything is learned: the preferred service, unless it has just failed."""

from __future__ import annotations

from orchx.domain.decisions import Choice, Question

VERSION = "static-1"


class StaticPolicy:
    """Chooses the alternative that failed this task least; the preferred one among equals.

    Deterministic: the chosen alternative's propensity is 1.
    """

    @property
    def version(self) -> str:
        """Name this policy in decisions."""
        return VERSION

    def choose(self, question: Question, draw: float) -> Choice:
        """Choose; `draw` is not needed."""
        failures = question.failures
        chosen = min(question.alternatives, key=lambda name: failures.get(name, 0))
        return Choice(
            chosen=chosen,
            alternatives=question.alternatives,
            propensities=[float(name == chosen) for name in question.alternatives],
            policy=VERSION,
            features={**question.features, "failures": dict(failures)},
        )
