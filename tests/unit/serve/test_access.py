from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import httpx
import pytest

from orchx.errors import InvalidRequest, Unauthenticated, Unavailable
from orchx.ports.key_store import ApiKey
from orchx.serve import api_keys
from orchx.serve.api_keys import ApiKeys, create_api_key, create_first_key
from orchx.serve.application import build_application
from orchx.serve.authentication import check_authentication_setting
from orchx.serve.operation_table import OPERATIONS
from orchx.settings import HttpSettings
from orchx.testing.memory_key_store import MemoryKeyStore
from tests.unit.serve.conftest import Rig
from tests.unit.serve.fake_gateway import FakeGateway

ITEM = {"type": "hr.leave"}
GUARDED = [operation for operation in OPERATIONS if operation.scope is not None]


def _filled(path: str) -> str:
    for name in ("id", "namespace", "name", "version"):
        path = path.replace("{" + name + "}", "x")
    return path


@pytest.mark.parametrize("operation", GUARDED, ids=lambda operation: operation.id)
async def test_every_guarded_operation_asks_for_a_key_and_its_scope(
    rig: Rig, operation: object
) -> None:
    method, path, scope = operation.method, _filled(operation.path), operation.scope  # type: ignore[attr-defined]
    async with rig.client(None) as client:
        for header in ({}, {"Authorization": "Basic eA=="}, {"Authorization": "Bearer orx_a_b"}):
            response = await client.request(method, path, headers=header)
            assert response.status_code == 401
            assert response.headers["www-authenticate"].startswith("Bearer")
    for other in {"submit", "read", "operate"} - {scope}:
        async with rig.client(other) as client:
            assert (await client.request(method, path)).status_code == 403
    if not operation.any_tenant:  # type: ignore[attr-defined]
        async with rig.client("hr-admin") as client:
            assert (await client.request(method, path)).status_code == 403


async def test_a_bound_key_stays_in_its_tenant(rig: Rig) -> None:
    async with rig.client() as admin, rig.client("hr") as bound:
        other = await admin.post("/v1/requests", json=ITEM | {"tenant": "it"})
        path = other.headers["location"]
        for method, url in [
            ("GET", path),
            ("GET", f"{path}/history"),
            ("GET", f"{path}/events"),
            ("POST", f"{path}/cancel"),
        ]:
            assert (await bound.request(method, url)).status_code == 404
        refused = await bound.post("/v1/requests", json=ITEM | {"tenant": "it"})
        assert refused.status_code == 403
        own = await bound.post("/v1/requests", json=ITEM)
        assert (await bound.get(own.headers["location"])).json()["tenant"] == "hr"
        assert len((await bound.get("/v1/workflows")).json()["workflows"]) == 1
        assert (await bound.get("/v1/workflows?tenant=it")).status_code == 403


async def test_what_belongs_to_no_tenant_is_not_shown_to_a_bound_key(rig: Rig) -> None:
    async with rig.client("hr") as bound, rig.client("read") as free:
        for path in ("/v1/services", "/v1/deliveries", "/metrics"):
            assert (await bound.get(path)).status_code == 403
            assert (await free.get(path)).status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.com", ""])  # noqa: S104
def test_no_authentication_is_for_loopback_only(host: str) -> None:
    settings = HttpSettings(host=host, authentication="off")
    with pytest.raises(InvalidRequest, match="loopback"):
        check_authentication_setting(settings)
    with pytest.raises(InvalidRequest):
        build_application(FakeGateway(), settings, ApiKeys(MemoryKeyStore()))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
async def test_loopback_without_authentication(host: str) -> None:
    settings = HttpSettings(host=host, authentication="off")
    app = build_application(FakeGateway(), settings, ApiKeys(MemoryKeyStore()))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8600") as client:
        assert (await client.get("/v1/workflows")).status_code == 200
        rebound = {"Host": "evil.example.com"}
        assert (await client.get("/v1/workflows", headers=rebound)).status_code == 403


