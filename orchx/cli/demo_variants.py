"""The demo's kinds of requests: of each type its variants, and what each must come to."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

COMPLETED: Final = "completed"
_FIRST_NAMES: Final = ("Ada", "José", "Grace", "Chen", "Amara", "Olga", "Ravi", "Ingrid")
_LAST_NAMES: Final = ("Lovelace", "Saramago", "Hopper", "Okafor", "Novak", "Iyer", "Berg")
_DEPARTMENTS: Final = ("Engineering", "Sales", "Operations", "People")
_TOPICS: Final = ("sales-dashboard", "billing-database", "data-lake", "payroll")

When = Literal["soon", "notified", "escalated"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a person will say, as an event, and upon what.

    `soon`: some `delay_s` after the request; `notified` and `escalated`: that long after the
    HR service has sent the note whose subject is `note`, the second one when it is too late.
    """

    type: str
    data: Mapping[str, Any]
    when: When
    delay_s: float
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A case before it has its place among the others."""

    input: Mapping[str, Any]
    effects: Mapping[str, int]
    ending: str = COMPLETED
    decision: Decision | None = None


Maker = Callable[[random.Random, int], Wish]


def _employee(number: int) -> str:
    return f"EMP-9{number:05d}"


def _onboarding(draw: random.Random, number: int) -> Wish:
    first, last = draw.choice(_FIRST_NAMES), draw.choice(_LAST_NAMES)
    groups = ["all-staff", "engineering", "vpn"][: draw.randint(1, 3)]
    return Wish(
        input={
            "first_name": first,
            "last_name": f"{last}-{number}",
            "email": f"joiner.{number}@example.com",
            "start_date": "2027-01-11",
            "department": draw.choice(_DEPARTMENTS),
            "job_title": "Analyst",
            "laptop_model": draw.choice(("standard", "developer", "executive")),
            "access_groups": groups,
        },
        effects={
            "hr.create-employee": 1,
            "it.create-account": 1,
            "it.create-mailbox": 1,
            "it.provision-laptop": 1,
            "it.add-group-member": len(groups),
            "hr.notify-manager": 1,
            "mail.send-message": 1,
        },
    )


def _leave(answer: str, days: int, ending: str, effects: Mapping[str, int]) -> Maker:
    """Return the maker of leave requests; `answer`: approve, reject, late or none."""

    def make(draw: random.Random, number: int) -> Wish:
        request_id, employee = f"LR-{number}", _employee(number)
        late = answer == "late"
        note = f"{employee}/leave-{request_id}" + ("-escalated" if late else "")
        data = {"request_id": request_id, "approved": answer != "reject", "by": "the manager"}
        decision = Decision(
            type="com.orchx.leave.decision",
            data=data,
            when="escalated" if late else "notified",
            delay_s=draw.uniform(0.2, 1.5) if not late else 0.1,
            note=note,
        )
        return Wish(
            input={
                "request_id": request_id,
                "employee_id": employee,
                "start_date": "2027-07-05",
                "end_date": "2027-07-16",
                "days": days,
                "decision_timeout": "PT2S" if late else "PT40S",
            },
            effects=effects,
            ending=ending,
            decision=decision if answer != "none" else None,
        )

    return make


def _invoice(what: str, ending: str, effects: Mapping[str, int]) -> Maker:
    """Return the maker of invoices; `what`: small, approve, reject, silence, differs, broke."""

    def make(draw: random.Random, number: int) -> Wish:
        large = what in ("approve", "reject", "silence")
        invoice = f"INV-{number}"
        decision = Decision(
            type="com.orchx.invoice.decision",
            data={"invoice_number": invoice, "approved": what == "approve", "by": "the CFO"},
            when="soon",
            delay_s=draw.uniform(0.3, 2.5),
        )
        return Wish(
            input={
                "invoice_number": invoice,
                "supplier_id": f"SUP-{draw.randint(100, 199)}",
                "purchase_order": f"PO-{number}{9 if what == 'differs' else 2}",
                "amount_cents": draw.randint(2_000, 20_000) * (100 if large else 4),
                "cost_centre": "CC-999" if what == "broke" else f"CC-{draw.randint(100, 299)}",
                "due_date": "2027-02-28",
                "decision_timeout": "PT2S" if what == "silence" else "PT40S",
            },
            effects=effects,
            ending=ending,
            decision=decision if what in ("approve", "reject") else None,
        )

    return make


def _expenses(draw: random.Random, number: int) -> Wish:
    return _expense_report(draw, number, over=False)


def _refused_expenses(draw: random.Random, number: int) -> Wish:
    return _expense_report(draw, number, over=True)


def _expense_report(draw: random.Random, number: int, *, over: bool) -> Wish:
    fine = [
        {"description": "Train", "category": "travel", "amount_cents": draw.randint(900, 9_000)},
        {"description": "Hotel", "category": "hotel", "amount_cents": draw.randint(7_000, 30_000)},
    ]
    dear = {
        "description": "Dinner",
        "category": "meal",
        "amount_cents": draw.randint(9_000, 40_000),
    }
    return Wish(
        input={
            "report_id": f"EXP-{number}",
            "employee_id": _employee(number),
            "email": f"employee.{number}@example.com",
            "cost_centre": f"CC-{draw.randint(100, 299)}",
            "items": [dear] if over else [*fine[: draw.randint(1, 2)], dear],
        },
        effects={} if over else {"finance.reimburse-expense": 1, "mail.send-message": 1},
        ending="nothing-to-reimburse" if over else COMPLETED,
    )


def _access(what: str, ending: str, effects: Mapping[str, int]) -> Maker:
    """Return the maker of access requests; `what`: read, approve, deny, silence, borrow."""

    def make(draw: random.Random, number: int) -> Wish:
        verdict = "denied" if what == "deny" else "approved"
        request_id = f"AR-{number}"
        decision = Decision(
            type=f"com.orchx.access.{verdict}",
            data={"request_id": request_id, "by": "the data owner"},
            when="soon",
            delay_s=draw.uniform(0.3, 2.5),
        )
        asked: dict[str, Any] = {
            "request_id": request_id,
            "employee_id": _employee(number),
            "resource": draw.choice(_TOPICS),
            "role": "reader" if what == "read" else draw.choice(("writer", "admin")),
            "decision_within": "PT2S" if what == "silence" else "PT40S",
        }
        if what == "borrow":
            asked["temporary_for"] = "PT1S"
        return Wish(
            input=asked,
            effects=effects,
            ending=ending,
            decision=decision if what in ("approve", "deny", "borrow") else None,
        )

    return make


def _incident(description: str, *, replaced: bool = False) -> Maker:
    handled = {"it.triage-incident": 1, "it.diagnose-incident": 1, "it.close-incident": 1}
    bought = {"it.provision-laptop": 1, "mail.send-message": 1}

    def make(draw: random.Random, number: int) -> Wish:
        return Wish(
            input={
                "employee_id": _employee(number),
                "email": f"employee.{number}@example.com",
                "asset_tag": f"LB-{number:06d}",
                "description": description,
                "severity": draw.choice(("low", "medium", "high")),
            },
            effects=handled | bought if replaced else handled,
        )

    return make


_NOTE: Final = {"hr.notify-manager": 1}
_MATCH: Final = {"finance.match-invoice": 1}
_PAID: Final = _MATCH | {"finance.post-invoice": 1, "finance.schedule-payment": 1}
_BOOKED: Final = {"hr.book-leave": 1}
_PAGED: Final = {"hr.notify-manager": 2}
_GRANTED: Final = {"it.grant-access": 1}

SYSTEM_OF: Final[Mapping[str, str]] = {
    "employee-onboarding": "hr",
    "leave-request": "hr",
    "invoice-approval": "finance",
    "expense-reimbursement": "finance",
    "access-request": "it",
    "laptop-incident": "it",
}
# Of each type: its variants with their share and how they are made.
VARIANTS: Final[Mapping[str, Mapping[str, tuple[float, Maker]]]] = {
    "employee-onboarding": {"joiner": (1, _onboarding)},
    "leave-request": {
        "approved in time": (8, _leave("approve", 10, COMPLETED, _NOTE | _BOOKED)),
        "approved too late": (2, _leave("late", 2, COMPLETED, _PAGED | _BOOKED)),
        "rejected": (0.5, _leave("reject", 8, "leave-rejected", _NOTE)),
        "refused by policy": (0.5, _leave("late", 9, "leave-rejected", _PAGED)),
        "too many days": (0.5, _leave("none", 40, "insufficient-leave", {})),
    },
    "invoice-approval": {
        "approved": (5, _invoice("approve", COMPLETED, _PAID)),
        "small": (7, _invoice("small", COMPLETED, _PAID)),
        "rejected": (0.5, _invoice("reject", "invoice-rejected", _MATCH)),
        "undecided": (0.5, _invoice("silence", "timeout", _MATCH)),
        "not as ordered": (0.5, _invoice("differs", "invoice-mismatch", _MATCH)),
        "no budget": (0.5, _invoice("broke", "no-budget", {})),
    },
    "expense-reimbursement": {
        "paid": (10, _expenses),
        "all over policy": (1, _refused_expenses),
    },
    "access-request": {
        "approved": (5, _access("approve", COMPLETED, _GRANTED)),
        "temporary": (3, _access("borrow", COMPLETED, _GRANTED | {"it.revoke-access": 1})),
        "reader": (5, _access("read", COMPLETED, _GRANTED)),
        "denied": (0.5, _access("deny", "access-denied", {})),
        "undecided": (0.5, _access("silence", "access-denied", {})),
    },
    "laptop-incident": {
        "replaced": (3, _incident("Coffee in the keyboard", replaced=True)),
        "repaired": (2, _incident("The fan is loud")),
        "reinstalled": (2, _incident("It crashes after the update")),
    },
}
