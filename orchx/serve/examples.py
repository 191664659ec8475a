"""Example bodies and answers for the API's documentation. Tests check them against it."""

from __future__ import annotations

from typing import Any, Final

WORKFLOW_ID: Final = "wf_06f8k3n0g5q2v7t1m4c9h2d6ea"
TIME: Final = "2026-03-01T09:30:00.000Z"
LINKS: Final = {
    "self": f"/v1/workflows/{WORKFLOW_ID}",
    "history": f"/v1/workflows/{WORKFLOW_ID}/history",
    "events": f"/v1/workflows/{WORKFLOW_ID}/events",
    "cancel": f"/v1/workflows/{WORKFLOW_ID}/cancel",
}
SUBMIT: Final[dict[str, Any]] = {
    "type": "hr.onboarding",
    "input": {"employee": "Ada"},
    "tenant": "hr",
    "priority": 3,
    "deadline": "2099-03-01T12:00:00Z",
    "isolation": "auto",
    "callback": {"url": "https://hr.example.com/hooks/orchx", "events": "outcome"},
    "correlationId": "HR-1042",
    "labels": {"country": "NO"},
}
ACCEPTED: Final = {"id": WORKFLOW_ID, "status": "pending", "links": LINKS}
LISTED: Final[dict[str, Any]] = {
    "id": WORKFLOW_ID,
    "status": "completed",
    "namespace": "hr",
    "name": "onboarding",
    "version": "1.2.0",
    "tenant": "hr",
    "type": "hr.onboarding",
    "priority": 3,
    "deadline": None,
    "createdAt": TIME,
    "updatedAt": TIME,
    "endedAt": TIME,
    "task": "/do/1/approve",
    "waiting": None,
    "passivated": False,
    "epoch": 1,
    "parentId": None,
    "correlationId": "HR-1042",
    "labels": {"country": "NO"},
    "tasks": {"completed": 3, "faulted": 0, "retries": 1},
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "error": None,
    "links": LINKS,
}
WORKFLOW: Final = {**LISTED, "output": {"laptop": "LT-7"}, "ageMs": 0}
WORKFLOWS: Final = {"workflows": [LISTED], "cursor": None}
EVENT: Final = {
    "specversion": "1.0",
    "id": "approval-17",
    "source": "/hr/approvals",
    "type": "com.example.approved",
    "data": {"by": "Grace"},
}
HISTORY_EVENT: Final = {
    "specversion": "1.0",
    "id": f"{WORKFLOW_ID}/1/4",
    "source": f"/v1/workflows/{WORKFLOW_ID}",
    "subject": WORKFLOW_ID,
    "type": "io.serverlessworkflow.task.completed.v1",
    "time": TIME,
    "datacontenttype": "application/json",
    "workflowid": WORKFLOW_ID,
    "epoch": 1,
    "sequence": "0000000004",
    "logoffset": "1234",
    "taskreference": "/do/0/check",
    "data": {
        "workflow": f"onboarding-{WORKFLOW_ID}.hr",
        "task": "/do/0/check",
        "completedAt": TIME,
        "output": {},
    },
}
COMMAND: Final = {"commandId": "ev_k3n0g5q2v7t1m4c9h2d6eawf06", "replayed": False}
DOCUMENT: Final[dict[str, Any]] = {
    "document": {"dsl": "1.0.3", "namespace": "hr", "name": "onboarding", "version": "1.2.0"},
    "do": [{"greet": {"set": {"greeting": '${ "Hello " + .employee }'}}}],
}
DEFINITION_LISTED: Final[dict[str, Any]] = {
    "namespace": "hr",
    "name": "onboarding",
    "version": "1.2.0",
    "digest": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "requestType": "hr.onboarding",
    "retired": False,
    "createdAt": TIME,
    "links": {"self": "/v1/definitions/hr/onboarding/1.2.0"},
}
PUBLISHED: Final = {**DEFINITION_LISTED, "dryRun": False}
DEFINITION: Final = {**DEFINITION_LISTED, "document": DOCUMENT}
DEFINITIONS: Final = {"definitions": [DEFINITION_LISTED]}
SERVICES: Final[dict[str, Any]] = {
    "services": [
        {
            "name": "it-desk",
            "baseUrl": "https://it.example.com",
            "operations": [
                {
                    "capability": "it.provision-laptop",
                    "method": "POST",
                    "path": "/laptops",
                    "operationId": None,
                    "idempotent": True,
                    "priority": 10,
                    "timeoutMs": None,
                }
            ],
            "document": None,
            "timeoutMs": 10000,
            "concurrency": 64,
            "ratePerS": None,
            "breakerFailures": 10,
            "breakerOpenMs": 5000,
            "queueLimit": 10000,
            "bearerEnv": None,
        }
    ]
}
DELIVERIES: Final = {
    "deliveries": [
        {
            "id": "msg_1",
            "workflowId": WORKFLOW_ID,
            "position": 7,
            "url": "https://hr.example.com/hooks/orchx",
            "eventType": "io.serverlessworkflow.workflow.completed.v1",
            "status": "undelivered",
            "attempts": 12,
            "createdAt": TIME,
            "nextAttemptAt": None,
            "endedAt": TIME,
            "lastError": "503",
        }
    ],
    "cursor": None,
}
INDEX: Final = {"name": "orchx", "version": "0.1.0", "links": {"requests": "/v1/requests"}}
