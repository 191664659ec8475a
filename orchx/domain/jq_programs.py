"""The one place that calls jq: programs as text in, JSON text in, JSON text out.

A program ends in `tojson`, and data goes in as text: twice as fast as letting the binding
convert values, and numbers that a program only passes on keep every digit (jq computes
with doubles: beyond 2**53 the result of arithmetic is rounded).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import jq
import msgspec

from orchx.domain.faults import EXPRESSION, WorkflowFault, standard
from orchx.domain.jq_tokens import ExpressionSyntaxError, Token
from orchx.domain.json_values import JSON

PROGRAM_CACHE_SIZE: Final = 1_024  # compiled programs; one takes some 15 KB and 1 ms
MAX_DETAIL_CHARS: Final = 500  # of jq's message: it may quote the data
_DATA: Final = "__data"  # expressions cannot name it: `$__...` is refused

_COMPILE_ERROR = re.compile(r"jq: error: (.*?) at <top-level>(?:, line (\d+), column (\d+))?", re.S)
_UNDEFINED = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*) is not defined")


def expression_fault(title: str, detail: str | None = None) -> WorkflowFault:
    """Return the DSL's expression error (400), ready to be raised."""
    if detail is not None and len(detail) > MAX_DETAIL_CHARS:
        detail = detail[:MAX_DETAIL_CHARS] + "..."
    return WorkflowFault(standard(EXPRESSION, title, detail=detail))


def program_text(source: str, variables: Iterable[str]) -> str:
    """Return the program that binds the variables from its input and runs `source`."""
    names = sorted(variables)
    if not names:
        return f"(\n{source}\n) | tojson"
    bound = ", ".join(f'"{name}": ${name}' for name in names)
    return f". as {{{bound}}} | .{_DATA} | (\n{source}\n) | tojson"


def unfolded(source: str, tokens: list[Token]) -> str:
    """Return the program, changed so that jq cannot repeat a string while it compiles.

    jq folds `"x" * 1000000000` at compile time, which no sandbox limits. The factor is
    written so that it is no constant for jq, and the program means the same.
    """
    kinds = {token.kind for token in tokens}
    if not kinds & {"string", "string_open"} or all(token.text != "*" for token in tokens):
        return source
    kept: list[str] = []
    at = 0
    for token in tokens:
        if token.kind == "number":
            kept.append(source[at : token.start])
            kept.append(f"(if . then {token.text} else {token.text} end)")
            at = token.start + len(token.text)
    return "".join([*kept, source[at:]])


@lru_cache(maxsize=PROGRAM_CACHE_SIZE)
def _compiled(program: str) -> Any:
    return jq.compile(program)


def check(source: str, variables: frozenset[str], doubtful: frozenset[str]) -> frozenset[str]:
    """Compile a source and return the variables it needs from outside.

    `doubtful` are names that the source binds somewhere: jq decides whether it also uses
    them where they are not bound.

    Raises:
        ExpressionSyntaxError: with jq's message, and its line and column in the source.
    """
    try:
        _compiled(program_text(source, variables))
    except ValueError as error:
        message = str(error)
        missing = frozenset(_UNDEFINED.findall(message)) & doubtful
        if missing:
            return check(source, variables | missing, doubtful - missing)
        raise ExpressionSyntaxError(_readable(message)) from error
    return variables


def _readable(message: str) -> str:
    match = _COMPILE_ERROR.search(message)
    if match is None:
        return message.strip()[:MAX_DETAIL_CHARS]
    what, line, column = match.groups()
    what = what.strip()[:MAX_DETAIL_CHARS]
    return what if line is None else f"{what} at line {max(1, int(line) - 1)}, column {column}"


def _plain(value: object) -> object:
    """Turn the abstract containers that JSON admits into what msgspec encodes."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence):
        return list(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


_encoder = msgspec.json.Encoder(enc_hook=_plain)
_decoder = msgspec.json.Decoder()


def encode_input(data: JSON, variables: Mapping[str, JSON], names: frozenset[str]) -> bytes:
    """Return what the program of `program_text` reads, as JSON.

    Raises:
        WorkflowFault: a variable that is needed is not given, or a value is not JSON.
    """
    if not names:
        return _encode(data)
    missing = sorted(name for name in names if name not in variables)
    if missing:
        raise undefined_variable(missing[0])
    return _encode({_DATA: data, **{name: variables[name] for name in names}})


def undefined_variable(name: str) -> WorkflowFault:
    """Return the fault for a variable that is not available where the expression stands."""
    return expression_fault("Undefined variable", f"${name} is not available here")


def _encode(value: JSON) -> bytes:
    try:
        return _encoder.encode(value)
    except RecursionError:
        raise expression_fault("Expression input is nested too deeply") from None
    except (TypeError, ValueError, OverflowError, msgspec.MsgspecError) as error:
        raise expression_fault("Expression input is not JSON", str(error)) from error


def decode_output(text: str | bytes) -> JSON:
    """Return the value of JSON text that jq wrote.

    Raises:
        WorkflowFault: it is nested too deeply, or has a number that no double holds.
    """
    try:
        return _decoder.decode(text)
    except RecursionError:
        raise expression_fault("Expression result is nested too deeply") from None
    except (ValueError, msgspec.MsgspecError) as error:
        raise expression_fault("Expression result is not JSON", str(error)) from error


def run(program: str, data: bytes) -> str | None:
    """Run a program in this process; return the JSON text of its first output, or None.

    Raises:
        WorkflowFault: the program failed.
    """
    try:
        output: str | None = next(iter(_compiled(program).input_text(data.decode())), None)
    except ValueError as error:
        raise expression_fault("Expression failed", str(error)) from error
    return output
