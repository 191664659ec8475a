"""orchx: a durable, agentic workflow orchestrator on Ray."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchx.tasks import TaskContext, TaskError, task

__all__ = ["TaskContext", "TaskError", "task"]


def __getattr__(name: str) -> object:
    """Load the public names when they are first used: the domain needs no pydantic."""
    if name in __all__:
        from orchx import tasks

        return getattr(tasks, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
