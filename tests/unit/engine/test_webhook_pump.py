"""Which deliveries the pump starts while some receivers are down."""

from __future__ import annotations

from collections import Counter

import pytest

from orchx.engine import webhook_pump
from orchx.engine.webhook_pump import AILING_HOST_CONCURRENCY, WebhookPump
from orchx.engine.webhook_schedule import RetrySchedule
from orchx.engine.webhook_sending import Answer
from orchx.ports.deliveries import Delivery
from orchx.testing.memory_deliveries import MemoryDeliveries
from tests.unit.engine.fakes import FakeClock, FakeSender

CONCURRENCY = 32


def delivery(name: str, host: str, created_at_ms: int) -> Delivery:
    return Delivery(
        id=name,
        workflow_id=name,
        tenant="acme",
        position=1,
        url=f"https://{host}/hook",
        event_type="t",
        body=b"{}",
        created_at_ms=created_at_ms,
        next_attempt_at_ms=created_at_ms,
    )


class Bench:
    """A pump over an outbox in memory; hosts that begin with `down` refuse everything."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.outbox = MemoryDeliveries()
        self.sender = FakeSender(self.clock)
        self.pump = WebhookPump(
            self.outbox,
            self.sender,
            self.clock,
            RetrySchedule(first_delay_ms=60_000, give_up_after_s=86_400, draw=lambda: 0.5),
            concurrency=CONCURRENCY,
            interval_s=1,
        )

    async def add(self, *deliveries: Delivery) -> None:
        for one in deliveries:
            if one.host.startswith("down"):
                self.sender.answers[one.workflow_id] = [Answer(error="refused")]
        await self.outbox.add(deliveries, offset=1)

    async def round(self) -> Counter[str]:
        """Start what may start, let it end, and return how many attempts each host got."""
        before = len(self.sender.sent)
        await self.pump.start_due()
        await self.pump.idle()
        await self.pump.settle()
        return Counter(sent.host for _, sent in self.sender.sent[before:])


async def test_a_dead_host_starves_nobody_however_much_waits_for_it() -> None:
    bench = Bench()
    dead = [delivery(f"dead-{number}", "down.example.com", number) for number in range(6_000)]
    await bench.add(*dead, delivery("well", "up.example.com", 7_000))
    assert await bench.round() == {"down.example.com": CONCURRENCY}  # nobody knew that it is down
    assert await bench.round() == {
        "down.example.com": AILING_HOST_CONCURRENCY,
        "up.example.com": 1,
    }
    assert [row.id for row in await bench.outbox.list(status="delivered")] == ["well"]


async def test_many_dead_hosts_together_leave_half_of_the_slots() -> None:
    bench = Bench()
    dead = [
        delivery(f"dead-{host}-{number}", f"down-{host}.example.com", number)
        for host in range(CONCURRENCY)
        for number in range(50)
    ]
    well = [delivery(f"well-{number}", "up.example.com", 7_000) for number in range(100)]
    await bench.add(*dead, *well)
    assert (await bench.round())["up.example.com"] == 0  # all slots went to those who came first
    found = await bench.round()
    assert found["up.example.com"] == CONCURRENCY // 2
    assert sum(found.values()) == CONCURRENCY


async def test_a_host_that_is_well_again_gets_all_the_slots() -> None:
    bench = Bench()
    await bench.add(*(delivery(f"d-{n}", "down.example.com", n) for n in range(200)))
    await bench.round()
    bench.sender.answers.clear()
    assert await bench.round() == {"down.example.com": AILING_HOST_CONCURRENCY}
    assert await bench.round() == {"down.example.com": CONCURRENCY}


async def test_the_hosts_remembered_are_those_that_failed_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(webhook_pump, "AILING_HOSTS_LIMIT", 2)
    bench = Bench()
    for name in ("down-1", "down-2", "down-3"):
        await bench.add(delivery(f"first-{name}", name, 1))
        await bench.round()
    await bench.add(*(delivery(f"{n}", "down-3", n) for n in range(2, 20)))
    assert await bench.round() == {"down-3": AILING_HOST_CONCURRENCY}
