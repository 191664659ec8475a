"""Which calls of an owner's workflows have been under way for long enough to be asked about."""

from __future__ import annotations

from collections.abc import Iterable

from orchx.domain.keys import execution_name, idempotency_key
from orchx.engine.live import Live


class OpenCalls:
    """Remembers what the last look found: somebody may set the clock between two looks."""

    def __init__(self) -> None:
        self._found: set[tuple[str, int, int]] = set()

    def by_pool(self, lives: Iterable[Live], *, before_ms: int) -> dict[str, dict[str, Live]]:
        """Return, by pool and execution, the workflows that wait for an outcome.

        Args:
            lives: an owner's workflows.
            before_ms: a call counts that was begun before this time, epoch milliseconds, or that
                the last look found too.
        """
        waiting: dict[str, dict[str, Live]] = {}
        found, self._found = self._found, set()
        for live in lives:
            for frame in live.state.executing():
                if frame.call is None:
                    continue
                call = (live.workflow_id, frame.id, frame.started_at_ms)
                self._found.add(call)
                if frame.started_at_ms <= before_ms or call in found:
                    key = idempotency_key(live.workflow_id, frame.reference, frame.iteration)
                    execution = execution_name(live.workflow_id, frame.id, key)
                    waiting.setdefault(frame.call.pool, {})[execution] = live
        return waiting
