"""The commonest expressions without jq: `.`, `.a.b`, `$x`, `$context.a`, and templates of these.

A plan gives exactly what jq gives (a property test compares the two), in well under a
microsecond instead of some twenty. It copies nothing: results share their parts with the
data, so values that flow through a workflow are never changed in place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from orchx.domain.jq_programs import expression_fault, undefined_variable
from orchx.domain.json_values import JSON

_PATH: Final = re.compile(
    r"\s*(?:\.|(?P<variable>\$[A-Za-z_][A-Za-z0-9_]*)?(?P<fields>(?:\s*\.[A-Za-z_][A-Za-z0-9_]*)*))\s*",
    re.ASCII,
)
_MISSING: Final = object()


@dataclass(frozen=True, slots=True)
class PathPlan:
    """Start at `.` (or at a variable) and go down by name."""

    variable: str | None
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ConstantPlan:
    """Give a value that is known."""

    value: JSON


@dataclass(frozen=True, slots=True)
class ObjectPlan:
    """Build an object; the keys are known."""

    members: tuple[tuple[str, Plan], ...]


@dataclass(frozen=True, slots=True)
class ArrayPlan:
    """Build an array."""

    items: tuple[Plan, ...]


Plan: TypeAlias = "PathPlan | ConstantPlan | ObjectPlan | ArrayPlan"


def path_plan(source: str) -> PathPlan | None:
    """Return the plan of a source that is nothing but a path, else None."""
    match = _PATH.fullmatch(source)
    if match is None or not source.strip():
        return None
    variable, fields = match["variable"], match["fields"] or ""
    names = tuple(name.strip() for name in fields.split(".")[1:])
    return PathPlan(variable[1:] if variable else None, names)


def run_plan(plan: Plan, data: JSON, variables: Mapping[str, JSON]) -> JSON:
    """Return what the plan gives for the data.

    Raises:
        WorkflowFault: a variable is not given, or something is indexed that cannot be.
    """
    if isinstance(plan, PathPlan):
        return _follow(plan, data, variables)
    if isinstance(plan, ConstantPlan):
        return plan.value
    if isinstance(plan, ObjectPlan):
        return {key: run_plan(member, data, variables) for key, member in plan.members}
    return [run_plan(item, data, variables) for item in plan.items]


def _follow(plan: PathPlan, data: JSON, variables: Mapping[str, JSON]) -> JSON:
    value = data
    if plan.variable is not None:
        value = variables.get(plan.variable, _MISSING)
        if value is _MISSING:
            raise undefined_variable(plan.variable)
    for name in plan.names:
        if value is None:
            return None
        if not isinstance(value, Mapping):
            what = f'Cannot index {_kind(value)} with string ("{name}")'
            raise expression_fault("Expression failed", what)
        value = value.get(name)
    return value


def _kind(value: JSON) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    return "string" if isinstance(value, str) else "array"
