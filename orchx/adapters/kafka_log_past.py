"""What the archive knows of the log's past, believed only where it joins with the window."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from orchx.adapters.coalesced_query import CoalescedQuery
from orchx.adapters.kafka_log_window import LogWindow
from orchx.domain.events import Record
from orchx.errors import Unavailable
from orchx.ports.archive import Archive


class LogPast:
    """Asks the archive, and after each answer how far it is.

    One that was reset since the window was cut off, and is being filled again, lacks records
    that the window has no more: what it says then would be a history with a hole.
    """

    def __init__(self, archive: Archive, window: LogWindow) -> None:
        """Join `archive` with `window`."""
        self._archive = archive
        self._window = window
        self._epochs = CoalescedQuery(self._ask_epochs)
        self._joined = CoalescedQuery(self._check_joined)

    async def read(
        self, workflow_id: str, *, after_offset: int, limit: int | None
    ) -> Sequence[Record]:
        """Return records of the workflow; see `Archive.read`.

        Raises:
            Unavailable: the archive is being filled again.
        """
        await self._joined.get()
        found = await self._archive.read(workflow_id, after_offset=after_offset, limit=limit)
        await self._joined.get()
        return found

    async def epochs(self, workflow_ids: Collection[str]) -> Mapping[str, int]:
        """Return the epochs of those that are archived, and of others; see `Archive.epochs`.

        Raises:
            Unavailable: the archive is being filled again.
        """
        return await self._epochs.get(workflow_ids)

    async def _ask_epochs(self, workflow_ids: Collection[str]) -> Mapping[str, int]:
        await self._check_joined()
        found = await self._archive.epochs(list(workflow_ids))
        await self._check_joined()
        return found

    async def _check_joined(self, _: Collection[str] = ()) -> None:
        if not self._window.joins(await self._archive.offsets()):
            raise Unavailable("the archive was reset, and is being filled from the log again")
