"""How large a value may become that a workflow builds or is given: one check for all of them.

A document is bounded, and so is what comes in from outside, but a loop can make each value
out of the one before. What is checked here can be encoded, sent, stored and shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from orchx.domain import faults
from orchx.domain.faults import WorkflowFault
from orchx.domain.json_values import JSON

MAX_DEPTH: Final = 200  # arrays and objects inside each other; msgspec takes some 900
MAX_VALUES: Final = 100_000
MAX_SIZE: Final = 2 * 1_048_576  # room for a request or an answer of 1 MiB in base 64
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
_TOO_LARGE: Final = Excess("value too large", f"it may have at most {MAX_SIZE} characters as JSON")
_TOO_WIDE: Final = Excess(
    "integer out of range", f"an integer must be between {MIN_INTEGER} and {MAX_INTEGER}"
)
_NOT_FINITE: Final = Excess("number is not finite", "JSON has no NaN and no infinity")
_VALUE_CHARS: Final = 2  # the least that a value in an array or object takes, with its comma
_QUOTE_CHARS: Final = 2


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
    level: list[JSON] = [[value]]
    depth = size = 0
    count = -1  # the value itself is not one that it holds
    while level:
        if depth > MAX_DEPTH:
            return _TOO_DEEP
        depth += 1
        below: list[JSON] = []
        for outer in level:
            count += len(outer)
            if count > MAX_VALUES:
                return _TOO_MANY
            size += _VALUE_CHARS * len(outer)
            if type(outer) is dict or isinstance(outer, Mapping):
                for key in outer:
                    size += len(key) + _QUOTE_CHARS
                inner = outer.values()
            else:
                inner = outer
            for part in inner:
                kind = type(part)
                if kind is str:
                    size += len(part)
                elif kind is dict or kind is list:
                    below.append(part)
                elif part is not None and kind is not bool:
                    excess = _excess_of_other(part, below)
                    if excess is not None:
                        return excess
            if size > MAX_SIZE:
                return _TOO_LARGE
        level = below
    return None


def _excess_of_other(part: JSON, below: list[JSON]) -> Excess | None:
    """Check a number; put any other kind of container with those of the next level."""
    if isinstance(part, int):
        return None if MIN_INTEGER <= part <= MAX_INTEGER else _TOO_WIDE
    if isinstance(part, float):
        return None if part - part == 0.0 else _NOT_FINITE
    if isinstance(part, (Mapping, list, tuple)):
        below.append(part)
    return None
