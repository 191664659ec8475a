"""Every part of the DSL that is valid but not run by this release, each refused in one place.

To support one, replace its refusal by a reader that returns the model's values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from orchx.domain.document_reader import Node

USE: Final = ("authentications", "secrets", "extensions", "catalogs")
CALLS: Final = ("asyncapi", "grpc", "mcp", "a2a")
PROCESSES: Final = ("container", "script", "shell")
METADATA: Final = ("compensate", "pool")
SCHEDULE: Final = ("every", "cron", "after", "on")


def refuse_use(use: Node) -> None:
    """Refuse what `use` declares and this release does not resolve; an empty list is nothing."""
    for key in USE:
        declared = use.child(key)
        if declared is None:
            continue
        if not isinstance(declared.value, (Mapping, list, tuple)):
            declared.fail("this must be an object or an array")
        elif declared.value:
            declared.report.unsupported(declared.pointer, f"use.{key}")


def refuse_metadata(own: Node) -> None:
    """Refuse what orchx will read of its own metadata one day: accepted, it would do nothing."""
    for key in METADATA:
        wanted = own.child(key)
        if wanted is not None:
            wanted.report.unsupported(wanted.pointer, f"metadata.orchx.{key}")


def refuse_schedule(schedule: Node | None) -> None:
    """Refuse to start workflows on a schedule or on events."""
    if schedule is not None and schedule.is_object(SCHEDULE):
        schedule.report.unsupported(schedule.pointer, "a schedule")


def refuse_evaluation(evaluate: Node | None) -> None:
    """Refuse expressions in other languages than jq, and the loose mode."""
    if evaluate is None or not evaluate.is_object(("language", "mode")):
        return
    language = evaluate.child("language")
    if language is not None and language.text() not in ("", "jq"):
        language.report.unsupported(language.pointer, "an expression language other than jq")
    mode = evaluate.child("mode")
    if mode is not None and mode.choice(("strict", "loose")) == "loose":
        mode.report.unsupported(mode.pointer, "the loose evaluation mode")


def refuse_authentication(holder: Node) -> None:
    """Refuse the authentication policy of an endpoint or call, where there is one."""
    authentication = holder.child("authentication")
    if authentication is not None:
        authentication.report.unsupported(authentication.pointer, "authentication")


def refuse_call(function: str, call: Node) -> None:
    """Refuse a call over a protocol that this release does not speak."""
    call.report.unsupported(call.pointer, f"call: {function}")


def refuse_cataloged_function(call: Node) -> None:
    """Refuse a function that is fetched from a URL or from a DSL catalog."""
    call.report.unsupported(call.pointer, "a function from a URL or a DSL catalog")


def refuse_process(kind: str, process: Node) -> None:
    """Refuse to run a container, a script or a shell command."""
    process.report.unsupported(process.pointer, f"run: {kind}")


def refuse_listen_extras(task: Node, to: Node | None) -> None:
    """Refuse to go on listening after the first match: `foreach` and `until`."""
    foreach = task.child("foreach")
    if foreach is not None:
        foreach.report.unsupported(foreach.pointer, "listen.foreach")
    until = to.child("until") if to is not None else None
    if until is not None:
        until.report.unsupported(until.pointer, "listen.to.any.until")


def refuse_schema(schema: Node, reason: str) -> None:
    """Refuse a schema that is fetched, or in another language than JSON schema."""
    schema.report.unsupported(schema.pointer, reason)
