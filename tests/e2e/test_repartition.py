"""An operator's evening: stop, `orchx repartition`, one setting, start, `orchx rebuild`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.kafka_servers import KafkaInstallation
from tests.e2e.sandbox_ledger import SandboxLedger
from tests.e2e.server_process import ROOT, ServerProcess
from tests.e2e.test_kill import WORKFLOWS, Disaster

BEFORE, AFTER = 2, 5
COMMAND_TIMEOUT_S = 180

pytestmark = [pytest.mark.slow, pytest.mark.timeout(480)]


@pytest.fixture
def installation(services_file: Path) -> KafkaInstallation:
    return KafkaInstallation(services_file, partitions=BEFORE)


@pytest.fixture
def server(
    installation: KafkaInstallation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """An engine that runs."""
    server = installation.engine(tmp_path_factory.mktemp("repartition"), authentication=True)
    try:
        server.start()
        yield server
    finally:
        server.kill()


def type_in(installation: KafkaInstallation, *arguments: str, code: int = 0) -> Any:
    """Run a command beside the engine, and return its JSON."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [str(Path(sys.executable).with_name("orchx")), *arguments, "--json"],
        env={**os.environ, **installation.environment, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == code, done.stderr + done.stdout
    return json.loads(done.stdout or done.stderr.splitlines()[-1])


def test_workflows_that_were_in_flight_go_on_in_more_partitions(
    installation: KafkaInstallation, server: ServerProcess, ledger: SandboxLedger
) -> None:
    """Killed, not stopped: what nobody has acknowledged or projected is there too."""
    disaster = Disaster(server, ledger, "everything", "repartition")
    submissions = disaster.run_until_in_flight()
    disaster.killed_s = time.monotonic()
    server.kill()
    moved = type_in(installation, "repartition", "--partitions", str(AFTER))
    assert moved["partitions"] == AFTER
    # With the old setting it does not start, and says why.
    with pytest.raises(AssertionError, match="ORCHX_KAFKA__TOPIC_PREFIX"):
        server.start()
    installation.move(moved["topicPrefix"], AFTER)
    server.change(installation.environment, installation.settings)
    server.start()
    disaster.has_healed(submissions, back_s=time.monotonic() - disaster.killed_s)
    refused = type_in(installation, "repartition", "--partitions", str(AFTER + 1), code=4)
    assert "an engine serves" in refused["error"]["message"]
    verdict = type_in(installation, "rebuild")  # while it serves
    assert verdict["equal"] is True
    by_store = {store["store"]: store for store in verdict["stores"]}
    assert by_store["workflows"]["live"] == WORKFLOWS
    server.stop()
    assert type_in(installation, "rebuild", "--replace")["workflows"] == {"completed": WORKFLOWS}
    assert type_in(installation, "rebuild")["equal"] is True
