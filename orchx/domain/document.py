"""A workflow document as typed, immutable values: what the parser makes and the core runs.

Source: CNCF Serverless Workflow DSL 1.0.3. One class per task type; every task knows its
`reference`, the JSON pointer that the standard uses to name it (`/do/0/getPet`).
Parsing and validation live in `document_parser`; nothing here evaluates anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, TypeVar

from orchx.domain.expressions import Expression, Template
from orchx.domain.json_values import JSON
from orchx.errors import Bug

MS_PER_S = 1000

# `continue` | `exit` | `end` | the name of a task in the same block
FlowDirective: TypeAlias = str


@dataclass(frozen=True, slots=True, kw_only=True)
class Duration:
    """A length of time: either known (`constant_ms`) or an expression giving ISO 8601."""

    constant_ms: int | None = None
    expression: Expression | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """A JSON schema to check data against; `document` is the schema itself."""

    document: JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFlow:
    """What happens to data on its way into and out of a task or workflow."""

    input_schema: Schema | None = None
    input_from: Template | None = None
    output_schema: Schema | None = None
    output_as: Template | None = None
    export_schema: Schema | None = None
    export_as: Template | None = None


NO_DATA_FLOW = DataFlow()


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What every task has, whatever it does."""

    name: str
    reference: str
    definition: Mapping[str, JSON]
    condition: Expression | None = None
    data: DataFlow = NO_DATA_FLOW
    timeout: Duration | None = None
    then: FlowDirective = "continue"
    metadata: Mapping[str, JSON] = field(default_factory=dict)


TaskT = TypeVar("TaskT", bound=Task)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Tasks in declaration order; `reference` is the pointer of the list itself."""

    reference: str
    tasks: tuple[Task, ...]
    position: Mapping[str, int]  # task name -> index in `tasks`


@dataclass(frozen=True, slots=True, kw_only=True)
class DoTask(Task):
    """Runs its block in order."""

    block: Block


@dataclass(frozen=True, slots=True, kw_only=True)
class SetTask(Task):
    """Produces data."""

    value: Template


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchCase:
    """One case; `when` is None for the default case."""

    name: str
    when: Expression | None
    then: FlowDirective


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchTask(Task):
    """Chooses a flow directive: the first case that holds, else the default, else `then`."""

    cases: tuple[SwitchCase, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ForTask(Task):
    """Runs its block once per item, one after the other."""

    each: str = "item"
    at: str = "index"
    items: Expression
    while_: Expression | None = None
    block: Block


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkTask(Task):
    """Runs its branches at the same time.

    `after[i]` are the indexes of the branches that must have ended before branch `i`
    starts (`metadata.orchx.after`, checked to be acyclic).
    """

    branches: Block
    compete: bool = False
    after: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorFilter:
    """The errors a catch takes: each member given must be equal."""

    type: str | None = None
    status: int | None = None
    instance: str | None = None
    title: str | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """When and how often a `try` block runs again. Durations in the DSL's forms."""

    when: Expression | None = None
    except_when: Expression | None = None
    delay: Duration = field(default_factory=lambda: Duration(constant_ms=0))
    backoff: Literal["constant", "linear", "exponential"] = "constant"
    backoff_increment: Duration | None = None  # linear: added per attempt; default the delay
    backoff_factor: float = 2.0  # exponential
    max_delay: Duration | None = None
    limit_attempts: int | None = None  # retries at most: the first run does not count
    limit_attempt_duration: Duration | None = None
    limit_duration: Duration | None = None
    jitter_from: Duration | None = None
    jitter_to: Duration | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Catch:
    """Which errors are caught, and what then."""

    errors: ErrorFilter | None = None
    variable: str = "error"
    when: Expression | None = None
    except_when: Expression | None = None
    retry: RetryPolicy | None = None
    block: Block | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TryTask(Task):
    """Runs its block and handles what it raises."""

    block: Block
    catch: Catch


@dataclass(frozen=True, slots=True, kw_only=True)
class RaiseTask(Task):
    """Raises an error; the members may be expressions."""

    error: Template


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitTask(Task):
    """Waits for a length of time."""

    duration: Duration


@dataclass(frozen=True, slots=True, kw_only=True)
class Correlation:
    """A value read from an event that must match `expect`, or the first one read."""

    name: str
    from_: Expression
    expect: Template | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """The attributes an event must have.

    A value is a constant, or an expression that must hold when evaluated on the attribute;
    a regular expression becomes one (`ExpressionReader.pattern`).
    """

    attributes: Mapping[str, Expression | JSON]
    data: Expression | JSON = None
    correlate: tuple[Correlation, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenTask(Task):
    """Waits for events.

    `mode` one/any: the first event that matches any filter ends it; all: one event per
    filter. An empty `any` takes every event.
    """

    mode: Literal["one", "any", "all"]
    filters: tuple[EventFilter, ...]
    read: Literal["data", "envelope", "raw"] = "data"


@dataclass(frozen=True, slots=True, kw_only=True)
class EmitTask(Task):
    """Publishes an event."""

    event: Template


@dataclass(frozen=True, slots=True, kw_only=True)
class RunWorkflowTask(Task):
    """Starts another workflow, and waits for it unless told not to."""

    namespace: str
    workflow_name: str
    version: str = "latest"
    input: Template | None = None
    await_: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class CallTask(Task):
    """Calls `http`, `openapi`, a registered Python task, or a capability of the catalog."""

    function: str
    arguments: Template


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """A whole document, ready to run.

    `digest` is the SHA-256 of the canonical JSON of `source`: it names this exact plan
    in the log. `tasks` finds any task by reference.
    """

    namespace: str
    name: str
    version: str
    digest: str
    source: Mapping[str, JSON]
    block: Block
    tasks: Mapping[str, Task]
    data: DataFlow = NO_DATA_FLOW
    timeout: Duration | None = None
    needs_sandbox: bool = False  # any expression must be run under limits, out of process
    metadata: Mapping[str, JSON] = field(default_factory=dict)

    def task(self, reference: str, kind: type[TaskT]) -> TaskT:
        """Return the task with this reference, which has to be of this kind.

        Raises:
            Bug: it is of another kind, or there is none: the log is not of this document.
        """
        task = self.tasks.get(reference)
        if not isinstance(task, kind):
            raise Bug(f"{reference} is no {kind.__name__} but {type(task).__name__}")
        return task
