"""How large a value may become that a workflow builds or is given: one check for all of them.

A document is bounded, and so is what comes in from outside, but a loop can make each value
out of the one before. What is checked here can be encoded, sent, stored and shown.
Texts and names count by their characters, all else by how many values there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from orchx.domain import faults
from orchx.domain.faults import WorkflowFault
from orchx.domain.json_values import JSON

MAX_DEPTH: Final = 200  # arrays and objects inside each other; msgspec takes some 900
MAX_VALUES: Final = 100_000
MAX_SIZE: Final = 2 * 1_048_576  # characters: room for an answer of 1 MiB in base 64
MIN_INTEGER: Final = -(2**63)
MAX_INTEGER: Final = 2**64 - 1  # what msgpack can carry


class Excess(NamedTuple):
    """Which limit a value breaks."""

    title: str
    detail: str


_TOO_DEEP: Final = Excess(
    "nested too deeply", f"arrays and objects may be nested at most {MAX_DEPTH} levels deep"
)
_TOO_MANY: Final = Excess("value too large", f"it may hold at most {MAX_VALUES} values")
_TOO_LARGE: Final = Excess(
    "value too large", f"its texts and names may have at most {MAX_SIZE} characters"
)
_TOO_WIDE: Final = Excess(
    "integer out of range", f"an integer must be between {MIN_INTEGER} and {MAX_INTEGER}"
)
_NOT_FINITE: Final = Excess("number is not finite", "JSON has no NaN and no infinity")
_NOT_JSON: Final = Excess("value is not JSON", "a name in an object must be text")


def checked(value: JSON) -> JSON:
    """Return a value that is within the limits.

    Raises:
        WorkflowFault: EXPRESSION, where it is not; the detail names the limit.
    """
    excess = excess_of(value)
    if excess is not None:
        fault = faults.standard(faults.EXPRESSION, excess.title, detail=excess.detail)
        raise WorkflowFault(fault)
    return value


def excess_of(value: JSON) -> Excess | None:
    """Return which limit a value breaks, or None.

    It goes down level by level, without recursion, and stops as soon as a limit is broken:
    parts that are shared count each time, as they are written each time.
    """
    level: list[JSON] = []
    depth = count = size = 0
    kind = type(value)
    if kind is dict or kind is list:
        level.append(value)
    elif kind is str:
        return _TOO_LARGE if len(value) > MAX_SIZE else None
    else:
        excess = _excess_of_other(value, level)
        if excess is not None:
            return excess
    while level:
        if depth == MAX_DEPTH:
            return _TOO_DEEP
        depth += 1
        below: list[JSON] = []
        for outer in level:
            count += len(outer)
            if count > MAX_VALUES:
                return _TOO_MANY
            inner = outer
            kind = type(outer)
            if kind is dict or (kind is not list and isinstance(outer, Mapping)):
                inner = outer.values()
                try:
                    size += len("".join(outer))
                except TypeError:
                    return _NOT_JSON
            for part in inner:
                kind = type(part)
                if kind is str:
                    size += len(part)
                elif kind is dict or kind is list:
                    below.append(part)
                elif kind is int:
                    if not MIN_INTEGER <= part <= MAX_INTEGER:
                        return _TOO_WIDE
                elif part is not None and kind is not bool:
                    excess = _excess_of_other(part, below)
                    if excess is not None:
                        return excess
            if size > MAX_SIZE:
                return _TOO_LARGE
        level = below
    return None


def _excess_of_other(part: JSON, below: list[JSON]) -> Excess | None:
    """Check a value of a rarer kind; put a container with those of the next level."""
    if isinstance(part, int):
        return None if MIN_INTEGER <= part <= MAX_INTEGER else _TOO_WIDE
    if isinstance(part, float):
        return None if part - part == 0.0 else _NOT_FINITE
    if isinstance(part, (Mapping, list, tuple)):
        below.append(part)
    return None
