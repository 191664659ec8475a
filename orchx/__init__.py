"""orchx: a durable, agentic workflow orchestrator on Ray."""

from orchx.tasks import TaskContext, TaskError, task

__all__ = ["TaskContext", "TaskError", "task"]
