"""Definitions and services: publishing, reading and retiring them."""

from __future__ import annotations

import asyncio
import json
from typing import Final

import msgspec
from pydantic.alias_generators import to_camel
from starlette.responses import Response

from orchx.domain.document import Definition
from orchx.domain.document_parser import canonical_json
from orchx.domain.services import Operation, Service
from orchx.errors import Conflict, InvalidDocument, NotFound, Violation
from orchx.ports.catalog import StoredDefinition
from orchx.serve.answers import definition_json, definition_path
from orchx.serve.context import Api
from orchx.serve.media import (
    JSON_TYPE,
    YAML_TYPE,
    YAML_TYPES,
    media_type_of,
    prefers_yaml,
    read_json_request,
)
from orchx.serve.models import ServiceBody, ServicesBody
from orchx.serve.problems import invalid_json
from orchx.serve.routing import Call, json_response
from orchx.serve.validation import read_model

DOCUMENT_TYPES: Final = (JSON_TYPE, *YAML_TYPES)


async def publish(api: Api, call: Call) -> Response:
    """`POST` and `PUT /v1/definitions`."""
    body = await call.request.body()
    media_type = media_type_of(call.request, DOCUMENT_TYPES)
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise invalid_json(f"the document is not UTF-8 (byte {error.start})") from error
    # Parsing a large document takes long enough to keep others waiting.
    definition = await asyncio.to_thread(_read, api, text, media_type)
    stored = StoredDefinition(
        namespace=definition.namespace,
        name=definition.name,
        version=definition.version,
        digest=definition.digest,
        source=canonical_json(definition.source),
        text=text,
        created_at_ms=0 if call.query.dry_run else api.now_ms(),
        request_type=call.query.request_type,
    )
    if call.query.dry_run:
        return json_response({**definition_json(stored), "dryRun": True})
    catalog = api.gateway.catalog
    is_new = await catalog.publish(stored)
    api.definitions.forget()
    if not is_new:
        known = await catalog.find(stored.namespace, stored.name, stored.version)
        stored = known or stored
        if stored.retired:
            raise Conflict(f"{_name(stored)} is retired; publish it under a new version")
    answer = {**definition_json(stored), "dryRun": False}
    return json_response(answer, 201 if is_new else 200, {"Location": definition_path(stored)})


def _read(api: Api, text: str, media_type: str) -> Definition:
    try:
        return api.read_definition(text, content_type=media_type)
    except RecursionError as error:
        fault = Violation(pointer="", message="is nested too deep")
        raise InvalidDocument("the document is nested too deep", (fault,)) from error


async def list_definitions(api: Api, call: Call) -> Response:
    """`GET /v1/definitions`."""
    found = await api.gateway.catalog.list()
    return json_response({"definitions": [definition_json(one) for one in found]})


async def list_versions(api: Api, call: Call) -> Response:
    """`GET /v1/definitions/{namespace}/{name}`."""
    parts = call.request.path_params
    found = await api.gateway.catalog.versions(parts["namespace"], parts["name"])
    if not found:
        raise NotFound(f"there is no definition {parts['namespace']}/{parts['name']}")
    return json_response({"definitions": [definition_json(one) for one in found]})


async def show_definition(api: Api, call: Call) -> Response:
    """`GET /v1/definitions/{namespace}/{name}/{version}`."""
    stored = await _published(api, call)
    headers = {"Vary": "Accept", "ETag": f'"{stored.digest}"'}
    if prefers_yaml(call.request.headers.getlist("accept")):
        return Response(stored.text, 200, headers, YAML_TYPE)
    answer = {**definition_json(stored), "document": json.loads(stored.source)}
    return json_response(answer, 200, headers)


async def retire(api: Api, call: Call) -> Response:
    """`DELETE /v1/definitions/{namespace}/{name}/{version}`."""
    stored = await _published(api, call)
    await api.gateway.catalog.retire(stored.namespace, stored.name, stored.version)
    api.definitions.forget()
    return Response(status_code=204)


async def _published(api: Api, call: Call) -> StoredDefinition:
    parts = call.request.path_params
    namespace, name, version = parts["namespace"], parts["name"], parts["version"]
    stored = await api.gateway.catalog.find(namespace, name, version)
    if stored is None or stored.retired:
        raise NotFound(f"there is no definition {namespace}/{name}:{version} in use")
    return stored


async def list_services(api: Api, call: Call) -> Response:
    """`GET /v1/services`."""
    return await _services(api)


async def put_services(api: Api, call: Call) -> Response:
    """`PUT /v1/services`."""
    raw = read_json_request(await call.request.body(), call.request, api.settings.max_depth)
    body = read_model(ServicesBody, raw)
    services = [_service(one) for one in body.services]
    api.check_services(services)
    await api.gateway.catalog.put_services(services)
    return await _services(api)


async def _services(api: Api) -> Response:
    found = await api.gateway.catalog.services()
    return json_response({"services": [service_json(one) for one in found]})


def service_json(service: Service) -> dict[str, object]:
    """Return a service as callers see it: all members, in camel case."""
    return {
        **_camel_case(service),
        "operations": [_camel_case(operation) for operation in service.operations],
    }


def _camel_case(struct: Service | Operation) -> dict[str, object]:
    return {to_camel(name): value for name, value in msgspec.structs.asdict(struct).items()}


def _service(body: ServiceBody) -> Service:
    operations = [Operation(**one.model_dump()) for one in body.operations]
    return Service(**body.model_dump(exclude={"operations"}), operations=operations)


def _name(stored: StoredDefinition) -> str:
    return f"{stored.namespace}/{stored.name}:{stored.version}"
