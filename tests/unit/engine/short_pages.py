"""A log whose pages end early, as they do where records are large."""

from __future__ import annotations

from collections.abc import Sequence

from orchx.domain.events import Record
from orchx.testing.memory_event_log import MemoryEventLog


class ShortPages(MemoryEventLog):
    """Gives no more than two records at a time to whoever sets a limit."""

    async def read(
        self, workflow_id: str, *, after_offset: int = 0, limit: int | None = None
    ) -> Sequence[Record]:
        """Return a page."""
        short = None if limit is None else min(limit, 2)
        return await super().read(workflow_id, after_offset=after_offset, limit=short)
