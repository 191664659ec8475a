"""Media types: what a request's body is, and what its sender wants back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from starlette.requests import Request

from orchx.domain.json_values import JSON
from orchx.serve.json_body import read_json
from orchx.serve.problems import HttpError

JSON_TYPE: Final = "application/json"
YAML_TYPE: Final = "application/yaml"
YAML_TYPES: Final = (YAML_TYPE, "application/x-yaml", "text/yaml", "text/x-yaml")
CLOUD_EVENT_TYPE: Final = "application/cloudevents+json"
CLOUD_EVENTS_TYPE: Final = "application/cloudevents-batch+json"
_UTF8: Final = frozenset({"utf-8", "utf8", "us-ascii"})


def media_type_of(request: Request, taken: Sequence[str]) -> str:
    """Return the media type of the body.

    Raises:
        HttpError: 415, it is not among those taken, or not in UTF-8.
    """
    given = request.headers.get("content-type", "")
    essence, _, parameters = given.partition(";")
    kind = essence.strip().lower()
    if kind not in taken:
        found = f"not {kind}" if kind else "and none is given"
        raise HttpError(
            415, f"the Content-Type must be {' or '.join(taken)}, {found}", headers=_accept(taken)
        )
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset" and value.strip(' "').lower() not in _UTF8:
            raise HttpError(415, "the charset must be utf-8", headers=_accept(taken))
    return kind


def read_json_request(
    body: bytes, request: Request, max_depth: int, *, taken: Sequence[str] = (JSON_TYPE,)
) -> JSON:
    """Return the JSON body of a request.

    Raises:
        HttpError: 415 for another media type, 400 for what is no acceptable JSON.
    """
    media_type_of(request, taken)
    return read_json(body, max_depth=max_depth)


def prefers_yaml(accept: Iterable[str]) -> bool:
    """Tell whether `Accept` headers rank a YAML type above JSON."""
    best = {"yaml": 0.0, "json": 0.0}
    for item in ",".join(accept).split(","):
        essence, *parameters = (part.strip().lower() for part in item.split(";"))
        quality = _quality(parameters)
        if essence in YAML_TYPES:
            best["yaml"] = max(best["yaml"], quality)
        elif essence in (JSON_TYPE, "application/*", "*/*"):
            best["json"] = max(best["json"], quality)
    return best["yaml"] > 0 and best["yaml"] >= best["json"]


def _quality(parameters: Iterable[str]) -> float:
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return float(parameter[2:])
            except ValueError:
                return 0.0
    return 1.0


def _accept(taken: Sequence[str]) -> dict[str, str]:
    return {"Accept-Post": ", ".join(taken)}
