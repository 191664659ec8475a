"""The settings from the environment; a wrong one is told by the variable that holds it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from typing import Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import SettingsError

from orchx.cli.failures import UsageError
from orchx.settings import Settings

_HINT: Final = "This setting comes from the environment: mend it there, or unset it."
_PREFIX: Final = "ORCHX"
_SEPARATOR: Final = "__"


def read_settings() -> Settings:
    """Return the environment's settings.

    Raises:
        UsageError: a variable holds what its setting cannot be.
    """
    try:
        return Settings()
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        told = [_told(fault) for fault in faults]
        raise UsageError("; ".join(told), _HINT) from error
    except SettingsError as error:
        names = " or ".join(_not_json(str(error))) or "a variable"
        raise UsageError(f"{names}: is not JSON, which a list or group has to be", _HINT) from error


def _told(fault: ErrorDetails) -> str:
    """Return a line for a fault; where settings contradict each other, the text names them."""
    if fault["type"] == "value_error":
        return fault["msg"].removeprefix("Value error, ")
    return f"{_variable_of(fault['loc'])}: {fault['msg']}"


def _variable_of(location: Sequence[str | int]) -> str:
    """Return the variable that a setting stands in: its own, or one with a group as JSON."""
    path = [part.upper() for part in location if isinstance(part, str)]
    given = {name.upper() for name in os.environ}
    names = [f"{_PREFIX}_{_SEPARATOR.join(path[:length])}" for length in range(len(path), 0, -1)]
    return next((name for name in names if name in given), names[0])


def _not_json(message: str) -> Iterator[str]:
    """Yield the variables that can be meant: pydantic names the outermost setting alone."""
    field = re.search(r'field "(\w+)"', message)
    outermost = f"{_PREFIX}_{field[1].upper()}" if field is not None else _PREFIX
    for name, value in sorted(os.environ.items()):
        if name.upper() == outermost or name.upper().startswith(outermost + _SEPARATOR):
            try:
                json.loads(value)
            except ValueError:
                yield name
