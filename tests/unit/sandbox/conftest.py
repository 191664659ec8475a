"""One sandbox process for the tests of a module, and an HTTP client for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from orchx.sandbox.process import SandboxProcess

Post = Callable[..., httpx.Response]
ACCOUNT = {"employee_id": "EMP-7", "first_name": "Zoë", "last_name": "O'Neil"}


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with SandboxProcess(tmp_path_factory.mktemp("sandbox")) as process:
        yield process


@pytest.fixture
def http(sandbox: SandboxProcess) -> Iterator[httpx.Client]:
    """A client; faults are removed afterwards."""
    with httpx.Client(base_url=sandbox.url, timeout=5) as client:
        yield client
        client.delete("/faults")


@pytest.fixture
def workflow() -> str:
    """A workflow id that no other test uses, so that tests can share a ledger."""
    return f"wf-{uuid4()}"


@pytest.fixture
def post(http: httpx.Client, workflow: str) -> Post:
    """Post as a workflow: `post(path, body, key=None)`."""

    def send(path: str, body: Any, key: str | None = None) -> httpx.Response:
        headers = {"X-Orchx-Workflow": workflow}
        if key is not None:
            headers["Idempotency-Key"] = key
        return http.post(path, json=body, headers=headers)

    return send


@pytest.fixture
def effects(http: httpx.Client, workflow: str) -> Callable[[], list[dict[str, Any]]]:
    """What the ledger holds of this test's workflow."""

    def read() -> list[dict[str, Any]]:
        page = http.get("/ledger", params={"workflow": workflow, "limit": 1000}).json()
        found: list[dict[str, Any]] = page["effects"]
        return found

    return read


@pytest.fixture
def data_directory(tmp_path: Path) -> Path:
    return tmp_path / "not" / "there" / "yet"


@pytest.fixture
def account() -> dict[str, str]:
    """A valid body of `POST /it/accounts`."""
    return dict(ACCOUNT)
