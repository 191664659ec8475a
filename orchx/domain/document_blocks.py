"""A block: the list of named tasks in which `then` finds its targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeAlias

from orchx.domain.document import Block, Task
from orchx.domain.document_common import DIRECTIVES
from orchx.domain.document_context import Context, Place
from orchx.domain.document_reader import Node
from orchx.domain.document_report import escape, shorten

# Handed down instead of imported: a task holds blocks, and a block holds tasks.
TaskReader: TypeAlias = Callable[[str, Node, Place, Context], Task]


def read_block(
    node: Node | None,
    reference: str,
    parent: Place,
    context: Context,
    read_task: TaskReader,
    *,
    is_fork: bool = False,
) -> Block:
    """Return the block at `node`, which is referred to as `reference`.

    The branches of a fork (`is_fork`) run side by side: none can go on with another.
    """
    if node is None:
        return Block(reference=reference, tasks=(), position={})
    named = _named_tasks(node)
    targets = frozenset() if is_fork else frozenset(name for _, name, _ in named)
    place = replace(parent, depth=parent.depth + 1, targets=targets, is_branch=is_fork)
    tasks: list[Task] = []
    for index, name, task in named:
        here = replace(place, reference=f"{reference}/{index}/{escape(name)}")
        if not context.enter(task, here):
            break
        tasks.append(read_task(name, task, here, context))
    position = {task.name: index for index, task in enumerate(tasks)}
    return Block(reference=reference, tasks=tuple(tasks), position=position)


def _named_tasks(node: Node) -> list[tuple[int, str, Node]]:
    """Return index, name and definition of each task whose name can be used."""
    named: list[tuple[int, str, Node]] = []
    first: dict[str, str] = {}
    if isinstance(node.value, (list, tuple)) and not node.value:
        node.fail("a block needs at least one task")
    for index, item in enumerate(node.items()):
        if not item.is_object():
            continue
        if len(item.value) != 1:
            item.fail("a task is an object with one property, its name")
            continue
        name, task = item.entries()[0]
        task.check_name(name)
        if name in DIRECTIVES:
            item.fail(f"a task cannot be named {name!r}, which is a flow directive")
        if name in first:
            message = f"the name {name!r} is used twice in this block, first at {first[name]}"
            task.report.invalid(task.pointer, message)
            continue
        first[name] = task.pointer
        named.append((index, name, task))
    return named


def read_after(node: Node | None, block: Block) -> tuple[tuple[int, ...], ...]:
    """Return for each branch the branches that must have ended before it starts.

    They are named in the branch's own `metadata.orchx.after`. Unknown names, a branch
    that waits for itself and circles are recorded.
    """
    if node is None:
        return ()
    written = {name: task for _, name, task in _unchecked(node)}
    known = shorten(", ".join(block.position))
    after: list[tuple[int, ...]] = []
    for task in block.tasks:
        names = _after_node(written.get(task.name))
        waits: list[int] = []
        for name in [] if names is None else names.items():
            text = name.text()
            if text and text not in block.position:
                name.fail("there is no such branch", expected=f"one of {known}")
            elif text and block.position[text] not in waits:
                waits.append(block.position[text])
        after.append(tuple(waits))
    circle = _circle(after)
    if circle:
        names = _after_node(written.get(block.tasks[circle[0]].name))
        path = " -> ".join(block.tasks[index].name for index in (*circle, circle[0]))
        (names or node).fail(f"these branches wait for each other: {path}")
    return tuple(after)


def _unchecked(node: Node) -> list[tuple[int, str, Node]]:
    if not isinstance(node.value, (list, tuple)):
        return []
    return [
        (index, name, task)
        for index, item in enumerate(node.items())
        if isinstance(item.value, Mapping)
        for name, task in item.entries()
    ]


def _after_node(task: Node | None) -> Node | None:
    metadata = task.child("metadata") if task is not None else None
    own = metadata.child("orchx") if metadata is not None else None
    return own.child("after") if own is not None else None


def _circle(after: list[tuple[int, ...]]) -> list[int]:
    """Return one circle of branches that wait for each other, or nothing."""
    waiting = set(range(len(after)))
    while ready := {index for index in waiting if waiting.isdisjoint(after[index])}:
        waiting -= ready
    if not waiting:
        return []
    path = [min(waiting)]
    while True:  # everyone left waits for someone left, so this comes round
        step = next(index for index in after[path[-1]] if index in waiting)
        if step in path:
            return path[path.index(step) :]
        path.append(step)
