"""One workflow's past: what the archive has of it, and the window behind that."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from orchx.adapters.kafka_log_past import LogPast
from orchx.adapters.kafka_log_window import LogWindow
from orchx.adapters.kafka_records import TURN_OFFSETS, PoisonedTurn, Turn, records_of
from orchx.domain.events import Record
from orchx.ports.archive import Archive

PAGE_BYTES_MAX: Final = 16 * 1_048_576
OFFSET_MAX: Final = 2**63 - 1

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Standing:
    """The highest epoch of a workflow, and whether the log has anything of it."""

    epoch: int
    known: bool


class KafkaLogHistories:
    """Joins window and archive. Whoever asks has waited until the window is far enough.

    The window is looked at before the archive is asked, or is held while it is: so whatever is
    cut off the one meanwhile is found in the other.
    """

    def __init__(self, window: LogWindow, archive: Archive | None) -> None:
        """Without an archive, the window has everything."""
        self._window = window
        self._past = None if archive is None else LogPast(archive, window)

    async def standing(self, workflow_id: str) -> Standing:
        """Return how the workflow, which is being held, stands."""
        window = self._window
        epoch = window.remembered(workflow_id)
        known = epoch is not None
        if epoch is None and self._past is not None and not window.is_whole(workflow_id):
            found = await self._past.epochs([workflow_id])
            epoch, known = found.get(workflow_id), workflow_id in found
        known = known or bool(window.turns(workflow_id))
        return Standing(max(epoch or 0, window.epoch(workflow_id)), known)

    async def epochs(self, workflow_ids: Collection[str]) -> Mapping[str, int]:
        """Return the highest epoch of each workflow that has one."""
        window = self._window
        found: dict[str, int] = {}
        with window.holding(*workflow_ids):
            restarts = window.restarts
            # What was sure before the archive has answered may not be so any more.
            while unsure := [each for each in workflow_ids if self._is_unsure(each, found)]:
                past = {} if self._past is None else await self._past.epochs(unsure)
                if window.restarts != restarts:  # what was here then may have been passed over
                    restarts, found = window.restarts, {}
                    continue
                found |= {each: past.get(each, 0) for each in unsure}
            highest = {
                workflow_id: max(
                    found.get(workflow_id, 0),
                    window.epoch(workflow_id),
                    window.remembered(workflow_id) or 0,
                )
                for workflow_id in workflow_ids
            }
            for workflow_id in found:
                if highest[workflow_id]:
                    window.remember(workflow_id, highest[workflow_id])
        return {workflow_id: epoch for workflow_id, epoch in highest.items() if epoch}

    def _is_unsure(self, workflow_id: str, found: Mapping[str, int]) -> bool:
        """Return whether only the archive can tell the highest epoch, and has not told it."""
        window = self._window
        known = window.remembered(workflow_id) is not None or window.is_whole(workflow_id)
        return not known and workflow_id not in found

    async def read(
        self,
        workflow_id: str,
        *,
        after_offset: int = 0,
        limit: int | None = None,
        until: int | None = None,
    ) -> list[Record]:
        """Return records of the workflow; `limit` as in `EventLog.read`.

        Args:
            workflow_id: whose.
            after_offset: of the log, not of Kafka.
            limit: how many at most.
            until: Kafka's offset of the turn to end before, if not with the last one.
        """
        turns = self._window.turns(workflow_id)
        if until is not None:
            turns = [turn for turn in turns if turn.offset < until]
        count = limit if limit is None else max(limit, 0)
        found: list[Record] = []
        if self._past is not None and not self._window.is_whole(workflow_id):
            behind = turns[0].offset if turns else until
            seam = OFFSET_MAX if behind is None else behind * TURN_OFFSETS
            if after_offset < seam:
                past = await self._past.read(workflow_id, after_offset=after_offset, limit=count)
                found = [record for record in past if record.offset <= seam]
                if found and limit is not None:
                    return found  # a page may be short; the next one goes on from here
        found += _decoded(turns, after_offset, count)
        return found


def _decoded(turns: Iterable[Turn], after_offset: int, limit: int | None) -> list[Record]:
    found: list[Record] = []
    size = 0
    for turn in turns:
        if (turn.offset + 1) * TURN_OFFSETS <= after_offset:
            continue
        size += len(turn.value)
        if limit is not None and (len(found) >= limit or (found and size > PAGE_BYTES_MAX)):
            break
        found += (r for r in decode(turn) if r.offset > after_offset)
    return found[:limit]


def decode(turn: Turn) -> Sequence[Record]:
    """Return the turn's records; none, and a line in the log, if it is poisoned.

    Raises:
        NewerTurn: a newer orchx wrote it.
    """
    try:
        return records_of(turn)
    except PoisonedTurn as error:
        place = f"partition {turn.partition} at {turn.offset}"
        logger.warning(
            "record skipped", workflow_id=turn.workflow_id, place=place, reason=str(error)
        )
        return ()
