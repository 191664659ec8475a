"""The examples run: their tests, and each definition to a good end and to a bad one."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from orchx.adapters.definition_source import read_definition
from orchx.domain.document import Definition
from orchx.domain.faults import COMMUNICATION, WorkflowFault, standard
from orchx.domain.json_values import JSON
from orchx.testing.rehearsal import Function, Outcome, rehearse

EXAMPLES = Path(__file__).parents[2] / "examples"
DEFINITIONS = sorted((EXAMPLES / "definitions").glob("*.yaml"))
PROGRAMS = sorted(EXAMPLES.glob("*.py"))
ERRORS = "https://orchx.example/errors/"


def examples_in(path: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    spec = importlib.util.spec_from_file_location(f"example_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name, value in vars(module).items():
        if name.startswith("test_") and callable(value):
            yield f"{path.stem}::{name}", value


EXAMPLE_TESTS = [found for path in PROGRAMS for found in examples_in(path)]


@pytest.mark.parametrize(
    "example", [t for _, t in EXAMPLE_TESTS], ids=[n for n, _ in EXAMPLE_TESTS]
)
def test_what_an_example_shows_is_so(example: Callable[[], None]) -> None:
    example()


# --- the definitions -----------------------------------------------------------------------


def definition(name: str) -> Definition:
    path = EXAMPLES / "definitions" / f"{name}.yaml"
    return read_definition(path.read_text(encoding="utf-8"))


def request(name: str) -> dict[str, Any]:
    path = EXAMPLES / "requests" / f"{name}.json"
    given = json.loads(path.read_text(encoding="utf-8"))["input"]
    assert isinstance(given, dict)
    return given


def giving(**output: JSON) -> Function:
    return lambda arguments: output


def down(arguments: JSON) -> JSON:
    raise WorkflowFault(standard(COMMUNICATION, "Unavailable", status=503))


def failing(times: int, function: Function) -> Function:
    """Return a function that fails so often first."""
    left = [times]

    def answer(arguments: JSON) -> JSON:
        if left[0] > 0:
            left[0] -= 1
            return down(arguments)
        return function(arguments)

    return answer


def event(type_: str, **data: JSON) -> dict[str, JSON]:
    return {"specversion": "1.0", "id": "1", "source": "https://x", "type": type_, "data": data}


ANSWERS: Mapping[str, Function] = {
    "hr.create-employee": giving(employee_id="EMP-9"),
    "hr.notify-manager": giving(notification_id="N-1"),
    "it.create-account": giving(username="alovelace", account_id="A-1"),
    "it.create-mailbox": giving(address="alovelace@example.com"),
    "it.add-group-member": giving(added=True),
    "it.provision-laptop": giving(asset_tag="LX-1", provider="express", eta_days=3),
    "it.grant-access": giving(grant_id="G-1", status="active"),
    "it.revoke-access": giving(grant_id="G-1", status="revoked"),
    "it.triage-incident": giving(incident_id="I-1"),
    "it.diagnose-incident": giving(recommended_action="replace"),
    "it.close-incident": lambda a: {"incident_id": a["incident_id"], "status": "closed"},
    "it/replace-laptop": giving(asset_tag="LX-1"),
    "hr.get-leave-balance": giving(remaining_days=20),
    "hr.book-leave": giving(booking_id="B-1", remaining_days=10),
    "finance.check-budget": giving(available=True),
    "finance.match-invoice": giving(matched=True, match_id="M-1"),
    "finance.post-invoice": giving(document_number="D-1"),
    "finance.schedule-payment": giving(payment_id="P-1"),
    "finance.reimburse-expense": lambda a: {"reimbursement_id": "R-1", **a},
    "mail.send-message": giving(message_id="E-1"),
    "openapi": giving(cost_centre="CC-120"),
    "http": giving(message_id="E-2"),
}


def run(
    name: str, given: Mapping[str, JSON], *events: Mapping[str, JSON], **changed: Function
) -> Outcome:
    """Rehearse with the answers above, but for those given: `it__grant_access=down`."""
    changes = {key.replace("__", ".").replace("_", "-"): f for key, f in changed.items()}
    return rehearse(definition(name), given, functions={**ANSWERS, **changes}, events=events)


def called(outcome: Outcome, function: str) -> list[JSON]:
    return [call.call.arguments for call in outcome.calls if call.call.function == function]


def failed_with(outcome: Outcome) -> str:
    assert outcome.status == "faulted"
    assert outcome.error is not None
    return outcome.error.type.removeprefix(ERRORS)


@pytest.mark.parametrize("path", DEFINITIONS, ids=lambda path: path.stem)
def test_no_example_needs_the_sandbox(path: Path) -> None:
    """Their expressions are proven cheap, so that they run in the engine's own process."""
    assert not read_definition(path.read_text(encoding="utf-8")).needs_sandbox


