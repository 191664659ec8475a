"""orchx: a durable, agentic workflow orchestrator on Ray."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchx.client import AsyncClient, Client
    from orchx.tasks import TaskContext, TaskError, task
else:
    # For type checkers there are the names above and no others.
    def __getattr__(name: str) -> object:
        """Load the public names when they are first used: the domain needs no pydantic."""
        if name in __all__:
            module = "orchx.client" if name in ("AsyncClient", "Client") else "orchx.tasks"
            return getattr(import_module(module), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["AsyncClient", "Client", "TaskContext", "TaskError", "task"]
