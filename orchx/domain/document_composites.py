"""Tasks that hold other tasks: `do`, `for`, `fork`, `try`, and a called document function."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from orchx.domain.document import (
    Block,
    Catch,
    DoTask,
    ErrorFilter,
    ForkTask,
    ForTask,
    SetTask,
    TryTask,
)
from orchx.domain.document_blocks import TaskReader, read_after, read_block
from orchx.domain.document_calls import NO_ARGUMENTS
from orchx.domain.document_common import CommonFields
from orchx.domain.document_components import WITH_NAME, read_retry
from orchx.domain.document_context import Context, Place
from orchx.domain.document_expressions import PLACEHOLDER
from orchx.domain.document_reader import Node
from orchx.domain.document_report import escape

ERROR_FILTER: Final = ("type", "status", "instance", "title", "detail", "details")
# What the DSL gives every expression; a loop or catch must not hide them.
RESERVED_VARIABLES: Final = frozenset(
    ("authorization", "context", "input", "output", "runtime", "secrets", "task", "workflow")
)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


def read_do(
    node: Node, common: CommonFields, place: Place, context: Context, read_task: TaskReader
) -> DoTask:
    """Return a `do` task; its block is `<task>/do`."""
    reference = f"{place.reference}/do"
    return DoTask(
        **common, block=read_block(node.required("do"), reference, place, context, read_task)
    )


def read_for(
    node: Node, common: CommonFields, place: Place, context: Context, read_task: TaskReader
) -> ForTask:
    """Return a `for` task; its body is `<task>/do`."""
    each, at, items = "item", "index", PLACEHOLDER
    loop = node.required("for")
    if loop is not None and loop.is_object(("each", "in", "at")):
        each = _read_variable(loop.child("each"), each)
        at = _read_variable(loop.child("at"), at)
        if each == at:
            loop.fail(f"the item and its index are both named {each!r}")
        collection = loop.required("in")
        items = PLACEHOLDER if collection is None else context.read.expression(collection)
    return ForTask(
        **common,
        each=each,
        at=at,
        items=items,
        while_=context.read.optional(node.child("while")),
        block=read_block(node.required("do"), f"{place.reference}/do", place, context, read_task),
    )


def read_fork(
    node: Node, common: CommonFields, place: Place, context: Context, read_task: TaskReader
) -> ForkTask:
    """Return a `fork` task; its branches are `<task>/fork/branches`."""
    reference = f"{place.reference}/fork/branches"
    fork = node.required("fork")
    if fork is None or not fork.is_object(("branches", "compete")):
        empty = Block(reference=reference, tasks=(), position={})
        return ForkTask(**common, branches=empty, after=())
    written = fork.required("branches")
    branches = read_block(written, reference, place, context, read_task, is_fork=True)
    compete = fork.child("compete")
    return ForkTask(
        **common,
        branches=branches,
        compete=compete is not None and compete.boolean(),
        after=read_after(written, branches),
    )


def read_try(
    node: Node, common: CommonFields, place: Place, context: Context, read_task: TaskReader
) -> TryTask:
    """Return a `try` task; its body is `<task>/try`, that of its catch `<task>/catch/do`."""
    reference = f"{place.reference}/try"
    return TryTask(
        **common,
        block=read_block(node.required("try"), reference, place, context, read_task),
        catch=_read_catch(node.required("catch"), place, context, read_task),
    )


def _read_catch(node: Node | None, place: Place, context: Context, read_task: TaskReader) -> Catch:
    allowed = ("errors", "as", "when", "exceptWhen", "retry", "do")
    if node is None or not node.is_object(allowed):
        return Catch()
    handler = node.child("do")
    reference = f"{place.reference}/catch/do"
    block = None
    if handler is not None:
        block = read_block(handler, reference, place, context, read_task)
    return Catch(
        errors=_read_error_filter(node.child("errors")),
        variable=_read_variable(node.child("as"), "error"),
        when=context.read.optional(node.child("when")),
        except_when=context.read.optional(node.child("exceptWhen")),
        retry=read_retry(node.child("retry"), context),
        block=block,
    )


def _read_error_filter(node: Node | None) -> ErrorFilter | None:
    """Return the filter, all of it constants; the schema says `details`, errors say `detail`."""
    if node is None or not node.is_object(("with",)):
        return None
    wanted = node.child("with")
    if wanted is None or not wanted.is_object(ERROR_FILTER):
        return None
    if not wanted.value:
        wanted.fail("a filter needs at least one member", expected=", ".join(ERROR_FILTER))
    texts: dict[str, str | None] = {}
    for key in ("type", "instance", "title", "detail", "details"):
        member = wanted.child(key)
        texts[key] = None if member is None else member.text()
    if texts["detail"] is not None and texts["details"] is not None:
        wanted.fail("`detail` and `details` are the same member")
    status = wanted.child("status")
    return ErrorFilter(
        type=texts["type"],
        status=None if status is None else status.integer(),
        instance=texts["instance"],
        title=texts["title"],
        detail=texts["detail"] if texts["details"] is None else texts["details"],
    )


def _read_variable(node: Node | None, default: str) -> str:
    if node is None:
        return default
    name = node.text()
    if name and not _VARIABLE.fullmatch(name):
        node.fail("this is not a variable's name", expected="letters, digits and _, without $")
    elif name in RESERVED_VARIABLES:
        node.fail(f"${name} already means something in every expression")
    return name


def read_function_call(
    node: Node, common: CommonFields, place: Place, context: Context, read_task: TaskReader
) -> DoTask:
    """Return the call of a document function as a block that runs the function's own task.

    The DSL: a function is a task, and a call's `with` are its arguments. So a call

        getPet: {call: getPetById, with: {petId: 69}, output: {as: .name}}

    becomes two tasks in a block, inside the caller's own `input`, `output`, `if`, ...:

        /do/0/getPet/call/0/with         sets the arguments, with the caller's data in scope
        /do/0/getPet/call/1/getPetById   the function's definition, the arguments its input

    Hence the function's `input.schema` checks the arguments, `.` and `$input` in it are
    the arguments and nothing of the caller's, and both `output.as` apply, the function's
    first. Without `with` the arguments are `{}`. The references belong to the call, so
    that two calls of one function are two tasks; violations point at `/use/functions`.
    """
    function = str(node.value["call"])
    arguments = node.child("with")
    template = NO_ARGUMENTS
    if arguments is not None and arguments.is_object():
        template = context.read.template(arguments)
    reference = f"{place.reference}/call"
    inside = replace(
        place,
        depth=place.depth + 1,
        targets=frozenset(),
        functions=(*place.functions, function),
        is_branch=False,
    )
    empty = DoTask(**common, block=Block(reference=reference, tasks=(), position={}))
    if function in place.functions:
        path = " -> ".join([*place.functions[place.functions.index(function) :], function])
        node.fail(f"a function calls itself: {path}")
        return empty
    if not place.expands:
        return empty
    setting = replace(inside, reference=f"{reference}/0/{WITH_NAME}")
    body = replace(inside, reference=f"{reference}/1/{escape(function)}")
    definition = context.functions[function]
    if not context.enter(node, setting) or not context.enter(definition, body):
        return empty
    given = {} if arguments is None else arguments.value
    set_task = SetTask(
        name=WITH_NAME,
        reference=setting.reference,
        definition={"set": given},
        value=template,
    )
    context.tasks[set_task.reference] = set_task
    task = read_task(function, definition, body, context)
    position = {WITH_NAME: 0, task.name: 1}
    block = Block(reference=reference, tasks=(set_task, task), position=position)
    return DoTask(**common, block=block)


def check_functions(context: Context, read_task: TaskReader) -> None:
    """Check every function of `use` by itself, called or not, without expanding its calls."""
    for name, node in context.functions.items():
        place = Place(reference=node.pointer, functions=(name,), expands=False)
        if context.enter(node, place) and isinstance(node.value, Mapping):
            read_task(name, node, place, context)
        elif not isinstance(node.value, Mapping):
            node.is_object()
    context.forget_tasks()
