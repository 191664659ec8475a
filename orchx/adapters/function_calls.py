"""A call of a Python function as bytes, and what becomes of it: the same in every process."""

from __future__ import annotations

import asyncio
import inspect
import logging

import msgspec

from orchx.domain import faults
from orchx.domain.faults import Fault, WorkflowFault
from orchx.domain.json_values import JSON
from orchx.domain.value_limits import excess_of
from orchx.tasks import TaskContext, TaskError, TaskFunction, TaskRegistry

MAX_MESSAGE_CHARS = 1_024

_log = logging.getLogger(__name__)


class FunctionCall(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker process needs in order to call a function."""

    workflow_id: str
    reference: str
    attempt: int
    key: str
    arguments: JSON = None


class FunctionAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a function returned, or the error that it ended with."""

    output: JSON = None
    error: Fault | None = None


_encoder = msgspec.json.Encoder()
_call_decoder = msgspec.json.Decoder(FunctionCall)
_answer_decoder = msgspec.json.Decoder(FunctionAnswer)


def encode_call(call: FunctionCall) -> bytes:
    """Encode a call for another process."""
    return _encoder.encode(call)


def decode_answer(encoded: bytes) -> FunctionAnswer:
    """Decode what another process answered."""
    return _answer_decoder.decode(encoded)


def run_encoded(registry: TaskRegistry, name: str, request: bytes) -> bytes:
    """Run a registered function to its end, in this thread, which must have no running loop.

    Args:
        registry: where the function is; the worker has loaded its modules.
        name: the function's name.
        request: an encoded `FunctionCall`.

    Returns:
        an encoded `FunctionAnswer`; nothing that the function raises gets out otherwise.
    """
    call = _call_decoder.decode(request)
    function = registry.get(name)
    if function is None:
        return _encoder.encode(FunctionAnswer(error=unknown_function(name)))
    context = TaskContext(
        workflow_id=call.workflow_id,
        reference=call.reference,
        attempt=call.attempt,
        idempotency_key=call.key,
    )
    try:
        result = function.function(**function.bind(call.arguments, context))
        if inspect.isawaitable(result):
            result = asyncio.run(_await(result))
        answer = FunctionAnswer(output=output_of(function, result))
        return _encoder.encode(answer)
    except Exception as error:
        return _encoder.encode(FunctionAnswer(error=fault_of(function, error)))


def output_of(function: TaskFunction, result: object) -> JSON:
    """Return what a function returned as JSON that every process can take.

    Raises:
        WorkflowFault: RUNTIME, where it is no JSON or breaks a value's limits.
    """
    output = function.to_json(result)
    excess = excess_of(output)
    if excess is not None:
        detail = f"{function.name}: {excess.detail}"
        fault = faults.standard(faults.RUNTIME, f"result: {excess.title}", detail=detail)
        raise WorkflowFault(fault)
    return output


def fault_of(function: TaskFunction, error: Exception) -> Fault:
    """Return the fault for what a function raised; only what it did not mean to is logged."""
    if isinstance(error, TaskError | WorkflowFault):
        return error.fault
    _log.error("task function %s raised", function.name, exc_info=error)
    message = f"{type(error).__name__}: {error}"[:MAX_MESSAGE_CHARS]
    return faults.standard(faults.RUNTIME, f"{function.name} failed", detail=message)


def unknown_function(name: str) -> Fault:
    """Return the fault for a call of a function that nobody registered."""
    detail = f"no task function {name!r} is registered in this pool"
    return faults.standard(faults.CONFIGURATION, "unknown function", detail=detail)


async def _await(result: object) -> object:
    if inspect.isawaitable(result):
        return await result
    return result
