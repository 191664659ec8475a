"""Policies: what makes the agent's choices."""

from __future__ import annotations

from typing import Protocol

from orchx.domain.decisions import Choice, Question


class Policy(Protocol):
    """Chooses among alternatives. Pure and quick (microseconds): called inside a turn."""

    @property
    def version(self) -> str:
        """Name this immutable version, as decisions record it."""
        ...

    def choose(self, question: Question, draw: float) -> Choice:
        """Choose one alternative; `draw` in [0, 1) is the only randomness."""
        ...
