from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from orchx.domain.faults import COMMUNICATION, RUNTIME, TIMEOUT
from orchx.domain.messages import TaskOutcome, TaskRequest
from orchx.engine.call_timeouts import LEASE_GRACE_MS
from orchx.engine.task_pool import TaskPool
from orchx.settings import PoolSettings
from tests.unit.engine.pool_fakes import Bench, HeldRunner, ManualClock, request, settle


async def test_outcomes_of_one_turn_are_pushed_once_per_owner() -> None:
    bench = Bench()
    await bench.submit(*(request(f"w{i}", owner=f"owner-{i % 2}") for i in range(6)))
    for held in bench.runner.open.values():
        held.set_result(TaskOutcome(workflow_id="w", frame=1))
    await settle()
    assert sorted((owner, len(outcomes)) for owner, outcomes in bench.sink.pushes) == [
        ("owner-0", 3),
        ("owner-1", 3),
    ]


async def test_a_repeat_joins_what_runs_and_answers_the_new_owner() -> None:
    bench = Bench()
    await bench.submit(request("w"))
    await bench.submit(request("w", owner="owner-2"))
    assert bench.runner.names == ["w"]
    await bench.runner.end("w")
    assert [owner for owner, _ in bench.sink.pushes] == ["owner-2"]


async def test_a_repeat_of_what_has_ended_gets_the_stored_outcome() -> None:
    bench = Bench()
    await bench.submit(request("w"))
    await bench.runner.end("w")
    await bench.submit(request("w"))
    assert bench.runner.names == ["w"]
    first, second = bench.sink.of("w")
    assert first == second


async def test_another_frame_of_the_same_task_is_another_execution() -> None:
    bench = Bench()
    await bench.submit(request("w"))
    await bench.submit(request("w", frame=2))
    assert len(bench.runner.started) == 2


async def test_urgent_calls_go_first_and_equals_in_the_order_of_arrival() -> None:
    bench = Bench(io_concurrency=1)
    await bench.submit(request("first"))
    await bench.submit(
        request("c", priority=9), request("a1", priority=0), request("b"), request("a2", priority=0)
    )
    for name in ["first", "a1", "a2", "b"]:
        await bench.runner.end(name)
    assert bench.runner.names == ["first", "a1", "a2", "b", "c"]


async def test_priority_holds_within_one_batch_that_finds_too_little_room() -> None:
    bench = Bench(io_concurrency=1)
    await bench.submit(request("late", priority=9), request("soon", priority=0))
    assert bench.runner.names == ["soon"]


async def test_a_full_queue_is_said_and_not_kept() -> None:
    bench = Bench(io_concurrency=1, queue_limit=2)
    await bench.submit(*(request(f"w{i}") for i in range(4)))
    fault = bench.sink.fault_of("w2")
    assert (fault.type, fault.status, fault.title) == (COMMUNICATION, 503, "task queue full")
    assert fault.retry_after_ms
    assert bench.pool.unknown(["w0/1/key-w0", "w1/1/key-w1", "w2/1/key-w2", "w3/1/key-w3"]) == [
        "w2/1/key-w2",
        "w3/1/key-w3",
    ]


async def test_a_call_past_its_timeout_is_cut() -> None:
    bench = Bench(default_timeout_ms=5_000)
    await bench.submit(request("w"))
    await bench.clock.pass_ms(4_999)
    assert not bench.sink.outcomes
    await bench.clock.pass_ms(20)
    assert (bench.sink.fault_of("w").type, bench.sink.fault_of("w").status) == (TIMEOUT, 408)
    assert bench.runner.cancelled == ["w/1/key-w"]
    assert bench.pool.unknown(["w/1/key-w"]) == ["w/1/key-w"]  # its outcome may be lost: ask again


