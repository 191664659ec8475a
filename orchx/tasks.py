"""Python functions as tasks: `@orchx.task(name=...)` makes one callable from a workflow.

    @orchx.task(name="payroll.gross")
    async def gross(hours: float, rate: Decimal, context: orchx.TaskContext) -> Decimal: ...

What a workflow gives in `with:` is validated against the annotations, and what the function
returns is made JSON by its own. The function itself stays as it was.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import typing
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeVar

import pydantic
import pydantic_core

from orchx.domain import faults
from orchx.domain.faults import Fault, WorkflowFault
from orchx.domain.json_values import JSON
from orchx.errors import Conflict, InvalidRequest

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])
MAX_VIOLATIONS: Final = 5


class TaskError(Exception):
    """Raised by a task function: the workflow gets this error, to catch, retry or end with.

    Args:
        title: what went wrong, in a few words.
        type: a URI, or the short name of a standard type such as `communication`.
        status: an HTTP status; the type's default, or 500, if there is none.
        detail: more about this occurrence.
        retry_after_s: when to try again, in seconds, if that is known.
    """

    def __init__(
        self,
        title: str = "Task failed",
        *,
        type: str = faults.RUNTIME,
        status: int | None = None,
        detail: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(title if detail is None else f"{title}: {detail}")
        if faults.STANDARD_PREFIX + type in faults.DEFAULT_STATUS:
            type = faults.STANDARD_PREFIX + type
        self.fault = Fault(
            type=type,
            status=faults.DEFAULT_STATUS.get(type, 500) if status is None else status,
            title=title,
            detail=detail,
            retry_after_ms=None if retry_after_s is None else max(0, round(retry_after_s * 1_000)),
        )


def _no_heartbeat() -> None:
    """Say nothing: nobody listens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskContext:
    """What a task function may know of its execution.

    `attempt` counts from 1; `idempotency_key` is the same for every attempt of one task,
    so that a service that is called with it does its work once.
    """

    workflow_id: str
    reference: str
    attempt: int
    idempotency_key: str
    beat: Callable[[], None] = field(default=_no_heartbeat, repr=False, compare=False)

    def heartbeat(self) -> None:
        """Say that the function is alive; operators see when it last did."""
        self.beat()


class TaskFunction:
    """A registered function, with what its annotations say.

    Args:
        name: what a workflow calls.
        function: the function.
        pool: `io` for what waits, `cpu` for what computes.
        timeout_ms: how long one call may take.
        local_names: where annotations written as text may find their types.

    Raises:
        InvalidRequest: an annotation cannot be resolved, or a parameter is positional only.
    """

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        pool: Literal["io", "cpu"] = "io",
        timeout_ms: int | None = None,
        local_names: dict[str, Any] | None = None,
    ) -> None:
        self.name = name
        self.function = function
        self.pool = pool
        self.timeout_ms = timeout_ms
        self.is_async = inspect.iscoroutinefunction(function)
        self._context_name: str | None = None
        self._model_name: str | None = None
        self._takes_any = False
        self._adapters: dict[str, pydantic.TypeAdapter[Any]] = {}
        self._required: set[str] = set()
        try:
            hints = typing.get_type_hints(function, localns=local_names, include_extras=True)
        except NameError as error:
            raise InvalidRequest(
                f"task {name}: an annotation cannot be resolved: {error}"
            ) from error
        self._read_parameters(hints)
        returned = hints.get("return", Any)
        self._returned = None if returned is Any else pydantic.TypeAdapter(returned)

    def bind(self, arguments: JSON, context: TaskContext) -> dict[str, Any]:
        """Return the keyword arguments for a call.

        Raises:
            WorkflowFault: VALIDATION, naming each argument that is wrong.
        """
        given = {} if arguments is None else arguments
        if not isinstance(given, dict):
            raise self._invalid([f"arguments must be an object, not {type(given).__name__}"])
        if self._model_name is not None:
            bound = self._validated({self._model_name: given})
        else:
            wrong = [f"/{name}: missing" for name in sorted(self._required - given.keys())]
            if not self._takes_any:
                unknown = sorted(given.keys() - self._adapters.keys())
                wrong += [f"/{name}: the function has no such parameter" for name in unknown]
            if wrong:
                raise self._invalid(wrong)
            bound = self._validated(given)
        if self._context_name is not None:
            bound[self._context_name] = context
        return bound

    def to_json(self, value: Any) -> JSON:
        """Return a result as JSON.

        Raises:
            WorkflowFault: RUNTIME, where the value is not what the annotation says, or no JSON.
        """
        try:
            if self._returned is None:
                return pydantic_core.to_jsonable_python(value)
            return self._returned.dump_python(value, mode="json", warnings="error")
        except (ValueError, RecursionError) as error:  # pydantic's serialisation errors are these
            detail = f"{self.name}: {str(error)[:1_000]}"
            fault = faults.standard(faults.RUNTIME, "result is not as declared", detail=detail)
            raise WorkflowFault(fault) from error

    def _read_parameters(self, hints: dict[str, Any]) -> None:
        for parameter in inspect.signature(self.function).parameters.values():
            kind, hint = parameter.kind, hints.get(parameter.name, Any)
            if kind is parameter.VAR_KEYWORD:
                self._takes_any = True
            elif hint is TaskContext:
                self._context_name = parameter.name
            elif kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL):
                detail = f"task {self.name}: parameter {parameter.name} cannot be given by name"
                raise InvalidRequest(detail)
            else:
                self._adapters[parameter.name] = pydantic.TypeAdapter(hint)
                if parameter.default is parameter.empty:
                    self._required.add(parameter.name)
        if len(self._adapters) == 1 and not self._takes_any:
            (name,) = self._adapters
            hint = hints.get(name)
            if isinstance(hint, type) and issubclass(hint, pydantic.BaseModel):
                self._model_name = name

    def _validated(self, given: dict[str, Any]) -> dict[str, Any]:
        bound: dict[str, Any] = {}
        wrong: list[str] = []
        for name, value in given.items():
            adapter = self._adapters.get(name)
            if adapter is None:
                bound[name] = value  # taken by **kwargs
                continue
            try:
                bound[name] = adapter.validate_python(value)
            except pydantic.ValidationError as error:
                start = () if name == self._model_name else (name,)
                wrong += [
                    "/" + "/".join(map(str, (*start, *found["loc"]))) + f": {found['msg']}"
                    for found in error.errors(include_url=False, include_input=False)
                ]
        if wrong:
            raise self._invalid(wrong)
        return bound

    def _invalid(self, wrong: list[str]) -> WorkflowFault:
        detail = f"{self.name}: " + "; ".join(wrong[:MAX_VIOLATIONS])
        if len(wrong) > MAX_VIOLATIONS:
            detail += f"; and {len(wrong) - MAX_VIOLATIONS} more"
        fault = faults.standard(faults.VALIDATION, "arguments are not valid", detail=detail)
        return WorkflowFault(fault)