def test_employee_onboarding() -> None:
    given = request("employee-onboarding")
    outcome = run(
        "employee-onboarding",
        given,
        hr__create_employee=failing(2, ANSWERS["hr.create-employee"]),
    )

    assert outcome.output == {
        "employee_id": "EMP-9",
        "username": "alovelace",
        "mailbox": "alovelace@example.com",
        "laptop": "LX-1",
        "laptop_provider": "express",
    }
    # the branch of the mailbox comes after that of the account, and sees what it exported
    assert called(outcome, "it.create-mailbox")[0]["username"] == "alovelace"
    groups = [arguments["group"] for arguments in called(outcome, "it.add-group-member")]
    assert groups == given["access_groups"]
    keys = [c.key for c in outcome.calls if c.call.function == "it.add-group-member"]
    assert len(set(keys)) == len(groups)
    created = [c.key for c in outcome.calls if c.call.function == "hr.create-employee"]
    assert len(created) == 3
    assert len(set(created)) == 1


def test_employee_onboarding_with_little_known_and_a_service_that_stays_down() -> None:
    given = request("employee-onboarding-minimal")
    assert (
        called(run("employee-onboarding", given), "it.add-group-member")[0]["group"] == "all-staff"
    )
    outcome = run("employee-onboarding", given, it__provision_laptop=down)

    assert outcome.status == "faulted"
    assert len(called(outcome, "it.provision-laptop")) > 1
    assert called(outcome, "hr.notify-manager") == []


def test_leave_request() -> None:
    given = request("leave-request")
    approval = event(
        "com.orchx.leave.decision", request_id=given["request_id"], approved=True, by="grace"
    )
    outcome = run("leave-request", given, approval)

    assert outcome.output["decided_by"] == "grace"
    assert called(outcome, "hr.book-leave")[0]["approved_by"] == "grace"


def test_leave_request_without_an_answer_or_without_leave() -> None:
    unanswered = run("leave-request", request("leave-request-unanswered"))
    assert unanswered.output["decided_by"] == "policy"
    assert unanswered.elapsed_ms == 2_000
    refused = run(
        "leave-request", request("leave-request"), hr__get_leave_balance=giving(remaining_days=1)
    )

    assert failed_with(refused) == "insufficient-leave"


def test_invoice_approval() -> None:
    small = run("invoice-approval", request("invoice-approval"))
    assert small.output == {
        "document_number": "D-1",
        "payment_id": "P-1",
        "approved_by": "amount-limit",
    }
    given = request("invoice-approval-large")
    yes = event("com.orchx.invoice.decision", invoice_number=given["invoice_number"],
                approved=True, by="cfo")  # fmt: skip
    assert run("invoice-approval", given, yes).output["approved_by"] == "cfo"


def test_invoice_approval_refused_for_every_reason() -> None:
    given = request("invoice-approval-large")
    no = event("com.orchx.invoice.decision", invoice_number=given["invoice_number"], approved=False)

    assert failed_with(run("invoice-approval", given, no)) == "invoice-rejected"
    assert failed_with(run("invoice-approval", given)).endswith("/timeout")
    broke = run("invoice-approval", given, finance__check_budget=giving(available=False))
    assert failed_with(broke) == "no-budget"
    differs = giving(matched=False, variance_cents=5)
    outcome = run("invoice-approval", given, finance__match_invoice=differs)
    assert failed_with(outcome) == "invoice-mismatch"
    assert outcome.error is not None
    assert outcome.error.detail == "They differ by 5 cents"


