"""A choice the agent makes: the question, and the answer with its propensities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from orchx.domain.json_values import JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is to be chosen.

    `alternatives` is never empty; `features` are what may inform the choice; `failures`
    counts, per alternative, failures of this very task so far.
    """

    name: str
    alternatives: Sequence[str]
    features: Mapping[str, JSON] = field(default_factory=dict)
    failures: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """An answer. `propensities[i]` is how likely `alternatives[i]` was to be chosen."""

    chosen: str
    alternatives: Sequence[str]
    propensities: Sequence[float]
    policy: str
    features: Mapping[str, JSON] = field(default_factory=dict)
