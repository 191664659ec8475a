"""One runner in front of the others."""

from __future__ import annotations

from orchx.domain.messages import TaskOutcome, TaskRequest
from orchx.ports.task_pool import TaskRunner


class RoutingTaskRunner:
    """Hands each call to the runner of its target.

    Args:
        functions: runs Python functions.
        http: makes all other calls.
    """

    def __init__(self, functions: TaskRunner, http: TaskRunner) -> None:
        self._functions = functions
        self._http = http

    async def run(self, request: TaskRequest) -> TaskOutcome:
        """Run to an outcome."""
        runner = self._functions if request.call.target == "function" else self._http
        return await runner.run(request)
