"""Collects everything wrong in one document, so that its author mends it in one go."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from orchx.domain.json_values import JSON
from orchx.errors import InvalidDocument, UnsupportedFeature, Violation

MAX_VIOLATIONS: Final = 50
MAX_FOUND_CHARACTERS: Final = 60


def escape(token: str) -> str:
    """Return one reference token as RFC 6901 writes it: `/` as `~1`, `~` as `~0`."""
    return token.replace("~", "~0").replace("/", "~1")


def describe(value: JSON) -> str:
    """Return what stood there, in few words and never more than a line."""
    if isinstance(value, Mapping):
        return f"an object of {_number(len(value), 'property', 'properties')}"
    if isinstance(value, (list, tuple)):
        return f"an array of {_number(len(value), 'item', 'items')}"
    if isinstance(value, str):
        return json.dumps(shorten(value))
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, int):  # str() of a huge integer is refused by Python
        return str(value) if value.bit_length() <= 256 else "a very large integer"
    return shorten(repr(value))


def _number(count: int, one: str, many: str) -> str:
    return f"{count or 'no'} {one if count == 1 else many}"


def shorten(text: str) -> str:
    """Return `text`, cut to what fits into a message."""
    if len(text) <= MAX_FOUND_CHARACTERS:
        return text
    return text[: MAX_FOUND_CHARACTERS - 3] + "..."


class Report:
    """The violations found so far; `lines` maps JSON pointers to 1-based source lines.

    What is wrong and what is merely not supported are kept apart: an invalid document is
    reported as invalid, and only a valid one as unsupported. The same fault seen twice
    (a function that is called twice) is reported once.
    """

    def __init__(self, lines: Mapping[str, int] | None = None) -> None:
        self._lines = lines or {}
        self._invalid: dict[tuple[str, str], Violation] = {}
        self._unsupported: dict[tuple[str, str], Violation] = {}

    @property
    def is_full(self) -> bool:
        """Tell whether nothing more would be recorded as wrong, so that no message is needed."""
        return len(self._invalid) >= MAX_VIOLATIONS

    def invalid(
        self, pointer: str, message: str, *, found: str | None = None, expected: str | None = None
    ) -> None:
        """Record that what stands at `pointer` is wrong."""
        self._record(self._invalid, pointer, message, found, expected)

    def unsupported(self, pointer: str, feature: str) -> None:
        """Record that `pointer` uses valid DSL that this release does not run."""
        self._record(self._unsupported, pointer, f"{feature} is not supported", None, None)

    def raise_if_any(self) -> None:
        """Raise what was recorded.

        Raises:
            InvalidDocument: something is wrong.
            UnsupportedFeature: nothing is wrong, but something is not supported.
        """
        if self._invalid:
            detail = "The document is not a valid workflow"
            raise InvalidDocument(_counted(detail, self._invalid), tuple(self._invalid.values()))
        if self._unsupported:
            detail = "The document uses features that this release does not run"
            violations = tuple(self._unsupported.values())
            raise UnsupportedFeature(_counted(detail, self._unsupported), violations)

    def _record(
        self,
        into: dict[tuple[str, str], Violation],
        pointer: str,
        message: str,
        found: str | None,
        expected: str | None,
    ) -> None:
        key = (pointer, message)
        if key in into or len(into) >= MAX_VIOLATIONS:
            return
        into[key] = Violation(
            pointer=pointer,
            message=message,
            found=found,
            expected=expected,
            line=self._line(pointer),
        )

    def _line(self, pointer: str) -> int | None:
        # What is missing has no line; its nearest parent that is there does.
        while pointer and pointer not in self._lines:
            pointer = pointer.rpartition("/")[0]
        return self._lines.get(pointer)


def _counted(detail: str, violations: Mapping[tuple[str, str], Violation]) -> str:
    if len(violations) < MAX_VIOLATIONS:
        return f"{detail}:"
    return f"{detail} (the first {MAX_VIOLATIONS} violations):"
