"""The webhook outbox in memory, for tests; shared by all simulated processes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from orchx.ports.deliveries import Delivery, DeliveryStatus, EndedStatus, Place
from orchx.testing.memory_io import OnIo, reach


class MemoryDeliveries:
    """A `Deliveries` outbox that yields once before a write is durable, and once after."""

    def __init__(self, on_io: OnIo | None = None) -> None:
        """Start empty; `on_io` is called around every write."""
        self._on_io = on_io
        self._deliveries: dict[str, Delivery] = {}
        self._offsets: dict[int, int] = {}

    async def add(self, deliveries: Sequence[Delivery], *, offset: int, partition: int = 0) -> None:
        """Store new deliveries and the offset, which never goes back."""
        taken = tuple(deliveries)
        await reach(self._on_io, "deliveries.add:before")
        for delivery in taken:
            self._deliveries.setdefault(delivery.id, delivery)
        self._offsets[partition] = max(self._offsets.get(partition, 0), offset)
        await reach(self._on_io, "deliveries.add:after")

    async def offset(self, partition: int = 0) -> int:
        """Return the log offset up to which deliveries were made; 0 at first."""
        return self._offsets.get(partition, 0)

    async def due(
        self, *, now_ms: int, limit: int, without_hosts: Collection[str] = ()
    ) -> Sequence[Delivery]:
        """Return pending deliveries whose time and turn have come, the longest due first."""
        pending = [d for d in self._deliveries.values() if d.status == "pending"]
        first: dict[str, int] = {}
        for delivery in pending:
            position = first.get(delivery.workflow_id, delivery.position)
            first[delivery.workflow_id] = min(position, delivery.position)
        found = [
            delivery
            for delivery in pending
            if delivery.next_attempt_at_ms <= now_ms
            and delivery.host not in without_hosts
            and delivery.position == first[delivery.workflow_id]
        ]
        found.sort(key=lambda delivery: (delivery.next_attempt_at_ms, *delivery.place))
        return found[: max(limit, 0)]

    async def update(self, deliveries: Sequence[Delivery]) -> None:
        """Store new attempts and statuses."""
        taken = tuple(deliveries)
        await reach(self._on_io, "deliveries.update:before")
        for new in taken:
            if new.id in self._deliveries:
                self._deliveries[new.id] = replace(
                    self._deliveries[new.id],
                    status=new.status,
                    attempts=new.attempts,
                    next_attempt_at_ms=new.next_attempt_at_ms,
                    last_error=new.last_error,
                    ended_at_ms=new.ended_at_ms,
                )
        await reach(self._on_io, "deliveries.update:after")

    async def list(
        self,
        *,
        status: DeliveryStatus | None = None,
        workflow_id: str | None = None,
        after: Place | None = None,
        limit: int = 100,
    ) -> Sequence[Delivery]:
        """Return deliveries, oldest first: those behind `after`."""
        found = [
            delivery
            for delivery in sorted(self._deliveries.values(), key=lambda one: one.place)
            if status in (None, delivery.status)
            and workflow_id in (None, delivery.workflow_id)
            and (after is None or delivery.place > after)
        ]
        return found[: max(limit, 0)]

    async def replay(self, ids: Sequence[str], *, now_ms: int) -> int:
        """Make undelivered ones pending again, their attempts counted anew; return how many."""
        wanted = set(ids)
        await reach(self._on_io, "deliveries.replay:before")
        again = [
            replace(d, status="pending", attempts=0, next_attempt_at_ms=now_ms, ended_at_ms=None)
            for d in self._deliveries.values()
            if d.id in wanted and d.status == "undelivered"
        ]
        self._deliveries.update((delivery.id, delivery) for delivery in again)
        await reach(self._on_io, "deliveries.replay:after")
        return len(again)

    async def prune(self, *, status: EndedStatus, ended_before_ms: int, limit: int) -> int:
        """Forget deliveries that ended so before this time, the first first; return how many."""
        await reach(self._on_io, "deliveries.prune:before")
        ended = [
            (delivery.ended_at_ms, delivery.id)
            for delivery in self._deliveries.values()
            if delivery.status == status
            and delivery.ended_at_ms is not None
            and delivery.ended_at_ms < ended_before_ms
        ]
        forgotten = sorted(ended)[: max(limit, 0)]
        for _, delivery_id in forgotten:
            del self._deliveries[delivery_id]
        await reach(self._on_io, "deliveries.prune:after")
        return len(forgotten)

    async def close(self) -> None:
        """Do nothing: another simulated process may still use it."""
