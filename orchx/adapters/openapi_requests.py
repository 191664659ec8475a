"""Builds the request of an OpenAPI operation from named parameters.

Source: OpenAPI 3.0/3.1, "Parameter Object" (default styles), Swagger 2.0 (`collectionFormat`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

import yarl

from orchx.adapters import http_requests
from orchx.adapters.http_requests import OutgoingRequest, as_text, refuse
from orchx.adapters.openapi_documents import Document, OpenApiDocuments
from orchx.domain import faults
from orchx.domain.json_values import JSON

METHODS: Final = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
MAX_REFERENCES: Final = 16
_SEPARATORS: Final = {"ssv": " ", "tsv": "\t", "pipes": "|", "csv": ","}


@dataclass(slots=True, kw_only=True)
class _Parts:
    """What the parameters come to."""

    path: dict[str, str] = field(default_factory=dict)
    query: dict[str, JSON] = field(default_factory=dict)
    headers: dict[str, JSON] = field(default_factory=dict)
    cookies: list[str] = field(default_factory=list)
    form: dict[str, JSON] = field(default_factory=dict)
    body: JSON = None


async def from_openapi_arguments(arguments: JSON, documents: OpenApiDocuments) -> OutgoingRequest:
    """Build the request of `call: openapi`.

    Raises:
        WorkflowFault: the document cannot be had, or an argument is missing or wrong.
    """
    if not isinstance(arguments, dict):
        refuse("call openapi needs an object of arguments")
    source = arguments.get("document")
    uri = http_requests.endpoint_uri(source.get("endpoint") if isinstance(source, dict) else source)
    url = http_requests.absolute_url(
        http_requests.expand(uri, arguments.get("templateVariables") or {})
    )
    if arguments.get("authentication") is not None:
        refuse("authentication is not supported here; name a service instead")
    operation_id = arguments.get("operationId")
    parameters = arguments.get("parameters") or {}
    if not isinstance(operation_id, str) or not isinstance(parameters, dict):
        refuse("operationId must be a string, and parameters an object")
    document = await documents.get(url)
    found = next(_operations(document, operation_id), None)
    if found is None:
        refuse(f"the OpenAPI document has no operation {operation_id!r}")
    path, method, item, operation = found
    parts, rest = _assign(document, item, operation, parameters)
    base = _base_url(document, item, operation, url)
    request_url = http_requests.absolute_url(base.rstrip("/") + _fill_path(path, parts.path))
    headers = http_requests.checked_headers(parts.headers)
    if parts.cookies:
        headers |= http_requests.checked_headers({"Cookie": "; ".join(parts.cookies)})
    body = _encode(document, operation, parts, rest, headers)
    return OutgoingRequest(
        method=method.upper(),
        url=http_requests.with_query(request_url, parts.query),
        headers=headers,
        body=body,
        output=http_requests.checked_output(arguments.get("output")),
        follow_redirects=arguments.get("redirect") is True,
    )


def _operations(
    document: Document, operation_id: str
) -> Iterator[tuple[str, str, Document, Document]]:
    paths = document.get("paths")
    for path, found in paths.items() if isinstance(paths, dict) else ():
        item = _resolve(document, found)
        for method in METHODS:
            operation = item.get(method)
            if isinstance(operation, dict) and operation.get("operationId") == operation_id:
                yield str(path), method, item, operation


def _resolve(document: Document, value: Any) -> Document:
    """Follow `$ref`s within the document; anything else that is no object is an empty one."""
    for _ in range(MAX_REFERENCES):
        if not isinstance(value, dict):
            return {}
        reference = value.get("$ref")
        if reference is None:
            return value
        if not isinstance(reference, str) or not reference.startswith("#/"):
            refuse("the OpenAPI document refers to another document")
        value = document
        for part in reference[2:].split("/"):
            name = part.replace("~1", "/").replace("~0", "~")
            value = value.get(name) if isinstance(value, dict) else None
    refuse("the OpenAPI document refers in circles")


def _assign(
    document: Document, item: Document, operation: Document, given: dict[str, JSON]
) -> tuple[_Parts, dict[str, JSON]]:
    """Put every given parameter where its declaration says; return also what is undeclared."""
    declared: dict[tuple[str, str], Document] = {}
    for owner in (item, operation):  # the operation's come last and replace the path's
        listed = owner.get("parameters")
        for found in listed if isinstance(listed, list) else ():
            parameter = _resolve(document, found)
            name, place = parameter.get("name"), parameter.get("in")
            if isinstance(name, str) and isinstance(place, str):
                declared[name, place] = parameter
    parts = _Parts()
    used: set[str] = set()
    for (name, place), parameter in declared.items():
        value = given.get(name)
        used.add(name)
        if value is not None:
            _place(parts, name, place, parameter, value)
        elif parameter.get("required") is True:
            refuse(f"{operation.get('operationId')} needs parameter {name}", faults.VALIDATION)
    return parts, {name: value for name, value in given.items() if name not in used}


def _place(parts: _Parts, name: str, place: str, parameter: Document, value: JSON) -> None:
    if place == "path":
        parts.path[name] = _joined(value, ",")
    elif place == "query":
        parts.query[name] = _query_value(parameter, value)
    elif place == "header":
        # OpenAPI says that these three are not parameters.
        if name.lower() not in ("accept", "content-type", "authorization"):
            parts.headers[name] = _joined(value, ",")
    elif place == "cookie":
        parts.cookies.append(f"{quote(name, safe='')}={quote(_joined(value, ','), safe='')}")
    elif place == "formData":
        parts.form[name] = value
    elif place == "body":
        parts.body = value


def _query_value(parameter: Document, value: JSON) -> JSON:
    if not isinstance(value, list):
        return value
    style = parameter.get("collectionFormat") or (
        "csv" if parameter.get("type") == "array" else None  # Swagger 2's default
    )
    if style is None and parameter.get("explode", True) is False:
        style = {"spaceDelimited": "ssv", "pipeDelimited": "pipes"}.get(
            str(parameter.get("style")), "csv"
        )
    separator = _SEPARATORS.get(str(style)) if style is not None else None
    return value if separator is None else _joined(value, separator)


def _joined(value: JSON, separator: str) -> str:
    if isinstance(value, list):
        return separator.join(as_text(item) for item in value)
    return as_text(value)


def _fill_path(path: str, values: dict[str, str]) -> str:
    filled = http_requests.expand(path, values)
    return filled if filled.startswith("/") else f"/{filled}"


def _base_url(document: Document, item: Document, operation: Document, source: yarl.URL) -> str:
    if "swagger" in document:
        schemes = document.get("schemes") or [source.scheme]
        scheme = source.scheme if source.scheme in schemes else str(schemes[0])
        host = document.get("host") or source.authority
        return f"{scheme}://{host}{document.get('basePath') or ''}"
    servers = operation.get("servers") or item.get("servers") or document.get("servers")
    first = servers[0] if isinstance(servers, list) and servers else {}
    server = first if isinstance(first, dict) else {}
    template = str(server.get("url") or "/")
    variables = server.get("variables")
    for name, variable in variables.items() if isinstance(variables, dict) else ():
        default = variable.get("default", "") if isinstance(variable, dict) else ""
        template = template.replace("{" + str(name) + "}", str(default))
    return str(source.join(yarl.URL(template)))


def _encode(
    document: Document,
    operation: Document,
    parts: _Parts,
    rest: dict[str, JSON],
    headers: dict[str, str],
) -> bytes | None:
    """Encode the body: Swagger's by its place; OpenAPI 3's is `body`, or what is left over."""
    if "swagger" not in document and operation.get("requestBody") is not None:
        declared = _resolve(document, operation["requestBody"])
        body: JSON = rest["body"] if set(rest) == {"body"} else rest or None
        if body is None and declared.get("required") is True:
            refuse(f"{operation.get('operationId')} needs a body", faults.VALIDATION)
        content = declared.get("content")
        media = [str(name) for name in content] if isinstance(content, dict) else []
        if body is not None and media and not any(map(http_requests.is_json, media)):
            headers |= http_requests.checked_headers({"Content-Type": media[0]})
        return http_requests.encode_body(body, headers)
    if rest:
        names = ", ".join(sorted(rest))
        refuse(f"{operation.get('operationId')} has no parameter {names}", faults.VALIDATION)
    if parts.form:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        return http_requests.form_encode(parts.form.items())
    return http_requests.encode_body(parts.body, headers)