@pytest.mark.parametrize("set_ms", [-3_600_000, 3_600_000])
async def test_setting_the_clock_moves_no_timeout(set_ms: int) -> None:
    bench = Bench(default_timeout_ms=5_000)
    deadline_ms = bench.clock.now_ms() + 2_000
    await bench.submit(request("running"), request("due", deadline_at_ms=deadline_ms))
    begun_ms = bench.clock.time_ms
    bench.clock.wall_ms = set_ms
    assert {view.started_ms for view in bench.pool.running()} == {begun_ms + set_ms}
    await bench.clock.pass_ms(1_990)
    assert not bench.sink.pushes
    await bench.clock.pass_ms(20)
    assert [outcome.error.type for outcome in bench.sink.of("due") if outcome.error] == [TIMEOUT]
    await bench.clock.pass_ms(2_980)
    assert not bench.sink.of("running")
    await bench.clock.pass_ms(20)
    [cut] = bench.sink.of("running")
    assert cut.error is not None
    assert 5_000 <= cut.duration_ms <= 5_010


async def test_the_least_of_the_limits_wins() -> None:
    bench = Bench(default_timeout_ms=5_000)
    now_ms = bench.clock.now_ms()
    await bench.submit(
        request("call", timeout_ms=100),
        request("deadline", deadline_at_ms=now_ms + 200),
        request("longer", timeout_ms=9_000),
    )
    await bench.clock.pass_ms(110)
    assert [outcome.workflow_id for outcome in bench.sink.outcomes] == ["call"]
    await bench.clock.pass_ms(110)
    assert [outcome.workflow_id for outcome in bench.sink.outcomes] == ["call", "deadline"]
    await bench.clock.pass_ms(6_000)
    assert not bench.sink.of("longer")


async def test_a_deadline_also_ends_what_waits() -> None:
    bench = Bench(io_concurrency=1)
    await bench.submit(request("running"))
    await bench.submit(request("waiting", deadline_at_ms=bench.clock.now_ms() + 100))
    await bench.clock.pass_ms(120)
    assert bench.sink.fault_of("waiting").type == TIMEOUT
    await bench.runner.end("running")
    assert bench.runner.names == ["running"]


async def test_a_deadline_that_has_passed_starts_nothing() -> None:
    bench = Bench()
    await bench.submit(request("w", deadline_at_ms=bench.clock.now_ms()))
    assert not bench.runner.started
    assert bench.sink.fault_of("w").type == TIMEOUT


async def test_a_call_that_will_not_stop_loses_its_slot_after_the_grace() -> None:
    bench = Bench(io_concurrency=1, default_timeout_ms=1_000)
    bench.runner.stubborn = True
    await bench.submit(request("hung"), request("next"))
    await bench.clock.pass_ms(1_500)
    assert bench.runner.names == ["hung"]
    await bench.clock.pass_ms(2_000)
    assert bench.runner.names == ["hung", "next"]
    assert bench.pool.stats.reclaimed == 1
    # When it ends at last, its slot is not given away twice, nor its outcome pushed.
    await bench.submit(request("third"))
    await bench.runner.end("hung")
    assert bench.runner.names == ["hung", "next"]
    assert len(bench.sink.of("hung")) == 1
    await bench.runner.release()


async def test_what_a_freed_slot_finds_expired_leaves_all_other_timeouts_alive() -> None:
    bench = Bench(io_concurrency=1)
    bench.runner.stubborn = True
    await bench.submit(request("hung", timeout_ms=100))
    await bench.clock.pass_ms(104)
    # its slot comes free, and the deadline of what waits for it, in one tick
    freed_ms = bench.clock.now_ms() + LEASE_GRACE_MS
    await bench.submit(request("waiting", deadline_at_ms=freed_ms))
    await bench.clock.pass_ms(LEASE_GRACE_MS + 100)
    await bench.submit(request("later", timeout_ms=100))
    await bench.clock.pass_ms(200)
    await bench.runner.release()
    assert bench.pool.stats.reclaimed == 1
    for name in ("hung", "waiting", "later"):
        assert bench.sink.fault_of(name).type == TIMEOUT


