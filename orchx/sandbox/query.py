"""Query parameters and JSON answers of the sandbox's own endpoints."""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from orchx.sandbox.problems import Problem, invalid_input

QueryT = TypeVar("QueryT", bound=Struct)
DocumentT = TypeVar("DocumentT", bound=Struct)


class PageQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which page: up to `limit` entries numbered above `since`."""

    since: Annotated[int, Meta(ge=0)] = 0
    limit: Annotated[int, Meta(ge=1, le=1_000)] = 100


def read_query(request: Request, kind: type[QueryT]) -> QueryT:
    """Decode the query parameters.

    Raises:
        Problem: 422 when they are not valid.
    """
    try:
        return msgspec.convert(dict(request.query_params), kind, strict=False)
    except msgspec.ValidationError as error:
        raise invalid_input(error) from error


async def read_document(request: Request, kind: type[DocumentT]) -> DocumentT:
    """Decode the JSON body.

    Raises:
        Problem: 400 when it is no JSON, 422 when it is not valid.
    """
    try:
        return msgspec.json.decode(await request.body(), type=kind)
    except msgspec.ValidationError as error:
        raise invalid_input(error) from error
    except msgspec.DecodeError as error:
        raise Problem(400, "malformed-json", str(error)) from error


def json_response(content: object) -> Response:
    """Render anything that msgspec can encode."""
    return Response(msgspec.json.encode(content), media_type="application/json")
