from collections import Counter

from orchx.domain.state import Status, WorkflowState
from orchx.engine.summary import LiveSummary
from tests.chaos.judge import verdict_of
from tests.chaos.load import Request
from tests.e2e.checker import Story


def a_story(key: str, *, status: Status = "completed", ends: int = 1, gaps: int = 0) -> Story:
    state = WorkflowState(key)
    state.input = {"name": key}
    state.status = status
    return Story(
        state=state,
        summary=LiveSummary(key).freeze(),
        terminal_events=ends,
        gaps=gaps,
        epochs=1,
    )


def a_request(key: str, workflow_id: str | None) -> Request:
    return Request(key=key, due_s=0, workflow_id=workflow_id)


def test_all_is_well_where_each_request_has_its_workflow() -> None:
    verdict = verdict_of([a_request("a", "1")], {"1": a_story("a")})

    assert verdict.is_clean
    assert verdict.statuses == Counter(completed=1)


def test_what_was_accepted_and_is_not_in_the_log_is_lost() -> None:
    assert verdict_of([a_request("a", "1")], {}).lost == 1
    assert verdict_of([a_request("a", "1"), a_request("b", "1")], {"1": a_story("a")}).lost == 1


def test_what_was_accepted_without_the_clients_hearing_of_it_is_neither_lost_nor_doubled() -> None:
    assert verdict_of([a_request("a", None)], {"1": a_story("a")}).is_clean
    assert verdict_of([a_request("a", None)], {}).is_clean


def test_two_workflows_of_one_key_are_doubled() -> None:
    stories = {"1": a_story("a"), "2": a_story("a")}

    assert verdict_of([a_request("a", "2")], stories).doubled == 1


def test_what_is_not_over_is_stuck() -> None:
    verdict = verdict_of([a_request("a", "1")], {"1": a_story("a", status="running", ends=0)})

    assert verdict.stuck == 1


def test_what_has_not_begun_is_stuck_and_not_lost() -> None:
    verdict = verdict_of([a_request("a", "1"), a_request("b", "2")], {}, frozenset({"1"}))

    assert (verdict.stuck, verdict.lost) == (1, 1)


def test_other_oddities_are_told() -> None:
    stories = {
        "1": a_story("a", status="faulted"),
        "2": a_story("b", ends=2),
        "3": a_story("c", gaps=1),
        "4": a_story("nobody"),
    }
    requests = [a_request(key, number) for key, number in (("a", "1"), ("b", "2"), ("c", "3"))]

    assert verdict_of(requests, stories).findings == [
        "1 is faulted",
        "2: 2 ends, 0 gaps",
        "3: 1 ends, 1 gaps",
        "['4']: nobody asked for nobody",
    ]
