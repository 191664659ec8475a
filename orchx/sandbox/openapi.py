"""Describes a service as an OpenAPI 3.1 document, made from the types that it validates with."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from orchx.sandbox.ledger import IDEMPOTENCY_KEY_MAX_CHARACTERS
from orchx.sandbox.operations import Operation, Service

OPENAPI_VERSION: Final = "3.1.0"
_SCHEMAS: Final = "#/components/schemas/{name}"
_PATH_PARAMETER: Final = re.compile(r"\{(\w+)\}")
_PROBLEM_SCHEMA: Final[dict[str, Any]] = {
    "title": "Problem",
    "description": "RFC 9457 problem details.",
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["detail", "pointer"],
                "properties": {"detail": {"type": "string"}, "pointer": {"type": "string"}},
            },
        },
    },
}
_IDEMPOTENCY_KEY: Final[dict[str, Any]] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "A repeated call with the same key has no second effect.",
    "schema": {"type": "string", "minLength": 1, "maxLength": IDEMPOTENCY_KEY_MAX_CHARACTERS},
}


def openapi_document(service: Service) -> bytes:
    """Return the document of one service as JSON."""
    types = [kind for op in service.operations for kind in (op.input, op.output)]
    _, schemas = msgspec.json.schema_components(types, ref_template=_SCHEMAS)
    paths: dict[str, dict[str, Any]] = {}
    for operation in service.operations:
        entry = _operation(operation, schemas[operation.input.__name__])
        paths.setdefault(operation.path, {})[operation.method.lower()] = entry
    return msgspec.json.encode(
        {
            "openapi": OPENAPI_VERSION,
            "info": {"title": service.title, "version": "1.0.0"},
            "servers": [{"url": f"/{service.name}"}],
            "paths": paths,
            "components": {"schemas": {**schemas, "Problem": _PROBLEM_SCHEMA}},
        }
    )


def _operation(operation: Operation, input_schema: dict[str, Any]) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PATH_PARAMETER.findall(operation.path)
    ]
    if operation.method != "POST":
        parameters += [
            {"name": name, "in": "query", "required": False, "schema": schema}
            for name, schema in input_schema["properties"].items()
        ]
    if operation.subject is not None:
        parameters.append(_IDEMPOTENCY_KEY)
    entry: dict[str, Any] = {
        "operationId": operation.operation_id,
        "summary": operation.summary,
        "x-orchx-capability": operation.capability,
        "parameters": parameters,
        "responses": {
            str(operation.status): {
                "description": "Done.",
                "content": _content("application/json", operation.output.__name__),
            },
            "default": {
                "description": "Refused, or failed.",
                "content": _content("application/problem+json", "Problem"),
            },
        },
    }
    if operation.takes_body:
        entry["requestBody"] = {
            "required": True,
            "content": _content("application/json", operation.input.__name__),
        }
    return entry


def _content(media_type: str, schema_name: str) -> dict[str, Any]:
    return {media_type: {"schema": {"$ref": _SCHEMAS.format(name=schema_name)}}}