async def test_what_is_abandoned_stops_without_an_outcome() -> None:
    bench = Bench(io_concurrency=1)
    await bench.submit(request("a"), request("b"), request("c"))
    bench.pool.abandon(["a/1/key-a", "b/1/key-b", "nobody/1/key-nobody"])
    await settle()
    assert bench.runner.names == ["a", "c"]
    assert bench.runner.cancelled == ["a/1/key-a"]
    assert not bench.sink.outcomes
    assert bench.pool.unknown(["a/1/key-a", "b/1/key-b", "c/1/key-c"]) == ["a/1/key-a", "b/1/key-b"]


async def test_abandoned_before_its_first_step_frees_its_slot() -> None:
    bench = Bench(io_concurrency=1)
    bench.pool.submit([request("a")])
    bench.pool.abandon(["a/1/key-a"])
    await bench.submit(request("b"))
    assert bench.runner.names == ["b"]


async def test_a_runner_that_raises_is_an_outcome_and_no_lost_slot() -> None:
    class Broken(HeldRunner):
        async def run(self, request: TaskRequest) -> TaskOutcome:
            if request.workflow_id == "cancels":
                raise asyncio.CancelledError
            raise ZeroDivisionError("oops")

    bench = Bench(runner=Broken(), io_concurrency=1)
    await bench.submit(request("raises"), request("cancels"))
    assert bench.sink.fault_of("raises").type == RUNTIME
    assert "ZeroDivisionError" in (bench.sink.fault_of("raises").detail or "")
    assert bench.sink.fault_of("cancels").type == RUNTIME
    assert bench.pool.queues()[-1].running == 0


async def test_an_output_that_is_not_json_is_an_error_and_no_lost_slot() -> None:
    class Odd(HeldRunner):
        async def run(self, request: TaskRequest) -> TaskOutcome:
            return TaskOutcome(workflow_id=request.workflow_id, frame=1, output=object())

    bench = Bench(runner=Odd(), io_concurrency=1)
    await bench.submit(request("w"))
    assert bench.sink.fault_of("w").type == RUNTIME


async def test_a_heartbeat_is_seen() -> None:
    bench = Bench()
    await bench.submit(request("w"))
    assert bench.pool.running()[0].heartbeat_ms is None
    await bench.clock.pass_ms(10)
    bench.pool.heartbeat("w/1/key-w")
    bench.pool.heartbeat("unknown/1/key-unknown")
    (view,) = bench.pool.running()
    assert (view.execution, view.heartbeat_ms) == ("w/1/key-w", bench.clock.now_ms())


async def test_draining_lets_run_and_refuses_what_comes() -> None:
    bench = Bench()
    await bench.submit(request("w"))
    drain = asyncio.ensure_future(bench.pool.drain(10))
    await settle()
    await bench.submit(request("late"))
    assert bench.sink.fault_of("late").title == "task pool draining"
    await bench.runner.end("w")
    assert await drain is True
    assert bench.sink.of("w")


async def test_draining_gives_up_in_time() -> None:
    bench = Bench()
    await bench.submit(request("w"))
    drain = asyncio.ensure_future(bench.pool.drain(1))
    await bench.clock.pass_ms(1_001)
    assert await drain is False


async def test_closing_pushes_no_outcome_for_what_it_cuts() -> None:
    bench = Bench(io_concurrency=1)
    await bench.submit(request("a"), request("b"))
    await bench.pool.close()
    assert bench.runner.cancelled == ["a/1/key-a"]
    assert not bench.sink.outcomes


async def test_one_owners_failing_push_does_not_cost_the_others_theirs() -> None:
    pushed: list[str] = []

    class Picky:
        def push(self, owner: str, outcomes: Sequence[TaskOutcome]) -> None:
            if owner == "gone":
                raise ConnectionError("no such actor")
            pushed.append(owner)

    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    runner = HeldRunner()
    pool = TaskPool(runner, Picky(), ManualClock(), PoolSettings())
    pool.submit([request("a", owner="here"), request("b", owner="gone")])
    await settle()
    for held in runner.open.values():
        held.set_result(TaskOutcome(workflow_id="w", frame=1))
    await settle()
    assert pushed == ["here"]
    assert len(reported) == 1
