"""Finance: cost centres, budgets, invoices, payments, expenses. Amounts are in cents."""

from __future__ import annotations

import datetime
from typing import Annotated, Final

from msgspec import Meta

from orchx.sandbox.operations import Call, Input, Operation, Output, Service
from orchx.sandbox.problems import Problem
from orchx.sandbox.services.fields import (
    AmountCents,
    CostCentreCode,
    Currency,
    Identifier,
    Text,
)

REMAINING_CENTS: Final = 5_000_000
EXHAUSTED_COST_CENTRE: Final = "CC-999"
CLOSED_COST_CENTRE: Final = "CC-000"
_OWNERS: Final = ("finance", "sales", "engineering", "operations", "people")
_VARIANCE: Final = 0.05


class CostCentre(Output, frozen=True, kw_only=True):
    """Where money is spent. `CC-999` has nothing left; `CC-000` does not exist any more."""

    cost_centre: str
    owner: str
    currency: str
    remaining_cents: int


class BudgetQuestion(Input, frozen=True, kw_only=True):
    """May this much be spent?"""

    cost_centre: CostCentreCode
    amount_cents: AmountCents
    currency: Currency = "EUR"


class BudgetAnswer(Output, frozen=True, kw_only=True):
    """Whether it may, and what is left before it is."""

    cost_centre: str
    available: bool
    remaining_cents: int


class InvoiceToMatch(Input, frozen=True, kw_only=True):
    """An invoice and the order that it is said to be for."""

    invoice_number: Identifier
    supplier_id: Identifier
    purchase_order: Identifier
    amount_cents: AmountCents
    currency: Currency = "EUR"


class InvoiceMatch(Output, frozen=True, kw_only=True):
    """How well invoice and order agree. Orders whose number ends in 9 are 5 % off."""

    match_id: str
    invoice_number: str
    matched: bool
    variance_cents: int


class InvoiceToPost(Input, frozen=True, kw_only=True):
    """An invoice to be entered in the books."""

    invoice_number: Identifier
    supplier_id: Identifier
    amount_cents: AmountCents
    currency: Currency = "EUR"
    cost_centre: CostCentreCode
    match_id: Identifier
    approved_by: Text | None = None


class PostedInvoice(Output, frozen=True, kw_only=True):
    """An invoice in the books."""

    document_number: str
    invoice_number: str
    amount_cents: int


class NewPayment(Input, frozen=True, kw_only=True):
    """A payment to be made on a day."""

    document_number: Identifier
    supplier_id: Identifier
    amount_cents: AmountCents
    currency: Currency = "EUR"
    due_date: datetime.date


class Payment(Output, frozen=True, kw_only=True):
    """A payment in the next run before its due date."""

    payment_id: str
    due_date: datetime.date
    status: str


class NewReimbursement(Input, frozen=True, kw_only=True):
    """What an employee gets back for one report."""

    employee_id: Identifier
    report_id: Identifier
    amount_cents: AmountCents
    currency: Currency = "EUR"
    cost_centre: CostCentreCode
    item_count: Annotated[int, Meta(ge=1)] = 1


class Reimbursement(Output, frozen=True, kw_only=True):
    """Money on its way to an employee."""

    reimbursement_id: str
    report_id: str
    amount_cents: int
    status: str


def _cost_centre(code: str) -> CostCentre:
    if code == CLOSED_COST_CENTRE or not code.startswith("CC-"):
        raise Problem(404, "unknown-cost-centre", f"There is no cost centre {code}.")
    return CostCentre(
        cost_centre=code,
        owner=_OWNERS[sum(code.encode()) % len(_OWNERS)],
        currency="EUR",
        remaining_cents=0 if code == EXHAUSTED_COST_CENTRE else REMAINING_CENTS,
    )


def _get_cost_centre(_: Input, call: Call) -> CostCentre:
    return _cost_centre(call.path["cost_centre"])


def _check_budget(request: BudgetQuestion, _: Call) -> BudgetAnswer:
    remaining_cents = _cost_centre(request.cost_centre).remaining_cents
    return BudgetAnswer(
        cost_centre=request.cost_centre,
        available=request.amount_cents <= remaining_cents,
        remaining_cents=remaining_cents,
    )


def _match_invoice(request: InvoiceToMatch, call: Call) -> InvoiceMatch:
    off = request.purchase_order.endswith("9")
    return InvoiceMatch(
        match_id=call.new_id("MAT"),
        invoice_number=request.invoice_number,
        matched=not off,
        variance_cents=round(request.amount_cents * _VARIANCE) if off else 0,
    )


def _post_invoice(request: InvoiceToPost, call: Call) -> PostedInvoice:
    _cost_centre(request.cost_centre)
    return PostedInvoice(
        document_number=call.new_id("DOC"),
        invoice_number=request.invoice_number,
        amount_cents=request.amount_cents,
    )


def _schedule_payment(request: NewPayment, call: Call) -> Payment:
    return Payment(payment_id=call.new_id("PAY"), due_date=request.due_date, status="scheduled")


def _reimburse_expense(request: NewReimbursement, call: Call) -> Reimbursement:
    _cost_centre(request.cost_centre)
    return Reimbursement(
        reimbursement_id=call.new_id("RMB"),
        report_id=request.report_id,
        amount_cents=request.amount_cents,
        status="approved",
    )


FINANCE: Final = Service(
    name="finance",
    title="Finance",
    operations=(
        Operation(
            operation_id="getCostCentre",
            capability="finance.get-cost-centre",
            method="GET",
            path="/cost-centres/{cost_centre}",
            summary="Read a cost centre",
            output=CostCentre,
            handle=_get_cost_centre,
            status=200,
        ),
        Operation(
            operation_id="checkBudget",
            capability="finance.check-budget",
            method="POST",
            path="/budget-checks",
            summary="Ask whether a cost centre can bear an amount",
            input=BudgetQuestion,
            output=BudgetAnswer,
            handle=_check_budget,
            status=200,
        ),
        Operation(
            operation_id="matchInvoice",
            capability="finance.match-invoice",
            method="POST",
            path="/invoice-matches",
            summary="Match an invoice with its order",
            input=InvoiceToMatch,
            output=InvoiceMatch,
            handle=_match_invoice,
            subject=lambda request, _: f"{request.supplier_id}/{request.invoice_number}",
        ),
        Operation(
            operation_id="postInvoice",
            capability="finance.post-invoice",
            method="POST",
            path="/invoices",
            summary="Enter an invoice in the books",
            input=InvoiceToPost,
            output=PostedInvoice,
            handle=_post_invoice,
            subject=lambda request, _: f"{request.supplier_id}/{request.invoice_number}",
        ),
        Operation(
            operation_id="schedulePayment",
            capability="finance.schedule-payment",
            method="POST",
            path="/payments",
            summary="Schedule a payment",
            input=NewPayment,
            output=Payment,
            handle=_schedule_payment,
            subject=lambda request, _: str(request.document_number),
        ),
        Operation(
            operation_id="reimburseExpense",
            capability="finance.reimburse-expense",
            method="POST",
            path="/reimbursements",
            summary="Pay an employee back",
            input=NewReimbursement,
            output=Reimbursement,
            handle=_reimburse_expense,
            subject=lambda request, _: f"{request.employee_id}/{request.report_id}",
        ),
    ),
)
