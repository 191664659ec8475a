"""Reads a response within limits and makes of it what the document asked for."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Final

import aiohttp
import msgspec

from orchx.adapters import http_faults
from orchx.adapters.http_requests import OutgoingRequest, is_json
from orchx.domain.faults import WorkflowFault
from orchx.domain.json_values import JSON
from orchx.domain.value_limits import excess_of

MAX_ERROR_BYTES: Final = 65_536
MAX_JSON_DEPTH: Final = 128
"""Deeper JSON is of no use to anyone, and breaks whatever walks it by recursion."""

_BINARY: Final = re.compile(
    r"(image|audio|video|font)/|application/(octet-stream|pdf|zip|gzip|x-tar|x-protobuf|cbor)"
)
_CONTAINERS: Final = (dict, list)


async def read_body(response: aiohttp.ClientResponse, limit_bytes: int) -> bytes:
    """Read a body of at most `limit_bytes`, counted after decompression.

    Raises:
        WorkflowFault: it is larger; the connection is closed.
    """
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > limit_bytes:
            response.close()
            detail = f"the response has more than {limit_bytes} bytes"
            raise WorkflowFault(http_faults.bad_answer("response too large", detail))
        chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def read_error_body(response: aiohttp.ClientResponse) -> bytes:
    """Read the beginning of an error's body, and no more."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_any():
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_ERROR_BYTES:
            response.close()
            break
    return b"".join(chunks)


def shape(
    request: OutgoingRequest,
    sent_headers: Mapping[str, str],
    response: aiohttp.ClientResponse,
    body: bytes,
) -> JSON:
    """Return the output: content, the whole response, or the raw bytes in base 64.

    Raises:
        WorkflowFault: the content is not what its type says.
    """
    body = redact(body, request.bearer)
    if request.output == "raw":
        return base64.b64encode(body).decode()
    content = decode(body, response.headers.get("Content-Type", ""))
    if request.output == "content":
        return content
    return {
        "request": {
            "method": request.method.lower(),
            "uri": str(response.url),
            "headers": {
                name: value for name, value in sent_headers.items() if name != "Authorization"
            },
        },
        "statusCode": response.status,
        "headers": {
            name: redact(value.encode(), request.bearer).decode("utf-8", "replace")
            for name, value in response.headers.items()
        },
        "content": content,
    }


def decode(body: bytes, content_type: str) -> JSON:
    """Decode a body by its media type: JSON, text, or base 64 for what is neither.

    Raises:
        WorkflowFault: it says JSON but is not, is nested too deeply, or breaks a value's limits.
    """
    if not body:
        return None
    if is_json(content_type):
        try:
            value = msgspec.json.decode(body)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise WorkflowFault(http_faults.bad_answer("malformed JSON", str(error))) from error
        if body.count(b"[") + body.count(b"{") > MAX_JSON_DEPTH and is_deep(value, MAX_JSON_DEPTH):
            detail = f"the response is nested more than {MAX_JSON_DEPTH} levels deep"
            raise WorkflowFault(http_faults.bad_answer("JSON nested too deeply", detail))
        excess = excess_of(value)
        if excess is not None:
            raise WorkflowFault(http_faults.bad_answer(excess.title, excess.detail))
        return value
    if _BINARY.match(content_type.lower()):
        return base64.b64encode(body).decode()
    charset = re.search(r'charset="?([\w.:-]{1,40})', content_type, re.IGNORECASE)
    try:
        return body.decode(charset.group(1) if charset else "utf-8", "replace")
    except LookupError:
        return body.decode("utf-8", "replace")


def is_deep(value: JSON, limit: int) -> bool:
    """Tell whether containers are nested more than `limit` deep, without recursion."""
    level = [value] if isinstance(value, _CONTAINERS) else []
    for _ in range(limit):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, _CONTAINERS)
        ]
    return bool(level)


def redact(body: bytes, secret: str | None) -> bytes:
    """Remove a secret that a service sent back, as it stands or as JSON escapes it."""
    if not secret:
        return body
    for form in (secret, secret.replace("/", "\\/"), msgspec.json.encode(secret)[1:-1].decode()):
        body = body.replace(form.encode(), b"[redacted]")
    return body
