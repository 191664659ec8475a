"""How to test a definition without a server: in memory, in virtual time, in milliseconds.

    pytest examples/test_a_definition.py

`rehearse` runs the very engine core that a server runs. Calls are answered by functions
that you give it, waits take no time, and events are delivered when the workflow listens.
"""

from pathlib import Path

from orchx.adapters.definition_source import read_definition
from orchx.domain.faults import COMMUNICATION, WorkflowFault, standard
from orchx.domain.json_values import JSON
from orchx.testing.rehearsal import rehearse

DEFINITIONS = Path(__file__).parent / "definitions"
LEAVE_REQUEST = read_definition((DEFINITIONS / "leave-request.yaml").read_text(encoding="utf-8"))

REQUEST = {
    "request_id": "LR-1",
    "employee_id": "EMP-1",
    "start_date": "2027-07-05",
    "end_date": "2027-07-16",
    "days": 10,
}
# What the workflow calls, and what it answers: plain functions from arguments to output.
ANSWERS = {
    "hr.get-leave-balance": lambda arguments: {"remaining_days": 25},
    "hr.notify-manager": lambda arguments: {"notification_id": "N-1"},
    "hr.book-leave": lambda arguments: {
        "booking_id": "B-1",
        "remaining_days": 25 - arguments["days"],
    },
}


def decision(*, approved: bool, request_id: str = "LR-1") -> dict[str, JSON]:
    """Return the CloudEvent with which a manager decides."""
    return {
        "specversion": "1.0",
        "id": "1",
        "source": "https://hr.example.com",
        "type": "com.orchx.leave.decision",
        "data": {"request_id": request_id, "approved": approved, "by": "ada"},
    }


def test_leave_is_booked_once_the_manager_agrees() -> None:
    """The happy path: look at the status, the output, and what was called with what."""
    outcome = rehearse(LEAVE_REQUEST, REQUEST, functions=ANSWERS, events=[decision(approved=True)])

    assert outcome.status == "completed"
    assert outcome.output == {"booking_id": "B-1", "remaining_days": 15, "decided_by": "ada"}
    booking = outcome.calls[-1].call
    assert booking.function == "hr.book-leave"
    assert booking.arguments["approved_by"] == "ada"


def test_a_refusal_ends_the_request_with_an_error() -> None:
    """An error that nothing catches ends the workflow; it says where it was raised."""
    outcome = rehearse(LEAVE_REQUEST, REQUEST, functions=ANSWERS, events=[decision(approved=False)])

    assert outcome.status == "faulted"
    assert outcome.error is not None
    assert outcome.error.type == "https://orchx.example/errors/leave-rejected"
    assert outcome.error.instance == "/do/6/reject"


def test_nobody_answers_for_a_minute_and_policy_decides() -> None:
    """A timeout: a minute and a second pass, though not for the test."""
    outcome = rehearse(LEAVE_REQUEST, {**REQUEST, "days": 2}, functions=ANSWERS)

    assert outcome.output["decided_by"] == "policy"
    assert outcome.elapsed_ms == 61_000


def test_an_answer_to_another_request_is_not_taken() -> None:
    """Correlation: the event of someone else's request does not end the wait."""
    stranger = decision(approved=True, request_id="LR-2")
    outcome = rehearse(LEAVE_REQUEST, REQUEST, functions=ANSWERS, events=[stranger])

    assert outcome.status == "faulted"  # ten days are more than policy allows by itself


def test_a_service_that_is_down_ends_the_workflow_with_its_error() -> None:
    """A function fails by raising `WorkflowFault`; anything else becomes a runtime error."""

    def down(arguments: JSON) -> JSON:
        raise WorkflowFault(standard(COMMUNICATION, "Service unavailable", status=503))

    answers = {**ANSWERS, "hr.book-leave": down}
    outcome = rehearse(LEAVE_REQUEST, REQUEST, functions=answers, events=[decision(approved=True)])

    assert outcome.status == "faulted"
    assert outcome.error is not None
    assert outcome.error.status == 503
