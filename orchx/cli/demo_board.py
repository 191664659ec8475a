"""What the demo's threads tell each other: requests taken, news, faults injected."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from dataclasses import dataclass
from typing import Final

from orchx.cli.demo_accounting import Acknowledged

NEWS_KEPT: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """Something that happened, in plain words, and when (seconds from the start)."""

    at_s: float
    words: str
    style: str = ""


class Board:
    """State that threads share; every method may be called from any of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun_s = time.monotonic()
        self._acknowledged: dict[int, Acknowledged] = {}
        self._news: deque[News] = deque(maxlen=NEWS_KEPT)
        self._injected: dict[int, Counter[str]] = {}
        self._resubmitted = 0

    def elapsed_s(self) -> float:
        """Return the seconds since the demo began."""
        return time.monotonic() - self._begun_s

    def acknowledge(self, request: Acknowledged) -> None:
        """Note that the server took a request, or took it again."""
        with self._lock:
            self._resubmitted += request.case.number in self._acknowledged
            self._acknowledged[request.case.number] = request

    def acknowledged(self) -> list[Acknowledged]:
        """Return all requests that the server took, by number."""
        with self._lock:
            return [self._acknowledged[number] for number in sorted(self._acknowledged)]

    def resubmitted(self) -> int:
        """Return how many requests were sent a second time."""
        with self._lock:
            return self._resubmitted

    def tell(self, words: str, style: str = "") -> None:
        """Add to the news, unless it is the latest already."""
        with self._lock:
            if not self._news or self._news[-1].words != words:
                self._news.append(News(at_s=self.elapsed_s(), words=words, style=style))

    def news(self, count: int) -> list[News]:
        """Return the latest news, oldest first."""
        with self._lock:
            return list(self._news)[-count:]

    def note_injected(self, disturbance: int, injected: Counter[str]) -> None:
        """Note what a disturbance has injected so far."""
        with self._lock:
            self._injected[disturbance] = injected

    def injected_by(self, disturbance: int) -> Counter[str]:
        """Return what one disturbance has injected so far."""
        with self._lock:
            return Counter(self._injected.get(disturbance, {}))

    def injected(self) -> Counter[str]:
        """Return what was injected so far, by kind of fault."""
        with self._lock:
            return sum(self._injected.values(), Counter())