class TaskRegistry:
    """Task functions by name."""

    def __init__(self) -> None:
        self._functions: dict[str, TaskFunction] = {}

    def __iter__(self) -> Iterator[TaskFunction]:
        return iter(self._functions.values())

    def get(self, name: str) -> TaskFunction | None:
        """Return a function, or None."""
        return self._functions.get(name)

    def add(self, function: TaskFunction) -> None:
        """Register a function.

        Raises:
            Conflict: another function has the name. The same one may come again (a module
                imported anew, a notebook's cell run again).
        """
        known = self._functions.get(function.name)
        if known is not None and not _is_same(known.function, function.function):
            places = f"{_place(known.function)} and {_place(function.function)}"
            raise Conflict(f"task {function.name!r} is registered twice: {places}")
        self._functions[function.name] = function


REGISTRY: Final = TaskRegistry()


def task(
    *,
    name: str | None = None,
    pool: Literal["io", "cpu"] = "io",
    timeout_s: float | None = None,
    registry: TaskRegistry = REGISTRY,
) -> Callable[[FunctionT], FunctionT]:
    """Make a function, sync or async, callable from workflows.

    Args:
        name: what a workflow writes in `call:`; the function's own name by default.
        pool: `io` (default) for what waits: async functions run in the pool's loop, sync ones
            in its threads. `cpu` for what computes: it runs in a process of its own.
        timeout_s: how long one call may take, in seconds; the pool's default by default.
        registry: where it is registered; the process's own by default.

    Raises:
        Conflict: another function has the name.
        InvalidRequest: the signature cannot be called by name.
    """
    if timeout_s is not None and not timeout_s > 0:
        raise InvalidRequest(f"timeout_s must be above 0, not {timeout_s}")
    timeout_ms = None if timeout_s is None else max(1, round(timeout_s * 1_000))
    local_names = dict(sys._getframe(1).f_locals)

    def register(function: FunctionT) -> FunctionT:
        own = name if name is not None else function.__name__
        registry.add(TaskFunction(own, function, pool, timeout_ms, local_names))
        return function

    return register


def load_modules(names: Iterable[str]) -> None:
    """Import modules, so that their functions are registered.

    Raises:
        InvalidRequest: there is no such module.
    """
    for name in names:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise  # the module is there; something that it imports is not
            raise InvalidRequest(f"task module {name!r} cannot be found") from error


def _is_same(one: Callable[..., Any], other: Callable[..., Any]) -> bool:
    if one is other:
        return True
    first, second = inspect.unwrap(one), inspect.unwrap(other)
    if (first.__module__, first.__qualname__) != (second.__module__, second.__qualname__):
        return False
    if first.__module__ == "__main__":
        return True
    return _first_line(first) == _first_line(second)


def _place(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{function.__qualname__}"


def _first_line(function: Callable[..., Any]) -> int | None:
    code = getattr(function, "__code__", None)
    return code.co_firstlineno if code is not None else None
