"""CloudEvents that are sent to orchx, in structured or binary mode.

Source: CloudEvents 1.0.2, "HTTP Protocol Binding" sections 3.1 and 3.2.
"""

from __future__ import annotations

import base64
import re
from typing import Any, Final
from urllib.parse import unquote

from starlette.requests import Request

from orchx.errors import InvalidRequest, Violation
from orchx.serve.fields import whole
from orchx.serve.json_body import check_strings, read_json
from orchx.serve.media import CLOUD_EVENT_TYPE, JSON_TYPE, media_type_of
from orchx.serve.models import CloudEventBody
from orchx.serve.validation import read_model

STRUCTURED_TYPES: Final = (CLOUD_EVENT_TYPE, JSON_TYPE)
_HEADER_PREFIX: Final = "ce-"
_IS_JSON: Final = re.compile(r"(application|text)/([a-z0-9.+-]+\+)?json")


async def read_event(request: Request, *, max_depth: int) -> dict[str, Any]:
    """Return the event as the JSON object of structured mode, whichever mode it came in.

    Raises:
        HttpError: 400 or 415, the body cannot be read.
        InvalidRequest: it is no CloudEvent 1.0.
    """
    body = await request.body()
    if "ce-specversion" in request.headers:
        event = _binary(request, body, max_depth)
    else:
        media_type_of(request, STRUCTURED_TYPES)
        event = read_json(body, max_depth=max_depth)
    read_model(CloudEventBody, event)
    # For every attribute, absent and null are the same, as are 5 and 5.0; not so in data.
    return {
        name: value if name == "data" else whole(value)
        for name, value in event.items()
        if value is not None or name == "data"
    }


def _binary(request: Request, body: bytes, max_depth: int) -> dict[str, Any]:
    event: dict[str, Any] = {}
    for name, value in request.headers.items():
        if not name.startswith(_HEADER_PREFIX):
            continue
        attribute = name.removeprefix(_HEADER_PREFIX)
        if attribute in event or attribute in ("data", "data_base64", "datacontenttype"):
            fault = Violation(
                pointer=f"header:{name}", message="is given twice or not an attribute"
            )
            raise InvalidRequest("the CloudEvents headers are wrong", (fault,))
        event[attribute] = _decoded(name, value)
    content_type = request.headers.get("content-type")
    if content_type is not None:
        event["datacontenttype"] = content_type
    if body:
        essence = (content_type or JSON_TYPE).partition(";")[0].strip().lower()
        if _IS_JSON.fullmatch(essence):
            event["data"] = read_json(body, max_depth=max_depth)
        else:
            event.update(_plain(essence, body))
    check_strings(event)
    return event


def _decoded(name: str, value: str) -> str:
    """Return a header's text, which is percent-encoded UTF-8."""
    try:
        return unquote(value.encode("latin-1").decode("utf-8"), errors="strict")
    except UnicodeError:
        fault = Violation(pointer=f"header:{name}", message="is not percent-encoded UTF-8")
        raise InvalidRequest("the CloudEvents headers are wrong", (fault,)) from None


def _plain(essence: str, body: bytes) -> dict[str, str]:
    if essence.startswith("text/"):
        try:
            return {"data": body.decode("utf-8")}
        except UnicodeDecodeError:
            pass  # bytes all the same
    return {"data_base64": base64.b64encode(body).decode("ascii")}
