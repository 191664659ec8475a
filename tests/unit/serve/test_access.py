from __future__ import annotations

import json
import stat
from pathlib import Path

import httpx
import pytest

from orchx.errors import InvalidRequest, Unauthenticated, Unavailable
from orchx.serve.api_keys import ApiKeys, create_api_key, list_api_keys, revoke_api_key
from orchx.serve.application import build_application
from orchx.serve.authentication import check_authentication_setting
from orchx.serve.operation_table import OPERATIONS
from orchx.settings import HttpSettings
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
def test_no_authentication_is_for_loopback_only(host: str, tmp_path: Path) -> None:
    settings = HttpSettings(host=host, authentication="off")
    with pytest.raises(InvalidRequest, match="loopback"):
        check_authentication_setting(settings)
    with pytest.raises(InvalidRequest):
        build_application(FakeGateway(), settings, ApiKeys(tmp_path / "keys"))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
async def test_loopback_without_authentication(host: str, tmp_path: Path) -> None:
    settings = HttpSettings(host=host, authentication="off")
    app = build_application(FakeGateway(), settings, ApiKeys(tmp_path / "keys"))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8600") as client:
        assert (await client.get("/v1/workflows")).status_code == 200
        rebound = {"Host": "evil.example.com"}
        assert (await client.get("/v1/workflows", headers=rebound)).status_code == 403


def test_only_salted_hashes_are_stored_and_only_for_the_owner(tmp_path: Path) -> None:
    path = tmp_path / "data" / "keys.json"
    key, token = create_api_key(path, name="a", scopes=["read"], now_ms=1, tenant="hr")
    _, second = create_api_key(path, name="b", scopes=["submit"], now_ms=2)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    secret = token.split("_", 2)[2]
    assert secret not in path.read_text()
    assert json.loads(path.read_text())["keys"][0]["tenant"] == "hr"
    assert [one.name for one in list_api_keys(path)] == ["a", "b"]
    keys = ApiKeys(path)
    assert keys.verify(token) == key
    mixed = f"orx_{key.id}_{second.split('_', 2)[2]}"
    for wrong in (mixed, token[:-1], token + "x", "", "orx", f"xxx_{key.id}_{secret}", "orx__"):
        with pytest.raises(Unauthenticated):
            keys.verify(wrong)
    with pytest.raises(InvalidRequest):
        create_api_key(path, name="c", scopes=[], now_ms=3)


def test_a_revoked_key_stops_working_within_a_second(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    key, token = create_api_key(path, name="a", scopes=["read"], now_ms=1)
    now_s = 0.0
    keys = ApiKeys(path, monotonic=lambda: now_s)
    keys.verify(token)
    revoke_api_key(path, key.id, now_ms=2)
    now_s = 0.9
    keys.verify(token)
    now_s = 1.0
    with pytest.raises(Unauthenticated):
        keys.verify(token)


def test_a_key_file_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    _, token = create_api_key(path, name="a", scopes=["read"], now_ms=1)
    path.chmod(0o640)
    with pytest.raises(Unavailable):
        ApiKeys(path).verify(token)
