from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Literal

import pydantic
import pytest

from orchx.adapters.function_calls import run_encoded
from orchx.adapters.function_task_runner import FunctionTaskRunner
from orchx.domain.events import CallDetails
from orchx.domain.faults import COMMUNICATION, CONFIGURATION, RUNTIME, VALIDATION
from orchx.domain.messages import TaskOutcome, TaskRequest
from orchx.errors import Conflict, InvalidRequest
from orchx.tasks import TaskContext, TaskError, TaskRegistry, load_modules, task
from orchx.testing.in_process_cpu_executor import InProcessCpuExecutor


class Laptop(pydantic.BaseModel):
    model: str
    screens: int = 1


@pytest.fixture
def registry() -> TaskRegistry:
    return TaskRegistry()


@pytest.fixture
def beats() -> list[str]:
    return []


@pytest.fixture
def runner(registry: TaskRegistry, beats: list[str]) -> Iterator[FunctionTaskRunner]:
    cpu = InProcessCpuExecutor(functools.partial(run_encoded, registry))
    runner = FunctionTaskRunner(cpu, registry, beats.append, threads=2)
    yield runner
    runner.close()


async def run(runner: FunctionTaskRunner, name: str, arguments: Any = None) -> TaskOutcome:
    call = CallDetails(function=name, target="function", arguments=arguments)
    return await runner.run(
        TaskRequest(
            workflow_id="w", frame=4, key="k", owner="o", reference="/do/0", call=call, attempt=2
        )
    )


async def test_an_async_function(registry: TaskRegistry, runner: FunctionTaskRunner) -> None:
    @task(name="gross", registry=registry)
    async def gross(hours: float, rate: Decimal, bonus: int = 0) -> dict[str, Decimal]:
        return {"pay": rate * Decimal(hours) + bonus}

    outcome = await run(runner, "gross", {"hours": 2, "rate": "10.5"})
    assert (outcome.output, outcome.error) == ({"pay": "21.0"}, None)
    assert (await gross(1, Decimal(2))) == {"pay": Decimal(2)}  # it stays a function


async def test_a_sync_function_runs_in_a_thread(
    registry: TaskRegistry, runner: FunctionTaskRunner
) -> None:
    @task(registry=registry)
    def where() -> str:
        return threading.current_thread().name

    assert (await run(runner, "where")).output.startswith("orchx-task")


@pytest.mark.parametrize("pool", ["io", "cpu"])
async def test_a_model_takes_all_arguments(
    registry: TaskRegistry, runner: FunctionTaskRunner, pool: Any
) -> None:
    @task(name="order", pool=pool, registry=registry)
    def order(laptop: Laptop, context: TaskContext) -> Laptop:
        assert (context.attempt, context.idempotency_key) == (2, "k")
        return laptop

    outcome = await run(runner, "order", {"model": "x1"})
    assert outcome.output == {"model": "x1", "screens": 1}
    wrong = await run(runner, "order", {"screens": "many"})
    assert wrong.error is not None
    assert (wrong.error.type, wrong.error.status) == (VALIDATION, 400)
    assert "/model" in (wrong.error.detail or "")
    assert "/screens" in (wrong.error.detail or "")


@pytest.mark.parametrize("arguments", [{"a": "x"}, {}, {"a": 1, "b": 2}, [1], 5])
async def test_wrong_arguments_name_what_is_wrong(
    registry: TaskRegistry, runner: FunctionTaskRunner, arguments: Any
) -> None:
    @task(name="f", registry=registry)
    async def f(a: int) -> None: ...

    outcome = await run(runner, "f", arguments)
    assert outcome.error is not None
    assert outcome.error.type == VALIDATION


async def test_a_heartbeat_reaches_the_pool(
    registry: TaskRegistry, runner: FunctionTaskRunner, beats: list[str]
) -> None:
    @task(name="f", registry=registry)
    async def f(context: TaskContext) -> None:
        context.heartbeat()

    await run(runner, "f")
    assert beats == ["w/4/k"]


@pytest.mark.parametrize("pool", ["io", "cpu"])
async def test_errors_become_faults(
    registry: TaskRegistry,
    runner: FunctionTaskRunner,
    caplog: pytest.LogCaptureFixture,
    pool: Any,
) -> None:
    @task(name="meant", pool=pool, registry=registry)
    async def meant() -> None:
        raise TaskError("busy", type="communication", status=503, detail="d", retry_after_s=1.5)

    @task(name="unmeant", pool=pool, registry=registry)
    async def unmeant() -> None:
        raise KeyError("lost")

    @task(name="odd", pool=pool, registry=registry)
    async def odd() -> Any:
        return object()

    fault = (await run(runner, "meant")).error
    assert fault is not None
    assert (fault.type, fault.status, fault.title) == (COMMUNICATION, 503, "busy")
    assert fault.retry_after_ms == 1_500
    with caplog.at_level(logging.ERROR):
        fault = (await run(runner, "unmeant")).error
    assert fault is not None
    assert (fault.type, fault.status, fault.detail) == (RUNTIME, 500, "KeyError: 'lost'")
    assert "Traceback" in caplog.text
    fault = (await run(runner, "odd")).error
    assert fault is not None
    assert (fault.type, fault.title) == (RUNTIME, "result is not as declared")
    fault = (await run(runner, "nobody")).error
    assert fault is not None
    assert fault.type == CONFIGURATION


def test_a_name_is_given_once(registry: TaskRegistry) -> None:
    @task(name="f", registry=registry)
    async def first() -> None: ...

    with pytest.raises(Conflict, match="registered twice"):

        @task(name="f", registry=registry)
        async def second() -> None: ...


def test_what_cannot_be_called_by_name_is_refused(registry: TaskRegistry) -> None:
    with pytest.raises(InvalidRequest, match="cannot be given by name"):

        @task(registry=registry)
        def f(a: int, /) -> None: ...


def test_a_module_that_is_not_there_is_said() -> None:
    with pytest.raises(InvalidRequest, match="cannot be found"):
        load_modules(["orchx_no_such_module"])


def test_a_functions_own_timeout(registry: TaskRegistry, runner: FunctionTaskRunner) -> None:
    @task(name="f", timeout_s=1.5, registry=registry)
    def f() -> None: ...

    call = CallDetails(function="f", target="function")
    request = TaskRequest(workflow_id="w", frame=1, key="k", owner="o", reference="/", call=call)
    assert runner.timeout_ms(request) == 1_500


@pytest.mark.parametrize("pool", ["io", "cpu"])
@pytest.mark.parametrize(
    ("result", "title"),
    [
        ([2**64], "result: integer out of range"),
        ({"n": -(2**63) - 1}, "result: integer out of range"),
        ([float("nan")], "result: number is not finite"),
        (float("inf"), "result: number is not finite"),
    ],
)
async def test_a_result_that_no_message_can_carry(
    registry: TaskRegistry,
    runner: FunctionTaskRunner,
    pool: Literal["io", "cpu"],
    result: Any,
    title: str,
) -> None:
    @task(name="wide", pool=pool, registry=registry)
    def wide() -> Any:
        return result

    outcome = await run(runner, "wide")

    assert outcome.error is not None
    assert (outcome.error.type, outcome.error.status, outcome.error.title) == (RUNTIME, 500, title)
