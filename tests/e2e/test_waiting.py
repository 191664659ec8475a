"""What a server costs its machine: a thousand workflows that wait, and who yields to whom."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks.waiting import measured
from tests.e2e import process_tree
from tests.e2e.server_process import ServerProcess

WORKFLOWS = 1_000
MAX_GROWTH = 0.10
# What a person would notice; `python -m benchmarks.waiting` says what it takes (goal: 100 ms).
MAX_WAKE_MS = 2_000


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_thousand_waiting_workflows_cost_no_memory_and_wake_at_once(
    orchx_server: ServerProcess,
) -> None:
    pids = {name: orchx_server.actor_pid(name) for name in orchx_server.pids}
    log = orchx_server.data / "events.db"
    report = asyncio.run(measured(orchx_server.async_client, log, pids, WORKFLOWS))
    print(
        f"\n{WORKFLOWS} waiting: growth={dict(report.growth)} passivated_s={report.passivated_s}"
        f" wake_ms p50={report.wake_ms_p50} p99={report.wake_ms_p99} max={report.wake_ms_max}"
    )
    assert report.owners_growth() < MAX_GROWTH
    assert all(growth < MAX_GROWTH for growth in report.growth.values())
    assert report.wake_ms_max < MAX_WAKE_MS


def test_requests_go_before_work(orchx_server: ServerProcess) -> None:
    """Who carries requests out leaves a full machine to those who take and distribute them."""
    (ingestion,) = orchx_server.pids_titled("ray::ServeReplica:orchx")
    first = {process_tree.niceness(ingestion)}
    first.add(process_tree.niceness(orchx_server.actor_pid("dispatcher")))
    workers = ("owner-shared-0", "owner-dedicated-0", "pool-0", "projector", "reporter")
    second = {process_tree.niceness(orchx_server.actor_pid(name)) for name in workers}
    assert max(first) < min(second)
