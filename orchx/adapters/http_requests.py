"""Turns evaluated arguments into one HTTP request, or says which argument is wrong."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NoReturn, TypeAlias, cast, get_args
from urllib.parse import quote, urlencode

import msgspec
import yarl

from orchx.domain import faults
from orchx.domain.faults import WorkflowFault
from orchx.domain.json_values import JSON
from orchx.domain.services import Operation, Service

Output: TypeAlias = Literal["content", "response", "raw"]

_PLACEHOLDER: Final = re.compile(r"\{([^{}]*)\}")
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_FORBIDDEN_IN_VALUE: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
# The connection's business, not a document's: request smuggling starts with these.
_RESERVED_HEADERS: Final = frozenset(
    (
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "upgrade",
        "te",
        "trailer",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "expect",
    )
)
_BODY_IN_QUERY: Final = ("GET", "DELETE")


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingRequest:
    """One HTTP request, ready to be sent. `bearer` stays out of sight."""

    method: str
    url: yarl.URL
    headers: dict[str, str]
    body: bytes | None = None
    output: Output = "content"
    follow_redirects: bool = False
    bearer: str | None = field(default=None, repr=False)


def from_http_arguments(arguments: JSON) -> OutgoingRequest:
    """Build the request of `call: http`.

    Raises:
        WorkflowFault: an argument is missing or wrong.
    """
    if not isinstance(arguments, dict):
        refuse("call http needs an object of arguments")
    uri = endpoint_uri(arguments.get("endpoint"))
    url = absolute_url(expand(uri, arguments.get("templateVariables") or {}))
    method = arguments.get("method")
    if not isinstance(method, str) or not _TOKEN.fullmatch(method):
        refuse("method must be the name of an HTTP method")
    headers = checked_headers(arguments.get("headers"))
    return OutgoingRequest(
        method=method.upper(),
        url=with_query(url, arguments.get("query")),
        headers=headers,
        body=encode_body(arguments.get("body"), headers),
        output=checked_output(arguments.get("output")),
        follow_redirects=arguments.get("redirect") is True,
    )


def from_capability(
    service: Service, operation: Operation, arguments: JSON, bearer: str | None
) -> OutgoingRequest:
    """Build the request of a capability call: path by name, the rest as query or JSON body.

    Raises:
        WorkflowFault: an argument is missing or wrong.
    """
    named = dict(arguments) if isinstance(arguments, dict) else {}
    in_path = _PLACEHOLDER.findall(operation.path)
    missing = [name for name in in_path if named.get(name) in (None, "")]
    if missing:
        refuse(f"{operation.capability} needs {', '.join(missing)} for its path", faults.VALIDATION)
    url = absolute_url(service.base_url.rstrip("/") + expand(operation.path, named))
    rest: JSON = arguments
    if isinstance(arguments, dict):
        rest = {name: value for name, value in named.items() if name not in in_path}
    headers: dict[str, str] = {}
    body = None
    if operation.method in _BODY_IN_QUERY:
        url = with_query(url, rest)
    else:
        body = encode_body(rest, headers)
    return OutgoingRequest(
        method=operation.method, url=url, headers=headers, body=body, bearer=bearer
    )


def endpoint_uri(endpoint: JSON) -> str:
    """Return the URI of an endpoint: a string, or an object with `uri`."""
    if isinstance(endpoint, dict):
        if endpoint.get("authentication") is not None:
            refuse("authentication of an endpoint is not supported; name a service instead")
        endpoint = endpoint.get("uri")
    if not isinstance(endpoint, str) or not endpoint:
        refuse("endpoint must be a URI, or an object with one as uri")
    return endpoint


def expand(template: str, variables: JSON) -> str:
    """Fill a URI template by RFC 6570 simple expansion; a variable without a value is empty.

    Raises:
        WorkflowFault: a value is neither string, number, boolean nor null, or would
            step out of its path segment.
    """
    values = variables if isinstance(variables, dict) else {}

    def fill(match: re.Match[str]) -> str:
        name = match.group(1)
        value = values.get(name)
        if value is None:
            return ""
        if isinstance(value, dict | list):
            kind = faults.EXPRESSION
            refuse(f"{name} in a URI must be a string, number, boolean or null", kind)
        text = as_text(value)
        if text in (".", ".."):
            refuse(f"{name} in a URI must not be a relative path", faults.VALIDATION)
        return quote(text, safe="")

    return _PLACEHOLDER.sub(fill, template)


def absolute_url(uri: str) -> yarl.URL:
    """Parse a URI that can be called."""
    try:
        url = yarl.URL(uri)
    except ValueError as error:
        refuse(f"not a URI: {error}")
    if url.scheme not in ("http", "https") or not url.host:
        refuse("only absolute http and https URIs can be called")
    if url.user is not None or url.password is not None:
        refuse("credentials do not belong in a URI: documents and events are not secret")
    return url


def with_query(url: yarl.URL, query: JSON) -> yarl.URL:
    """Add query parameters: lists repeat the name, null leaves it out, objects are JSON."""
    if query is None:
        return url
    if not isinstance(query, dict):
        refuse("query must be an object")
    pairs = [
        (str(name), as_text(item))
        for name, value in query.items()
        for item in (value if isinstance(value, list) else [value])
        if item is not None
    ]
    return url.extend_query(pairs) if pairs else url


def checked_headers(headers: JSON) -> dict[str, str]:
    """Return headers that cannot break out of their line, nor steer the connection.

    Raises:
        WorkflowFault: a name or value is not allowed.
    """
    if headers is None:
        return {}
    if not isinstance(headers, dict):
        refuse("headers must be an object")
    checked: dict[str, str] = {}
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name):
            refuse("a header name holds a character that is not allowed", faults.VALIDATION)
        if name.lower() in _RESERVED_HEADERS:
            refuse(f"header {name} cannot be set by a document")
        if value is None:
            continue
        text = as_text(value)
        if _FORBIDDEN_IN_VALUE.search(text):
            refuse(f"header {name} holds a line break or control character", faults.VALIDATION)
        checked[name] = text
    return checked


def checked_output(output: JSON) -> Output:
    """Return the output format; `content` when there is none."""
    if output is None:
        return "content"
    if output not in get_args(Output):
        refuse("output must be content, response or raw")
    return cast(Output, output)


def encode_body(body: JSON, headers: dict[str, str]) -> bytes | None:
    """Encode a body by its Content-Type, which is JSON (and set) unless `headers` has one."""
    if body is None:
        return None
    content_type = next((v for k, v in headers.items() if k.lower() == "content-type"), None)
    if content_type is None:
        headers["Content-Type"] = "application/json"
    elif not is_json(content_type):
        if content_type.startswith("application/x-www-form-urlencoded") and isinstance(body, dict):
            return form_encode(body.items())
        if isinstance(body, str):
            return body.encode()
    return msgspec.json.encode(body)


def form_encode(pairs: Iterable[tuple[str, Any]]) -> bytes:
    """Encode pairs as an HTML form; lists repeat their name."""
    flat = [
        (name, as_text(item))
        for name, value in pairs
        for item in (value if isinstance(value, list) else [value])
        if item is not None
    ]
    return urlencode(flat).encode()


def is_json(content_type: str) -> bool:
    """Tell whether a media type is JSON (RFC 6839: any `+json` is)."""
    essence = content_type.partition(";")[0].strip().lower()
    return essence.endswith("+json") or essence in ("application/json", "text/json")


def as_text(value: JSON) -> str:
    """Return a value as it stands in a URI, header or form."""
    if isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()


def refuse(detail: str, kind: str = faults.CONFIGURATION) -> NoReturn:
    """Raise a fault about the arguments."""
    raise WorkflowFault(faults.standard(kind, "call cannot be made", detail=detail))


def same_origin(one: yarl.URL, other: yarl.URL) -> bool:
    """Tell whether two URLs have scheme, host and port in common."""
    return (one.scheme, one.host, one.port) == (other.scheme, other.host, other.port)


def trace_headers(fields: Mapping[str, str | None]) -> dict[str, str]:
    """Return those headers that have a value which fits on a line."""
    return {
        name: quote(value, safe="!#$%&'()*+,/:;<=>?@[]^_`{|}~ -.")
        for name, value in fields.items()
        if value is not None
    }
