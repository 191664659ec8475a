"""The policy of simulated owners: it makes real choices, so that replays have to keep them."""

from __future__ import annotations

from orchx.domain.decisions import Choice, Question


class SimulatedPolicy:
    """Chooses what failed least, by chance among equals."""

    version = "simulated"

    def choose(self, question: Question, draw: float) -> Choice:
        """Choose one alternative."""
        least = min(question.failures.get(a, 0) for a in question.alternatives)
        best = [a for a in question.alternatives if question.failures.get(a, 0) == least]
        chosen = best[int(draw * len(best))]
        return Choice(
            chosen=chosen,
            alternatives=question.alternatives,
            propensities=[(a in best) / len(best) for a in question.alternatives],
            policy=self.version,
        )
