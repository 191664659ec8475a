"""What the demo's systems ask for, drawn from a seed, and what each request must come to."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from orchx.cli.demo_variants import SYSTEM_OF, VARIANTS, Decision

SYSTEMS: Final = ("hr", "finance", "it")
_RESUBMITTED_SHARE: Final = 0.15
_WINDOW_S_PER_REQUEST: Final = 0.13
_WINDOW_MAX_S: Final = 8.0
_MORE_PER_S: Final = 50.0  # beyond that window, this many requests a second


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One request and what it is meant to come to.

    `ending` is `completed`, or the last part of the error type that it must fail with;
    `effects` how many effects of each operation it must cause, its children's included;
    `at_s` when to submit it; `resubmitted`: sent twice with its key.
    """

    number: int
    system: str
    type: str
    variant: str
    key: str
    input: Mapping[str, Any]
    ending: str
    effects: Mapping[str, int]
    at_s: float
    decision: Decision | None = None
    resubmitted: bool = False


def draw_cases(requests: int, seed: int, run: str) -> tuple[Case, ...]:
    """Return that many cases in the order of their submission.

    Every variant of every type comes once before any comes twice, as far as `requests`
    goes; how often each type comes after that is drawn too. `run` makes the keys unique.
    """
    draw = random.Random(seed)  # noqa: S311  a demo that can be repeated, nothing secret
    types = list(VARIANTS)
    weights = [draw.uniform(0.7, 1.3) for _ in types]
    chosen = _each_once()[:requests]
    while len(chosen) < requests:
        (kind,) = draw.choices(types, weights)
        shares = [share for share, _ in VARIANTS[kind].values()]
        (variant,) = draw.choices(list(VARIANTS[kind]), shares)
        chosen.append((kind, variant))
    draw.shuffle(chosen)
    window_s = min(_WINDOW_S_PER_REQUEST * requests, _WINDOW_MAX_S) + requests / _MORE_PER_S
    times = sorted(draw.uniform(0, window_s) for _ in chosen)
    cases = []
    for number, ((kind, variant), at_s) in enumerate(zip(chosen, times, strict=True), 1):
        wish = VARIANTS[kind][variant][1](draw, number)
        cases.append(
            Case(
                number=number,
                system=SYSTEM_OF[kind],
                type=kind,
                variant=variant,
                key=f"{run}-{number}",
                input=wish.input,
                ending=wish.ending,
                effects=wish.effects,
                at_s=at_s,
                decision=wish.decision,
                resubmitted=number == 1 or draw.random() < _RESUBMITTED_SHARE,
            )
        )
    return tuple(cases)


def _each_once() -> list[tuple[str, str]]:
    """Return every variant once, a first one of each type before any second one."""
    columns: Sequence[list[tuple[str, str]]] = [
        [(kind, variant) for variant in variants] for kind, variants in VARIANTS.items()
    ]
    longest = max(map(len, columns))
    return [column[row] for row in range(longest) for column in columns if row < len(column)]
