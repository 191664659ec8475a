"""Building blocks of plans: one request and its typed answer, one page after the other."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlsplit

import msgspec

from orchx.client.problems import error_of, unreadable
from orchx.client.steps import Emit, Lost, Plan, Reply, Send, T
from orchx.errors import DriverError, InvalidRequest, Unavailable, Violation

JSON_TYPE: Final = "application/json"
MAX_PAGES: Final = 1_000_000


def call(send: Send) -> Plan[Reply]:
    """Send one request and return its answer, if it is a 2xx.

    Raises:
        OrchxError: the server refused, or could not be reached (`Unavailable`).
    """
    reply: Reply | Lost = yield send
    if isinstance(reply, Lost):
        raise Unavailable(reply.reason) from reply.error
    if not 200 <= reply.status < 300:
        raise error_of(reply)
    return reply


def decode(reply: Reply, kind: type[T]) -> T:
    """Return the answer's JSON as `kind`.

    Raises:
        DriverError: it is something else: the URL is probably not orchx's.
    """
    try:
        return msgspec.json.decode(reply.body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise unreadable(reply, error) from error


def encode(value: Any) -> bytes:
    """Return a value as JSON; datetimes in RFC 3339.

    Raises:
        InvalidRequest: it holds something that JSON has no form for, or a number over 64 bits.
    """
    try:
        return msgspec.json.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        violation = Violation(pointer="", message=str(error) or type(error).__name__)
        raise InvalidRequest("this cannot be written as JSON", (violation,)) from error


def segment(value: str, name: str) -> str:
    """Return a value as one segment of a path.

    Raises:
        InvalidRequest: it is empty, or would lead elsewhere.
    """
    if value in ("", ".", ".."):
        violation = Violation(pointer=name, message="must not be empty or dots", found=repr(value))
        raise InvalidRequest(f"a {name} is needed", (violation,))
    return quote(value, safe="")


def query_of(**values: Any) -> dict[str, Any]:
    """Return query parameters as the API spells them; what is None stays out."""
    return {_camel_case(name): _text(value) for name, value in values.items() if value is not None}


def pages(
    first: Send, items_of: Callable[[Reply], Iterable[Any]], limit: int | None = None
) -> Plan[None]:
    """Emit the items of an answer and of all pages after it, as `Link` says.

    Args:
        first: asks for the first page.
        items_of: what an answer holds.
        limit: how many items at most; None for all.
    """
    send, left = first, float("inf") if limit is None else limit
    for _ in range(MAX_PAGES):
        if left <= 0:
            return
        reply = yield from call(send)
        for item in items_of(reply):
            yield Emit(value=item)
            left -= 1
            if left <= 0:
                return
        following = _next_link(reply.headers.get("link", ""))
        if following is None:
            return
        send = dataclasses.replace(first, query=following)
    raise DriverError(f"the server's list has over {MAX_PAGES} pages")


def _next_link(header: str) -> dict[str, list[str]] | None:
    """Return the query of the link with rel="next"; its address is the server's own view."""
    for target, rest in _links(header):
        if 'rel="next"' in rest.replace(" ", "") or "rel=next" in rest.replace(" ", ""):
            query: dict[str, list[str]] = {}
            for name, value in parse_qsl(urlsplit(target).query, keep_blank_values=True):
                query.setdefault(name, []).append(value)
            return query
    return None


def _links(header: str) -> Iterator[tuple[str, str]]:
    for part in header.split("<")[1:]:
        target, _, rest = part.partition(">")
        yield target, rest


def _camel_case(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(map(str.capitalize, rest))


def _text(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, Mapping):
        return [f"{key}={item}" for key, item in value.items()]
    return list(value) if isinstance(value, (list, tuple, set, frozenset)) else str(value)


def rfc3339(at: datetime) -> str:
    """Return a time as the API writes it: in UTC, with milliseconds.

    Raises:
        InvalidRequest: it does not know its time zone.
    """
    if at.tzinfo is None:
        raise InvalidRequest(f"the time {at} has no time zone")
    text = at.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.removesuffix("+00:00") + "Z"
