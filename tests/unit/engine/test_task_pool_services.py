from __future__ import annotations

import pytest

from orchx.domain.faults import TIMEOUT, Fault
from orchx.domain.services import Operation, Service
from orchx.engine.pool_views import QueueView
from tests.unit.engine.pool_fakes import Bench, broken, request, settle


def service(**limits: object) -> Service:
    return Service(name="it", base_url="http://it", **limits)  # type: ignore[arg-type]


def view(bench: Bench) -> QueueView:
    return bench.pool.queues()[0]


async def test_a_service_gets_no_more_calls_at_once_than_it_allows() -> None:
    bench = Bench(service(concurrency=2))
    await bench.submit(*(request(f"w{i}", service="it") for i in range(4)), request("other"))
    assert sorted(bench.runner.names) == ["other", "w0", "w1"]
    assert (view(bench).running, view(bench).queued) == (2, 2)
    await bench.runner.end("w0")
    assert bench.runner.names[-1] == "w2"


async def test_a_service_that_hangs_does_not_keep_its_slots() -> None:
    bench = Bench(service(concurrency=1, timeout_ms=1_000))
    bench.runner.stubborn = True
    await bench.submit(request("hung", service="it"), request("next", service="it"))
    await bench.clock.pass_ms(1_100)
    assert bench.sink.fault_of("hung").type == TIMEOUT
    assert bench.runner.names == ["hung"]
    await bench.clock.pass_ms(2_000)
    assert bench.runner.names == ["hung", "next"]
    await bench.runner.release()


async def test_an_operations_timeout_comes_before_its_services() -> None:
    operation = Operation(capability="it.provision", timeout_ms=100)
    bench = Bench(service(timeout_ms=9_000, operations=[operation]))
    await bench.submit(request("w", service="it"))
    await bench.clock.pass_ms(120)
    assert bench.sink.fault_of("w").type == TIMEOUT


async def test_the_rate_is_kept() -> None:
    bench = Bench(service(rate_per_s=10))
    await bench.submit(*(request(f"w{i}", service="it") for i in range(12)))
    assert len(bench.runner.started) == 1
    await bench.clock.pass_ms(450)
    assert 4 <= len(bench.runner.started) <= 5
    await bench.clock.pass_ms(550)
    assert 9 <= len(bench.runner.started) <= 11


async def test_the_breaker_opens_and_everything_fails_at_once() -> None:
    bench = Bench(service(breaker_failures=2, concurrency=1, breaker_open_ms=5_000))
    await bench.submit(*(request(f"w{i}", service="it") for i in range(4)))
    await bench.runner.end("w0", broken())
    await bench.runner.end("w1", broken())
    fault = bench.sink.fault_of("w3")
    assert (fault.title, fault.status, fault.retry_after_ms) == ("circuit open", 503, 5_000)
    await bench.clock.pass_ms(1_000)
    await bench.submit(request("late", service="it"))
    assert bench.sink.fault_of("late").retry_after_ms == 4_000
    assert view(bench).breaker == "open"


async def test_one_probe_decides() -> None:
    bench = Bench(service(breaker_failures=1, breaker_open_ms=1_000))
    await bench.submit(request("w", service="it"))
    await bench.runner.end("w", broken())
    await bench.clock.pass_ms(1_000)
    assert view(bench).breaker == "half-open"
    await bench.submit(request("probe", service="it"), request("held", service="it"))
    assert bench.runner.names == ["w", "probe"]
    await bench.runner.end("probe", broken())
    assert bench.sink.fault_of("held").title == "circuit open"
    await bench.clock.pass_ms(1_000)
    await bench.submit(request("again", service="it"), request("more", service="it"))
    await bench.runner.end("again")
    assert bench.runner.names == ["w", "probe", "again", "more"]
    assert view(bench).breaker == "closed"


