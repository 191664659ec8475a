"""Whoever wants to hear of what was projected: the safety net behind an owner's own effects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from orchx.domain.events import Record


class LogObserver(Protocol):
    """Is told of accepted records, at least once, before the projector's offset moves past them.

    An owner may die between the append of an event and its effect (a parent told, an emitted
    event handed out). An observer turns such records into commands with derived ids, which
    the queue and the fold recognise when they come a second time.
    """

    async def observe(self, records: Sequence[Record]) -> None:
        """Take in accepted records, in log order; of many workflows, mixed.

        Raises:
            TryLater, DriverError: nothing may be taken for heard; the same records come again.
        """
        ...
