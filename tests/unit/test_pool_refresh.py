"""A pool takes up what anyone has changed in the catalog, at its next refresh."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orchx import bootstrap
from orchx.domain.messages import TaskOutcome
from orchx.domain.services import Service
from orchx.settings import Settings
from orchx.stores import open_stores
from orchx.testing.in_process_cpu_executor import InProcessCpuExecutor


class Nobody:
    """Hears of no outcome."""

    def push(self, owner: str, outcomes: Sequence[TaskOutcome]) -> None:
        raise AssertionError("nothing was asked for")


def no_function(name: str, arguments: bytes) -> bytes:
    raise AssertionError(f"{name} was not asked for")


async def test_services_are_replaced_and_api_documents_expire(
    tmp_path: Path, monkeypatch: Any
) -> None:
    settings = Settings(data_dir=tmp_path)
    parts = bootstrap.build_pool(settings, Nobody(), InProcessCpuExecutor(no_function))
    other = open_stores(settings).catalog()
    expired: list[bool] = []
    monkeypatch.setattr(parts.http, "expire_documents", lambda: expired.append(True))
    await parts.refresh()
    await other.put_services([Service(name="it", base_url="http://one")])
    for _ in range(2):
        await parts.refresh()
        assert parts.services["it"].base_url == "http://one"
    assert len(expired) == 2  # at first, and after the change
    await other.put_services([Service(name="it", base_url="http://two")])
    await parts.refresh()
    assert parts.services["it"].base_url == "http://two"
    assert len(expired) == 3
    await other.close()
    await parts.catalog.close()
