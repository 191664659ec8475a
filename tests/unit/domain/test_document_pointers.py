"""Documents whose JSON pointers would outweigh them thousands of times."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from orchx.adapters.json_source import load_json
from orchx.adapters.yaml_source import load_yaml
from orchx.domain.document_limits import MAX_POINTER_CHARACTERS
from orchx.domain.document_parser import parse_definition
from orchx.errors import InvalidDocument

HEADER = {"dsl": "1.0.3", "namespace": "test", "name": "sample", "version": "0.1.0"}
LIMIT_BYTES = 6 * MAX_POINTER_CHARACTERS


def _deep(value: Any) -> Any:
    for level in range(20):
        value = {f"{level}{'k' * 1_000}": value}
    return value


HOSTILE: dict[str, Any] = {
    "a long key": {"k" * 40_000: [1] * 5_000},
    "a long key full of slashes": {"/" * 20_000: [1] * 5_000},
    "many keys below each other": _deep([1] * 10_000),
    "objects": {"k" * 40_000: {f"{number}": {} for number in range(5_000)}},
}


@contextmanager
def little_memory() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < LIMIT_BYTES


def _as_yaml(value: dict[str, Any]) -> str:
    ((key, member),) = value.items()
    return f"? {json.dumps(key)}\n: {json.dumps(member)}"  # a long key has to be marked as one


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize(
    ("load", "write"), [(load_json, json.dumps), (load_yaml, _as_yaml)], ids=["json", "yaml"]
)
def test_texts(
    case: str, load: Callable[[str], object], write: Callable[[dict[str, Any]], str]
) -> None:
    text = write(HOSTILE[case])
    with little_memory(), pytest.raises(InvalidDocument, match="JSON pointers"):
        load(text)


@pytest.mark.parametrize("case", HOSTILE)
def test_values(case: str) -> None:
    source = {"document": HEADER, "do": [{"a": {"set": HOSTILE[case]}}]}
    with little_memory(), pytest.raises(InvalidDocument, match="JSON pointers"):
        parse_definition(source)


def test_one_long_key_is_no_fault() -> None:
    source = {"document": HEADER, "do": [{"a": {"set": {"k" * 40_000: [1] * 50}}}]}
    assert load_json(json.dumps(source)).value == source
    parse_definition(source)
