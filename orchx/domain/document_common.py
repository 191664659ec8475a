"""What every task may have, whatever it does; and orchx's own metadata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypedDict

from orchx.domain.document import DataFlow, Duration, FlowDirective
from orchx.domain.document_context import Context, Place
from orchx.domain.document_data import read_data_flow, read_timeout
from orchx.domain.document_reader import Node
from orchx.domain.document_report import escape, shorten
from orchx.domain.document_unsupported import refuse_metadata
from orchx.domain.expressions import Expression
from orchx.domain.json_values import JSON

PROPERTIES: Final = ("if", "input", "output", "export", "timeout", "then", "metadata")
DIRECTIVES: Final = ("continue", "exit", "end")
METADATA_KEY: Final = "orchx"
METADATA: Final = ("after", "compensate", "isolation", "pool", "priority")
ISOLATION: Final = ("auto", "shared", "dedicated")


class CommonFields(TypedDict):
    """The members of `Task`."""

    name: str
    reference: str
    definition: Mapping[str, JSON]
    condition: Expression | None
    data: DataFlow
    timeout: Duration | None
    then: FlowDirective
    metadata: Mapping[str, JSON]


def read_common(name: str, node: Node, place: Place, context: Context) -> CommonFields:
    """Return what the task `name` at `node` has in common with every other."""
    metadata = node.child("metadata")
    if metadata is not None:
        check_metadata(metadata, is_branch=place.is_branch)
    then = node.child("then")
    return CommonFields(
        name=name,
        reference=place.reference,
        definition=node.value if isinstance(node.value, Mapping) else {},
        condition=context.read.optional(node.child("if")),
        data=read_data_flow(node, context),
        timeout=read_timeout(node.child("timeout"), context),
        then="continue" if then is None else read_directive(then, place),
        metadata={} if metadata is None else metadata.value,
    )


def read_directive(node: Node, place: Place) -> FlowDirective:
    """Return a flow directive: a word of the DSL or the name of a task in the same block."""
    directive = node.text()
    if not directive or directive in DIRECTIVES or directive in place.targets:
        return directive
    if place.is_branch:
        node.fail("a branch cannot go on with another branch", expected=", ".join(DIRECTIVES))
        return directive
    if node.report.is_full:
        return directive
    names = ", ".join([*DIRECTIVES, *sorted(place.targets)])
    node.fail("there is no such task in this block", expected=f"one of {shorten(names)}")
    return directive


def check_metadata(node: Node, *, is_branch: bool = False) -> None:
    """Check that metadata is an object, and that what orchx reads of it is well formed.

    Whatever others keep there is theirs; under `orchx` a slip would change how a
    workflow runs without a word, so it is refused.
    """
    if not node.is_object():
        return
    for key, _ in node.entries():
        if key.startswith(f"{METADATA_KEY}."):
            message = f"orchx's metadata is an object: write {METADATA_KEY}: {{...}}"
            node.report.invalid(f"{node.pointer}/{escape(key)}", message)
    own = node.child(METADATA_KEY)
    if own is None or not own.is_object(METADATA):
        return
    isolation = own.child("isolation")
    if isolation is not None:
        isolation.choice(ISOLATION)
    priority = own.child("priority")
    if priority is not None:
        priority.integer(minimum=0, maximum=9)
    refuse_metadata(own)
    after = own.child("after")
    if after is not None and not is_branch:
        after.fail("only a branch of a fork can come after others")
