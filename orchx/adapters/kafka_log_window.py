"""The end of the log, in memory: what the archive does not have yet, by workflow."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from orchx.adapters.kafka_records import TURN_OFFSETS, Turn

TURN_COST_BYTES: Final = 400  # of a turn in memory, beside its value
EPOCHS_REMEMBERED_MAX: Final = 200_000


@dataclass(slots=True)
class _Stretch:
    """The turns of one workflow that are here, and the highest epoch they activate.

    `whole`: there is nothing of the workflow before them.
    """

    turns: deque[Turn] = field(default_factory=deque)
    epoch: int = 0
    whole: bool = False


class LogWindow:
    """Turns by workflow, from where they were cut off up to where the log was followed.

    It belongs to the event loop: no locks. Beside the turns it remembers the epochs of
    workflows that were claimed in this process, and keeps them true as turns come in.
    """

    def __init__(self, *, epochs_max: int = EPOCHS_REMEMBERED_MAX) -> None:
        """Start empty; `epochs_max` workflows' epochs are remembered, the latest used."""
        self._stretches: dict[str, _Stretch] = {}
        self._order: dict[int, deque[Turn]] = {}
        self._floors: dict[int, int] = {}  # Kafka offsets from which on everything is here
        self._held: Counter[str] = Counter()
        self._epochs: OrderedDict[str, int] = OrderedDict()
        self._epochs_max = epochs_max
        self.bytes = 0
        self.restarts = 0

    def __len__(self) -> int:
        return sum(len(turns) for turns in self._order.values())

    def start(self, floors: Mapping[int, int]) -> None:
        """Note from which Kafka offset on each partition is going to be here."""
        self._floors = dict(floors)

    def restart(self, partition: int, floor: int) -> None:
        """Begin a partition anew at a Kafka offset: what stands before it is passed over.

        Of no workflow is it known any more that its epoch is the highest there is.
        """
        for turn in self._order.pop(partition, ()):
            self._drop(turn)
        self._floors[partition] = floor
        self._epochs.clear()
        self.restarts += 1

    @property
    def is_held(self) -> bool:
        """Whether anybody holds turns at the moment."""
        return bool(self._held)

    def joins(self, archived: Mapping[int, int]) -> bool:
        """Return whether there is nothing between what is archived and what is here.

        There is, while an archive that was reset is being filled again.
        """
        return all(
            archived.get(partition, 0) // TURN_OFFSETS >= floor
            for partition, floor in self._floors.items()
        )

    def add(self, turn: Turn) -> None:
        """Take the next turn of its partition."""
        stretch = self._stretches.get(turn.workflow_id)
        if stretch is None:
            stretch = self._stretches[turn.workflow_id] = _Stretch()
        stretch.turns.append(turn)
        order = self._order.get(turn.partition)
        if order is None:
            order = self._order[turn.partition] = deque()
        order.append(turn)
        self.bytes += len(turn.value) + TURN_COST_BYTES
        if turn.activates:
            stretch.epoch = max(stretch.epoch, turn.activates)
            if turn.workflow_id in self._epochs:
                self.remember(turn.workflow_id, turn.activates)

    def turns(self, workflow_id: str) -> Sequence[Turn]:
        """Return the workflow's turns that are here, in log order."""
        stretch = self._stretches.get(workflow_id)
        return () if stretch is None else tuple(stretch.turns)

    def epoch(self, workflow_id: str) -> int:
        """Return the highest epoch that is activated in what is here; 0 if none is."""
        stretch = self._stretches.get(workflow_id)
        return 0 if stretch is None else stretch.epoch

    def is_whole(self, workflow_id: str) -> bool:
        """Return whether all that the log has of the workflow is known to be here."""
        stretch = self._stretches.get(workflow_id)
        return stretch is not None and stretch.whole

    def mark_whole(self, workflow_id: str) -> None:
        """Note that the log has nothing of the workflow before what is here."""
        self._stretches[workflow_id].whole = True

    def remember(self, workflow_id: str, epoch: int) -> None:
        """Note the highest epoch of a workflow, with all before the window counted."""
        self._epochs[workflow_id] = max(epoch, self._epochs.get(workflow_id, 0))
        self._epochs.move_to_end(workflow_id)
        while len(self._epochs) > self._epochs_max:
            self._epochs.popitem(last=False)

    def remembered(self, workflow_id: str) -> int | None:
        """Return the workflow's highest epoch up to where the log was followed, if known."""
        epoch = self._epochs.get(workflow_id)
        if epoch is not None:
            self._epochs.move_to_end(workflow_id)
        return epoch

    @contextmanager
    def holding(self, *workflow_ids: str) -> Iterator[None]:
        """Keep all turns of these workflows that are here, or come, for the time being.

        Whoever holds and then asks the archive sees everything, in one or the other.
        """
        self._held.update(workflow_ids)
        try:
            yield
        finally:
            for workflow_id in workflow_ids:
                self._held[workflow_id] -= 1
                if not self._held[workflow_id]:
                    del self._held[workflow_id]

    def trim(self, archived: Mapping[int, int]) -> None:
        """Drop the turns that the archive has, up to the first one that is held.

        Args:
            archived: the archive's offset, in offsets of the log, of each partition.
        """
        for partition, order in self._order.items():
            # The turn that the offset points into may be there in part: it stays.
            first_kept = archived.get(partition, 0) // TURN_OFFSETS
            while order and order[0].offset < first_kept:
                if order[0].workflow_id in self._held:
                    break
                self._drop(order.popleft())

    def _drop(self, turn: Turn) -> None:
        self._floors[turn.partition] = turn.offset + 1
        self.bytes -= len(turn.value) + TURN_COST_BYTES
        stretch = self._stretches[turn.workflow_id]
        stretch.turns.popleft()
        stretch.whole = False
        if not stretch.turns:
            del self._stretches[turn.workflow_id]