async def test_an_abandoned_probe_makes_way_for_the_next() -> None:
    bench = Bench(service(breaker_failures=1, breaker_open_ms=1_000))
    await bench.submit(request("w", service="it"))
    await bench.runner.end("w", broken())
    await bench.clock.pass_ms(1_000)
    await bench.submit(request("probe", service="it"), request("held", service="it"))
    bench.pool.abandon(["probe/1/key-probe"])
    await settle()
    assert bench.runner.names == ["w", "probe", "held"]


@pytest.mark.parametrize(
    "fault", [broken(404), broken(429), Fault(type="https://example.com/x", status=500)]
)
async def test_a_callers_errors_do_not_open_the_breaker(fault: Fault) -> None:
    bench = Bench(service(breaker_failures=1))
    await bench.submit(request("w", service="it"))
    await bench.runner.end("w", fault)
    assert view(bench).breaker == "closed"


async def test_a_timeout_opens_the_breaker() -> None:
    bench = Bench(service(breaker_failures=1, timeout_ms=100))
    await bench.submit(request("w", service="it"))
    await bench.clock.pass_ms(120)
    assert view(bench).breaker == "open"


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_holds_the_services_other_calls_back(status: int) -> None:
    bench = Bench(service(concurrency=1))
    await bench.submit(request("a", service="it"), request("b", service="it"), request("free"))
    await bench.runner.end("a", broken(status, retry_after_ms=2_000))
    assert bench.sink.fault_of("a").retry_after_ms == 2_000
    assert bench.runner.names == ["a", "free"] or bench.runner.names == ["free", "a"]
    assert view(bench).held_ms == 2_000
    await bench.clock.pass_ms(1_990)
    assert "b" not in bench.runner.names
    await bench.clock.pass_ms(20)
    assert bench.runner.names[-1] == "b"


async def test_a_paused_service_waits_visibly() -> None:
    bench = Bench(service())
    assert bench.pool.pause("it")
    assert not bench.pool.pause("nobody")
    await bench.submit(request("w", service="it"))
    assert not bench.runner.started
    assert (view(bench).paused, view(bench).queued) == (True, 1)
    assert bench.pool.resume("it")
    await settle()
    assert bench.runner.names == ["w"]


async def test_a_services_own_queue_has_a_limit() -> None:
    bench = Bench(service(concurrency=1, queue_limit=1))
    await bench.submit(request("a", service="it"))
    await bench.submit(request("b", service="it"), request("c", service="it"))
    assert bench.sink.fault_of("c").title == "task queue full"


async def test_the_most_urgent_of_all_queues_goes_first() -> None:
    bench = Bench(service(), io_concurrency=1)
    await bench.submit(request("first"))
    await bench.submit(request("plain"), request("service", service="it", priority=1))
    await bench.runner.end("first")
    await bench.runner.end("service")
    assert bench.runner.names == ["first", "service", "plain"]


async def test_new_limits_hold_for_what_waits() -> None:
    bench = Bench(service(concurrency=1))
    await bench.submit(*(request(f"w{i}", service="it") for i in range(3)))
    bench.pool.update_services([service(concurrency=3)])
    await settle()
    assert len(bench.runner.started) == 3
    bench.pool.update_services([])
    assert view(bench).service == "it"  # its calls are still open
    for i in range(3):
        await bench.runner.end(f"w{i}")
    bench.pool.update_services([])
    assert view(bench).service == ""


async def test_a_breaker_that_opens_at_a_deadline_leaves_all_other_timeouts_alive() -> None:
    bench = Bench(service(concurrency=1, breaker_failures=1, breaker_open_ms=1_000))
    deadline_ms = bench.clock.now_ms() + 200
    await bench.submit(
        request("cut", service="it", deadline_at_ms=deadline_ms),
        request("refused", service="it", deadline_at_ms=deadline_ms),
    )
    await bench.clock.pass_ms(300)
    assert bench.sink.fault_of("cut").type == TIMEOUT
    assert bench.sink.fault_of("refused").title == "circuit open"

    await bench.submit(request("later", timeout_ms=100))
    await bench.clock.pass_ms(200)
    assert bench.sink.fault_of("later").type == TIMEOUT
