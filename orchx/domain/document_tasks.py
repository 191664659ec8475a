"""Every task type: which one is meant, and the simple ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from orchx.domain.document import (
    RaiseTask,
    SetTask,
    SwitchCase,
    SwitchTask,
    Task,
    WaitTask,
)
from orchx.domain.document_calls import read_call, read_run
from orchx.domain.document_common import PROPERTIES, CommonFields, read_common, read_directive
from orchx.domain.document_components import read_error
from orchx.domain.document_composites import (
    read_do,
    read_for,
    read_fork,
    read_function_call,
    read_try,
)
from orchx.domain.document_context import Context, Place
from orchx.domain.document_durations import read_duration
from orchx.domain.document_events import read_emit, read_listen
from orchx.domain.document_reader import Node
from orchx.domain.expressions import Template

TYPES: Final[dict[str, tuple[str, ...]]] = {
    "call": ("call", "with"),
    "do": ("do",),
    "emit": ("emit",),
    "for": ("for", "while", "do"),
    "fork": ("fork",),
    "listen": ("listen", "foreach"),
    "raise": ("raise",),
    "run": ("run",),
    "set": ("set",),
    "switch": ("switch",),
    "try": ("try", "catch"),
    "wait": ("wait",),
}
NOTHING: Final = Template(constant=None, expression=None)


def read_task(name: str, node: Node, place: Place, context: Context) -> Task:
    """Return the task `name` at `node`, and remember it under its reference."""
    task = _read_task(name, node, place, context)
    context.tasks[place.reference] = task
    return task


def _read_task(name: str, node: Node, place: Place, context: Context) -> Task:
    kind = _kind(node)
    common = read_common(name, node, place, context)
    match kind:
        case "call":
            called = node.value["call"]
            if isinstance(called, str) and called in context.functions:
                return read_function_call(node, common, place, context, read_task)
            return read_call(node, common, context)
        case "do":
            return read_do(node, common, place, context, read_task)
        case "emit":
            return read_emit(node, common, context)
        case "for":
            return read_for(node, common, place, context, read_task)
        case "fork":
            return read_fork(node, common, place, context, read_task)
        case "listen":
            return read_listen(node, common, context)
        case "raise":
            return _read_raise(node, common, context)
        case "run":
            return read_run(node, common, context)
        case "set":
            return _read_set(node, common, context)
        case "switch":
            return _read_switch(node, common, place, context)
        case "try":
            return read_try(node, common, place, context, read_task)
        case "wait":
            duration = read_duration(node.required("wait"), context.read)
            return WaitTask(**common, duration=duration)
        case _:
            return Task(**common)


def _kind(node: Node) -> str | None:
    """Return which type of task this is; record none, several, or properties it has not."""
    if not node.is_object():
        return None
    present = [kind for kind in TYPES if kind in node.value]
    if "for" in present and "do" in present:
        present.remove("do")  # a loop's body
    if len(present) == 1:
        node.is_object((*TYPES[present[0]], *PROPERTIES))
        return present[0]
    node.report.invalid(
        node.pointer,
        "a task needs exactly one property that says what it does",
        found=", ".join(present) or "none of them",
        expected="one of " + ", ".join(TYPES),
    )
    if not present:  # it may be mistyped
        known = {name for names in TYPES.values() for name in names}.union(PROPERTIES)
        for key in node.value:
            if key not in known:
                node.unknown(key, TYPES)
    return None


def _read_set(node: Node, common: CommonFields, context: Context) -> SetTask:
    value = node.required("set")
    if value is None:
        return SetTask(**common, value=NOTHING)
    if value.value == {}:
        value.fail("there is nothing to set")
    return SetTask(**common, value=context.read.transformation(value))


def _read_raise(node: Node, common: CommonFields, context: Context) -> RaiseTask:
    holder = node.required("raise")
    error: Node | None = None
    if holder is not None and holder.is_object(("error",)):
        error = holder.required("error")
    if error is None:
        return RaiseTask(**common, error=NOTHING)
    if not isinstance(error.value, str):
        return RaiseTask(**common, error=read_error(error, context))
    if error.value not in context.errors:
        context.unknown_reference(error, "errors")
    return RaiseTask(**common, error=context.errors.get(error.value, NOTHING))


def _read_switch(node: Node, common: CommonFields, place: Place, context: Context) -> SwitchTask:
    switch = node.required("switch")
    if switch is None:
        return SwitchTask(**common, cases=())
    if switch.value == []:
        switch.fail("a switch needs at least one case")
    cases: dict[str, SwitchCase] = {}
    default: str | None = None
    for item in switch.items():
        if not item.is_object():
            continue
        if not isinstance(item.value, Mapping) or len(item.value) != 1:
            item.fail("a case is an object with one property, its name")
            continue
        name, case = item.entries()[0]
        case.check_name(name)
        if name in cases:
            case.report.invalid(case.pointer, f"the case {name!r} stands twice in this switch")
        if not case.is_object(("when", "then")):
            continue
        when = context.read.optional(case.child("when"))
        then = case.required("then")
        if case.child("when") is None:
            if default is not None:
                message = f"a switch has one default case at most, and {default!r} is one already"
                case.report.invalid(case.pointer, message)
            default = name
        directive = "continue" if then is None else read_directive(then, place)
        cases[name] = SwitchCase(name=name, when=when, then=directive)
    return SwitchTask(**common, cases=tuple(cases.values()))