def test_expense_reimbursement() -> None:
    outcome = run("expense-reimbursement", request("expense-reimbursement"))

    assert outcome.output == {
        "reimbursement_id": "R-1",
        "amount_cents": 6_400 + 13_900,
        "refused": [
            {"item": 2, "description": "Team dinner", "reason": "meal is limited to 8000 cents"}
        ],
    }
    assert called(outcome, "finance.reimburse-expense")[0]["item_count"] == 2


@pytest.mark.parametrize(
    ("category", "limit_cents"),
    [("meal", 8_000), ("travel", 150_000), ("hotel", 40_000), ("other", 20_000)],
)
def test_expense_reimbursement_keeps_to_its_limits(category: str, limit_cents: int) -> None:
    given = request("expense-reimbursement")

    def spent(amount_cents: int) -> Outcome:
        item = {"description": "x", "category": category, "amount_cents": amount_cents}
        return run("expense-reimbursement", {**given, "items": [item]})

    assert spent(limit_cents).output["amount_cents"] == limit_cents
    assert failed_with(spent(limit_cents + 1)) == "nothing-to-reimburse"


def test_access_request() -> None:
    reader = run("access-request", request("access-request"))
    assert reader.output == {"grant_id": "G-1", "status": "active", "decided_by": "reader-rule"}
    given = request("access-request-temporary")
    yes = event("com.orchx.access.approved", request_id=given["request_id"], by="owner")
    outcome = run("access-request", given, yes)

    assert outcome.output == {"grant_id": "G-1", "status": "revoked", "decided_by": "owner"}
    assert outcome.elapsed_ms == 2_000


def test_access_request_denied_or_not_decided_in_time() -> None:
    given = request("access-request-temporary")
    no = event("com.orchx.access.denied", request_id=given["request_id"], by="owner")
    denied, late = run("access-request", given, no), run("access-request", given)

    assert failed_with(denied) == failed_with(late) == "access-denied"
    assert denied.error is not None
    assert denied.error.detail == "Denied by owner"
    assert late.error is not None
    assert late.error.detail == "Denied by deadline"
    assert late.elapsed_ms == 600_000
    assert called(late, "it.grant-access") == []


@pytest.mark.parametrize(
    ("action", "resolution"),
    [("replace", "replaced"), ("reinstall", "reinstalled"), ("repair", "repaired")],
)
def test_laptop_incident(action: str, resolution: str) -> None:
    outcome = run(
        "laptop-incident",
        request("laptop-incident"),
        it__diagnose_incident=giving(recommended_action=action),
    )

    assert outcome.output == {"incident_id": "I-1", "status": "closed", "resolution": resolution}


def test_laptop_incident_when_there_is_no_laptop() -> None:
    given = request("laptop-incident")
    outcome = rehearse(
        definition("laptop-incident"), given, functions={**ANSWERS, "it/replace-laptop": down}
    )

    assert outcome.status == "faulted"
    assert outcome.error is not None
    assert outcome.error.instance == "/do/3/replace"
    diagnosis = run("laptop-incident", given, it__diagnose_incident=down)
    assert len(called(diagnosis, "it.diagnose-incident")) > 1


def test_replace_laptop() -> None:
    given = request("replace-laptop")
    ordered = failing(1, ANSWERS["it.provision-laptop"])
    outcome = run("replace-laptop", given, it__provision_laptop=ordered)
    assert outcome.output == {"asset_tag": "LX-1", "provider": "express", "eta_days": 3}
    assert outcome.elapsed_ms > 0
    failed = run("replace-laptop", given, it__provision_laptop=down)

    assert failed.status == "faulted"
    assert called(failed, "mail.send-message") == []


def test_every_definition_is_rehearsed_here() -> None:
    rehearsed = Path(__file__).read_text(encoding="utf-8")

    missing = [
        p.stem for p in DEFINITIONS if f"def test_{p.stem.replace('-', '_')}" not in rehearsed
    ]
    assert missing == []
