"""Every operation of the API: what is routed, guarded and documented, in one place."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from orchx.serve import (
    answers,
    definitions_api,
    examples,
    models,
    operations_api,
    requests_api,
    workflows_api,
)
from orchx.serve.context import Api
from orchx.serve.dead_letter_operations import DEAD_LETTER_OPERATIONS
from orchx.serve.definitions_api import DOCUMENT_TYPES
from orchx.serve.media import CLOUD_EVENT_TYPE, CLOUD_EVENTS_TYPE, JSON_TYPE, YAML_TYPE
from orchx.serve.problems import HttpError
from orchx.serve.routing import (
    NEXT,
    AnswerDoc,
    BodyDoc,
    Call,
    HeaderDoc,
    Operation,
    json_answer,
)

LOCATION: Final = HeaderDoc(name="Location", description="where the thing is")
REPLAYED: Final = HeaderDoc(
    name="Idempotency-Replayed",
    description="`true` if this was accepted before",
    schema={"type": "string", "enum": ["true"]},
)
APPLIED: Final = HeaderDoc(
    name="Preference-Applied", description="the `Prefer: wait` that was kept"
)
AGE: Final = HeaderDoc(
    name="Age",
    description="`ageMs` in whole seconds, if that is known",
    schema={"type": "integer", "minimum": 0},
)
EVENT: Final = {"$ref": "#/components/schemas/CloudEventBody"}
# OpenAPI 3.1 has no word for streams; tools read the schema as that of each event.
SSE_EVENT: Final = {
    "type": "object",
    "required": ["id", "event", "data"],
    "properties": {
        "id": {"type": "string", "pattern": "^[0-9]+$"},
        "event": {"type": "string"},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
}
TEXT: Final = {"type": "string"}
WORKFLOW_PATH: Final = {"id": examples.WORKFLOW_ID}
DEFINITION_PATH: Final = {"namespace": "hr", "name": "onboarding", "version": "1.2.0"}
SUBMIT_BODY: Final = {
    "oneOf": [
        {"$ref": "#/components/schemas/SubmitItem"},
        {"type": "array", "items": {"$ref": "#/components/schemas/SubmitItem"}, "minItems": 1},
    ]
}


async def _replaced_by_application(api: Api, call: Call) -> Response:
    raise HttpError(404, "the document is not built")


def _event_body() -> BodyDoc:
    return BodyDoc(
        content={CLOUD_EVENT_TYPE: models.CloudEventBody, JSON_TYPE: models.CloudEventBody},
        examples={"approval": examples.EVENT},
    )


_COMMAND: Final = json_answer(
    202, "taken; applied in order", answers.CommandAccepted, examples.COMMAND, REPLAYED
)


def _publish(method: str, operation_id: str) -> Operation:
    return Operation(
        method=method,
        path="/v1/definitions",
        handler=definitions_api.publish,
        id=operation_id,
        tag="definitions",
        summary="Publish a version of a definition, or check it with dryRun",
        scope="admin",
        any_tenant=False,
        query=models.PublishQuery,
        body=BodyDoc(
            content={
                JSON_TYPE: {"type": "object", "required": ["document", "do"]},
                **dict.fromkeys(DOCUMENT_TYPES[1:], TEXT),
            },
            examples={"document": examples.DOCUMENT},
        ),
        answers=(
            json_answer(201, "published", answers.PublishResult, examples.PUBLISHED, LOCATION),
            json_answer(
                200, "was there, or dry run", answers.PublishResult, examples.PUBLISHED, LOCATION
            ),
        ),
        problems=(409,),
    )


_REQUESTS: Final = (
    Operation(
        method="POST",
        path="/v1/requests",
        handler=requests_api.submit,
        id="submitRequests",
        tag="requests",
        summary="Submit one request, or a batch",
        scope="submit",
        query=models.SubmitQuery,
        headers=(
            HeaderDoc(
                name="Idempotency-Key",
                description="the same key with the same body is the same workflow",
                schema={"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
            ),
            HeaderDoc(name="Prefer", description="`wait=SECONDS`: as the query parameter"),
        ),
        body=BodyDoc(
            content={JSON_TYPE: SUBMIT_BODY},
            examples={"one": examples.SUBMIT, "batch": [examples.SUBMIT]},
        ),
        answers=(
            json_answer(
                202,
                "accepted, durably; it runs or will run",
                {
                    "oneOf": [
                        {"$ref": "#/components/schemas/Accepted"},
                        {"$ref": "#/components/schemas/Batch"},
                    ]
                },
                examples.ACCEPTED,
                LOCATION,
                REPLAYED,
                APPLIED,
            ),
            json_answer(
                200,
                "over within `wait`",
                answers.Workflow,
                examples.WORKFLOW,
                LOCATION,
                REPLAYED,
                APPLIED,
            ),
        ),
        problems=(409, 429),
    ),
)

_WORKFLOWS: Final = (
    Operation(
        method="GET",
        path="/v1/workflows",
        handler=workflows_api.list_workflows,
        id="listWorkflows",
        tag="workflows",
        summary="List workflows, newest first",
        scope="read",
        query=models.ListQuery,
        answers=(json_answer(200, "one page", answers.Workflows, examples.WORKFLOWS, NEXT),),
    ),
    Operation(
        method="GET",
        path="/v1/workflows/{id}",
        handler=workflows_api.show,
        id="showWorkflow",
        tag="workflows",
        summary="Show a workflow",
        scope="read",
        query=models.ShowQuery,
        answers=(json_answer(200, "the workflow", answers.Workflow, examples.WORKFLOW, AGE),),
        path_examples=WORKFLOW_PATH,
    ),
    Operation(
        method="GET",
        path="/v1/workflows/{id}/history",
        handler=workflows_api.history,
        id="showHistory",
        tag="workflows",
        summary="Show what happened, as CloudEvents",
        scope="read",
        query=models.HistoryQuery,
        answers=(
            AnswerDoc(
                status=200,
                description="events in log order",
                content={CLOUD_EVENTS_TYPE: {"type": "array", "items": EVENT}},
                example=[examples.HISTORY_EVENT],
                headers=(NEXT,),
            ),
        ),
        path_examples=WORKFLOW_PATH,
    ),
    Operation(
        method="GET",
        path="/v1/workflows/{id}/events",
        handler=workflows_api.follow,
        id="followWorkflow",
        tag="workflows",
        summary="Follow what happens, as Server-Sent Events",
        scope="read",
        query=models.StreamQuery,
        headers=(
            HeaderDoc(
                name="Last-Event-ID",
                description="the id of the last event received; goes before `after`",
                schema={"type": "string", "pattern": "^[0-9]{1,18}$"},
            ),
        ),
        answers=(
            AnswerDoc(
                status=200,
                description="the stream",
                content={"text/event-stream": SSE_EVENT},
                example="id: 7\nevent: io.serverlessworkflow.workflow.completed.v1\ndata: {}\n\n",
            ),
            AnswerDoc(status=204, description="the workflow is over and all has been sent"),
        ),
        path_examples=WORKFLOW_PATH,
        unbounded=True,
    ),
    Operation(
        method="POST",
        path="/v1/workflows/{id}/events",
        handler=workflows_api.send_event,
        id="sendEvent",
        tag="workflows",
        summary="Send a CloudEvent (structured or binary mode) to a workflow",
        scope="operate",
        body=_event_body(),
        answers=(_COMMAND,),
        problems=(409, 429),
        path_examples=WORKFLOW_PATH,
    ),
    Operation(
        method="POST",
        path="/v1/workflows/{id}/cancel",
        handler=workflows_api.cancel,
        id="cancelWorkflow",
        tag="workflows",
        summary="Cancel a workflow",
        scope="operate",
        body=BodyDoc(
            content={JSON_TYPE: models.CancelBody},
            examples={"why": {"reason": "the order was withdrawn"}},
            required=False,
        ),
        answers=(_COMMAND,),
        problems=(409, 429),
        path_examples=WORKFLOW_PATH,
    ),
    Operation(
        method="POST",
        path="/v1/events",
        handler=workflows_api.broadcast_event,
        id="broadcastEvent",
        tag="workflows",
        summary="Send a CloudEvent to every workflow that listens for it",
        scope="operate",
        any_tenant=False,
        body=_event_body(),
        answers=(_COMMAND,),
        problems=(409, 429),
    ),
)

_DEFINITIONS: Final = (
    _publish("POST", "publishDefinition"),
    _publish("PUT", "putDefinition"),
    Operation(
        method="GET",
        path="/v1/definitions",
        handler=definitions_api.list_definitions,
        id="listDefinitions",
        tag="definitions",
        summary="List the latest version of every definition",
        scope="read",
        answers=(json_answer(200, "definitions", answers.Definitions, examples.DEFINITIONS),),
    ),
    Operation(
        method="GET",
        path="/v1/definitions/{namespace}/{name}",
        handler=definitions_api.list_versions,
        id="listVersions",
        tag="definitions",
        summary="List all versions of a definition, retired ones too",
        scope="read",
        answers=(json_answer(200, "versions", answers.Definitions, examples.DEFINITIONS),),
        path_examples=DEFINITION_PATH,
    ),
    Operation(
        method="GET",
        path="/v1/definitions/{namespace}/{name}/{version}",
        handler=definitions_api.show_definition,
        id="showDefinition",
        tag="definitions",
        summary="Show a version, as JSON or as its author wrote it",
        scope="read",
        answers=(
            AnswerDoc(
                status=200,
                description="the version",
                content={JSON_TYPE: answers.DefinitionDocument, YAML_TYPE: TEXT},
                headers=(
                    HeaderDoc(name="ETag", description="the digest"),
                    HeaderDoc(name="Vary", description="`Accept`"),
                ),
                example=examples.DEFINITION,
            ),
        ),
        path_examples=DEFINITION_PATH,
    ),
    Operation(
        method="DELETE",
        path="/v1/definitions/{namespace}/{name}/{version}",
        handler=definitions_api.retire,
        id="retireDefinition",
        tag="definitions",
        summary="Take a version out of use for new requests",
        scope="admin",
        any_tenant=False,
        answers=(AnswerDoc(status=204, description="retired; running workflows go on"),),
        path_examples=DEFINITION_PATH,
    ),
    Operation(
        method="GET",
        path="/v1/services",
        handler=definitions_api.list_services,
        id="listServices",
        tag="services",
        summary="List the services",
        scope="read",
        any_tenant=False,
        answers=(json_answer(200, "services", models.ServicesAnswer, examples.SERVICES),),
    ),
    Operation(
        method="PUT",
        path="/v1/services",
        handler=definitions_api.put_services,
        id="putServices",
        tag="services",
        summary="Create or replace services by name",
        scope="admin",
        any_tenant=False,
        body=BodyDoc(
            content={JSON_TYPE: models.ServicesBody}, examples={"services": examples.SERVICES}
        ),
        answers=(json_answer(200, "all services", models.ServicesAnswer, examples.SERVICES),),
    ),
)

_OPERATION: Final = (
    Operation(
        method="GET",
        path="/v1/deliveries",
        handler=operations_api.list_deliveries,
        id="listDeliveries",
        tag="deliveries",
        summary="List webhook deliveries, oldest first",
        scope="read",
        any_tenant=False,
        query=models.DeliveriesQuery,
        answers=(json_answer(200, "one page", answers.DeliveryList, examples.DELIVERIES, NEXT),),
    ),
    Operation(
        method="POST",
        path="/v1/deliveries/replay",
        handler=operations_api.replay_deliveries,
        id="replayDeliveries",
        tag="deliveries",
        summary="Try undelivered webhooks again",
        scope="operate",
        any_tenant=False,
        body=BodyDoc(content={JSON_TYPE: models.ReplayBody}, examples={"one": {"ids": ["msg_1"]}}),
        answers=(json_answer(200, "how many", answers.Replayed, {"replayed": 1}),),
    ),
    Operation(
        method="GET",
        path="/healthz",
        handler=operations_api.health,
        id="health",
        tag="operation",
        summary="Tell that this process answers",
        scope=None,
        answers=(json_answer(200, "it does", answers.Health, {"status": "ok"}),),
    ),
    Operation(
        method="GET",
        path="/readyz",
        handler=operations_api.ready,
        id="readiness",
        tag="operation",
        summary="Tell whether requests can be taken",
        scope=None,
        answers=(
            json_answer(200, "they can", answers.Ready, {"ready": True, "parts": {"queue": "ok"}}),
        ),
    ),
    Operation(
        method="GET",
        path="/metrics",
        handler=operations_api.metrics,
        id="metrics",
        tag="operation",
        summary="Show metrics of all processes for Prometheus",
        scope="read",
        any_tenant=False,
        answers=(
            AnswerDoc(
                status=200,
                description="the exposition",
                content={"text/plain": TEXT},
                example="orchx_workflows_total 1\n",
            ),
        ),
    ),
    Operation(
        method="GET",
        path="/openapi.json",
        handler=_replaced_by_application,
        id="showOpenapi",
        tag="operation",
        summary="Show this document",
        scope=None,
        answers=(json_answer(200, "OpenAPI 3.1", {"type": "object"}, {"openapi": "3.1.0"}),),
    ),
    Operation(
        method="GET",
        path="/",
        handler=operations_api.index,
        id="index",
        tag="operation",
        summary="Show what is here",
        scope=None,
        answers=(json_answer(200, "links", answers.Index, examples.INDEX),),
    ),
)

OPERATIONS: Final[tuple[Operation, ...]] = (
    *_REQUESTS,
    *_WORKFLOWS,
    *_DEFINITIONS,
    *DEAD_LETTER_OPERATIONS,
    *_OPERATION,
)
