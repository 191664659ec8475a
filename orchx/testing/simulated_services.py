"""Simulated services: slow, failing, hanging, and with a ledger of what they really did."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from orchx.domain import faults
from orchx.domain.faults import Fault
from orchx.domain.json_values import JSON
from orchx.domain.messages import TaskOutcome, TaskRequest

SECRET_MARKER: Final = "planted-secret-f3a9"  # noqa: S105  only to be searched for

REJECTING = "fn.reject"
"""This function fails with 400, whatever the weather."""


@dataclass(slots=True, kw_only=True)
class Mood:
    """How services behave: probabilities per call, seconds."""

    fail: float = 0.0
    throttle: float = 0.0
    hang: float = 0.0
    lose_answer: float = 0.0
    slow: float = 0.0
    latency_s: float = 0.02
    slow_s: float = 4.0
    retry_after_ms: int = 700


def answer_of(key: str) -> JSON:
    """Return what a service answers to an idempotency key: always the same."""
    number = sum(key.encode())
    return {"key": key, "n": number % 7, "flag": number % 2 == 0, "items": [1, 2, 3][: number % 4]}


@dataclass(slots=True)
class Services:
    """All services, shared by all pools. `effects` counts what was done, by key.

    Args:
        called: told of every call that reaches a service.
    """

    chance: random.Random
    called: Callable[[TaskRequest], None]
    mood: Mood = field(default_factory=Mood)
    effects: Counter[str] = field(default_factory=Counter)
    credential: str = SECRET_MARKER

    async def run(self, request: TaskRequest) -> TaskOutcome:
        """Make one call (a `TaskRunner`)."""
        self.called(request)
        mood, chance = self.mood, self.chance
        fate = chance.random()
        if fate < mood.hang:
            await asyncio.sleep(3_600)
        latency_s = mood.slow_s if chance.random() < mood.slow else mood.latency_s
        await asyncio.sleep(latency_s * chance.random())
        fate -= mood.hang
        if request.call.function == REJECTING:
            return _failed(request, faults.standard(faults.VALIDATION, "Rejected"))
        if 0 <= fate < mood.throttle:
            wait_ms = chance.randrange(1, mood.retry_after_ms)
            return _failed(request, _communication(429, retry_after_ms=wait_ms))
        fate -= mood.throttle
        if 0 <= fate < mood.fail:
            return _failed(request, _communication(503))
        fate -= mood.fail
        if not self.effects[request.key]:  # the key is honoured: a repeat does nothing
            self.effects[request.key] += 1
        if 0 <= fate < mood.lose_answer:
            return _failed(request, _communication(500))
        return TaskOutcome(
            workflow_id=request.workflow_id,
            frame=request.frame,
            output=answer_of(request.key),
            service=request.call.service,
        )


def _communication(status: int, *, retry_after_ms: int | None = None) -> Fault:
    return Fault(
        type=faults.COMMUNICATION,
        status=status,
        title="simulated failure",
        retry_after_ms=retry_after_ms,
    )


def _failed(request: TaskRequest, error: Fault) -> TaskOutcome:
    return TaskOutcome(
        workflow_id=request.workflow_id,
        frame=request.frame,
        error=error,
        service=request.call.service,
    )
