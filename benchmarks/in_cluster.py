"""Submit and wait through a gateway inside the cluster: no HTTP."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks import workload
from orchx.domain.events import Request
from orchx.domain.keys import workflow_id_for
from orchx.domain.messages import StartWorkflow
from orchx.engine.gateway import EngineGateway
from orchx.engine.placement import Isolation

WAIT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One run. Latencies are milliseconds from submit to done."""

    workflows: int
    per_s: float
    p50_ms: float
    p99_ms: float
    cpu_ms_per_workflow: float
    failed: int = 0


async def measure(
    gateway: EngineGateway,
    digest: str,
    *,
    at_once: int,
    duration_s: float,
    isolation: Isolation,
    cpu_s: Callable[[], float],
) -> Measured:
    """Keep `at_once` workflows running for `duration_s` seconds."""
    run = secrets.token_hex(4)
    numbers = itertools.count()
    took_ms: list[float] = []
    failed = 0
    loop = asyncio.get_running_loop()
    begun_s, begun_cpu_s = loop.time(), cpu_s()
    until_s = begun_s + duration_s

    async def worker() -> None:
        nonlocal failed
        while loop.time() < until_s:
            sent_s = loop.time()
            command = _start(f"{run}-{next(numbers)}", digest, isolation)
            await gateway.submit([command])
            summary = await gateway.wait(command.workflow_id, WAIT_S)
            if summary is None or summary.status != "completed":
                failed += 1
            took_ms.append((loop.time() - sent_s) * 1000)

    await asyncio.gather(*(worker() for _ in range(at_once)))
    elapsed_s, used_s = loop.time() - begun_s, cpu_s() - begun_cpu_s
    took_ms.sort()
    return Measured(
        workflows=len(took_ms),
        per_s=round(len(took_ms) / elapsed_s, 1),
        p50_ms=round(took_ms[len(took_ms) // 2], 2),
        p99_ms=round(took_ms[int(len(took_ms) * 0.99)], 2),
        cpu_ms_per_workflow=round(used_s * 1000 / len(took_ms), 2),
        failed=failed,
    )


def _start(key: str, digest: str, isolation: Isolation) -> StartWorkflow:
    workflow_id = workflow_id_for("bench", key)
    return StartWorkflow(
        id=workflow_id,
        workflow_id=workflow_id,
        created_at_ms=time.time_ns() // 1_000_000,
        namespace=workload.NAMESPACE,
        name=workload.NAME,
        version=workload.VERSION,
        digest=digest,
        input={"n": 1},
        request=Request(tenant="bench", isolation=isolation),
    )
