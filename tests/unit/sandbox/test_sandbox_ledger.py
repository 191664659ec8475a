"""The ledger: one entry per effect, keys honoured, duplicates seen, nothing lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchx.sandbox.process import SandboxProcess

Post = Callable[..., httpx.Response]
Effects = Callable[[], list[dict[str, Any]]]


def duplicated(http: httpx.Client) -> int:
    count: int = http.get("/ledger/summary").json()["duplicated_effects"]
    return count


def test_repeated_key_is_answered_from_the_ledger(
    post: Post, effects: Effects, account: dict[str, str], workflow: str
) -> None:
    first = post("/it/accounts", account, key=workflow)
    second = post("/it/accounts", account, key=workflow)

    assert (second.status_code, second.content) == (first.status_code, first.content)
    assert second.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers
    assert len(effects()) == 1


def test_entry_says_who_did_what_to_whom(
    post: Post, effects: Effects, account: dict[str, str], workflow: str
) -> None:
    post("/it/accounts", account, key=workflow)

    (entry,) = effects()
    expected = {
        "service": "it",
        "operation": "it.create-account",
        "idempotency_key": workflow,
        "workflow": workflow,
        "subject": "EMP-7",
        "status": 201,
    }
    assert entry.items() >= expected.items()
    assert len(entry["digest"]) == 32


def test_order_of_members_does_not_make_another_body(
    http: httpx.Client, account: dict[str, str], workflow: str
) -> None:
    headers = {"Idempotency-Key": workflow, "content-type": "application/json"}
    reversed_account = dict(reversed(account.items()))

    http.post("/it/accounts", content=json.dumps(account), headers=headers)
    again = http.post(
        "/it/accounts", content=json.dumps(reversed_account, indent=2), headers=headers
    )

    assert again.headers["Idempotency-Replayed"] == "true"


def test_repeated_key_with_another_body_is_refused(
    post: Post, effects: Effects, account: dict[str, str], workflow: str
) -> None:
    post("/it/accounts", account, key=workflow)

    response = post("/it/accounts", {**account, "employee_id": "EMP-8"}, key=workflow)

    assert response.status_code == 422
    assert response.json()["type"].endswith("idempotency-key-reused")
    assert len(effects()) == 1


def test_repeated_key_for_another_path_is_refused(post: Post, workflow: str) -> None:
    post("/it/groups/a/members", {"employee_id": "EMP-7"}, key=workflow)

    response = post("/it/groups/b/members", {"employee_id": "EMP-7"}, key=workflow)

    assert response.status_code == 422


def test_key_belongs_to_one_operation(
    post: Post, effects: Effects, account: dict[str, str], workflow: str
) -> None:
    post("/it/accounts", account, key=workflow)
    response = post("/it/mailboxes", {"employee_id": "EMP-7", "username": "zoe"}, key=workflow)

    assert "Idempotency-Replayed" not in response.headers
    assert len(effects()) == 2


def test_call_without_key_has_an_effect_each_time_and_is_counted_as_duplicate(
    post: Post, http: httpx.Client, effects: Effects, account: dict[str, str]
) -> None:
    before = duplicated(http)

    answers = [post("/it/accounts", account).json()["account_id"] for _ in range(3)]

    assert len(set(answers)) == 3
    assert len(effects()) == 3
    assert duplicated(http) == before + 2


def test_new_key_does_not_hide_a_duplicate(
    post: Post, http: httpx.Client, account: dict[str, str], workflow: str
) -> None:
    before = duplicated(http)

    post("/it/accounts", account, key=f"{workflow}-1")
    post("/it/accounts", account, key=f"{workflow}-2")

    assert duplicated(http) == before + 1


def test_two_providers_for_one_workflow_are_a_duplicate(post: Post, http: httpx.Client) -> None:
    before = duplicated(http)

    post("/laptops-express/provision", {"employee_id": "EMP-7"}, key="a-laptop")
    post("/laptops-basic/orders", {"employee_id": "EMP-7"}, key="a-laptop")

    assert duplicated(http) == before + 1


def test_other_subjects_are_no_duplicates(post: Post, http: httpx.Client) -> None:
    before = duplicated(http)

    for group in ("a", "b", "c"):
        post(f"/it/groups/{group}/members", {"employee_id": "EMP-7"})

    assert duplicated(http) == before


def test_same_subject_of_another_workflow_is_no_duplicate(
    http: httpx.Client, account: dict[str, str], workflow: str
) -> None:
    before = duplicated(http)

    for number in range(2):
        headers = {"X-Orchx-Workflow": f"{workflow}-{number}"}
        http.post("/it/accounts", json=account, headers=headers)

    assert duplicated(http) == before


def test_reads_and_refusals_leave_no_entry(
    post: Post, http: httpx.Client, effects: Effects, workflow: str
) -> None:
    http.get("/hr/employees/EMP-1/leave-balance", headers={"X-Orchx-Workflow": workflow})
    post("/finance/budget-checks", {"cost_centre": "CC-120", "amount_cents": 1})
    assert post("/it/incidents/INC-9/diagnosis", {}, key=workflow).status_code == 404

    assert effects() == []


def test_concurrent_calls_with_one_key_have_one_effect(
    post: Post, effects: Effects, account: dict[str, str], workflow: str
) -> None:
    with ThreadPoolExecutor(16) as pool:
        responses = list(pool.map(lambda _: post("/it/accounts", account, key=workflow), range(48)))

    assert {response.status_code for response in responses} == {201}
    assert len({response.content for response in responses}) == 1
    assert sum("Idempotency-Replayed" in response.headers for response in responses) == 47
    assert len(effects()) == 1


def test_attempts_and_replays_are_counted_per_key(
    post: Post, http: httpx.Client, account: dict[str, str], workflow: str
) -> None:
    http.put("/faults/it", json={"burst": {"count": 2}})

    statuses = [post("/it/accounts", account, key=workflow).status_code for _ in range(4)]

    assert statuses == [503, 503, 201, 201]
    assert http.get(f"/ledger/attempts/{workflow}").json() == [
        {"service": "it", "operation": "it.create-account", "attempts": 4, "replays": 1}
    ]


def test_summary_adds_up(post: Post, http: httpx.Client, account: dict[str, str]) -> None:
    before = http.get("/ledger/summary").json()

    post("/it/accounts", account, key="adds-up")
    post("/it/accounts", account, key="adds-up")
    post("/it/accounts", account)

    after = http.get("/ledger/summary").json()
    names = ("effects", "distinct_keys", "duplicated_effects", "attempts", "replays")
    assert [after[name] - before[name] for name in names] == [2, 1, 1, 3, 1]
    for name in names:
        assert after[name] == sum(counts[name] for counts in after["by_operation"].values())


def test_ledger_is_paged(post: Post, http: httpx.Client, workflow: str) -> None:
    for number in range(5):
        post(f"/it/groups/g{number}/members", {"employee_id": "EMP-7"})

    since, subjects, more = 0, [], True
    while more:
        query: dict[str, str | int] = {"since": since, "limit": 2, "workflow": workflow}
        page = http.get("/ledger", params=query).json()
        since, more = page["next_since"], page["more"]
        subjects += [effect["subject"] for effect in page["effects"]]

    assert subjects == [f"EMP-7/g{number}" for number in range(5)]


def test_overlong_key_is_refused(post: Post, account: dict[str, str]) -> None:
    assert post("/it/accounts", account, key="k" * 256).status_code == 400


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_restart_keeps_the_ledger(end: str, data_directory: Path, account: dict[str, str]) -> None:
    headers = {"Idempotency-Key": "k", "X-Orchx-Workflow": "w"}
    with SandboxProcess(data_directory) as process:
        first = httpx.post(f"{process.url}/it/accounts", json=account, headers=headers)
        ended = getattr(process, end)()

    with SandboxProcess(data_directory) as process:
        again = httpx.post(f"{process.url}/it/accounts", json=account, headers=headers)
        other = httpx.post(f"{process.url}/it/accounts", json=account)
        summary = httpx.get(f"{process.url}/ledger/summary").json()

    assert ended == {"stop": 0, "kill": -9}[end]
    assert again.content == first.content
    assert again.headers["Idempotency-Replayed"] == "true"
    assert other.json()["account_id"] != first.json()["account_id"]
    assert (summary["effects"], summary["replays"]) == (2, 1)
    assert summary["attempts"] == {"stop": 3, "kill": 2}[end]
