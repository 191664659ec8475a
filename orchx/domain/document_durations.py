"""Lengths of time in the DSL's three forms: ISO 8601, an object of units, an expression."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Decimal
from typing import Final

from orchx.domain.document import Duration
from orchx.domain.document_expressions import ExpressionReader, is_expression
from orchx.domain.document_reader import Node

MS_PER_UNIT: Final = {
    "days": 86_400_000,
    "hours": 3_600_000,
    "minutes": 60_000,
    "seconds": 1_000,
    "milliseconds": 1,
}
MAX_DURATION_MS: Final = 100 * 365 * MS_PER_UNIT["days"]  # a century is a typing error
MAX_ISO_CHARACTERS: Final = 64
PLACEHOLDER: Final = Duration(constant_ms=0)

_NUMBER = r"(\d+(?:\.\d+)?)"
# The schema's own pattern, one group per unit.
_ISO = re.compile(
    rf"P(?!$)(?:{_NUMBER}Y)?(?:{_NUMBER}M)?(?:{_NUMBER}W)?(?:{_NUMBER}D)?"
    rf"(?:T(?=\d)(?:{_NUMBER}H)?(?:{_NUMBER}M)?(?:{_NUMBER}S)?)?",
    re.ASCII,
)
_EXPECTED = "an ISO 8601 duration such as PT1H30M, an object such as {minutes: 90}, or ${ ... }"


def iso8601_ms(text: str) -> int:
    """Return the milliseconds of an ISO 8601 duration, rounded half up.

    Years and months have no fixed length and are refused.

    Raises:
        ValueError: `text` is no duration, has years or months, or is over a century.
    """
    match = _ISO.fullmatch(text) if len(text) <= MAX_ISO_CHARACTERS else None
    if match is None:
        raise ValueError("this is not an ISO 8601 duration")
    years, months, weeks, days, hours, minutes, seconds = match.groups()
    if years is not None or months is not None:
        raise ValueError("years and months have no fixed length; give weeks or days")
    total = Decimal(weeks or 0) * 7 * MS_PER_UNIT["days"]
    for unit, number in (("days", days), ("hours", hours), ("minutes", minutes)):
        total += Decimal(number or 0) * MS_PER_UNIT[unit]
    total += Decimal(seconds or 0) * MS_PER_UNIT["seconds"]
    if total > MAX_DURATION_MS:
        raise ValueError("this is more than a century")
    return int(total.to_integral_value(rounding=ROUND_HALF_UP))


def read_duration(node: Node | None, read: ExpressionReader, *, positive: bool = False) -> Duration:
    """Return the duration at `node`; `positive` refuses a constant of zero."""
    if node is None:
        return PLACEHOLDER
    duration = _read_duration(node, read)
    if positive and duration.constant_ms == 0 and duration is not PLACEHOLDER:
        node.fail("this must be longer than nothing", expected="a duration above zero")
    return duration


def optional_duration(
    node: Node | None, read: ExpressionReader, *, positive: bool = False
) -> Duration | None:
    """Return the duration at `node`, or None where there is none."""
    return None if node is None else read_duration(node, read, positive=positive)


def _read_duration(node: Node, read: ExpressionReader) -> Duration:
    if isinstance(node.value, str):
        if is_expression(node.value):
            return Duration(expression=read.expression(node))
        try:
            return Duration(constant_ms=iso8601_ms(node.value))
        except ValueError as error:
            node.fail(str(error), expected=_EXPECTED)
            return PLACEHOLDER
    if not isinstance(node.value, Mapping):
        node.fail("this is not a duration", expected=_EXPECTED)
        return PLACEHOLDER
    return _read_units(node)


def _read_units(node: Node) -> Duration:
    node.is_object(MS_PER_UNIT)
    if not node.value:
        node.fail("a duration needs at least one unit", expected=", ".join(MS_PER_UNIT))
        return PLACEHOLDER
    total_ms = 0
    for unit, ms in MS_PER_UNIT.items():
        number = node.child(unit)
        if number is not None:
            total_ms += number.integer(minimum=0, maximum=MAX_DURATION_MS // ms) * ms
    if total_ms > MAX_DURATION_MS:
        node.fail("this is more than a century")
        return PLACEHOLDER
    return Duration(constant_ms=total_ms)
