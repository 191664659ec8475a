"""The commands of the topic that are not acknowledged, as the Dispatcher's process has them.

Pure: whoever reads the topic hands the records over, and stores what is acknowledged.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from orchx.adapters.kafka_command_records import Received, ReceivedCommand, tenant_of
from orchx.adapters.mongo_command_progress import Acknowledged

WINDOW_BYTES_MAX: Final = 64 * 1_048_576
WINDOW_COUNT_MAX: Final = 100_000
ENTRY_BYTES: Final = 512  # what an entry weighs beside its payload
PAGE_BYTES_MAX: Final = 16 * 1_048_576
ACKNOWLEDGED_COUNT_MAX: Final = 200_000
ACKNOWLEDGED_AGE_S: Final = 3_600.0  # far longer than two puts of one id can lie apart
RANGES_MAX: Final = 2_000  # of acknowledged commands above a watermark that are kept
IDS_MAX: Final = 1_000  # that are returned at once
GAPS_MAX: Final = 1_024  # positions given up since the list of them was last made anew


@dataclass(frozen=True, slots=True)
class _Entry:
    position: int
    partition: int
    offset: int
    tenant: str | None
    created_at_ms: int
    payload: bytes

    @property
    def weight(self) -> int:
        return len(self.payload) + ENTRY_BYTES


@dataclass(slots=True)
class _Partition:
    """`next_offset` is read next; `waiting` are offsets before it, not acknowledged, ascending.

    `done` are ranges from there on that were acknowledged in an earlier life, ascending;
    `changed` is the number of the latest change to any of these.
    """

    next_offset: int
    waiting: OrderedDict[int, str] = field(default_factory=OrderedDict)
    done: deque[tuple[int, int]] = field(default_factory=deque)
    changed: int = 0

    def is_done(self, offset: int) -> bool:
        """Return whether an offset was acknowledged before; asked in ascending order."""
        while self.done and self.done[0][1] <= offset:
            self.done.popleft()
        return bool(self.done) and self.done[0][0] <= offset

    def acknowledged(self) -> Acknowledged:
        """Return what need not be read again, of the ranges as many as are kept."""
        watermark = next(iter(self.waiting), self.next_offset)
        above: list[tuple[int, int]] = []
        behind = watermark + 1
        for offset in islice(self.waiting, 1, None):
            if offset > behind:
                above.append((behind, offset))
                if len(above) == RANGES_MAX:
                    break
            behind = offset + 1
        else:
            if self.waiting and self.next_offset > behind:
                above.append((behind, self.next_offset))
            above.extend((max(a, self.next_offset), b) for a, b in self.done)
        return Acknowledged(watermark=watermark, above=tuple(above[:RANGES_MAX]))


class CommandWindow:
    """Every unacknowledged command of the assigned partitions, as far as they were read.

    It is bounded: while it is `full` nothing more is to be read. Positions are this process's
    own, and never given again. Ids that were acknowledged lately, or before they were read, are
    remembered (bounded in number and age), so that they are not delivered again.
    """

    def __init__(
        self,
        *,
        bytes_max: int = WINDOW_BYTES_MAX,
        count_max: int = WINDOW_COUNT_MAX,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start with no partition; `now_s` is a clock that never goes back."""
        self._bytes_max = bytes_max
        self._count_max = count_max
        self._now_s = now_s
        self.missed = 0  # records that had expired before they were read
        self._partitions: dict[int, _Partition] = {}
        self._changes = 0
        self._entries: dict[str, _Entry] = {}
        self._bytes = 0
        self._tenants: Counter[str] = Counter()
        self._last_position = 0
        self._order: list[tuple[int, str]] = []  # by position; some have gone since
        self._acknowledged: OrderedDict[str, tuple[float, int | None]] = OrderedDict()

    # -- partitions ------------------------------------------------------------------------

    def assign(self, partitions: Mapping[int, Acknowledged]) -> None:
        """Take partitions on, each to be read from its watermark on."""
        for partition, one in partitions.items():
            if partition not in self._partitions:
                known = _Partition(one.watermark, done=deque(one.above))
                self._partitions[partition] = known
                self._change(known)

    def restore(self, partition: int, received: Iterable[ReceivedCommand], behind: int) -> int:
        """Add what the topic has forgotten of an assigned partition, up to `behind`, in order.

        Returns:
            how many were neither acknowledged nor here.
        """
        into = self._partitions[partition]
        before = len(self._entries)
        for one in received:
            if not into.is_done(one.offset) and not self._is_known(one):
                self._add(into, one)
        into.next_offset = max(into.next_offset, behind)
        self._change(into)
        return len(self._entries) - before

    def revoke(self, partitions: Sequence[int]) -> None:
        """Give partitions up, and forget what waits in them."""
        for partition in partitions:
            given_up = self._partitions.pop(partition, None)
            for command_id in given_up.waiting.values() if given_up is not None else ():
                self._remove(command_id)

    def next_offsets(self) -> Mapping[int, int]:
        """Return from where on each assigned partition is to be read."""
        return {number: one.next_offset for number, one in self._partitions.items()}

    def watermarks(self) -> Mapping[int, int]:
        """Return for each assigned partition the offset below which all are acknowledged."""
        return {
            number: next(iter(one.waiting), one.next_offset)
            for number, one in self._partitions.items()
        }

    def changes(self) -> Mapping[int, int]:
        """Return the latest change to what `acknowledged` says, of each assigned partition.

        No number comes twice, in whatever partition or tenure.
        """
        return {number: one.changed for number, one in self._partitions.items()}

    def acknowledged(self, partition: int) -> Acknowledged:
        """Return what is acknowledged of an assigned partition."""
        return self._partitions[partition].acknowledged()

    def unread(self, ends: Mapping[int, int]) -> int:
        """Return how many records of assigned partitions were not read, given their ends."""
        return sum(
            max(0, ends.get(number, 0) - one.next_offset)
            for number, one in self._partitions.items()
        )

    # -- what is read ----------------------------------------------------------------------

    def take(self, received: Sequence[Received], next_offsets: Mapping[int, int]) -> None:
        """Add what was read, in order. `next_offsets`: of the partitions that were read.

        Repetitions of an id that waits, or was acknowledged lately, are left out, as are
        records that are no commands and those of partitions that were given up.
        """
        for one in received:
            partition = self._partitions.get(one.partition)
            if partition is None:
                continue
            if one.offset < partition.next_offset:  # the topic was made anew, or cut off
                self.revoke([one.partition])
                partition = self._partitions[one.partition] = _Partition(one.offset)
            self.missed += one.offset - partition.next_offset
            partition.next_offset = one.offset + 1
            self._change(partition)
            if partition.is_done(one.offset):
                continue
            if isinstance(one, ReceivedCommand) and not self._is_known(one):
                self._add(partition, one)
        for number, next_offset in next_offsets.items():
            partition = self._partitions.get(number)
            if partition is not None and next_offset > partition.next_offset:
                partition.next_offset = next_offset
                self._change(partition)

    def _change(self, partition: _Partition) -> None:
        self._changes += 1
        partition.changed = self._changes

    @property
    def full(self) -> bool:
        """Whether nothing more is to be read until something is acknowledged."""
        return self._bytes >= self._bytes_max or len(self._entries) >= self._count_max

    def _is_known(self, received: ReceivedCommand) -> bool:
        command = received.command
        if command.id in self._entries:
            return True
        if command.id not in self._acknowledged:
            return False
        at_s, _ = self._acknowledged[command.id]
        if self._now_s() - at_s > ACKNOWLEDGED_AGE_S:
            del self._acknowledged[command.id]
            return False
        self._acknowledged[command.id] = at_s, command.created_at_ms
        return True

    def _add(self, partition: _Partition, received: ReceivedCommand) -> None:
        command = received.command
        self._last_position += 1
        entry = _Entry(
            self._last_position,
            received.partition,
            received.offset,
            tenant_of(command),
            command.created_at_ms,
            received.payload,
        )
        self._entries[command.id] = entry
        self._order.append((entry.position, command.id))
        partition.waiting[received.offset] = command.id
        self._bytes += entry.weight
        if entry.tenant is not None:
            self._tenants[entry.tenant] += 1

    @property
    def expects(self) -> bool:
        """Whether something was acknowledged that has not been read."""
        return any(created_at_ms is None for _, created_at_ms in self._acknowledged.values())

    # -- what waits ------------------------------------------------------------------------

    @property
    def last_position(self) -> int:
        """The latest position that was given to anything."""
        return self._last_position

    def ids(self, *, after_position: int) -> tuple[list[tuple[int, str]], int]:
        """Return positions and ids of what waits behind a position, and up to where that is."""
        first = bisect_right(self._order, after_position, key=lambda one: one[0])
        some = self._order[first : first + IDS_MAX]
        found = [
            (position, command_id)
            for position, command_id in some
            if command_id in self._entries and self._entries[command_id].position == position
        ]
        return found, some[-1][0] if len(some) == IDS_MAX else self._last_position

    def __len__(self) -> int:
        return len(self._entries)

    def by_tenant(self) -> dict[str, int]:
        """Count what waits by tenant; commands of no tenant are left out."""
        return dict(self._tenants)

    def payload(self, command_id: str) -> bytes | None:
        """Return the JSON of a command that waits."""
        entry = self._entries.get(command_id)
        return None if entry is None else entry.payload

    def page(self, *, after_position: int, limit: int) -> list[tuple[int, bytes]]:
        """Return positions and JSON of what waits, oldest first, bounded in bytes too."""
        found: list[tuple[int, bytes]] = []
        size = 0
        first = bisect_right(self._order, after_position, key=lambda one: one[0])
        for index in range(first, len(self._order)):
            if len(found) >= limit or size >= PAGE_BYTES_MAX:
                break
            position, command_id = self._order[index]
            entry = self._entries.get(command_id)
            if entry is not None and entry.position == position:
                found.append((position, entry.payload))
                size += len(entry.payload)
        return found

    def acknowledge(self, command_ids: Sequence[str]) -> None:
        """Take commands out; those not read yet will be left out when they are."""
        now_s = self._now_s()
        for command_id in command_ids:
            entry = self._entries.get(command_id)
            if entry is not None:
                partition = self._partitions[entry.partition]
                del partition.waiting[entry.offset]
                self._change(partition)
                self._remove(command_id)
            created_at_ms = None if entry is None else entry.created_at_ms
            self._acknowledged.setdefault(command_id, (now_s, created_at_ms))
        while len(self._acknowledged) > ACKNOWLEDGED_COUNT_MAX:
            self._acknowledged.popitem(last=False)

    def forget(self, *, older_than_ms: int) -> None:
        """Forget ids that were acknowledged and created before: they may be used again."""
        old = [
            command_id
            for command_id, (_, created_at_ms) in self._acknowledged.items()
            if created_at_ms is not None and created_at_ms < older_than_ms
        ]
        for command_id in old:
            del self._acknowledged[command_id]

    def _remove(self, command_id: str) -> None:
        entry = self._entries.pop(command_id)
        self._bytes -= entry.weight
        if entry.tenant is not None:
            self._tenants[entry.tenant] -= 1
            if not self._tenants[entry.tenant]:
                del self._tenants[entry.tenant]
        if len(self._order) > 2 * len(self._entries) + GAPS_MAX:
            self._order = [(one.position, id_) for id_, one in self._entries.items()]
