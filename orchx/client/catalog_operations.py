"""Plans about what orchx knows: definitions, services; and webhook deliveries, readiness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import msgspec

from orchx.client.exchange import JSON_TYPE, call, decode, encode, pages, query_of, segment
from orchx.client.models import Definition, Delivery, Readiness, Service
from orchx.client.problems import error_of, parts_of
from orchx.client.steps import Lost, Plan, Send
from orchx.errors import NotFound, Unavailable

MAX_PAGE: Final = 500
_DEFINITIONS = "/v1/definitions"


class _Definitions(msgspec.Struct, frozen=True):
    definitions: tuple[Definition, ...]


class _Services(msgspec.Struct, frozen=True):
    services: tuple[Service, ...]


class _Deliveries(msgspec.Struct, frozen=True):
    deliveries: tuple[Delivery, ...]


class _Replayed(msgspec.Struct, frozen=True):
    replayed: int


def publish_definition(
    document: str | bytes | Mapping[str, Any],
    *,
    request_type: str | None = None,
    dry_run: bool = False,
) -> Plan[Definition]:
    """Publish a workflow document; the same one again is no error.

    Args:
        document: YAML or JSON text as its author wrote it (errors then name lines), or
            the document as a mapping.
        request_type: requests of this type run this definition.
        dry_run: check only, store nothing.

    Raises:
        InvalidDocument: it is no valid workflow; `violations` say what and where.
        UnsupportedFeature: it is valid, but this release does not run it.
        Conflict: the version exists with another content, or is retired.
    """
    is_text = isinstance(document, (str, bytes))
    body = document.encode() if isinstance(document, str) else document
    reply = yield from call(
        Send(
            method="POST",
            path=_DEFINITIONS,
            query=query_of(request_type=request_type, dry_run=dry_run or None),
            headers={"Content-Type": "application/yaml" if is_text else JSON_TYPE},
            body=body if isinstance(body, bytes) else encode(body),
        )
    )
    return decode(reply, Definition)


def list_definitions(
    namespace: str | None = None, name: str | None = None
) -> Plan[tuple[Definition, ...]]:
    """Return the latest version of every definition, or all versions of one.

    Args:
        namespace: with `name`, for all versions of one definition.
        name: with `namespace`.
    """
    path = _DEFINITIONS
    if namespace is not None and name is not None:
        path += f"/{segment(namespace, 'namespace')}/{segment(name, 'name')}"
    reply = yield from call(Send(method="GET", path=path))
    return decode(reply, _Definitions).definitions


def show_definition(namespace: str, name: str, version: str = "latest") -> Plan[Definition]:
    """Return one version with its document.

    Raises:
        NotFound: there is none, or it is retired.
    """
    path = _definition_path(namespace, name, version)
    reply = yield from call(Send(method="GET", path=path, headers={"Accept": JSON_TYPE}))
    return decode(reply, Definition)


def definition_source(namespace: str, name: str, version: str = "latest") -> Plan[str]:
    """Return one version as its author wrote it, comments and all."""
    path = _definition_path(namespace, name, version)
    reply = yield from call(Send(method="GET", path=path, headers={"Accept": "application/yaml"}))
    return reply.body.decode("utf-8", "replace")


def retire_definition(namespace: str, name: str, version: str) -> Plan[None]:
    """Take one version out of use for new requests; what runs runs on.

    Raises:
        NotFound: there is none.
    """
    if version == "latest":
        raise NotFound("only a version can be retired, not 'latest'")
    path = _definition_path(namespace, name, version)
    yield from call(Send(method="DELETE", path=path))


def list_services() -> Plan[tuple[Service, ...]]:
    """Return the services of the catalog."""
    reply = yield from call(Send(method="GET", path="/v1/services"))
    return decode(reply, _Services).services


def put_services(services: Sequence[Service | Mapping[str, Any]]) -> Plan[tuple[Service, ...]]:
    """Create services, or replace those of the same name; others stay.

    Raises:
        InvalidRequest: something is wrong with one of them; nothing was changed.
    """
    body = encode({"services": list(services)})
    reply = yield from call(
        Send(method="PUT", path="/v1/services", headers={"Content-Type": JSON_TYPE}, body=body)
    )
    return decode(reply, _Services).services


def list_deliveries(
    *, status: str | None = None, workflow: str | None = None, limit: int | None = None
) -> Plan[None]:
    """Iterate over webhook deliveries, oldest first; pages are fetched as they are needed.

    Args:
        status: `pending`, `delivered` or `undelivered`.
        workflow: id of the workflow that they tell about.
        limit: how many at most; None for all.
    """
    size = max(1, min(MAX_PAGE, limit or MAX_PAGE))
    query = query_of(status=status, workflow=workflow, limit=size)
    first = Send(method="GET", path="/v1/deliveries", query=query)
    return pages(first, lambda reply: decode(reply, _Deliveries).deliveries, limit)


def replay_deliveries(ids: Sequence[str]) -> Plan[int]:
    """Send undelivered webhooks again and return how many; 1 to 1000 ids."""
    reply = yield from call(
        Send(
            method="POST",
            path="/v1/deliveries/replay",
            headers={"Content-Type": JSON_TYPE},
            body=encode({"ids": list(ids)}),
        )
    )
    return decode(reply, _Replayed).replayed


def ready() -> Plan[Readiness]:
    """Tell whether the server takes work; asked once, never retried.

    Raises:
        Unavailable: nobody answers at the address.
    """
    reply = yield Send(method="GET", path="/readyz", retry=False)
    if isinstance(reply, Lost):
        raise Unavailable(reply.reason) from reply.error
    if reply.status not in (200, 503):
        raise error_of(reply)
    parts = parts_of(reply)
    if reply.status == 503 and not parts:
        raise error_of(reply)
    state = decode(reply, Readiness) if reply.status == 200 else Readiness(ready=False)
    server_time = _date_of(reply.headers.get("date", ""))
    return Readiness(ready=state.ready, parts=parts, server_time=server_time)


def _definition_path(namespace: str, name: str, version: str) -> str:
    parts = (
        segment(namespace, "namespace"),
        segment(name, "name"),
        segment(version, "version"),
    )
    return "/".join((_DEFINITIONS, *parts))


def _date_of(header: str) -> datetime | None:
    try:
        at = parsedate_to_datetime(header)
    except (ValueError, OverflowError):  # a year of twenty digits is the latter
        return None
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)
