"""Inputs against a definition's `input.schema`: much wrong must not cost much."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from orchx.serve.validation import MAX_EXPLAINED_VALUES, MAX_VIOLATIONS, InputSchema
from tests.unit.serve.conftest import Rig, stored

LISTS = {
    "type": "object",
    "additionalProperties": {"type": "array", "items": {"type": "integer"}},
}


@pytest.fixture
def schema() -> InputSchema:
    return InputSchema(LISTS)


def test_a_small_input_is_told_everything_in_order(schema: InputSchema) -> None:
    found = schema.violations({"a": [1, "x", 2, None], "b": 7}, pointer="/input")
    assert [one.pointer for one in found] == ["/input/a/1", "/input/a/3", "/input/b"]
    assert schema.violations({"a": [1]}, pointer="/input") == ()


def test_no_more_is_told_than_is_answered(schema: InputSchema) -> None:
    found = schema.violations({"a": ["x"] * (MAX_VIOLATIONS + 1)}, pointer="")
    assert [one.pointer for one in found] == [f"/a/{index}" for index in range(MAX_VIOLATIONS)]


# The validator has no lazy way to say all: the first fault is the one that it stops at.
@pytest.mark.parametrize(
    "value",
    [
        {"a": ["x"] * (MAX_EXPLAINED_VALUES + 1)},
        {"a": [1, *["x"] * 500_000]},
        {"k" * 500_000: ["x"] * 1_000},
        {f"{number}": 1 for number in range(MAX_EXPLAINED_VALUES + 1)},
    ],
    ids=["many", "very many", "long key", "wide"],
)
def test_a_large_input_is_told_its_first_fault(schema: InputSchema, value: Any) -> None:
    (found,) = schema.violations(value, pointer="/input")
    assert found.pointer.startswith("/input/")
    assert found.expected == "what the definition's input schema says (type)"


async def test_large_inputs_are_refused_or_taken(rig: Rig, client: httpx.AsyncClient) -> None:
    source = b'{"input": {"schema": {"format": "json", "document": {"items": {"type": "null"}}}}}'
    await rig.gateway.catalog.publish(stored(name="lists", source=source, request_type="lists"))
    item = {"type": "lists", "input": [None] * 700}
    assert (await client.post("/v1/requests", json=item)).status_code == 202
    response = await client.post("/v1/requests", json=item | {"input": [None] * 350 + [0] * 350})
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == "/input/350"
