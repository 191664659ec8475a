"""What a document may be at most, and the check that it is plain, bounded JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Final

from orchx.domain.document_report import Report, describe, escape
from orchx.domain.json_values import JSON

MAX_TASKS: Final = 2_000  # per document, with the functions expanded where they are called
MAX_TASK_DEPTH: Final = 64  # tasks inside tasks, through functions too
MAX_JSON_DEPTH: Final = 64  # arrays and objects inside each other
MAX_JSON_NODES: Final = 100_000
MAX_POINTER_CHARACTERS: Final = 8 * 1024 * 1024  # of the JSON pointers of all values together
MAX_EXPRESSIONS: Final = 3_000  # different ones; jq takes one to two milliseconds for each
MAX_INTEGER_BITS: Final = 64  # what jq, msgspec and every database here can carry

# One long key above many values would make pointers that outweigh the document a thousand times.
LONG_POINTERS: Final = (
    f"the JSON pointers of the document's values have more than {MAX_POINTER_CHARACTERS}"
    " characters together; its keys are too long"
)


def check_json(source: JSON, report: Report) -> bool:
    """Return whether `source` is JSON within the limits above; record what is not.

    It walks without recursion, so that no nesting can exhaust the stack. After it,
    recursion over the document is safe, and the document can be written as UTF-8.
    """
    sound = True
    nodes = 0
    characters = 0
    expressions: set[str] = set()
    stack: list[tuple[str, int, JSON]] = [("", 1, source)]
    while stack:
        pointer, depth, value = stack.pop()
        nodes += 1
        if nodes > MAX_JSON_NODES:
            report.invalid("", f"the document has more than {MAX_JSON_NODES} values")
            return False
        if isinstance(value, str) and "${" in value:
            expressions.add(value)
        if len(expressions) > MAX_EXPRESSIONS:
            report.invalid("", f"the document has more than {MAX_EXPRESSIONS} expressions")
            return False
        fault = _fault(value)
        if fault is None and depth > MAX_JSON_DEPTH and isinstance(value, (Mapping, list, tuple)):
            fault = f"this is nested more than {MAX_JSON_DEPTH} levels deep"
        if fault is not None:
            report.invalid(pointer, fault, found=describe(value))
            sound = False
            continue
        for key, child in _members(value):
            if not isinstance(key, str) or _fault(key) is not None:
                report.invalid(pointer, "a property's name is not text", found=describe(key))
                sound = False
                continue
            below = f"{pointer}/{escape(key)}"
            characters += len(below)
            if characters > MAX_POINTER_CHARACTERS:
                report.invalid("", LONG_POINTERS)
                return False
            stack.append((below, depth + 1, child))
    return sound


def _members(value: JSON) -> Iterator[tuple[JSON, JSON]]:
    """Return keys and values; an index is a key of digits."""
    if isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, (list, tuple)):
        yield from ((str(index), child) for index, child in enumerate(value))


def _fault(value: JSON) -> str | None:
    """Return why `value` cannot stand in JSON by itself, or None."""
    if isinstance(value, str):
        # Surrogates stand for no character and cannot be written; jq cannot carry NUL.
        if "\0" in value:
            return "text must not contain NUL"
        if value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value):
            return None
        return "text must not contain lone surrogates"
    if value is None or isinstance(value, (bool, Mapping, list, tuple)):
        return None
    if isinstance(value, int):
        if value.bit_length() >= MAX_INTEGER_BITS:
            return f"an integer must fit into {MAX_INTEGER_BITS} bits"
        return None
    if isinstance(value, float):
        return None if math.isfinite(value) else "a number must be finite"
    return "this is not a JSON value"
