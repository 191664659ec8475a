"""Outcomes of a while ago, so that a repeated dispatch gets the first one's outcome."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import msgspec

from orchx.domain.messages import TaskOutcome

MAX_AGE_MS: Final = 600_000
MAX_BYTES: Final = 67_108_864

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(TaskOutcome)


class RecentResults:
    """Outcomes by execution, bounded by count, age and size; the oldest go first.

    They are kept encoded: a service's large answers then count for what they weigh.
    """

    __slots__ = ("_max_age_ms", "_max_bytes", "_max_count", "_stored", "size_bytes")

    def __init__(
        self, max_count: int, max_age_ms: int = MAX_AGE_MS, max_bytes: int = MAX_BYTES
    ) -> None:
        self._max_count = max_count
        self._max_age_ms = max_age_ms
        self._max_bytes = max_bytes
        # A plain dict would scan the places of what it dropped for its first key.
        self._stored: OrderedDict[str, tuple[int, bytes]] = OrderedDict()
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._stored)

    def __contains__(self, execution: str) -> bool:
        return execution in self._stored

    def put(self, execution: str, outcome: TaskOutcome, now_ms: int) -> None:
        """Keep an outcome.

        Raises:
            TypeError: the outcome is not JSON.
        """
        encoded = _encoder.encode(outcome)
        stored = self._stored
        if execution in stored:
            self._drop(execution)
        stored[execution] = (now_ms, encoded)
        self.size_bytes += len(encoded)
        oldest_ms = now_ms - self._max_age_ms
        while stored:
            first = next(iter(stored))
            if (
                len(stored) <= self._max_count
                and self.size_bytes <= self._max_bytes
                and stored[first][0] >= oldest_ms
            ):
                return
            self._drop(first)

    def get(self, execution: str, now_ms: int) -> TaskOutcome | None:
        """Return the outcome, unless it is too old or was never here."""
        found = self._stored.get(execution)
        if found is None:
            return None
        if found[0] < now_ms - self._max_age_ms:
            self._drop(execution)
            return None
        return _decoder.decode(found[1])

    def _drop(self, execution: str) -> None:
        self.size_bytes -= len(self._stored.pop(execution)[1])
