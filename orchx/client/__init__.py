"""A typed client of orchx's HTTP API: `Client` (blocking) and `AsyncClient` (asyncio).

Errors are those of `orchx.errors`; what is sent and received is in `orchx.client.models`.
"""

from orchx.client.connection import Timeouts
from orchx.client.faces import AsyncClient, Client
from orchx.client.models import (
    Callback,
    Definition,
    DefinitionRef,
    Event,
    Submission,
    Workflow,
    WorkflowRequest,
)
from orchx.client.retries import RetryPolicy

__all__ = [
    "AsyncClient",
    "Callback",
    "Client",
    "Definition",
    "DefinitionRef",
    "Event",
    "RetryPolicy",
    "Submission",
    "Timeouts",
    "Workflow",
    "WorkflowRequest",
]
