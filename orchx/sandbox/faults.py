"""What goes wrong on purpose: settings per service or operation, drawn from a seed."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from typing import Annotated, Final, Literal, get_args

import msgspec
from msgspec import Meta, Struct

from orchx.sandbox.wrong_answers import WrongAnswer

Rate = Annotated[float, Meta(ge=0, le=1)]
DelayMs = Annotated[float, Meta(ge=0, le=600_000)]
ErrorStatus = Literal[429, 500, 503]
FLOOD_DEFAULT_BYTES: Final = 16 << 20
ALL_WRONG_ANSWERS: Final[tuple[WrongAnswer, ...]] = get_args(WrongAnswer)


class Burst(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A run of failures: `count` calls fail, after `after_calls` calls that do not."""

    count: Annotated[int, Meta(ge=1)]
    after_calls: Annotated[int, Meta(ge=0)] = 0
    status: ErrorStatus = 503


class FaultSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a service misbehaves. Rates are probabilities per call, 0 to 1.

    `dead` cuts every connection before anything is read; `lose_response_rate` cuts it
    after the effect is done; `hang_s` delays the effect, it does not prevent it.
    """

    seed: int = 0
    latency_ms: DelayMs = 0
    latency_jitter_ms: DelayMs = 0
    error_rate: Rate = 0
    error_status: ErrorStatus = 503
    retry_after_s: Annotated[int, Meta(ge=0)] | None = None
    hang_rate: Rate = 0
    hang_s: Annotated[float, Meta(ge=0, le=3_600)] = 30
    wrong_answer_rate: Rate = 0
    wrong_answers: Annotated[tuple[WrongAnswer, ...], Meta(min_length=1)] = ALL_WRONG_ANSWERS
    flood_bytes: Annotated[int, Meta(ge=1, le=1 << 30)] = FLOOD_DEFAULT_BYTES
    lose_response_rate: Rate = 0
    burst: Burst | None = None
    dead: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What happens to one call."""

    drop: bool = False
    delay_s: float = 0.0
    status: int | None = None
    retry_after_s: int | None = None
    lose_response: bool = False
    wrong_answer: WrongAnswer | None = None
    flood_bytes: int = 0


NO_FAULT: Final = Fault()


class FaultPlan:
    """Draws the faults of one service or operation, in the order of its calls."""

    def __init__(self, settings: FaultSettings) -> None:
        self.settings = settings
        self.calls = 0
        self.injected: Counter[str] = Counter()
        self._random = random.Random(settings.seed)

    def draw(self) -> Fault:
        """Decide about the next call; the same seed gives the same sequence."""
        settings = self.settings
        index = self.calls
        self.calls += 1
        # As many draws for every call, so that changing one rate leaves the others' calls alone.
        jitter, error, hang, wrong, kind, lose = (self._random.random() for _ in range(6))
        delay_s = (settings.latency_ms + jitter * settings.latency_jitter_ms) / 1_000
        if hang < settings.hang_rate:
            delay_s += settings.hang_s
            self.injected["hang"] += 1
        status: int | None = settings.error_status if error < settings.error_rate else None
        burst = settings.burst
        if burst and burst.after_calls <= index < burst.after_calls + burst.count:
            status = burst.status
        wrong_answer: WrongAnswer | None = None
        lose_response = False
        if settings.dead:
            self.injected["dead"] += 1
        elif status is not None:
            self.injected[f"status_{status}"] += 1
        elif lose < settings.lose_response_rate:
            lose_response = True
            self.injected["lose_response"] += 1
        elif wrong < settings.wrong_answer_rate:
            wrong_answer = settings.wrong_answers[int(kind * len(settings.wrong_answers))]
            self.injected[wrong_answer] += 1
        return Fault(
            drop=settings.dead,
            delay_s=delay_s,
            status=status,
            retry_after_s=settings.retry_after_s,
            lose_response=lose_response,
            wrong_answer=wrong_answer,
            flood_bytes=settings.flood_bytes,
        )


class FaultBoard:
    """The plans in force, until a restart. An operation's plan replaces its service's."""

    def __init__(self) -> None:
        self._plans: dict[tuple[str, str | None], FaultPlan] = {}

    def configure(self, service: str, operation: str | None, settings: FaultSettings) -> None:
        """Put a plan in force, restarting its sequence of draws."""
        self._plans[service, operation] = FaultPlan(settings)

    def reset(self, service: str | None = None, operation: str | None = None) -> None:
        """Remove the plans of everything, of one service, or of one operation."""
        self._plans = {
            (other_service, other_operation): plan
            for (other_service, other_operation), plan in self._plans.items()
            if (service is not None and other_service != service)
            or (operation is not None and other_operation != operation)
        }

    def draw(self, service: str, operation: str) -> Fault:
        """Decide about the next call of this operation."""
        if not self._plans:
            return NO_FAULT
        plan = self._plans.get((service, operation)) or self._plans.get((service, None))
        return plan.draw() if plan else NO_FAULT

    def report(self) -> list[dict[str, object]]:
        """Describe every plan in force, with what it has injected so far."""
        return [
            {
                "service": service,
                "operation": operation,
                "calls": plan.calls,
                "injected": dict(plan.injected),
                "settings": msgspec.to_builtins(plan.settings),
            }
            for (service, operation), plan in self._plans.items()
        ]
