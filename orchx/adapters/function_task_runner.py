"""Runs Python functions registered with `@orchx.task`."""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from orchx.adapters import function_calls
from orchx.adapters.function_calls import FunctionCall
from orchx.domain import faults
from orchx.domain.faults import Fault
from orchx.domain.json_values import JSON
from orchx.domain.messages import TaskOutcome, TaskRequest
from orchx.errors import Unavailable
from orchx.ports.cpu_executor import CpuExecutor
from orchx.tasks import REGISTRY, TaskContext, TaskFunction, TaskRegistry

THREADS: Final = 32

Heartbeat = Callable[[str], None]


def _nobody(execution: str) -> None:
    """Take a heartbeat that nobody asked for."""


class FunctionTaskRunner:
    """Runs io functions here (async ones in the loop, sync ones in threads), cpu ones elsewhere.

    Args:
        cpu: runs the cpu functions.
        registry: the functions; those of this process by default.
        heartbeat: told the execution whenever its function says that it is alive, from any
            thread; `TaskPool.heartbeat`.
        threads: how many sync functions may run at once.
    """

    def __init__(
        self,
        cpu: CpuExecutor,
        registry: TaskRegistry = REGISTRY,
        heartbeat: Heartbeat = _nobody,
        threads: int = THREADS,
    ) -> None:
        self._cpu = cpu
        self._registry = registry
        self._heartbeat = heartbeat
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="orchx-task")

    def timeout_ms(self, request: TaskRequest) -> int | None:
        """Return a function's own timeout; made to be `TaskPool`'s `timeout_of`."""
        if request.call.target != "function":
            return None
        function = self._registry.get(request.call.function)
        return function.timeout_ms if function is not None else None

    async def run(self, request: TaskRequest) -> TaskOutcome:
        """Run to an outcome; whatever the function raises is the outcome's error."""
        function = self._registry.get(request.call.function)
        output: JSON = None
        error: Fault | None = None
        if function is None:
            error = function_calls.unknown_function(request.call.function)
        elif function.pool == "cpu":
            output, error = await self._run_elsewhere(function, request)
        else:
            try:
                output = await self._run_here(function, request)
            except Exception as raised:
                # The function is someone else's code: its errors are the workflow's.
                error = function_calls.fault_of(function, raised)
        return TaskOutcome(
            workflow_id=request.workflow_id,
            frame=request.frame,
            output=output,
            error=error,
            service=request.call.service,
        )

    def close(self) -> None:
        """Take no more; threads end when their functions do."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run_here(self, function: TaskFunction, request: TaskRequest) -> JSON:
        context = TaskContext(
            workflow_id=request.workflow_id,
            reference=request.reference,
            attempt=request.attempt,
            idempotency_key=request.key,
            beat=functools.partial(self._heartbeat, request.execution),
        )
        bound = function.bind(request.call.arguments, context)
        if function.is_async:
            result = await function.function(**bound)
        else:
            variables = contextvars.copy_context()
            call = functools.partial(variables.run, function.function, **bound)
            result = await asyncio.get_running_loop().run_in_executor(self._threads, call)
        return function_calls.output_of(function, result)

    async def _run_elsewhere(
        self, function: TaskFunction, request: TaskRequest
    ) -> tuple[JSON, Fault | None]:
        call = FunctionCall(
            workflow_id=request.workflow_id,
            reference=request.reference,
            attempt=request.attempt,
            key=request.key,
            arguments=request.call.arguments,
        )
        try:
            encoded = await self._cpu.run(function.name, function_calls.encode_call(call))
        except Unavailable as error:
            return None, Fault(
                type=faults.COMMUNICATION,
                status=503,
                title="no worker for a cpu function",
                detail=error.detail,
                retry_after_ms=round(error.retry_after_s * 1_000),
            )
        answer = function_calls.decode_answer(encoded)
        return answer.output, answer.error
