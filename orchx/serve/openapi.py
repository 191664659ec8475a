"""The OpenAPI 3.1 document, built from the table that routes the requests."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from http import HTTPStatus
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from orchx.domain.json_values import JSON
from orchx.serve import answers, models
from orchx.serve.problems import CONTENT_TYPE as PROBLEM_TYPE
from orchx.serve.routing import AnswerDoc, BodyDoc, HeaderDoc, Operation, SchemaSource
from orchx.settings import HttpSettings

REF: Final = "#/components/schemas/{model}"
SECURITY_SCHEME: Final = "apiKey"
# What any request may run into before or while it is handled.
EVERYWHERE: Final = (400, 405, 408, 413, 414, 415, 422, 431, 500, 503)
STORING: Final = (507,)
_PROBLEM_HEADERS: Final[Mapping[int, tuple[HeaderDoc, ...]]] = {
    401: (HeaderDoc(name="WWW-Authenticate", description="`Bearer`"),),
    405: (HeaderDoc(name="Allow", description="the methods that are possible"),),
    415: (
        HeaderDoc(name="Accept-Post", description="the media types that are taken"),
        HeaderDoc(name="Accept-Encoding", description="`identity`"),
    ),
    429: (HeaderDoc(name="Retry-After", description="seconds", schema={"type": "integer"}),),
    503: (HeaderDoc(name="Retry-After", description="seconds", schema={"type": "integer"}),),
}
_PATH_SCHEMAS: Final[Mapping[str, Mapping[str, Any]]] = {
    "id": {"type": "string", "minLength": 1, "maxLength": 255},
    "namespace": {"type": "string", "minLength": 1},
    "name": {"type": "string", "minLength": 1},
    "version": {"type": "string", "minLength": 1},
    "number": {"type": "integer", "minimum": 0},
}


def build_openapi(
    operations: Iterable[Operation], settings: HttpSettings, version: str
) -> dict[str, Any]:
    """Return the document for these operations under these settings."""
    paths: dict[str, dict[str, Any]] = {}
    listed = list(operations)
    schemas = _schemas(listed)
    item_limit = schemas_with_limits(settings)
    for operation in listed:
        documented = _operation(operation, settings)
        paths.setdefault(operation.path, {})[operation.method.lower()] = documented
    body = paths["/v1/requests"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    body["oneOf"][1].update(item_limit)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "orchx",
            "version": version,
            "description": "Takes requests, runs them as durable workflows, reports back.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                SECURITY_SCHEME: {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "orx_<id>_<secret>",
                    "description": "Scopes: submit, read, operate, admin (implies all).",
                }
            },
        },
    }


def schemas_with_limits(settings: HttpSettings) -> dict[str, int]:
    """Return the limits of a batch as JSON schema keywords."""
    return {"maxItems": settings.max_batch}


def _schemas(operations: list[Operation]) -> dict[str, JSON]:
    sent: set[type[BaseModel]] = {models.SubmitItem, models.CloudEventBody}
    answered: set[type[BaseModel]] = {answers.Problem, answers.Accepted, answers.Batch}
    for operation in operations:
        if operation.body is not None:
            sent.update(_models(operation.body.content.values()))
        for answer in operation.answers:
            answered.update(_models(answer.content.values()))
    both = [(model, "validation") for model in sorted(sent | answered, key=lambda m: m.__name__)]
    _, definitions = models_json_schema(both, ref_template=REF)  # type: ignore[arg-type]
    schemas: dict[str, JSON] = definitions["$defs"]
    return schemas


def _models(sources: Iterable[SchemaSource]) -> Iterable[type[BaseModel]]:
    return (source for source in sources if isinstance(source, type))


def _schema(source: SchemaSource) -> JSON:
    if isinstance(source, type):
        return {"$ref": REF.format(model=source.__name__)}
    return deepcopy(dict(source))


def _operation(operation: Operation, settings: HttpSettings) -> dict[str, Any]:
    documented: dict[str, Any] = {
        "operationId": operation.id,
        "tags": [operation.tag],
        "summary": operation.summary,
        "parameters": _parameters(operation),
        "responses": _responses(operation),
    }
    if operation.scope is not None:
        documented["description"] = f"Needs a key with the scope `{operation.scope}`" + (
            "." if operation.any_tenant else " that is not bound to a tenant."
        )
        documented["security"] = [] if settings.authentication == "off" else [{SECURITY_SCHEME: []}]
    if operation.body is not None:
        documented["requestBody"] = _body(operation.body)
    return documented


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": dict(_PATH_SCHEMAS[name]),
            "example": operation.path_examples[name],
        }
        for name in re.findall(r"{(\w+)}", operation.path)
    ]
    if operation.query is not None:
        schema = operation.query.model_json_schema(ref_template=REF)
        for name, member in schema["properties"].items():
            parameter = {"name": name, "in": "query", "required": False}
            parameters.append(parameter | {"schema": _without_null(member)})
    for header in operation.headers:
        parameters.append(
            _header(header) | {"name": header.name, "in": "header", "required": False}
        )
    parameters.append(
        {
            "name": "traceparent",
            "in": "header",
            "required": False,
            "description": "W3C Trace Context; one that is not valid is replaced",
            "schema": {"type": "string"},
        }
    )
    return parameters


def _without_null(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A query parameter is there or not; it cannot be null."""
    kept = {key: value for key, value in schema.items() if key not in ("anyOf", "default", "title")}
    for choice in schema.get("anyOf", ()):
        if choice != {"type": "null"}:
            kept.update(choice)
    if schema.get("default") not in (None, []):
        kept["default"] = schema["default"]
    return kept


def _header(header: HeaderDoc) -> dict[str, Any]:
    return {"description": header.description, "schema": dict(header.schema)}


def _body(body: BodyDoc) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for media_type, source in body.content.items():
        content[media_type] = {"schema": _schema(source)}
        if not media_type.endswith("yaml"):
            examples = {name: {"value": value} for name, value in body.examples.items()}
            content[media_type]["examples"] = examples
    return {"required": body.required, "content": content}


def _responses(operation: Operation) -> dict[str, Any]:
    responses = {str(answer.status): _answer(answer) for answer in operation.answers}
    statuses = {*EVERYWHERE, *operation.problems}
    if operation.scope is not None:
        statuses |= {401, 403}
    if "{" in operation.path:
        statuses |= {404}
    if operation.method != "GET":
        statuses |= set(STORING)
    for status in sorted(statuses):
        responses[str(status)] = _problem(status)
    return responses


def _answer(answer: AnswerDoc) -> dict[str, Any]:
    documented: dict[str, Any] = {"description": answer.description}
    if answer.content:
        documented["content"] = {
            media_type: {"schema": _schema(source), "example": answer.example}
            if not media_type.endswith("yaml")
            else {"schema": _schema(source)}
            for media_type, source in answer.content.items()
        }
    if answer.headers:
        documented["headers"] = {header.name: _header(header) for header in answer.headers}
    return documented


def _problem(status: int) -> dict[str, Any]:
    documented: dict[str, Any] = {
        "description": HTTPStatus(status).phrase,
        "content": {PROBLEM_TYPE: {"schema": {"$ref": REF.format(model="Problem")}}},
    }
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        documented["content"][PROBLEM_TYPE]["example"] = dict(answers.problem_examples())
    headers = _PROBLEM_HEADERS.get(status)
    if headers:
        documented["headers"] = {header.name: _header(header) for header in headers}
    return documented
