"""What the services answer, and what they refuse."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import httpx
import jsonschema_rs
import pytest

from orchx.sandbox.services import SERVICES

Post = Callable[..., httpx.Response]
EMPLOYEE = {
    "first_name": "Ada",
    "last_name": "Lovelace",
    "email": "ada@example.com",
    "start_date": "2027-01-11",
    "department": "Engineering",
    "job_title": "Engineer",
}
BODIES: dict[str, Any] = {
    "hr.create-employee": EMPLOYEE,
    "hr.book-leave": {"start_date": "2027-07-05", "end_date": "2027-07-06", "days": 1.5},
    "hr.notify-manager": {"employee_id": "EMP-1", "topic": "ready", "message": "All is ready."},
    "finance.check-budget": {"cost_centre": "CC-120", "amount_cents": 100},
    "finance.match-invoice": {
        "invoice_number": "I-1",
        "supplier_id": "S-1",
        "purchase_order": "PO-1",
        "amount_cents": 100,
    },
    "finance.post-invoice": {
        "invoice_number": "I-1",
        "supplier_id": "S-1",
        "amount_cents": 100,
        "cost_centre": "CC-120",
        "match_id": "MAT-1",
    },
    "finance.schedule-payment": {
        "document_number": "DOC-1",
        "supplier_id": "S-1",
        "amount_cents": 100,
        "due_date": "2027-01-31",
    },
    "finance.reimburse-expense": {
        "employee_id": "EMP-1",
        "report_id": "EXP-1",
        "amount_cents": 100,
        "cost_centre": "CC-120",
    },
    "it.create-account": {"employee_id": "EMP-1", "first_name": "Zoë", "last_name": "O'Neil"},
    "it.create-mailbox": {"employee_id": "EMP-1", "username": "zoe.oneil"},
    "it.provision-laptop": {"employee_id": "EMP-1", "model": "developer"},
    "it.grant-access": {"employee_id": "EMP-1", "resource": "crm", "role": "reader"},
    "it.add-group-member": {"employee_id": "EMP-1"},
    "it.triage-incident": {"employee_id": "EMP-1", "asset_tag": "LX-1", "description": "dead"},
    "it.diagnose-incident": {"depth": "full"},
    "it.close-incident": {"resolution": "replaced"},
    "mail.send-message": {"to": "a@example.com", "subject": "Hello", "body": "Welcome."},
}
OPERATIONS = [
    pytest.param(service.name, operation, id=f"{service.name}-{operation.operation_id}")
    for service in SERVICES
    for operation in service.operations
]


@pytest.fixture
def path_parameters(post: Post) -> dict[str, str]:
    """Ids of records that exist."""
    return {
        "employee_id": post("/hr/employees", EMPLOYEE).json()["employee_id"],
        "grant_id": post("/it/access-grants", BODIES["it.grant-access"]).json()["grant_id"],
        "incident_id": post("/it/incidents", BODIES["it.triage-incident"]).json()["incident_id"],
        "cost_centre": "CC-120",
        "group": "all-staff",
    }


@pytest.mark.parametrize(("service", "operation"), OPERATIONS)
def test_every_operation_answers_as_its_document_says(
    service: str, operation: Any, http: httpx.Client, path_parameters: dict[str, str]
) -> None:
    path = f"/{service}{operation.path.format_map(path_parameters)}"
    body = BODIES[operation.capability] if operation.takes_body else None

    response = http.request(operation.method, path, json=body)

    document = http.get(f"/{service}/openapi.json").json()
    described = document["paths"][operation.path][operation.method.lower()]
    assert described["operationId"] == operation.operation_id
    answer = described["responses"][str(response.status_code)]["content"]["application/json"]
    schema = {**answer["schema"], "components": document["components"]}
    jsonschema_rs.validator_for(schema).validate(response.json())
    if body is not None:
        accepted = described["requestBody"]["content"]["application/json"]["schema"]
        validator = jsonschema_rs.validator_for({**accepted, "components": document["components"]})
        assert validator.is_valid(body)
        assert not validator.is_valid({**body, "surprise": 1})


@pytest.mark.parametrize("service", [service.name for service in SERVICES])
def test_documents_are_openapi_3_1(service: str, http: httpx.Client) -> None:
    document = http.get(f"/{service}/openapi.json").json()

    assert document["openapi"].startswith("3.1.")
    assert document["servers"] == [{"url": f"/{service}"}]
    operations = [op for path in document["paths"].values() for op in path.values()]
    identifiers = [operation["operationId"] for operation in operations]
    assert len(set(identifiers)) == len(identifiers)
    for path, entry in document["paths"].items():
        for operation in entry.values():
            declared = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
            assert declared == set(re.findall(r"\{(\w+)\}", path))
    for name, schema in document["components"]["schemas"].items():
        assert jsonschema_rs.meta.is_valid(schema), name


def test_effects_document_the_idempotency_key_and_reads_do_not(http: httpx.Client) -> None:
    paths = http.get("/hr/openapi.json").json()["paths"]

    def headers(entry: dict[str, Any]) -> list[str]:
        return [p["name"] for p in entry["parameters"] if p["in"] == "header"]

    assert headers(paths["/employees"]["post"]) == ["Idempotency-Key"]
    assert headers(paths["/employees/{employee_id}"]["get"]) == []


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"email": "nobody"}, "/email"),
        ({"start_date": "tomorrow"}, "/start_date"),
        ({"nickname": "A"}, "/nickname"),
        ({"first_name": 7}, "/first_name"),
    ],
)
def test_wrong_input_is_a_problem_that_points_to_the_fault(
    change: dict[str, Any], pointer: str, post: Post, effects: Callable[[], list[Any]]
) -> None:
    response = post("/hr/employees", {**EMPLOYEE, **change})

    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["type"] == "urn:orchx:sandbox:invalid-input"
    assert problem["errors"][0]["pointer"] == pointer
    assert effects() == []


def test_missing_field_is_pointed_to(post: Post) -> None:
    body = {name: value for name, value in EMPLOYEE.items() if name != "email"}

    assert post("/hr/employees", body).json()["errors"][0]["pointer"] == "/email"


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("POST", "/hr/employees", b"{", 400),
        ("POST", "/hr/employees", b"\xff", 400),
        ("PUT", "/hr/employees", b"{}", 405),
        ("DELETE", "/hr/employees/EMP-1", b"", 405),
        ("GET", "/hr/nothing", b"", 404),
        ("GET", "/hr/employees/EMP-999999", b"", 404),
        ("GET", "/hr/employees/EMP-1/leave-balance?kind=sabbatical", b"", 422),
        ("GET", "/finance/cost-centres/CC-000", b"", 404),
        ("POST", "/hr/employees", b"x" * (1 << 20) + b"x", 413),
        ("GET", "/nothing", b"", 404),
        ("PUT", "/faults/payroll", b"{}", 404),
        ("PUT", "/faults/hr/fly", b"{}", 404),
        ("PUT", "/faults/hr", b'{"error_rate": 2}', 422),
        ("GET", "/ledger?limit=0", b"", 422),
    ],
)
def test_refusals_are_problems(
    method: str, path: str, content: bytes, status: int, http: httpx.Client
) -> None:
    headers = {"content-type": "application/json"}

    response = http.request(method, path, content=content, headers=headers)

    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["status"] == status


def test_body_of_another_media_type_is_refused(http: httpx.Client) -> None:
    assert http.post("/hr/employees", content=b"{}").status_code == 415


def test_leave_is_taken_off_the_balance_until_none_is_left(post: Post, http: httpx.Client) -> None:
    leave = {"start_date": "2027-07-05", "end_date": "2027-08-06", "days": 20}

    assert post("/hr/employees/EMP-555/leave", leave).json()["remaining_days"] == 5
    refusal = post("/hr/employees/EMP-555/leave", {**leave, "start_date": "2027-07-06"})

    assert refusal.status_code == 409
    balance = http.get("/hr/employees/EMP-555/leave-balance", params={"kind": "annual"}).json()
    assert (balance["booked_days"], balance["remaining_days"]) == (20, 5)


def test_revoked_access_stays_revoked(path_parameters: dict[str, str], http: httpx.Client) -> None:
    path = f"/it/access-grants/{path_parameters['grant_id']}"

    assert http.get(path).json()["status"] == "active"
    assert http.delete(path, params={"reason": "left"}).json()["status"] == "revoked"
    assert http.get(path).json()["status"] == "revoked"


@pytest.mark.parametrize(
    ("description", "action"),
    [("coffee in it", "replace"), ("crash after an update", "reinstall"), ("loud", "repair")],
)
def test_diagnosis_follows_the_description(description: str, action: str, post: Post) -> None:
    body = {"employee_id": "EMP-1", "asset_tag": "LX-1", "description": description}
    incident_id = post("/it/incidents", body).json()["incident_id"]

    diagnosis = post(f"/it/incidents/{incident_id}/diagnosis", {}).json()

    assert diagnosis["recommended_action"] == action
