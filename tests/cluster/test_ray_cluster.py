"""orchx on a Ray cluster of several nodes, with the real stores; nodes that go away."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from orchx.sandbox.process import SandboxProcess
from orchx.settings import Settings
from tests import servers
from tests.e2e import checker, process_tree
from tests.e2e.conditions import eventually
from tests.e2e.conftest import HERE
from tests.e2e.errands import ERRAND_EFFECTS, SUM_EFFECTS, Errands
from tests.e2e.ray_cluster import RayCluster
from tests.e2e.sandbox_ledger import SandboxLedger
from tests.e2e.server_process import ServerProcess

STABLE = {"orchx-tier": "stable"}
SPOT = {"orchx-tier": "spot"}
WORKFLOWS = 100
SUMS = 20
START_TIMEOUT_S = 240.0  # on two busy cores
END_TIMEOUT_S = 240.0
BOUND_S = 240.0  # of a command, on two busy cores
POOLS = ("pool-0", "pool-1")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_200)]


@pytest.fixture(scope="module")
def ray_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    with RayCluster(tmp_path_factory.mktemp("ray-cluster")) as cluster:
        yield cluster


def placed(**more: object) -> dict[str, str]:
    wanted = {"owner_labels": STABLE, "pool_labels": SPOT, "ingress": "head", **more}
    return {
        f"ORCHX_CLUSTER__{name.upper()}": value if isinstance(value, str) else json.dumps(value)
        for name, value in wanted.items()
    }


@pytest.fixture(scope="module")
def stores() -> Settings:
    return servers.stores(servers.apache_kafka(partitions=3))


@pytest.fixture(scope="module")
def server(
    ray_cluster: RayCluster,
    stores: Settings,
    sandbox: SandboxProcess,
    services_file: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ServerProcess]:
    """A server that joins the cluster."""
    server = ServerProcess(
        tmp_path_factory.mktemp("cluster-server"),
        arguments=(
            *("--services", str(services_file)),
            *("--definitions", str(HERE / "definitions")),
            *("--tasks", "tests.e2e.errand_functions"),
        ),
        authentication=True,
        environment={
            **servers.environment(stores),
            **ray_cluster.environment,
            **placed(),
            "ORCHX_POOLS__IO_ACTORS": str(len(POOLS)),
            "ORCHX_OWNERS__SHARED": "2",
        },
        settings=stores,
        start_timeout_s=START_TIMEOUT_S,
    )
    yield server
    server.kill()


def orchx(*arguments: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run the command as a person would."""
    program = Path(sys.executable).with_name("orchx")
    return subprocess.run(
        [str(program), *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )


class Crowd:
    """Workflows on their way while nodes go; what has to hold afterwards."""

    def __init__(self, server: ServerProcess, ledger: SandboxLedger, name: str) -> None:
        self._server = server
        self._ledger = ledger
        self._errands = Errands(server, "errand", f"cluster-{name}")
        self._sums = Errands(server, "sum", f"cluster-{name}-sum")
        self._name = name
        self._struck_s = 0.0

    def submit(self) -> None:
        """Submit all; return with some of their work done and most of it not."""
        self._ledger.disturb("hr", latency_ms=150, latency_jitter_ms=100)
        self._ledger.disturb("it", latency_ms=150)
        asyncio.run(self._errands.submit(WORKFLOWS - SUMS))
        asyncio.run(self._sums.submit(SUMS))
        self._struck_s = time.monotonic()

    def ends_well(self) -> None:
        errands = self._errands.await_ends(END_TIMEOUT_S)
        sums = self._sums.await_ends(END_TIMEOUT_S)
        took_s = time.monotonic() - self._struck_s
        lost = self._ledger.check(errands, ERRAND_EFFECTS)[0]
        more_lost, doubled = self._ledger.check(sums, SUM_EFFECTS)
        ends = Counter([*errands.values(), *sums.values()])
        lost += more_lost
        print(f"\n{self._name}: all_ended_s={took_s:.1f} ends={dict(ends)} {lost=} {doubled=}")
        assert ends == {"completed": WORKFLOWS}, self._faults({**errands, **sums})
        assert (lost, doubled) == (0, 0)
        assert checker.check(self._server, [*errands, *sums]) == []

    def _faults(self, ends: Mapping[str, str]) -> Counter[str]:
        """Return with which errors workflows ended, and how often."""
        with self._server.client() as client:
            told = [client.show(id_) for id_, status in ends.items() if status == "faulted"]
        return Counter(str(workflow.error) for workflow in told)


def test_without_a_node_that_has_the_labels_it_says_so_and_ends(
    ray_cluster: RayCluster, stores: Settings, tmp_path: Path
) -> None:
    settings = {**servers.environment(stores), **ray_cluster.environment, **placed(wait_s=1)}
    ended = orchx("up", "--json", "--data-dir", str(tmp_path), environment=settings)
    assert ended.returncode == 4
    message = json.loads(ended.stderr.splitlines()[-1])["error"]["message"]
    assert "0 of 1 nodes have orchx-tier=stable as ORCHX_CLUSTER__OWNER_LABELS asks for" in message
    assert "0 of 1 nodes have orchx-tier=spot as ORCHX_CLUSTER__POOL_LABELS asks for" in message
    assert "ray start --labels" in message


def test_nodes_come_and_go_and_every_workflow_ends(
    ray_cluster: RayCluster, server: ServerProcess, ledger: SandboxLedger
) -> None:
    stable, *spots = (ray_cluster.add(labels) for labels in (STABLE, SPOT, SPOT))
    server.start()
    assert {server.nodes[pool] for pool in POOLS} == set(spots)
    assert {node for name, node in server.nodes.items() if name not in POOLS} == {stable}

    crowd = Crowd(server, ledger, "a-spot-node-goes")
    crowd.submit()
    ray_cluster.remove(spots[0])
    crowd.ends_well()

    crowd = Crowd(server, ledger, "the-last-spot-node-goes")
    crowd.submit()
    ray_cluster.remove(spots[1])
    crowd.ends_well()

    # The process that was typed goes; what it started stays, and is found again.
    before = server.reporting()
    server.kill()
    server.start()
    assert server.pids["dispatcher"] == before["dispatcher"]
    assert {server.nodes[pool] for pool in POOLS} <= {stable, ray_cluster.head}

    crowd = Crowd(server, ledger, "the-owners-node-goes")
    crowd.submit()
    ray_cluster.remove(stable)
    crowd.ends_well()
    server.kill()
    server.start()
    assert set(server.nodes.values()) == {ray_cluster.head}

    environment = {**servers.environment(server.settings), **ray_cluster.environment}
    pids = dict(server.pids)
    server.kill()
    first = orchx("down", "--json", environment=environment)
    assert first.returncode == 0, first.stderr
    assert set(json.loads(first.stdout)["stopped"]) == set(pids)
    eventually(lambda: not any(map(process_tree.is_alive, pids.values())), "the actors' end")
    again = orchx("down", "--json", environment=environment)
    assert json.loads(again.stdout) == {"stopped": []}
