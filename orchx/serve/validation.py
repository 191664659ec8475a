"""What pydantic and JSON schemas find wrong, as violations with JSON pointers."""

from __future__ import annotations

from typing import Any, Final, TypeVar

import jsonschema_rs
from pydantic import BaseModel, ValidationError

from orchx.domain.json_values import JSON
from orchx.errors import InvalidDocument, InvalidRequest, Violation
from orchx.serve.json_body import describe, pointer_to
from orchx.serve.problems import printable

Model = TypeVar("Model", bound=BaseModel)

MAX_VIOLATIONS: Final = 50
MAX_EXPECTED_CHARS: Final = 200
# The linear-time engine: a schema's pattern must not be able to hang on an input.
_PATTERNS: Final = jsonschema_rs.RegexOptions()


def read_model(model: type[Model], value: JSON, *, pointer: str = "") -> Model:
    """Return a body as its model.

    Raises:
        InvalidRequest: with a violation for everything that is wrong.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        violations = violations_of(error, prefix=pointer)
        raise InvalidRequest(summary(violations), violations) from None


def violations_of(
    error: ValidationError, *, prefix: str = "", separator: str = "/"
) -> tuple[Violation, ...]:
    """Return what pydantic found; `prefix` goes before every pointer."""
    found: list[Violation] = []
    for fault in error.errors(include_url=False, include_context=False)[:MAX_VIOLATIONS]:
        pointer = pointer_to(*fault["loc"])
        missing = fault["type"] == "missing"
        message = fault["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
        found.append(
            Violation(
                pointer=prefix + (pointer if separator else pointer.removeprefix("/")),
                message=message,
                found=None if missing else describe(fault["input"]),
                expected=_expected(fault["type"], message),
            )
        )
    return tuple(found)


def summary(violations: tuple[Violation, ...]) -> str:
    """Return the one-line detail for a list of violations."""
    count = len(violations)
    first = f": {violations[0]}" if violations else ""
    return f"the request has {count} error{'' if count == 1 else 's'}{first}"


class InputSchema:
    """A definition's `input.schema`, compiled once.

    Raises:
        InvalidDocument: it is not a JSON schema that can be used here.
    """

    def __init__(self, document: JSON) -> None:
        try:
            self._validator = jsonschema_rs.validator_for(
                document, retriever=_never_fetch, pattern_options=_PATTERNS, mask="the value"
            )
        except (ValueError, TypeError) as error:
            fault = Violation(
                pointer="/input/schema/document",
                message=printable(str(error), MAX_EXPECTED_CHARS),
                expected="a JSON schema without outside references or look-around patterns",
            )
            raise InvalidDocument("the input schema cannot be used", (fault,)) from error

    def violations(self, value: JSON, *, pointer: str) -> tuple[Violation, ...]:
        """Return what is wrong with an input; empty if nothing is."""
        if self._validator.is_valid(value):
            return ()
        found: list[Violation] = []
        for error in self._validator.iter_errors(value):
            found.append(_schema_violation(error, pointer))
            if len(found) >= MAX_VIOLATIONS:
                break
        return tuple(found)


def _schema_violation(error: Any, pointer: str) -> Violation:
    rule = error.schema_path[-1] if error.schema_path else "schema"
    return Violation(
        pointer=pointer + pointer_to(*error.instance_path),
        message=printable(error.message, MAX_EXPECTED_CHARS),
        found=describe(error.instance),
        expected=f"what the definition's input schema says ({rule})",
    )


def _never_fetch(uri: str) -> JSON:
    raise ValueError(f"the schema refers to {uri}, which is outside of the document")


def _expected(kind: str, message: str) -> str:
    if kind == "missing":
        return "a value"
    if kind == "extra_forbidden":
        return "no such member"
    return printable(message.removeprefix("Input should be "), MAX_EXPECTED_CHARS)
