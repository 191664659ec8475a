"""Whether requests can be taken now: every part is asked, and the answer serves for a second."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeAlias

import structlog

from orchx.errors import OrchxError
from orchx.ports.clock import Clock
from orchx.ports.gateway import Readiness

Question: TypeAlias = Callable[[], Awaitable[object]]

READY_TIMEOUT_S: Final = 2.0
FRESH_MS: Final = 1_000
"""For so long an answer is given again: many who ask cost no more than one."""

OK: Final = "ok"

_log = structlog.get_logger(__name__)


class ReadinessCheck:
    """Asks each part, all at once and within a limit.

    A part that is asked and stays silent is not asked again before it has answered.

    Args:
        parts: what has to work; a question returns, or raises what is wrong.
        advisory: what is told, and is no reason to refuse requests.
        clock: says how old an answer is.
    """

    def __init__(
        self, parts: Mapping[str, Question], clock: Clock, *, advisory: Mapping[str, Question]
    ) -> None:
        self._parts = parts
        self._advisory = advisory
        self._clock = clock
        self._under_way: dict[str, asyncio.Future[object]] = {}
        self._errors: dict[str, str] = {}  # what each part complained of the last time
        self._asking: asyncio.Task[Readiness] | None = None
        self._known: tuple[int, Readiness] | None = None

    async def ready(self) -> Readiness:
        """Return what is known, if it is of the last second; else ask."""
        if self._known is not None and self._clock.ticks_ms() - self._known[0] < FRESH_MS:
            return self._known[1]
        if self._asking is None or self._asking.done():
            self._asking = asyncio.get_running_loop().create_task(self._ask())
        return await asyncio.shield(self._asking)

    async def _ask(self) -> Readiness:
        questions = {**self._parts, **self._advisory}
        states = await asyncio.gather(*(self._state(*each) for each in questions.items()))
        parts = dict(zip(questions, states, strict=True))
        ready = all(parts[name] == OK for name in self._parts)
        for name in self._advisory:
            if parts[name] != OK:
                parts[name] = f"not needed: {parts[name]}"
        readiness = Readiness(ready=ready, parts=parts)
        self._known = self._clock.ticks_ms(), readiness
        return readiness

    async def _state(self, name: str, question: Question) -> str:
        asked = self._under_way.get(name)
        if asked is None:
            asked = self._under_way[name] = asyncio.ensure_future(question())
        # Not cancelled when time is up: drivers may swallow that, and would be waited for.
        if not (await asyncio.wait((asked,), timeout=READY_TIMEOUT_S))[0]:
            silence = f"no answer within {READY_TIMEOUT_S:g} s"
            return f"{silence}; before: {self._errors[name]}" if name in self._errors else silence
        self._under_way.pop(name, None)
        before = self._errors.pop(name, None)
        try:
            asked.result()
        except OrchxError as error:
            self._errors[name] = str(error)
        except Exception as error:  # the edge: a bug in one part would hide what the others say
            self._errors[name] = f"{type(error).__name__}: {error}"
            if before != self._errors[name]:
                _log.error("readiness.failed", part=name, exc_info=error)
        return self._errors.get(name, OK)
