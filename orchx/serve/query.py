"""Query parameters: unknown ones and repeated ones are refused, not ignored."""

from __future__ import annotations

from typing import Any, Final, get_origin
from urllib.parse import parse_qsl

from pydantic import BaseModel, ValidationError

from orchx.errors import InvalidRequest, Violation
from orchx.serve.json_body import describe
from orchx.serve.validation import violations_of

MAX_PARAMETERS: Final = 50


def read_query(raw: bytes, model: type[BaseModel] | None) -> BaseModel | None:
    """Return the query string as the operation's model.

    Raises:
        InvalidRequest: a parameter is unknown, repeated or wrong.
    """
    if not raw:
        return None if model is None else model()
    given: dict[str, list[str]] = {}
    try:
        pairs = parse_qsl(
            raw.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=False,
            errors="strict",
            max_num_fields=MAX_PARAMETERS,
        )
    except ValueError as error:  # not ASCII, not UTF-8 once decoded, or too many
        raise InvalidRequest(
            f"the query string is not at most {MAX_PARAMETERS} parameters in percent-encoded UTF-8"
        ) from error
    for name, text in pairs:
        given.setdefault(name, []).append(text)
    fields = {} if model is None else _fields(model)
    violations = [
        _violation(name, "is not a parameter of this operation", describe(name), ", ".join(fields))
        for name in given
        if name not in fields
    ]
    values: dict[str, Any] = {}
    for name, texts in given.items():
        if any("\x00" in text for text in texts):
            violations.append(_violation(name, "contains the character NUL", None, "text"))
        elif fields.get(name):
            values[name] = texts
        elif len(texts) > 1 and name in fields:
            violations.append(_violation(name, "is given twice", str(len(texts)), "one value"))
        else:
            values[name] = texts[0]
    if not violations and model is not None:
        try:
            return model.model_validate(values)
        except ValidationError as error:
            violations.extend(violations_of(error, prefix="?", separator=""))
    if not violations:
        return None
    raise InvalidRequest("the query parameters are wrong", tuple(violations))


def _fields(model: type[BaseModel]) -> dict[str, bool]:
    """Return the parameters' names, and whether each may be repeated."""
    return {
        info.alias or name: get_origin(info.annotation) is tuple
        for name, info in model.model_fields.items()
    }


def _violation(name: str, message: str, found: str | None, expected: str) -> Violation:
    return Violation(
        pointer=f"?{name}", message=message, found=found, expected=expected or "no parameters"
    )
