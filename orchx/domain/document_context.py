"""What the readers of one document share while it is being parsed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from orchx.domain.document import Duration, RetryPolicy, Task
from orchx.domain.document_expressions import ExpressionReader
from orchx.domain.document_limits import MAX_TASK_DEPTH, MAX_TASKS
from orchx.domain.document_reader import Node
from orchx.domain.document_report import Report
from orchx.domain.expressions import Template


@dataclass(slots=True, kw_only=True)
class Context:
    """One parse: its report, its expressions, its reusable components, the tasks found so far."""

    report: Report
    use: Node
    read: ExpressionReader = field(default_factory=ExpressionReader)
    errors: dict[str, Template] = field(default_factory=dict)
    retries: dict[str, RetryPolicy] = field(default_factory=dict)
    timeouts: dict[str, Duration] = field(default_factory=dict)
    functions: dict[str, Node] = field(default_factory=dict)
    tasks: dict[str, Task] = field(default_factory=dict)  # by reference
    _entered: int = 0

    def enter(self, node: Node, place: Place) -> bool:
        """Return whether one more task fits at `place`; record it if not."""
        if place.depth > MAX_TASK_DEPTH:
            message = f"tasks are nested more than {MAX_TASK_DEPTH} levels deep"
            self.report.invalid(node.pointer, message)
            return False
        self._entered += 1
        if self._entered > MAX_TASKS:
            message = f"the document has more than {MAX_TASKS} tasks, its function calls expanded"
            self.report.invalid("", message)
            return False
        return True

    def forget_tasks(self) -> None:
        """Forget the tasks found so far: they were only checked, and will not run."""
        self.tasks.clear()
        self._entered = 0

    def declared(self, component: str) -> Mapping[str, object]:
        """Return the reusable components of one kind as they stand in the document."""
        declared = self.use.child(component)
        if declared is None or not isinstance(declared.value, Mapping):
            return {}
        return declared.value

    def unknown_reference(self, node: Node, component: str, hint: str = "") -> None:
        """Record that `node` names a reusable component that is not declared."""
        names = ", ".join(sorted(self.declared(component)))
        node.fail(
            f"there is no such name in use.{component}{hint}",
            expected=f"one of {names}" if names else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where in the running workflow a task stands, which is not always where it is written.

    `reference` names the task; `targets` are the names that its `then` may give beside
    the directives; `functions` are the reusable functions being expanded around it.
    `expands` is false while a function is checked by itself, apart from any call.
    """

    reference: str
    depth: int = 1
    targets: frozenset[str] = frozenset()
    functions: tuple[str, ...] = ()
    expands: bool = True
    is_branch: bool = False
