"""How much is behind: requests that are due against workflows that have done their last step."""

from __future__ import annotations

import threading
import time

import httpx

from tests.chaos.load import Load
from tests.e2e.sandbox_ledger import SandboxLedger

INTERVAL_S = 0.5
COURSE_S = 5.0
SETTLED_S = 3.0
"""So long the backlog has to be gone before it counts as gone."""


class Meter(threading.Thread):
    """Measures from its start to `finish`, by the services' ledger, twice a second."""

    def __init__(self, load: Load, ledger: SandboxLedger, *, last_step: str) -> None:
        super().__init__(name="meter", daemon=True)
        self._load = load
        self._ledger = ledger
        self._last_step = last_step
        self._is_over = threading.Event()
        self._looked_at = 0
        self._ended: set[str] = set()
        self.samples: list[tuple[float, int]] = []
        """When, on the monotonic clock in seconds, and how many were behind."""

    def run(self) -> None:
        """Look again and again."""
        while not self._is_over.wait(INTERVAL_S):
            try:
                self.look()
            except httpx.TransportError:  # the ledger's service is slow beside all the rest
                continue

    def look(self) -> int:
        """Return how many are behind now."""
        self._ledger.read()
        effects = self._ledger.effects
        for effect in effects[self._looked_at :]:
            if effect["operation"] == self._last_step:
                self._ended.add(effect["workflow"])
        self._looked_at = len(effects)
        behind = len(self._load.requests) - len(self._ended)
        self.samples.append((time.monotonic(), behind))
        return behind

    def finish(self) -> None:
        """Measure no more."""
        self._is_over.set()
        self.join()

    def usual(self, since_s: float) -> float:
        """Return how many were behind since then, on average."""
        seen = [behind for at_s, behind in self.samples if at_s >= since_s]
        return sum(seen) / len(seen) if seen else 0.0

    def most(self, since_s: float) -> int:
        """Return how many were behind at most since then."""
        return max((behind for at_s, behind in self.samples if at_s >= since_s), default=0)

    def course(self, since_s: float) -> list[int]:
        """Return how many were behind every `COURSE_S` seconds since then."""
        course: list[int] = []
        for at_s, behind in self.samples:
            if at_s >= since_s + COURSE_S * len(course):
                course.append(behind)
        return course

    def gone_at_s(self, since_s: float, level: float) -> float | None:
        """Return when the backlog was gone for good after a time; None: it is not, so far.

        Args:
            since_s: on the monotonic clock.
            level: how many may be behind where nothing is wrong.
        """
        gone_s: float | None = None
        for at_s, behind in self.samples:
            if at_s < since_s:
                continue
            if behind > level:
                gone_s = None
            elif gone_s is None:
                gone_s = at_s
        latest_s = self.samples[-1][0] if self.samples else 0.0
        return gone_s if gone_s is not None and latest_s - gone_s >= SETTLED_S else None
