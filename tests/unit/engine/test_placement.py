"""Which owner a workflow gets, and the order of those that wait for one."""

from __future__ import annotations

from orchx.engine.placement import CRITICAL, Entry, Station, Stations, WaitingRoom
from tests.unit.engine.dispatching import FakeOwner


def station(name: str, *, capacity: int = 1, dedicated: bool = False) -> Station:
    return Station(link=FakeOwner(name), capacity=capacity, dedicated=dedicated)


def chosen(stations: Stations, entry: Entry) -> str | None:
    found = stations.choose(entry)
    return found.link.name if found is not None else None


def drained(*entries: Entry) -> list[str]:
    room = WaitingRoom()
    for entry in entries:
        room.push(entry)
    return [room.pop().workflow_id for _ in range(len(room))]


AUTO = Entry("auto")
SHARED = Entry("shared", isolation="shared")
DEDICATED = Entry("dedicated", isolation="dedicated")


def test_the_more_urgent_priority_leaves_first() -> None:
    entries = [Entry("low", priority=9), Entry("high", priority=1), Entry("middle", priority=5)]
    assert drained(*entries) == ["high", "middle", "low"]


def test_of_one_priority_the_nearest_deadline_leaves_first_and_none_last() -> None:
    entries = [Entry("none"), Entry("late", deadline_ms=20), Entry("soon", deadline_ms=10)]
    assert drained(*entries) == ["soon", "late", "none"]


def test_priority_counts_more_than_a_deadline() -> None:
    entries = [Entry("soon", priority=6, deadline_ms=1), Entry("urgent", priority=5)]
    assert drained(*entries) == ["urgent", "soon"]


def test_of_equals_the_one_that_waits_longest_leaves_first() -> None:
    assert drained(Entry("b"), Entry("a"), Entry("c")) == ["b", "a", "c"]


def test_what_has_begun_leaves_before_anything_fresh() -> None:
    entries = [Entry("urgent", priority=0, fresh=True), Entry("begun", priority=9)]
    assert drained(*entries) == ["begun", "urgent"]


def test_a_workflow_waits_once_at_a_time() -> None:
    room, entry = WaitingRoom(), Entry("wf")
    for _ in range(2):
        room.push(entry)
        room.push(entry)
        assert (len(room), room.first(), entry.queued) == (1, entry, True)
        assert room.pop() is entry
        assert (len(room), entry.queued) == (0, False)


def test_shared_workflows_go_where_most_room_is_and_never_to_a_dedicated_owner() -> None:
    small, large = station("small", capacity=2), station("large", capacity=3)
    stations = Stations([station("lone", dedicated=True), small, large])
    assert chosen(stations, SHARED) == "large"
    large.held |= {"a", "b"}
    assert chosen(stations, SHARED) == "small"
    large.held.add("c")
    small.held |= {"d", "e"}
    assert chosen(stations, SHARED) is None


def test_an_owner_out_of_reach_is_given_nothing() -> None:
    near, far = station("near"), station("far", capacity=9)
    far.reachable = False
    stations = Stations([near, far])
    assert chosen(stations, SHARED) == "near"
    near.held.add("a")
    assert chosen(stations, SHARED) is None


def test_dedicated_workflows_get_an_owner_to_themselves_or_wait() -> None:
    lone = station("lone", dedicated=True)
    stations = Stations([station("crowd", capacity=9), lone])
    assert stations.alone(DEDICATED)
    assert chosen(stations, DEDICATED) == "lone"
    lone.held.add("a")
    assert chosen(stations, DEDICATED) is None


def test_critical_workflows_do_not_share_whatever_they_ask_for() -> None:
    stations = Stations([station("crowd", capacity=9), station("lone", dedicated=True)])
    for entry in (SHARED, AUTO):
        critical = Entry("wf", isolation=entry.isolation, priority=CRITICAL)
        assert stations.alone(critical)
        assert chosen(stations, critical) == "lone"


def test_where_nobody_is_dedicated_everyone_shares() -> None:
    stations = Stations([station("crowd", capacity=9)])
    for entry in (DEDICATED, AUTO, Entry("wf", priority=CRITICAL)):
        assert not stations.alone(entry)
        assert chosen(stations, entry) == "crowd"


def test_auto_takes_so_many_dedicated_owners_and_leaves_the_rest_warm() -> None:
    lone = [station(f"lone-{number}", dedicated=True) for number in range(3)]
    stations = Stations([*lone, station("crowd", capacity=9)], auto_dedicated=2)
    for expected in ("lone-0", "lone-1", "crowd"):
        found = stations.choose(AUTO)
        assert found is not None
        assert found.link.name == expected
        found.held.add(expected)
    assert chosen(stations, DEDICATED) == "lone-2"


def test_what_is_placed_is_counted_over_all_owners() -> None:
    one, other = station("one", capacity=5), station("other", dedicated=True)
    stations = Stations([one, other])
    one.held |= {"a", "b"}
    other.held.add("c")
    assert (stations.held, one.free, other.free) == (3, 3, 0)
    assert list(stations) == [one, other]
