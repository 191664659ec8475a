"""What a decision may ask of the world: time, expressions, choices. All of it injected.

`decide` gets an `Environment` and records every answer in events, so that replaying the
events asks nothing again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from orchx.domain.decisions import Choice, Question
from orchx.domain.document import Schema
from orchx.domain.expressions import Expression
from orchx.domain.json_values import JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class CallTarget:
    """Who can do a function: a registered Python task, or services that have the capability."""

    kind: Literal["function", "service"]
    pool: str = "io"
    services: Sequence[str] = ()
    timeout_ms: int | None = None


class Environment(Protocol):
    """One turn's view of the world. `now_ms` does not change within a turn."""

    @property
    def now_ms(self) -> int:
        """The time of this turn, epoch milliseconds."""
        ...

    @property
    def owner(self) -> str:
        """The name to which outcomes are pushed."""
        ...

    @property
    def traceparent(self) -> str | None:
        """The trace that this turn belongs to."""
        ...

    @property
    def runtime(self) -> Mapping[str, JSON]:
        """What `$runtime` shows: name, version, metadata."""
        ...

    def out_of_time(self) -> bool:
        """Return whether the turn should end here and another go on.

        The only answer that no event records: it decides where a turn ends, never what
        happens.
        """
        ...

    def evaluate(self, expression: Expression, data: JSON, variables: Mapping[str, JSON]) -> JSON:
        """Evaluate within limits; raises `WorkflowFault` of type expression."""
        ...

    def validate(self, schema: Schema, data: JSON) -> str | None:
        """Return what is wrong with `data`, the JSON pointer first; None if nothing."""
        ...

    def draw(self) -> float:
        """Return a random number in [0, 1)."""
        ...

    def target(self, function: str) -> CallTarget | None:
        """Return who can do a function; None if nobody can."""
        ...

    def choose(self, question: Question) -> Choice:
        """Let the policy in force choose."""
        ...
