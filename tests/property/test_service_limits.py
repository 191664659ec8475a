"""The limits of a service hold whatever happens, in whatever order."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from orchx.domain.events import CallDetails
from orchx.domain.faults import COMMUNICATION, Fault
from orchx.domain.messages import TaskOutcome, TaskRequest
from orchx.domain.services import Service
from orchx.engine.circuit_breaker import BreakerState
from orchx.engine.pool_entry import PoolEntry
from orchx.engine.rate_limiter import RateLimiter
from orchx.engine.service_gate import ServiceGate

STEPS_MS = st.integers(min_value=0, max_value=2_000)
LEASE_MS = 1_000
OPEN_MS = 500
CONCURRENCY = 3
FAILURES = 2
REQUEST = TaskRequest(
    workflow_id="w",
    frame=1,
    key="k",
    owner="o",
    reference="/do",
    call=CallDetails(function="f", target="service", service="s"),
)
FAILED = Fault(type=COMMUNICATION, status=503, title="HTTP 503")


@given(
    rate_per_s=st.floats(min_value=0.1, max_value=5_000),
    steps_ms=st.lists(STEPS_MS, max_size=60),
    tries=st.integers(min_value=1, max_value=40),
)
def test_no_span_of_time_sees_more_calls_than_the_rate_allows(
    rate_per_s: float, steps_ms: list[int], tries: int
) -> None:
    limiter = RateLimiter(rate_per_s, 0)
    now_ms = 0
    begun_ms: list[int] = []
    for step_ms in steps_ms:
        now_ms += step_ms
        begun_ms += [now_ms for _ in range(tries) if limiter.take(now_ms)]
    for first in range(len(begun_ms)):
        for last in (first, len(begun_ms) - 1):
            span_s = (begun_ms[last] - begun_ms[first]) / 1_000
            assert last - first + 1 <= rate_per_s * span_s + limiter.burst + 1e-6


@given(rate_per_s=st.floats(min_value=0.1, max_value=5_000), steps_ms=st.lists(STEPS_MS))
def test_after_the_wait_that_it_names_a_call_may_begin(
    rate_per_s: float, steps_ms: list[int]
) -> None:
    limiter = RateLimiter(rate_per_s, 0)
    now_ms = 0
    for step_ms in steps_ms:
        now_ms += step_ms
        while limiter.take(now_ms):
            pass
        wait_ms = limiter.wait_ms(now_ms)
        assert wait_ms > 0
        assert limiter.wait_ms(now_ms + wait_ms) == 0
        now_ms += wait_ms


def test_a_clock_that_is_set_back_gives_nothing_away() -> None:
    limiter = RateLimiter(10, 10_000)
    assert limiter.take(10_000)
    assert not limiter.take(1_000)
    assert not limiter.take(1_050)
    assert limiter.take(1_100)


class GateMachine(RuleBasedStateMachine):
    """Calls begin, end, fail, hang and are given up, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ms = 1_000
        service = Service(
            name="s",
            base_url="http://s",
            concurrency=CONCURRENCY,
            breaker_failures=FAILURES,
            breaker_open_ms=OPEN_MS,
        )
        self.gate = ServiceGate(service, self.now_ms)
        self.open: dict[PoolEntry, int] = {}
        self.number = 0
        self.in_a_row = 0

    @rule(delay_ms=STEPS_MS)
    def time_passes(self, delay_ms: int) -> None:
        self.now_ms += delay_ms

    @rule()
    def begin(self) -> None:
        if self.gate.refusal_ms(self.now_ms) or self.gate.wait_ms(self.now_ms):
            return
        state = self.gate.breaker.state(self.now_ms)
        assert state is not BreakerState.OPEN
        self.number += 1
        entry = PoolEntry(REQUEST, f"w/{self.number}", self.gate, self.number, self.now_ms)
        self.gate.begin(entry, self.now_ms + LEASE_MS, self.now_ms)
        assert entry.is_probe == (state is BreakerState.HALF_OPEN)
        self.open[entry] = self.now_ms + LEASE_MS

    @precondition(lambda self: self.open)
    @rule(data=st.data(), how=st.sampled_from(["success", "failure", "given up"]))
    def end(self, data: st.DataObject, how: str) -> None:
        entry = data.draw(st.sampled_from(list(self.open)))
        del self.open[entry]
        was_closed = self.gate.breaker.is_closed
        error = FAILED if how == "failure" else None
        outcome = TaskOutcome(workflow_id="w", frame=1, error=error)
        opened = self.gate.judge(entry, None if how == "given up" else outcome, self.now_ms)
        self.gate.vacate(entry)
        if was_closed:
            self.in_a_row = {"success": 0, "failure": self.in_a_row + 1}.get(how, self.in_a_row)
            assert opened == (self.in_a_row >= FAILURES)
        if entry.is_probe and not was_closed:
            assert opened == (how == "failure")
            assert self.gate.breaker.is_closed == (how == "success")
        if self.gate.breaker.is_closed and not was_closed:
            self.in_a_row = 0

    @invariant()
    def no_more_leases_than_allowed(self) -> None:
        assert len(self.gate.leases) <= CONCURRENCY
        live = sum(expires_ms > self.now_ms for expires_ms in self.open.values())
        assert live <= CONCURRENCY

    @invariant()
    def one_probe_at_most(self) -> None:
        probes = [entry for entry in self.open if entry.is_probe]
        if self.gate.breaker.is_probing:
            assert probes

    @invariant()
    def a_lease_always_ends(self) -> None:
        later_ms = max([self.now_ms, *self.open.values()])
        self.gate.leases.expire(self.now_ms)
        held = len(self.gate.leases)
        live = sum(expires_ms > self.now_ms for expires_ms in self.open.values())
        assert held == live
        if not self.gate.breaker.is_probing:
            assert held < CONCURRENCY or later_ms > self.now_ms


TestGate = GateMachine.TestCase
TestGate.settings = settings(max_examples=200, stateful_step_count=40)
