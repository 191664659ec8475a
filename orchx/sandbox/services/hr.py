"""Human resources: employees, leave, and notes to managers."""

from __future__ import annotations

import datetime
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from orchx.sandbox.operations import Call, Input, Operation, Output, Service
from orchx.sandbox.problems import Problem
from orchx.sandbox.services.fields import Email, Identifier, Name, Text

LeaveKind = Literal["annual", "sick", "parental"]
ENTITLED_DAYS: Final[dict[LeaveKind, float]] = {"annual": 25, "sick": 30, "parental": 60}
_FIRST_MANAGER: Final = "EMP-000000"


class NewEmployee(Input, frozen=True, kw_only=True):
    """Somebody who is joining."""

    first_name: Name
    last_name: Name
    email: Email
    start_date: datetime.date
    department: Name
    job_title: Name
    location: Name = "Lisbon"
    manager_id: Identifier | None = None


class Employee(Output, frozen=True, kw_only=True):
    """An employee's record."""

    employee_id: str
    first_name: str
    last_name: str
    email: str
    start_date: datetime.date
    department: str
    job_title: str
    location: str
    manager_id: str
    status: str


class LeaveBalanceQuery(Input, frozen=True, kw_only=True):
    """Which balance."""

    kind: LeaveKind = "annual"


class LeaveBalance(Output, frozen=True, kw_only=True):
    """What is left of an employee's leave, in working days."""

    employee_id: str
    kind: LeaveKind
    entitled_days: float
    booked_days: float
    remaining_days: float


class NewLeave(Input, frozen=True, kw_only=True):
    """Leave to be booked, in working days."""

    kind: LeaveKind = "annual"
    start_date: datetime.date
    end_date: datetime.date
    days: Annotated[float, Meta(gt=0, le=60, multiple_of=0.5)]
    approved_by: Name | None = None


class LeaveBooking(Output, frozen=True, kw_only=True):
    """Leave that is booked."""

    booking_id: str
    employee_id: str
    kind: LeaveKind
    days: float
    remaining_days: float


class NewNotification(Input, frozen=True, kw_only=True):
    """A note to an employee's manager. `topic` keeps notes about different things apart."""

    employee_id: Identifier
    topic: Identifier
    message: Text
    urgency: Literal["normal", "high"] = "normal"


class Notification(Output, frozen=True, kw_only=True):
    """A note that is on its way."""

    notification_id: str
    manager_id: str
    channel: str


class BookedLeave(Struct, frozen=True, kw_only=True):
    """Record: how many days of one kind an employee has booked."""

    days: float


def _create_employee(request: NewEmployee, call: Call) -> Employee:
    employee = Employee(
        employee_id=call.new_id("EMP"),
        first_name=request.first_name,
        last_name=request.last_name,
        email=request.email,
        start_date=request.start_date,
        department=request.department,
        job_title=request.job_title,
        location=request.location,
        manager_id=request.manager_id or _FIRST_MANAGER,
        status="active",
    )
    call.records.put(employee.employee_id, employee)
    return employee


def _get_employee(_: Input, call: Call) -> Employee:
    employee_id = call.path["employee_id"]
    employee = call.records.find(Employee, employee_id)
    if employee is None:
        raise Problem(404, "unknown-employee", f"There is no employee {employee_id}.")
    return employee


def _balance(employee_id: str, kind: LeaveKind, call: Call) -> LeaveBalance:
    # Leave needs no employee record: whoever was hired before the sandbox started has a balance.
    booked = call.records.find(BookedLeave, f"{employee_id}/{kind}")
    entitled_days = ENTITLED_DAYS[kind]
    booked_days = booked.days if booked else 0.0
    return LeaveBalance(
        employee_id=employee_id,
        kind=kind,
        entitled_days=entitled_days,
        booked_days=booked_days,
        remaining_days=entitled_days - booked_days,
    )


def _get_leave_balance(query: LeaveBalanceQuery, call: Call) -> LeaveBalance:
    return _balance(call.path["employee_id"], query.kind, call)


def _book_leave(request: NewLeave, call: Call) -> LeaveBooking:
    employee_id = call.path["employee_id"]
    if request.end_date < request.start_date:
        raise Problem(422, "invalid-input", "It ends before it starts.", pointer="/end_date")
    balance = _balance(employee_id, request.kind, call)
    if request.days > balance.remaining_days:
        detail = f"{request.days} days asked for, {balance.remaining_days} left."
        raise Problem(409, "insufficient-leave", detail)
    booked_days = balance.booked_days + request.days
    call.records.put(f"{employee_id}/{request.kind}", BookedLeave(days=booked_days))
    return LeaveBooking(
        booking_id=call.new_id("LV"),
        employee_id=employee_id,
        kind=request.kind,
        days=request.days,
        remaining_days=balance.entitled_days - booked_days,
    )


def _notify_manager(request: NewNotification, call: Call) -> Notification:
    employee = call.records.find(Employee, request.employee_id)
    return Notification(
        notification_id=call.new_id("NTF"),
        manager_id=employee.manager_id if employee else _FIRST_MANAGER,
        channel="pager" if request.urgency == "high" else "chat",
    )


HR: Final = Service(
    name="hr",
    title="Human Resources",
    operations=(
        Operation(
            operation_id="createEmployee",
            capability="hr.create-employee",
            method="POST",
            path="/employees",
            summary="Create an employee's record",
            input=NewEmployee,
            output=Employee,
            handle=_create_employee,
            subject=lambda request, _: str(request.email),
        ),
        Operation(
            operation_id="getEmployee",
            capability="hr.get-employee",
            method="GET",
            path="/employees/{employee_id}",
            summary="Read an employee's record",
            output=Employee,
            handle=_get_employee,
            status=200,
        ),
        Operation(
            operation_id="getLeaveBalance",
            capability="hr.get-leave-balance",
            method="GET",
            path="/employees/{employee_id}/leave-balance",
            summary="Read what is left of an employee's leave",
            input=LeaveBalanceQuery,
            output=LeaveBalance,
            handle=_get_leave_balance,
            status=200,
        ),
        Operation(
            operation_id="bookLeave",
            capability="hr.book-leave",
            method="POST",
            path="/employees/{employee_id}/leave",
            summary="Book leave",
            input=NewLeave,
            output=LeaveBooking,
            handle=_book_leave,
            subject=lambda request, call: (
                f"{call.path['employee_id']}/{request.kind}/{request.start_date}"
            ),
        ),
        Operation(
            operation_id="notifyManager",
            capability="hr.notify-manager",
            method="POST",
            path="/notifications",
            summary="Send a note to an employee's manager",
            input=NewNotification,
            output=Notification,
            handle=_notify_manager,
            subject=lambda request, _: f"{request.employee_id}/{request.topic}",
            status=202,
        ),
    ),
)
