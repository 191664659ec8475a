"""From an exception to one clear message and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import msgspec
import typer
from rich.markup import escape
from rich.text import Text

from orchx.cli.screen import errors_console
from orchx.errors import (
    Bug,
    CallerError,
    Forbidden,
    InvalidDocument,
    NotFound,
    OrchxError,
    Overloaded,
    TryLater,
    Unauthenticated,
    Unavailable,
    Violation,
)

OK: Final = 0
FAILED: Final = 1  # the workflow faulted or was cancelled; a check of `doctor` failed
USAGE: Final = 2
UNREACHABLE: Final = 3
REFUSED: Final = 4
STILL_RUNNING: Final = 5  # `--wait` ran out
INTERNAL: Final = 70  # EX_SOFTWARE of sysexits.h
INTERRUPTED: Final = 130  # 128 + SIGINT, as shells have it
CLOSED_PIPE: Final = 141  # 128 + SIGPIPE

DEBUG_VARIABLE: Final = "ORCHX_DEBUG"
SETTING: Final = "ORCHX_"  # how the names of settings begin
JSON_WANTED: Final = "orchx.json"  # in the context: errors shall be JSON too


class UsageError(Exception):
    """The command line, or a file that it names, is wrong; `hint` says what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@contextmanager
def handled(context: typer.Context) -> Iterator[None]:
    """Turn what is raised inside into a message on stderr and an exit code.

    With `ORCHX_DEBUG=1` in the environment, exceptions pass, and Python shows where.
    """
    try:
        yield
        sys.stdout.flush()
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        # What is still buffered must go nowhere, or Python complains at its end.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(CLOSED_PIPE) from None
    except (OrchxError, UsageError, OSError) as error:
        if _is_debugging():
            raise
        report(error, as_json=bool(context.meta.get(JSON_WANTED)))
        raise typer.Exit(exit_code_of(error)) from None
    except Exception as error:  # the edge of the process: nobody above could say more
        if _is_debugging() or not _is_surprise(error):
            raise
        report(error, as_json=bool(context.meta.get(JSON_WANTED)))
        raise typer.Exit(INTERNAL) from None


def exit_code_of(error: Exception) -> int:
    """Return the exit code that says whose turn it is."""
    if isinstance(error, Unavailable):
        return UNREACHABLE
    if isinstance(error, Bug):
        return INTERNAL
    if isinstance(error, OrchxError):
        return REFUSED
    return USAGE


def report(error: Exception, *, as_json: bool = False) -> None:
    """Say on stderr what is wrong, where, and what to do about it."""
    message, violations = _message_of(error)
    hint = _hint_for(error)
    key = _key_of(error)
    console = errors_console()
    if as_json:
        told = {
            "type": type(error).__name__,
            "message": message,
            "violations": [_as_json(violation) for violation in violations],
            "hint": hint,
        }
        document = {"error": told if key is None else {**told, "idempotencyKey": key}}
        print(msgspec.json.encode(document).decode(), file=sys.stderr)
        return
    console.print(f"[bold red]error:[/] {escape(message)}", highlight=False)
    for violation in violations:
        console.print(_line_of(violation))
    if hint:
        console.print(f"[dim]{escape(hint)}[/]", highlight=False)
    if key is not None:
        again = f"Sent again with --key {key}, it runs once, even if it has arrived this time."
        console.print(again, highlight=False, markup=False, soft_wrap=True)


def _message_of(error: Exception) -> tuple[str, tuple[Violation, ...]]:
    if isinstance(error, CallerError):
        return error.detail.rstrip(":"), error.violations
    if isinstance(error, OSError) and error.strerror:
        name = f": {error.filename}" if error.filename else ""
        return f"{error.strerror}{name}", ()
    if isinstance(error, (OrchxError, UsageError, OSError)):
        return str(error), ()
    return f"orchx has a bug: {type(error).__name__}: {error}", ()


def _key_of(error: Exception) -> str | None:
    """Return the key of a submission of which nobody knows whether it was taken."""
    if isinstance(error, OrchxError) and not isinstance(error, CallerError):
        return error.idempotency_key
    return None


def _hint_for(error: Exception) -> str:
    match error:
        case UsageError():
            return error.hint
        case Overloaded() | TryLater() if not isinstance(error, Unavailable):
            return f"The server is busy: try again in {error.retry_after_s:g} s."
        case Unavailable() if SETTING in str(error):  # one of the stores, not the server
            return "`orchx doctor` with the same environment looks for the cause."
        case Unavailable():
            return (
                "Is it running? `orchx up` starts one, --url or ORCHX_URL says where it is, "
                "`orchx doctor` looks for the cause."
            )
        case Unauthenticated():
            return "Give a key with --api-key or ORCHX_API_KEY; `orchx keys create` makes one."
        case Forbidden():
            return "`orchx keys create --scope …` makes a key that may."
        case InvalidDocument() | NotFound() | CallerError() | OSError():
            return ""
        case OrchxError():
            return ""
    return f"Set {DEBUG_VARIABLE}=1 to see where, and please report it."


def _line_of(violation: Violation) -> Text:
    where = violation.pointer or "/"
    line = Text("  ").append(where, style="cyan")
    if violation.line is not None:
        line.append(f" (line {violation.line})", style="cyan")
    line.append(f": {violation.message}")
    if violation.expected is not None:
        line.append(f"; expected {violation.expected}")
    if violation.found is not None:
        line.append(f", found {violation.found}")
    return line


def _as_json(violation: Violation) -> dict[str, str | int | None]:
    return {
        "pointer": violation.pointer,
        "message": violation.message,
        "found": violation.found,
        "expected": violation.expected,
        "line": violation.line,
    }


def _is_debugging() -> bool:
    return os.environ.get(DEBUG_VARIABLE, "") not in ("", "0")


def _is_surprise(error: Exception) -> bool:
    """Tell a bug from the exceptions by which typer itself ends a command."""
    return not type(error).__module__.startswith(("typer", "click"))
