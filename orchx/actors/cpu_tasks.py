"""Runs cpu functions as Ray tasks, anywhere in the cluster."""

from __future__ import annotations

import asyncio
from typing import Any

import ray
from ray.exceptions import RayError

from orchx import tasks
from orchx.actors.node_labels import NodeLabels
from orchx.adapters.function_calls import run_encoded
from orchx.errors import Unavailable
from orchx.settings import Settings


def run_cpu_function(modules: tuple[str, ...], name: str, request: bytes) -> bytes:
    """Run a registered function in this worker; imports the task modules once."""
    tasks.load_modules(modules)
    return run_encoded(tasks.REGISTRY, name, request)


class RayCpuExecutor:
    """A `CpuExecutor` of Ray tasks, at most `cpu_workers` at once.

    A task that a worker's death cut short is reported as unavailable; the engine retries
    by its own rules, so Ray does not (`max_retries=0`).
    """

    def __init__(self, settings: Settings) -> None:
        self._modules = settings.task_modules
        self._slots = asyncio.Semaphore(settings.pools.cpu_workers)
        place = NodeLabels(cluster=settings.cluster).for_pool()
        self._run: Any = ray.remote(num_cpus=1, max_retries=0, **place)(run_cpu_function)

    async def run(self, name: str, request: bytes) -> bytes:
        """Run a function in a Ray worker; cancelled with the caller."""
        async with self._slots:
            reference = self._run.remote(self._modules, name, request)
            try:
                answer: bytes = await reference
            except asyncio.CancelledError:
                ray.cancel(reference, force=True)
                raise
            except RayError as error:
                raise Unavailable(f"the worker of {name} failed: {type(error).__name__}") from error
            return answer