async def test_a_key_is_known_by_its_salted_hash() -> None:
    store = MemoryKeyStore()
    key, token = await create_api_key(store, name="a", scopes=["read"], now_ms=1, tenant="hr")
    _, second = await create_api_key(store, name="b", scopes=["submit"], now_ms=2)
    secret = token.split("_", 2)[2]
    assert secret not in repr(await store.list())
    keys = ApiKeys(store)
    assert await keys.verify(token) == key
    mixed = f"orx_{key.id}_{second.split('_', 2)[2]}"
    for wrong in (mixed, token[:-1], token + "x", "", "orx", f"xxx_{key.id}_{secret}", "orx__"):
        with pytest.raises(Unauthenticated):
            await keys.verify(wrong)
    with pytest.raises(InvalidRequest):
        await create_api_key(store, name="c", scopes=[], now_ms=3)


async def test_the_first_key_is_made_once() -> None:
    store = MemoryKeyStore()
    token = await create_first_key(store, now_ms=1)
    assert token is not None
    assert (await ApiKeys(store).verify(token)).allows("operate")
    assert await create_first_key(store, now_ms=2) is None


class Outages(MemoryKeyStore):
    """A store that is out of reach, or slow, when a test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.failure: Exception | None = None
        self.answers = asyncio.Event()
        self.answers.set()
        self.looks = 0

    async def list(self) -> Sequence[ApiKey]:
        self.looks += 1
        await self.answers.wait()
        if self.failure is not None:
            raise self.failure
        return await super().list()


@dataclass
class Watched:
    """Keys in a store that may fail, with time in the test's hand."""

    store: Outages
    keys: ApiKeys
    id: str
    token: str
    now_s: float = 0.0


@pytest.fixture
async def watched() -> Watched:
    store = Outages()
    key, token = await create_api_key(store, name="a", scopes=["read"], now_ms=1)
    made = Watched(store, ApiKeys(store, monotonic=lambda: made.now_s), key.id, token)
    await made.keys.verify(token)
    return made


async def test_a_revoked_key_stops_working_within_a_second(watched: Watched) -> None:
    await watched.store.revoke(watched.id, now_ms=2)
    watched.now_s = 0.9
    await watched.keys.verify(watched.token)
    watched.now_s = 1.0
    with pytest.raises(Unauthenticated):
        await watched.keys.verify(watched.token)


async def test_a_store_out_of_reach_is_forgiven_for_a_while(watched: Watched) -> None:
    watched.store.failure = Unavailable("failing over")
    watched.now_s = api_keys.STALE_S - 1
    assert (await watched.keys.verify(watched.token)).id == watched.id
    watched.now_s = api_keys.STALE_S
    for _ in range(3):  # those of the same moment, for which the store is not looked at again
        with pytest.raises(Unavailable, match="cannot be read"):
            await watched.keys.verify(watched.token)
    watched.store.failure = None
    watched.now_s += api_keys.RELOAD_INTERVAL_S
    assert (await watched.keys.verify(watched.token)).id == watched.id


async def test_a_store_that_needs_somebody_is_not_forgiven(watched: Watched) -> None:
    watched.store.failure = InvalidRequest("others may read it")
    watched.now_s = api_keys.RELOAD_INTERVAL_S
    for _ in range(2):
        with pytest.raises(Unavailable, match="cannot be read"):
            await watched.keys.verify(watched.token)


async def test_before_the_store_has_answered_once_no_key_is_called_unknown(
    watched: Watched,
) -> None:
    watched.store.failure = Unavailable("failing over")
    fresh = ApiKeys(watched.store, monotonic=lambda: watched.now_s)
    for _ in range(2):
        with pytest.raises(Unavailable, match="cannot be read"):
            await fresh.verify(watched.token)


async def test_a_slow_store_is_waited_for_once_and_asked_once(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_keys, "ANSWER_S", 0.01)
    watched.store.answers.clear()
    watched.now_s = 2.0
    verified = (watched.keys.verify(watched.token) for _ in range(20))
    assert {key.id for key in await asyncio.gather(*verified)} == {watched.id}
    assert watched.store.looks == 2  # the first when it was set up
    watched.store.answers.set()


async def test_while_it_is_out_of_reach_nobody_waits_for_it(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_keys, "ANSWER_S", 3_600)
    watched.store.failure = Unavailable("failing over")
    watched.now_s = 2.0
    await watched.keys.verify(watched.token)
    watched.store.answers.clear()  # it hangs now; verifying must not
    watched.now_s = 4.0
    await watched.keys.verify(watched.token)
    watched.store.answers.set()
