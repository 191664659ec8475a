"""What the parts of a bounded jq program cost, in multiples of the size of their input.

The weights of builtins that jq itself writes in jq (`ascii_downcase`, `to_entries`, ...)
are higher: they were measured, see ADR 0003.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Final

# The most that a bounded expression may build, in multiples of the size of its data.
WORK_LIMIT: Final = 128
# `x * 3` repeats a string; a factor up to this may be written next to an unknown value.
MAX_REPEAT: Final = 16
# A literal of so many characters inside a loop counts as one more copy of the data.
LITERAL_CHARS: Final = 4

# name -> growth, a multiple of the input: weights of what jq defines in jq are higher.
PLAIN: Final = {
    "length": 1, "keys": 2, "tostring": 2, "tojson": 2, "tonumber": 1, "type": 1, "not": 1,
    "empty": 1, "add": 4, "any": 4, "all": 4, "first": 1, "last": 1, "ascii_downcase": 16,
    "ascii_upcase": 16, "min": 1, "max": 1, "sort": 4, "unique": 4, "to_entries": 8,
    "from_entries": 8, "floor": 1, "ceil": 1, "round": 1, "true": 1, "false": 1, "null": 1,
}  # fmt: skip
NUMERIC: Final = frozenset({"length", "tonumber", "floor", "ceil", "round"})
ONE_STRING: Final = {"contains": 2, "inside": 2, "index": 2, "join": 8, "split": 4, "has": 1}
ONE_VALUE: Final = frozenset({"startswith", "endswith", "ltrimstr", "rtrimstr"})
LOOPS: Final = {"map": 2, "any": 4, "all": 4, "sort_by": 8, "group_by": 8, "with_entries": 8}
COMPARISONS: Final = frozenset({"==", "!=", "<", "<=", ">", ">="})
SPLIT_GROWTH: Final = 4  # "ab" / "" is ["a","b"]


class Unbounded(Exception):
    """The program is outside of what this module can prove cheap."""


@dataclass(frozen=True, slots=True)
class Value:
    """What is known of a term: its size, and how it may be used."""

    growth: int = 1
    many: bool = False  # may give several outputs
    numeric: bool = False  # gives a number or fails
    literal: float | None = None  # a number as written
    foreign: bool = False  # a variable's value inside a loop: only good to be compared


def times(left: Value, right: Value) -> Value:
    """Return the cost of `left * right`; refuse what may repeat a string often."""
    if left.numeric and right.numeric:
        return Value(numeric=True)
    for number, other in ((left, right), (right, left)):
        if number.literal is not None and number.literal <= MAX_REPEAT:
            return Value(other.growth * max(1, ceil(number.literal)))
    raise Unbounded


def divide(left: Value, right: Value) -> Value:
    """Return the cost of `left / right` or `left % right`; `/` splits strings."""
    numeric = left.numeric or right.numeric
    return Value(1 if numeric else left.growth * SPLIT_GROWTH, numeric=numeric)
