"""Which environment variables a service may be sent: those that the settings name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest

from orchx.domain.services import Service, may_be_sent
from orchx.errors import InvalidRequest
from orchx.serve import deployment
from orchx.serve.context import CheckServices
from orchx.serve.server import publish_files
from orchx.settings import PoolSettings, Settings
from orchx.stores import open_stores
from tests.unit.serve.conftest import Rig
from tests.unit.serve.fake_gateway import FakeGateway


def services(*variables: str | None) -> list[dict[str, str | None]]:
    return [
        {"name": f"s{number}", "baseUrl": "https://a.example", "bearerEnv": variable}
        for number, variable in enumerate(variables)
    ]


@pytest.mark.parametrize(
    ("variable", "allowed", "may"),
    [
        ("ORCHX_SECRET_PETS", ("ORCHX_SECRET_*",), True),
        ("ORCHX_API_KEY", ("ORCHX_SECRET_*",), False),
        ("orchx_secret_pets", ("ORCHX_SECRET_*",), False),
        ("X_ORCHX_SECRET_PETS", ("ORCHX_SECRET_*",), False),
        ("PETS", ("CATS", "PET?"), True),
        ("PETS", (), False),
    ],
)
def test_patterns_are_the_shell_s(variable: str, allowed: Sequence[str], *, may: bool) -> None:
    assert may_be_sent(variable, allowed) is may


async def test_a_service_that_asks_for_any_other_is_not_stored(
    rig: Rig, client: httpx.AsyncClient
) -> None:
    body = {"services": services("ORCHX_SECRET_A", None, "AWS_SECRET_ACCESS_KEY")}
    refused = await client.put("/v1/services", json=body)
    assert refused.status_code == 422
    (fault,) = refused.json()["errors"]
    assert (fault["pointer"], fault["found"]) == (
        "/services/2/bearerEnv",
        "AWS_SECRET_ACCESS_KEY",
    )
    assert (fault["expected"], "pools.secret_env" in fault["detail"]) == (
        "a name like ORCHX_SECRET_*",
        True,
    )
    assert await rig.gateway.catalog.services() == []
    body = {"services": services("ORCHX_SECRET_A", None)}
    assert (await client.put("/v1/services", json=body)).status_code == 200


async def test_the_server_asks_its_own_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[CheckServices] = []
    monkeypatch.setattr(deployment, "configure_logs", lambda *_: None)
    monkeypatch.setattr(deployment, "open_gateway", lambda *_: (FakeGateway(), None))
    monkeypatch.setattr(
        deployment, "build_application", lambda *_, **more: built.append(more["check_services"])
    )
    pools = PoolSettings(secret_env=("PETS_*",))
    ingestion = deployment.Ingestion(Settings(data_dir=tmp_path, pools=pools))
    ingestion.__serve_build_asgi_app__()
    ingestion._pushing.cancel()
    (check,) = built
    check([Service(name="a", base_url="https://a", bearer_env="PETS_TOKEN")])
    with pytest.raises(InvalidRequest, match="may not have"):
        check([Service(name="a", base_url="https://a", bearer_env="ORCHX_SECRET_A")])


async def test_a_file_s_service_may_name_what_the_settings_allow(tmp_path: Path) -> None:
    file = tmp_path / "services.yaml"
    file.write_text("services: [{name: a, baseUrl: https://a, bearerEnv: PETS_TOKEN}]")
    settings = Settings(data_dir=tmp_path, services=(file,))
    with pytest.raises(InvalidRequest, match=r"services\.yaml") as caught:
        await publish_files(settings)
    assert caught.value.violations[0].pointer == "/services/0/bearerEnv"
    pools = PoolSettings(secret_env=("PETS_*",))
    await publish_files(settings.model_copy(update={"pools": pools}))
    catalog = open_stores(settings).catalog()
    assert [service.bearer_env for service in await catalog.services()] == ["PETS_TOKEN"]
    await catalog.close()
