from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest
from pydantic import BaseModel

from orchx.serve.openapi import build_openapi
from orchx.serve.operation_table import OPERATIONS
from orchx.serve.routing import Operation
from orchx.settings import HttpSettings

DOCUMENT = build_openapi(OPERATIONS, HttpSettings(), "1.0.0")
JSON_TYPES = ("application/json", "application/cloudevents+json", "application/problem+json")


def _check(schema: dict[str, Any], value: Any) -> None:
    whole = {**schema, "components": DOCUMENT["components"]}
    jsonschema_rs.validate(whole, value)


def _described(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = DOCUMENT["paths"][operation.path][operation.method.lower()]
    return described


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.id)
def test_every_example_fits_its_schema(operation: Operation) -> None:
    described = _described(operation)
    bodies = described.get("requestBody", {}).get("content", {})
    for kind, media in bodies.items():
        for example in media.get("examples", {}).values():
            assert kind in JSON_TYPES
            _check(media["schema"], example["value"])
    for answer in described["responses"].values():
        for kind, media in answer.get("content", {}).items():
            if "example" in media and kind in JSON_TYPES:
                _check(media["schema"], media["example"])


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.id)
def test_every_operation_says_who_may_and_what_may_go_wrong(operation: Operation) -> None:
    described = _described(operation)
    assert bool(described.get("security")) == (operation.scope is not None)
    assert {"400", "405", "422", "500", "503"} <= set(described["responses"])
    assert ("401" in described["responses"]) == (operation.scope is not None)
    if operation.body is not None and operation.body.required:
        assert all("schema" in media for media in described["requestBody"]["content"].values())


def test_operation_ids_and_handlers_are_unique() -> None:
    ids = [operation.id for operation in OPERATIONS]
    assert len(set(ids)) == len(ids)
    assert all(
        operation.query is None or issubclass(operation.query, BaseModel)
        for operation in OPERATIONS
    )
