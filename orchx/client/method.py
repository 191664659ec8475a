"""Makes a client's method look like the operation that it carries out."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import update_wrapper
from typing import Any, TypeVar

M = TypeVar("M", bound=Callable[..., Any])


def as_method(method: M, operation: Callable[..., Any]) -> M:
    """Give `method` the operation's name, documentation and, after `self`, its parameters."""
    update_wrapper(method, operation)
    # update_wrapper points inspect at the operation, which has no `self` to leave out.
    del method.__wrapped__  # type: ignore[attr-defined]
    signature = inspect.signature(operation)
    receiver = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    parameters = [receiver, *signature.parameters.values()]
    method.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=parameters, return_annotation=inspect.Signature.empty
    )
    return method
