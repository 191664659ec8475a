"""Typed access to a JSON document that knows where it stands and reports what is wrong.

Accessors never raise: a fault is recorded and a harmless placeholder returned, so that
parsing goes on and finds the next fault. `Report.raise_if_any` ends the parse.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from orchx.domain.document_report import Report, describe, escape, shorten
from orchx.domain.json_values import JSON

MAX_NAME_CHARACTERS: Final = 255
MAX_GUESSED_CHARACTERS: Final = 40  # difflib is quadratic


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One value of a document, at `pointer`."""

    value: JSON
    pointer: str
    report: Report

    def fail(self, message: str, *, expected: str | None = None) -> None:
        """Record that this value is wrong, and what it is."""
        self.report.invalid(self.pointer, message, found=describe(self.value), expected=expected)

    def child(self, key: str) -> Node | None:
        """Return the property `key`, or None where there is none (or no object)."""
        if not isinstance(self.value, Mapping) or key not in self.value:
            return None
        return self._at(key, self.value[key])

    def required(self, key: str) -> Node | None:
        """Return the property `key`; that an object lacks it is recorded."""
        if isinstance(self.value, Mapping) and key not in self.value:
            self.report.invalid(self.pointer, f"{key!r} is required but missing")
        return self.child(key)

    def entries(self) -> list[tuple[str, Node]]:
        """Return the properties in order; none when this is no object."""
        if not isinstance(self.value, Mapping):
            return []
        return [(key, self._at(key, value)) for key, value in self.value.items()]

    def items(self) -> list[Node]:
        """Return the items of an array; that it is none is recorded."""
        if not isinstance(self.value, (list, tuple)):
            self.fail("this must be an array", expected="an array")
            return []
        return [self._at(str(index), value) for index, value in enumerate(self.value)]

    def is_object(self, allowed: Collection[str] | None = None) -> bool:
        """Return whether this is an object; record it if not, and any property not `allowed`."""
        if not isinstance(self.value, Mapping):
            self.fail("this must be an object", expected="an object")
            return False
        if allowed is not None:
            for key in self.value:
                if key not in allowed:
                    self.unknown(key, allowed)
        return True

    def unknown(self, key: str, allowed: Collection[str], what: str = "property") -> None:
        """Record that `key` is not among the `allowed` names, with the nearest of them."""
        if self.report.is_full:
            return
        names = sorted(allowed)
        message = f"unknown {what} {shorten(key)!r}"
        if len(key) <= MAX_GUESSED_CHARACTERS:
            # Upper and lower case apart is the likeliest slip of all.
            lowered = {name.lower(): name for name in names}
            near = get_close_matches(key.lower(), list(lowered), n=1)
            if near:
                message += f"; did you mean {lowered[near[0]]!r}?"
        expected = "one of " + ", ".join(names) if names else None
        self.report.invalid(f"{self.pointer}/{escape(key)}", message, expected=expected)

    def text(self, *, empty: bool = False) -> str:
        """Return this string; that it is none, or empty, is recorded."""
        if not isinstance(self.value, str):
            hint = "; quote it" if isinstance(self.value, (int, float)) else ""
            self.fail(f"this must be a string{hint}", expected="a string")
            return ""
        if not self.value and not empty:
            self.fail("this must not be empty", expected="a non-empty string")
        return self.value

    def name(self) -> str:
        """Return this string, which must be usable as a name."""
        text = self.text()
        if text:
            self.check_name(text)
        return text

    def check_name(self, text: str) -> None:
        """Record it if `text`, the name of what stands here, is not printable or too long."""
        if not text or not text.isprintable() or len(text) > MAX_NAME_CHARACTERS:
            self.report.invalid(
                self.pointer,
                "this is not a usable name",
                found=describe(text),
                expected=f"1 to {MAX_NAME_CHARACTERS} printable characters",
            )

    def integer(self, *, minimum: int | None = None, maximum: int | None = None) -> int:
        """Return this integer; that it is none or out of range is recorded."""
        value = self.value
        if isinstance(value, float) and value.is_integer():  # JSON schema: 1.0 is an integer
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            self.fail("this must be an integer", expected=_range("an integer", minimum, maximum))
            return minimum or 0
        too_low = minimum is not None and value < minimum
        too_high = maximum is not None and value > maximum
        if too_low or too_high:
            expected = _range("an integer", minimum, maximum)
            self.fail("this number is out of range", expected=expected)
            return minimum or 0
        return value

    def boolean(self) -> bool:
        """Return this boolean; that it is none is recorded."""
        if not isinstance(self.value, bool):
            self.fail("this must be true or false", expected="true or false")
            return False
        return self.value

    def choice(self, choices: Collection[str]) -> str:
        """Return this string, one of `choices`; that it is none of them is recorded."""
        if not isinstance(self.value, str) or self.value not in choices:
            expected = "one of " + ", ".join(choices)
            self.fail("this is not one of the values that may stand here", expected=expected)
            return next(iter(choices))
        return self.value

    def exactly_one(self, keys: Collection[str]) -> str | None:
        """Return the one of `keys` that this object has; that it has none or more is recorded."""
        if not isinstance(self.value, Mapping):
            return None
        present = [key for key in keys if key in self.value]
        if len(present) == 1:
            return present[0]
        self.report.invalid(
            self.pointer,
            "exactly one of these properties is needed",
            found=", ".join(present) or "none of them",
            expected=", ".join(keys),
        )
        return None

    def _at(self, key: str, value: JSON) -> Node:
        return Node(value=value, pointer=f"{self.pointer}/{escape(key)}", report=self.report)


def _range(noun: str, minimum: int | None, maximum: int | None) -> str:
    if minimum is not None and maximum is not None:
        return f"{noun} from {minimum} to {maximum}"
    if minimum is not None:
        return f"{noun} of at least {minimum}"
    return noun
