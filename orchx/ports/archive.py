"""The log's past, kept where one workflow's history can be found without reading everything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from orchx.domain.events import Record


class Archive(Protocol):
    """Every record of the log up to an offset of each partition, by workflow.

    Those of fenced owners too: whoever reads applies the fencing rule. It is fed from the log
    and can be dropped and filled again.
    """

    async def add(self, records: Sequence[Record], *, offset: int, partition: int) -> None:
        """Store records, then the offset of their partition that this brings the archive up to.

        Records that are there already stay as they are, so a batch may come again, cut
        elsewhere. An offset that is not above the stored one is not stored.

        Raises:
            DriverError, StorageFull: whether anything was stored is unknown.
        """
        ...

    async def read(
        self, workflow_id: str, *, after_offset: int = 0, limit: int | None = None
    ) -> Sequence[Record]:
        """Return records of the workflow in log order.

        With a `limit`, a page: it may hold fewer although there are more, for pages are
        bounded in bytes too. Only an empty page is the end. Without one, all of them.
        """
        ...

    async def epochs(self, workflow_ids: Sequence[str]) -> Mapping[str, int]:
        """Return the highest epoch that anyone has activated, of each workflow that is here.

        0 stands for one that is here without an activation.
        """
        ...

    async def offsets(self) -> Mapping[int, int]:
        """Return up to where each partition is archived; one that is not here is at 0."""
        ...

    async def reset(self) -> None:
        """Drop everything, to be filled again from the log."""
        ...

    async def close(self) -> None:
        """Let go of the connections."""
        ...
