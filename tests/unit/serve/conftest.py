from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from orchx.ports.catalog import StoredDefinition
from orchx.ports.key_store import KeyStore, Scope
from orchx.serve.api_keys import ApiKeys, create_api_key
from orchx.serve.application import build_application
from orchx.serve.limits import RequestLimits
from orchx.settings import HttpSettings
from orchx.testing.memory_key_store import MemoryKeyStore
from tests.unit.serve.fake_gateway import FakeGateway

NOW_MS = 1_772_357_400_000  # 2026-03-01T09:30:00Z
SCHEMA = (
    b'{"input":{"schema":{"format":"json","document":{"type":"object",'
    b'"properties":{"days":{"type":"integer","maximum":30}}}}}}'
)


@dataclass(slots=True)
class Rig:
    """The API over a fake engine, with time in the test's hand."""

    gateway: FakeGateway
    app: FastAPI
    key_store: KeyStore
    tokens: dict[str, str]
    clock: dict[str, int] = field(default_factory=dict)

    def client(self, key: str | None = "admin") -> httpx.AsyncClient:
        headers = {} if key is None else {"Authorization": f"Bearer {self.tokens[key]}"}
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app), base_url="http://orchx", headers=headers
        )


def stored(
    name: str = "leave", version: str = "1.0.0", source: bytes = SCHEMA, **more: Any
) -> StoredDefinition:
    return StoredDefinition(
        namespace="hr",
        name=name,
        version=version,
        digest=hashlib.sha256(source).hexdigest(),
        source=source,
        text=source.decode(),
        created_at_ms=NOW_MS,
        **more,
    )


async def make_keys(store: KeyStore) -> dict[str, str]:
    tokens: dict[str, str] = {}
    kinds: dict[str, tuple[tuple[Scope, ...], str | None]] = {
        "admin": (("admin",), None),
        "submit": (("submit",), None),
        "read": (("read",), None),
        "operate": (("operate",), None),
        "hr": (("submit", "read", "operate"), "hr"),
        "hr-admin": (("admin",), "hr"),
    }
    for name, (scopes, tenant) in kinds.items():
        _, tokens[name] = await create_api_key(
            store, name=name, scopes=scopes, now_ms=NOW_MS, tenant=tenant
        )
    return tokens


@pytest.fixture
async def rig() -> Rig:
    store = MemoryKeyStore()
    tokens = await make_keys(store)
    gateway = FakeGateway()
    await gateway.catalog.publish(stored(request_type="hr.leave"))
    clock = {"now_ms": NOW_MS, "monotonic_ms": 0}
    app = build_application(
        gateway,
        HttpSettings(max_body_bytes=4096, max_depth=10, max_batch=5),
        ApiKeys(store),
        limits=RequestLimits(max_body_bytes=4096, body_timeout_s=0.05),
        now_ms=lambda: clock["now_ms"],
        monotonic_ms=lambda: clock["monotonic_ms"],
    )
    return Rig(gateway=gateway, app=app, key_store=store, tokens=tokens, clock=clock)


@pytest.fixture
async def client(rig: Rig) -> AsyncIterator[httpx.AsyncClient]:
    async with rig.client() as client:
        yield client
