"""IT incidents: taken in, diagnosed, closed."""

from __future__ import annotations

from typing import Final, Literal

from msgspec.structs import replace

from orchx.sandbox.operations import Call, Input, Operation, Output
from orchx.sandbox.problems import Problem
from orchx.sandbox.services.fields import Identifier, Text

Category = Literal["hardware", "software", "access"]
Action = Literal["repair", "replace", "reinstall"]
Resolution = Literal["repaired", "replaced", "reinstalled", "no-fault-found"]
# The first word that occurs in the description decides, so that a demo can be scripted.
_CATEGORIES: Final[tuple[tuple[str, Category], ...]] = (
    ("password", "access"),
    ("login", "access"),
    ("crash", "software"),
    ("update", "software"),
)
_DEAD_WORDS: Final = ("liquid", "coffee", "smoke", "cracked", "dead")


class NewIncident(Input, frozen=True, kw_only=True):
    """What an employee says is wrong."""

    employee_id: Identifier
    asset_tag: Identifier
    description: Text
    severity: Literal["low", "medium", "high"] = "medium"


class Incident(Output, frozen=True, kw_only=True):
    """An incident that is being looked after."""

    incident_id: str
    employee_id: str
    asset_tag: str
    description: str
    category: Category
    priority: str
    status: str


class DiagnosisRequest(Input, frozen=True, kw_only=True):
    """How thoroughly to look."""

    depth: Literal["quick", "full"] = "quick"


class Diagnosis(Output, frozen=True, kw_only=True):
    """What was found. Liquid, smoke and cracks call for a replacement."""

    incident_id: str
    finding: str
    repairable: bool
    recommended_action: Action


class IncidentClosure(Input, frozen=True, kw_only=True):
    """How an incident ended."""

    resolution: Resolution
    note: Text | None = None


def _triage_incident(request: NewIncident, call: Call) -> Incident:
    description = request.description.lower()
    category: Category = next(
        (category for word, category in _CATEGORIES if word in description), "hardware"
    )
    incident = Incident(
        incident_id=call.new_id("INC"),
        employee_id=request.employee_id,
        asset_tag=request.asset_tag,
        description=request.description,
        category=category,
        priority={"low": "P4", "medium": "P3", "high": "P1"}[request.severity],
        status="open",
    )
    call.records.put(incident.incident_id, incident)
    return incident


def _known(call: Call) -> Incident:
    incident_id = call.path["incident_id"]
    incident = call.records.find(Incident, incident_id)
    if incident is None:
        raise Problem(404, "unknown-incident", f"There is no incident {incident_id}.")
    return incident


def _diagnose_incident(_: DiagnosisRequest, call: Call) -> Diagnosis:
    incident = _known(call)
    beyond_repair = any(word in incident.description.lower() for word in _DEAD_WORDS)
    action: Action = "repair"
    if beyond_repair:
        action = "replace"
    elif incident.category == "software":
        action = "reinstall"
    return Diagnosis(
        incident_id=incident.incident_id,
        finding=f"{incident.category} fault of {incident.asset_tag}",
        repairable=not beyond_repair,
        recommended_action=action,
    )


def _close_incident(_: IncidentClosure, call: Call) -> Incident:
    closed = replace(_known(call), status="closed")
    call.records.put(closed.incident_id, closed)
    return closed


INCIDENT_OPERATIONS: Final = (
    Operation(
        operation_id="triageIncident",
        capability="it.triage-incident",
        method="POST",
        path="/incidents",
        summary="Take in an incident and sort it",
        input=NewIncident,
        output=Incident,
        handle=_triage_incident,
        subject=lambda request, _: f"{request.asset_tag}/{request.description}",
    ),
    Operation(
        operation_id="diagnoseIncident",
        capability="it.diagnose-incident",
        method="POST",
        path="/incidents/{incident_id}/diagnosis",
        summary="Look for the cause",
        input=DiagnosisRequest,
        output=Diagnosis,
        handle=_diagnose_incident,
        subject=lambda _, call: str(call.path["incident_id"]),
        status=200,
    ),
    Operation(
        operation_id="closeIncident",
        capability="it.close-incident",
        method="POST",
        path="/incidents/{incident_id}/closure",
        summary="Close an incident",
        input=IncidentClosure,
        output=Incident,
        handle=_close_incident,
        subject=lambda _, call: str(call.path["incident_id"]),
        status=200,
    ),
)
