from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchx.sandbox.process import SandboxProcess
from tests.e2e.sandbox_ledger import SandboxLedger
from tests.e2e.server_process import ROOT, ServerProcess

HERE = Path(__file__).parent
EXAMPLES_SANDBOX = "http://127.0.0.1:8610"


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    """The services, as a process of their own."""
    with SandboxProcess(tmp_path_factory.mktemp("sandbox")) as process:
        yield process


@pytest.fixture
def ledger(sandbox: SandboxProcess) -> Iterator[SandboxLedger]:
    """What the services do during this test; they behave again afterwards."""
    ledger = SandboxLedger(sandbox.url)
    ledger.begin()
    yield ledger
    ledger.calm()
    ledger.close()


@pytest.fixture(scope="session")
def services_file(sandbox: SandboxProcess, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The examples' services, at this sandbox."""
    text = (ROOT / "examples" / "services.yaml").read_text(encoding="utf-8")
    assert EXAMPLES_SANDBOX in text
    path = tmp_path_factory.mktemp("services") / "services.yaml"
    path.write_text(text.replace(EXAMPLES_SANDBOX, sandbox.url), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def orchx_server(
    sandbox: SandboxProcess, services_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """A server with the test definitions and functions, for all tests that do not change it.

    A test may kill any of its processes: what is left of it is started again for the next.
    """
    server = ServerProcess(
        tmp_path_factory.mktemp("server"),
        arguments=(
            *("--services", str(services_file)),
            *("--definitions", str(HERE / "definitions")),
            *("--tasks", "tests.e2e.errand_functions"),
        ),
        authentication=True,
        environment={"ORCHX_WEBHOOKS__ALLOWED_HOSTS": f'["{sandbox.url.split("//")[1]}"]'},
    )
    try:
        server.start()
        yield server
        server.stop()
    finally:
        server.kill()
        _show(server)


@pytest.fixture
def api_url(orchx_server: ServerProcess) -> str:
    """Where the server takes requests."""
    return orchx_server.url


@pytest.fixture
def api_key(orchx_server: ServerProcess) -> str:
    """A key that may do everything."""
    assert orchx_server.admin_key is not None
    return orchx_server.admin_key


def _show(server: ServerProcess) -> None:
    """Print the server's log where whoever runs the tests asks for it."""
    if os.environ.get("ORCHX_E2E_LOG"):
        print(server.log())
