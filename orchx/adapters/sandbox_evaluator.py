"""Evaluates expressions: the cheap ones here, the others in child processes under limits.

jq is C code that cannot be interrupted and limits nothing, so an expression that static
analysis has not proved cheap runs where it can be killed. Source: ADR 0003.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Mapping
from typing import Final

from orchx.adapters import sandbox_child
from orchx.adapters.sandbox_process import (
    ChildEnded,
    ChildTimeout,
    EvaluatorLimits,
    SandboxProcess,
)
from orchx.domain import expression_plans, jq_programs
from orchx.domain.expressions import Expression
from orchx.domain.faults import WorkflowFault
from orchx.domain.jq_programs import expression_fault
from orchx.domain.json_values import JSON
from orchx.errors import DriverError, Unavailable
from orchx.ports.evaluator import WouldBlock

__all__ = ["EvaluatorLimits", "SandboxEvaluator"]

MIB: Final = 1024 * 1024
# Signals that come from outside (an operator, the OOM killer), not from an expression.
_OUTSIDE: Final = frozenset({-signal.SIGKILL, -signal.SIGTERM, -signal.SIGHUP, -signal.SIGINT})
ATTEMPTS: Final = 2  # a child that died from outside is replaced once per evaluation


class SandboxEvaluator:
    """An `Evaluator` with two tiers. Safe to call from several threads."""

    def __init__(self, limits: EvaluatorLimits | None = None) -> None:
        self._limits = limits or EvaluatorLimits()
        self._free = threading.Condition()
        self._idle: list[SandboxProcess] = []
        self._running = 0  # children in use or being started
        self._closed = False

    def evaluate(
        self,
        expression: Expression,
        data: JSON,
        variables: Mapping[str, JSON],
        *,
        may_block: bool = True,
    ) -> JSON:
        """Return the expression's value; see `Evaluator`.

        Raises:
            WorkflowFault: the expression failed or went over a limit (expression, 400);
                the title says which.
            WouldBlock: it takes a child, for which this caller must not wait.
            Unavailable: the evaluator is closed, or no child can be started or became free
                in time.
        """
        if self._closed:
            raise Unavailable("the evaluator is closed")
        if expression.plan is not None:
            return expression_plans.run_plan(expression.plan, data, variables)
        if not (expression.bounded or may_block):
            raise WouldBlock
        encoded = jq_programs.encode_input(data, variables, expression.variables)
        program = jq_programs.program_text(expression.source, expression.variables)
        limits = self._limits
        if len(encoded) > limits.input_bytes:
            raise expression_fault(f"Expression input is over {limits.input_bytes} bytes")
        if expression.bounded and len(encoded) <= limits.in_process_bytes:
            output: str | bytes | None = jq_programs.run(program, encoded)
            if output is not None and len(output) > limits.output_bytes:
                raise self._too_large()
        elif not may_block:
            raise WouldBlock
        else:
            output = self._in_child(program.encode(), encoded)
        return None if output is None else jq_programs.decode_output(output)

    def close(self) -> None:
        """End the children: idle ones at once, the others after their evaluation."""
        with self._free:
            self._closed = True
            idle, self._idle = self._idle, []
            self._free.notify_all()
        for child in idle:
            child.kill()

    @property
    def idle_pids(self) -> tuple[int, ...]:
        """The process ids of the children that wait for work, for diagnosis and tests."""
        with self._free:
            return tuple(child.pid for child in self._idle)

    def _in_child(self, program: bytes, data: bytes) -> bytes | None:
        for attempt in range(1, ATTEMPTS + 1):
            child = self._take()
            try:
                status, payload = child.ask(program, data, self._limits.wall_ms)
            except ChildTimeout:
                child.kill()
                self._give_back(None)
                title = f"Expression ran longer than {self._limits.wall_ms} ms"
                raise expression_fault(title) from None
            except ChildEnded as ended:
                child.kill()
                self._give_back(None)
                if ended.exit_code in _OUTSIDE and attempt < ATTEMPTS:
                    continue
                raise self._ended(ended.exit_code) from None
            except BaseException:  # not to handle it: the place in the pool must come free
                child.kill()
                self._give_back(None)
                raise
            self._give_back(child)
            return self._result(status, payload)
        raise self._ended(-signal.SIGKILL)

    def _take(self) -> SandboxProcess:
        """Return an idle child or a new one; waits at most `wait_ms` for a free place."""
        deadline = time.monotonic() + self._limits.wait_ms / 1000
        with self._free:
            while self._running >= self._limits.children and not self._closed:
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    raise Unavailable("all expression evaluators are busy")
                self._free.wait(left_s)
            if self._closed:
                raise Unavailable("the evaluator is closed")
            self._running += 1
            child = self._idle.pop() if self._idle else None
        try:
            if child is not None and child.alive:
                return child
            if child is not None:
                child.kill()
            return SandboxProcess(self._limits)
        except DriverError as error:
            self._give_back(None)
            raise Unavailable("no expression evaluator can be started") from error
        except BaseException:  # as above
            self._give_back(None)
            raise

    def _give_back(self, child: SandboxProcess | None) -> None:
        """Free a place in the pool, with its child unless that is gone or worn out."""
        worn = child is not None and child.evaluations >= self._limits.evaluations_per_child
        with self._free:
            self._running -= 1
            if child is not None and not worn and not self._closed:
                self._idle.append(child)
                child = None
            self._free.notify()
        if child is not None:
            child.kill()

    def _result(self, status: bytes, payload: bytes) -> bytes | None:
        if status == sandbox_child.VALUE:
            return payload
        if status == sandbox_child.NOTHING:
            return None
        if status == sandbox_child.FAILED:
            raise expression_fault("Expression failed", payload.decode(errors="replace"))
        if status == sandbox_child.TOO_LARGE:
            raise self._too_large()
        raise self._no_memory()

    def _too_large(self) -> WorkflowFault:
        return expression_fault(f"Expression result is over {self._limits.output_bytes} bytes")

    def _no_memory(self) -> WorkflowFault:
        return expression_fault(
            f"Expression needs more than {self._limits.memory_bytes // MIB} MiB of memory"
        )

    def _ended(self, exit_code: int) -> WorkflowFault:
        """Return the fault for a child that died (jq aborts when it gets no memory)."""
        if exit_code in (-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS):
            return self._no_memory()
        if exit_code == -signal.SIGXCPU:
            return expression_fault(f"Expression used more than {self._limits.cpu_s} s of CPU")
        return expression_fault("Expression evaluator was killed", f"exit code {exit_code}")
