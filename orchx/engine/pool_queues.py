"""What waits in a pool: a queue per service behind its gate, one for all other calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from orchx.domain.services import Service
from orchx.engine.pool_entry import PoolEntry, PriorityQueue
from orchx.engine.pool_views import QueueView
from orchx.engine.service_gate import NO_WAKE, ServiceGate


class PoolQueues:
    """Picks the next call that may begin, the most urgent first.

    Args:
        wake_at: ask for `wake(gate)` at that time (epoch milliseconds).
        refuse: take a call out of the pool whose service's breaker stays open for so many
            milliseconds; the queues have let go of it.
    """

    def __init__(
        self,
        wake_at: Callable[[ServiceGate, int], None],
        refuse: Callable[[PoolEntry, int], None],
    ) -> None:
        self.services: dict[str, Service] = {}
        self._gates: dict[str, ServiceGate] = {}
        self._plain = PriorityQueue()  # calls without a gate
        self._ready: set[ServiceGate] = set()  # gates whose first call may begin, for all we know
        self._queued = 0
        self._wake_at = wake_at
        self._refuse = refuse

    def __len__(self) -> int:
        return self._queued

    def gate(self, service: str | None) -> ServiceGate | None:
        """Return a service's gate; None for a call that has no limits."""
        return self._gates.get(service) if service is not None else None

    def update_services(self, services: Iterable[Service], now_ms: int) -> list[ServiceGate]:
        """Take the catalog's services and return the gates that are gone.

        A service that is gone keeps its gate while calls wait or run there.
        """
        self.services = {service.name: service for service in services}
        for name, service in self.services.items():
            gate = self._gates.get(name)
            if gate is None:
                self._gates[name] = ServiceGate(service, now_ms)
            else:
                gate.configure(service, now_ms)
                self.wake(gate)
        gone = [
            gate
            for name, gate in self._gates.items()
            if name not in self.services and not gate.queue and not gate.leases
        ]
        for gate in gone:
            self._ready.discard(gate)
            del self._gates[gate.service.name]
        return gone

    def push(self, entry: PoolEntry) -> None:
        """Queue a call."""
        gate = entry.gate
        self._queued += 1
        if gate is None:
            self._plain.push(entry)
        else:
            gate.queue.push(entry)
            self._ready.add(gate)

    def remove(self, entry: PoolEntry) -> None:
        """Take a queued call out."""
        (self._plain if entry.gate is None else entry.gate.queue).remove(entry)
        self._queued -= 1

    def wake(self, gate: ServiceGate) -> None:
        """Ask the gate again: something about it has changed."""
        if gate.queue:
            self._ready.add(gate)

    def next(self, now_ms: int) -> PoolEntry | None:
        """Take out the most urgent call that may begin now; None if there is none."""
        while self._ready or self._plain:
            gate = self._most_urgent()
            if gate is None:
                self._queued -= 1
                return self._plain.pop()
            if not gate.queue:
                self._ready.discard(gate)
                continue
            if gate.refusal_ms(now_ms):
                self.refuse_queued(gate, now_ms)
                continue
            wait_ms = gate.wait_ms(now_ms)
            if not wait_ms:
                self._queued -= 1
                return gate.queue.pop()
            self._ready.discard(gate)
            if wait_ms != NO_WAKE:
                self._wake_at(gate, now_ms + wait_ms)
        return None

    def refuse_queued(self, gate: ServiceGate, now_ms: int) -> None:
        """Fail what waits for a service whose breaker is open; nothing, unless it is."""
        open_ms = gate.refusal_ms(now_ms)
        if not open_ms:
            return
        self._ready.discard(gate)
        while gate.queue:
            entry = gate.queue.pop()
            self._queued -= 1
            self._refuse(entry, open_ms)

    def views(self, now_ms: int, *, plain_running: int, concurrency: int) -> list[QueueView]:
        """Describe every queue: the services' by name, then that of all other calls."""
        rest = QueueView(
            service="",
            queued=len(self._plain),
            running=plain_running,
            concurrency=concurrency,
        )
        return [*(self._gates[name].view(now_ms) for name in sorted(self._gates)), rest]

    def _most_urgent(self) -> ServiceGate | None:
        """Return the gate whose first call comes first; None: a call without a gate does."""
        if not self._ready:
            return None
        if len(self._ready) == 1 and not self._plain:
            return next(iter(self._ready))
        best: ServiceGate | None = None
        best_head = self._plain.head() if self._plain else None
        for gate in self._ready:
            if not gate.queue:
                return gate  # emptied since; `next` takes it off the list
            head = gate.queue.head()
            if best_head is None or head < best_head:
                best, best_head = gate, head
        return best
