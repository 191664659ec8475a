"""Reading JSON from strangers: strict, bounded, and never recursing beyond its limit.

RFC 8259 leaves open what duplicate keys, huge numbers and lone surrogates mean; stores and
other languages then disagree. Here they are refused (as RFC 7493, I-JSON, advises).
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final, NoReturn, TypeAlias

from orchx.errors import Violation
from orchx.serve.problems import HttpError, invalid_json, printable

INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1
MAX_INTEGER_CHARS: Final = 20  # more cannot be 64 bits
MAX_SHOWN_CHARS: Final = 60

# A string without end goes on to the end of the body, so that no byte is looked at twice.
_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_BRACKETS: Final = bytes.maketrans(b"{}", b"[]")
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))

# Where a value stands: in what, and under which key or index. The pointers of all values of a
# body can be thousands of times larger than the body, so one is made for a fault only.
_Place: TypeAlias = "tuple[_Place | None, str | int]"


class _Refused(Exception):
    """Carries the answer out of a hook of the `json` module."""

    def __init__(self, error: HttpError) -> None:
        super().__init__()
        self.error = error


def read_json(body: bytes, *, max_depth: int) -> Any:
    """Return the value that a body holds.

    Args:
        body: the whole body; its size is bounded before this.
        max_depth: how deep arrays and objects may nest.

    Raises:
        HttpError: 400, saying what is wrong and where as far as that is known.
    """
    if is_too_deep(body, max_depth):
        raise invalid_json(
            "the body is nested too deep",
            Violation(
                pointer="",
                message="is nested too deep",
                expected=f"at most {max_depth} levels of arrays and objects",
            ),
        )
    try:
        value = _decoder.decode(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise invalid_json(f"the body is not UTF-8 (byte {error.start})") from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        fault = Violation(pointer="", message=f"{error.msg} at {where}", line=error.lineno)
        raise invalid_json(f"the body is not JSON: {error.msg} at {where}", fault) from error
    except RecursionError as error:  # only if `max_depth` is set above what Python can take
        raise invalid_json("the body is nested too deep") from error
    except _Refused as refused:
        raise refused.error from None
    # NUL and lone surrogates can only come from escapes: raw ones are no JSON, or no UTF-8.
    if b"\\u" in body:
        check_strings(value)
    return value


def is_too_deep(body: bytes, max_depth: int) -> bool:
    """Tell whether arrays and objects nest deeper than `max_depth`, without recursion.

    Each pass removes the innermost brackets, in C, so that a hostile megabyte costs
    milliseconds: what has pairs left after `max_depth` passes is deeper. Brackets that
    match nothing are the parser's to refuse, unless they alone are too many to open.
    """
    if body.count(b"[") + body.count(b"{") <= max_depth:
        return False
    rest = _STRING.sub(b"", body).translate(_BRACKETS, _NOT_BRACKETS)
    for _ in range(max_depth):
        shorter = rest.replace(b"[]", b"")
        if shorter == rest:
            break
        rest = shorter
    return b"[]" in rest or rest.count(b"[") > max_depth


def check_strings(value: Any) -> None:
    """Refuse NUL characters and lone surrogates, which stores and encoders choke on.

    Args:
        value: JSON that nests no deeper than `read_json` lets pass: this recurses.

    Raises:
        HttpError: 400 with the pointer.
    """
    _check_strings(value, None)


def _check_strings(value: Any, place: _Place | None) -> None:
    if isinstance(value, str):
        _check_string(value, place)
    elif isinstance(value, dict):
        for key, member in value.items():
            below = (place, key)
            _check_string(key, below)
            if isinstance(member, (str, dict, list)):
                _check_strings(member, below)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            if isinstance(item, (str, dict, list)):
                _check_strings(item, (place, index))


def describe(value: Any) -> str:
    """Return a short text that shows a JSON value in an error message."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "an array"
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = type(value).__name__
    return printable(text, MAX_SHOWN_CHARS)


def pointer_to(*path: str | int) -> str:
    """Return the RFC 6901 pointer of a path of keys and indexes."""
    return "".join(f"/{_escape(str(part))}" for part in path)


def _escape(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def _check_string(text: str, place: _Place | None) -> None:
    if "\x00" in text:
        _raise(place, "contains the character NUL", "\\u0000", "text without NUL")
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            found = f"\\u{ord(text[error.start]):04x}"
            _raise(place, "contains half of a surrogate pair", found, "whole characters")


def _raise(place: _Place | None, message: str, found: str, expected: str) -> NoReturn:
    path: list[str | int] = []
    while place is not None:
        place, part = place
        path.append(part)
    pointer = pointer_to(*reversed(path))
    fault = Violation(pointer=pointer, message=message, found=found, expected=expected)
    raise invalid_json(f"a string {message}", fault)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    built = dict(pairs)
    if len(built) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                break
            seen.add(key)
        message = "an object has the same key twice"
        fault = Violation(
            pointer="", message=message, found=describe(key), expected="each key once"
        )
        raise _Refused(invalid_json(f"{message}: {describe(key)}", fault))
    return built


def _integer(literal: str) -> int:
    if len(literal) <= MAX_INTEGER_CHARS and INT64_MIN <= (number := int(literal)) <= INT64_MAX:
        return number
    raise _refused_number(literal, "an integer of 64 bits")


def _float(literal: str) -> float:
    number = float(literal)
    if math.isinf(number):
        raise _refused_number(literal, "a number that a double can hold")
    return number


def _constant(literal: str) -> NoReturn:
    raise _refused_number(literal, "a JSON number")


def _refused_number(literal: str, expected: str) -> _Refused:
    found = printable(literal, MAX_SHOWN_CHARS)
    fault = Violation(
        pointer="", message="is no number that can be kept", found=found, expected=expected
    )
    return _Refused(invalid_json(f"the body holds the number {found}; expected {expected}", fault))


_decoder: Final = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant
)
