from __future__ import annotations

from orchx.domain.messages import TaskOutcome
from orchx.engine.call_leases import CallLeases
from orchx.engine.recent_results import RecentResults


def test_no_more_leases_than_the_limit_and_none_twice() -> None:
    leases = CallLeases(2)
    assert leases.take("a", 10, 0)
    assert not leases.take("a", 10, 0)
    assert leases.take("b", 20, 0)
    assert not leases.take("c", 30, 9)
    assert leases.take("c", 30, 10)  # a's has ended by itself
    assert not leases.give_back("a")
    assert leases.give_back("b")
    assert len(leases) == 1


def outcome(size: int = 1) -> TaskOutcome:
    return TaskOutcome(workflow_id="w", frame=1, output="x" * size)


def test_results_are_bounded_by_count_age_and_size() -> None:
    recent = RecentResults(2, max_age_ms=100, max_bytes=1_000)
    for name in "abc":
        recent.put(name, outcome(), 0)
    assert [name in recent for name in "abc"] == [False, True, True]
    assert recent.get("c", 100) == outcome()
    assert recent.get("c", 101) is None
    recent.put("big", outcome(900), 101)
    assert len(recent) == 1
    recent.put("huge", outcome(2_000), 101)
    assert (len(recent), recent.size_bytes) == (0, 0)
