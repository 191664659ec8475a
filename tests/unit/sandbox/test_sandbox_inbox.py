"""The webhook receiver: order, signatures, faults."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from standardwebhooks.webhooks import Webhook

from orchx.sandbox.process import SandboxProcess

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def signed(body: str, webhook_id: str, secret: str = SECRET, age_s: int = 0) -> dict[str, str]:
    now = datetime.datetime.now(tz=datetime.UTC) - datetime.timedelta(seconds=age_s)
    return {
        "content-type": "application/json",
        "webhook-id": webhook_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign(webhook_id, now, body),
    }


def deliver(http: httpx.Client, system: str, webhook_id: str, **kwargs: Any) -> int:
    body = json.dumps({"type": "workflow.completed", "n": webhook_id})
    headers = signed(body, webhook_id, **kwargs)
    return http.post(f"/inbox/{system}", content=body, headers=headers).status_code


def test_deliveries_are_listed_in_the_order_of_arrival(http: httpx.Client) -> None:
    for number in range(3):
        assert deliver(http, "crm", f"msg-{number}") == 204

    listed = http.get("/inbox/crm").json()

    assert [delivery["webhook_id"] for delivery in listed] == ["msg-0", "msg-1", "msg-2"]
    assert listed[1]["body"] == {"type": "workflow.completed", "n": "msg-1"}
    assert {delivery["verified"] for delivery in listed} == {None}
    later = http.get("/inbox/crm", params={"since": listed[0]["seq"], "limit": 1}).json()
    assert [delivery["webhook_id"] for delivery in later] == ["msg-1"]


def test_signature_is_verified_once_the_secret_is_known(http: httpx.Client) -> None:
    assert http.put("/inbox/erp/secret", json={"secret": SECRET}).status_code == 204
    other = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

    assert deliver(http, "erp", "good") == 204
    assert deliver(http, "erp", "forged", secret=other) == 401
    assert deliver(http, "erp", "stale", age_s=3600) == 401
    assert http.post("/inbox/erp", json={"no": "headers"}).status_code == 401

    listed = http.get("/inbox/erp").json()
    assert [delivery["verified"] for delivery in listed] == [True, False, False, False]


def test_summary_counts_duplicates(http: httpx.Client) -> None:
    http.put("/inbox/desk/secret", json={"secret": SECRET})
    for webhook_id in ("a", "b", "a"):
        deliver(http, "desk", webhook_id)

    assert http.get("/inbox/summary").json()["desk"] == {
        "deliveries": 3,
        "distinct_ids": 2,
        "duplicates": 1,
        "verified": 3,
        "rejected": 0,
    }


def test_first_deliveries_can_be_made_to_fail(http: httpx.Client) -> None:
    http.put("/faults/inbox/flaky", json={"burst": {"count": 2, "status": 500}})

    statuses = [deliver(http, "flaky", "a") for _ in range(3)]

    assert statuses == [500, 500, 204]
    assert deliver(http, "steady", "b") == 204
    assert len(http.get("/inbox/flaky").json()) == 1


def test_lost_acknowledgement_leads_to_a_second_delivery(http: httpx.Client) -> None:
    http.put("/faults/inbox/lossy", json={"lose_response_rate": 1})
    with pytest.raises(httpx.TransportError):
        deliver(http, "lossy", "a")
    http.delete("/faults")
    deliver(http, "lossy", "a")

    assert http.get("/inbox/summary").json()["lossy"]["duplicates"] == 1


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_a"])
def test_unusable_secret_is_refused(secret: str, http: httpx.Client) -> None:
    assert http.put("/inbox/bad/secret", json={"secret": secret}).status_code == 422


def test_body_that_is_no_json_is_refused(http: httpx.Client) -> None:
    assert http.post("/inbox/crm2", content=b"{").status_code == 400
    assert http.get("/inbox/crm2").json() == []


def test_restart_keeps_deliveries_and_secret(data_directory: Path) -> None:
    with SandboxProcess(data_directory) as process, httpx.Client(base_url=process.url) as http:
        http.put("/inbox/erp/secret", json={"secret": SECRET})
        deliver(http, "erp", "a")

    with SandboxProcess(data_directory) as process, httpx.Client(base_url=process.url) as http:
        assert http.post("/inbox/erp", json={}).status_code == 401
        verified = [delivery["verified"] for delivery in http.get("/inbox/erp").json()]

    assert verified == [True, False]
