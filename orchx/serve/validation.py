"""What pydantic and JSON schemas find wrong, as violations with JSON pointers."""

from __future__ import annotations

from itertools import islice
from typing import Any, Final, TypeVar

import jsonschema_rs
from pydantic import BaseModel, ValidationError

from orchx.adapters.input_schema import compile_input_schema
from orchx.domain.json_values import JSON
from orchx.errors import InvalidRequest, Violation
from orchx.serve.json_body import describe, pointer_to
from orchx.serve.problems import printable

Model = TypeVar("Model", bound=BaseModel)

MAX_VIOLATIONS: Final = 50
# An input of more is told its first fault only.
MAX_EXPLAINED_VALUES: Final = 1_000
MAX_EXPLAINED_POINTER_CHARS: Final = 100_000  # of the JSON pointers of all values together
MAX_EXPECTED_CHARS: Final = 200


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
        self._validator = compile_input_schema(document)

    def violations(self, value: JSON, *, pointer: str) -> tuple[Violation, ...]:
        """Return what is wrong with an input, in the schema's order; empty if nothing is."""
        if self._validator.is_valid(value):
            return ()
        # `iter_errors` makes all errors at once, each with its path: of a body's megabyte, that
        # was a gigabyte. `validate` stops at the first.
        if not _can_be_explained(value):
            try:
                self._validator.validate(value)
            except jsonschema_rs.ValidationError as error:
                return (_schema_violation(error, pointer),)
        errors = islice(self._validator.iter_errors(value), MAX_VIOLATIONS)
        return tuple(_schema_violation(error, pointer) for error in errors)


def _can_be_explained(value: JSON) -> bool:
    """Tell whether an input has few values, and short pointers to them."""
    values = characters = 0
    pending: list[tuple[int, JSON]] = [(0, value)]
    while pending:
        above, node = pending.pop()
        if not isinstance(node, (dict, list)):
            continue
        values += len(node)
        if values > MAX_EXPLAINED_VALUES:
            return False
        for key, member in node.items() if isinstance(node, dict) else enumerate(node):
            length = above + 1 + len(str(key))
            characters += length
            pending.append((length, member))
        if characters > MAX_EXPLAINED_POINTER_CHARS:
            return False
    return True


def _schema_violation(error: Any, pointer: str) -> Violation:
    rule = error.schema_path[-1] if error.schema_path else "schema"
    return Violation(
        pointer=pointer + pointer_to(*error.instance_path),
        message=printable(error.message, MAX_EXPECTED_CHARS),
        found=describe(error.instance),
        expected=f"what the definition's input schema says ({rule})",
    )


def _expected(kind: str, message: str) -> str:
    if kind == "missing":
        return "a value"
    if kind == "extra_forbidden":
        return "no such member"
    return printable(message.removeprefix("Input should be "), MAX_EXPECTED_CHARS)
