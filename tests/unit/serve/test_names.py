"""Names are taken wherever they come in, or nowhere."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from orchx.domain.names import DNS_LABEL, TENANT
from orchx.errors import InvalidRequest
from orchx.serve.api_keys import create_api_key
from orchx.serve.openapi import build_openapi
from orchx.serve.operation_table import OPERATIONS
from orchx.settings import HttpSettings
from orchx.testing.memory_key_store import MemoryKeyStore

YAML = """\
document: {{dsl: 1.0.3, namespace: {namespace}, name: {name}, version: 1.0.0}}
do: [{{greet: {{set: {{greeting: hello}}}}}}]
"""
LONG = "Aa-" * 20 + "aA0"


@pytest.mark.parametrize(("namespace", "name"), [("HR", "onBoarding"), (LONG, "7"), ("a", LONG)])
async def test_what_can_be_published_can_be_requested_by_name(
    client: httpx.AsyncClient, namespace: str, name: str
) -> None:
    headers = {"content-type": "application/yaml"}
    text = YAML.format(namespace=namespace, name=f'"{name}"')
    published = await client.post("/v1/definitions", content=text, headers=headers)
    assert published.status_code == 201, published.text
    body = {"definition": {"namespace": namespace, "name": name}}
    response = await client.post("/v1/requests", json=body)
    assert response.status_code == 202, response.text


@pytest.mark.parametrize("name", ["", "-a", "a-", "a.b", "a_b", "a\n", "ä", "a" * 64])
async def test_what_is_no_name_is_refused_by_both(client: httpx.AsyncClient, name: str) -> None:
    document = {"dsl": "1.0.3", "namespace": "hr", "name": name, "version": "1.0.0"}
    source = {"document": document, "do": [{"greet": {"set": {}}}]}
    assert (await client.post("/v1/definitions", json=source)).status_code == 422
    body = {"definition": {"namespace": "hr", "name": name}}
    response = await client.post("/v1/requests", json=body)
    (error,) = response.json()["errors"]
    assert error["pointer"] == "/definition/name"


def test_the_openapi_document_says_the_same() -> None:
    document = build_openapi(OPERATIONS, HttpSettings(), "1.0.0")
    schemas = document["components"]["schemas"]
    assert schemas["DefinitionChoice"]["properties"]["name"]["pattern"] == f"^{DNS_LABEL}$"
    tenant: dict[str, Any] = schemas["SubmitItem"]["properties"]["tenant"]["anyOf"][0]
    assert tenant["pattern"] == f"^{TENANT}$"


@pytest.mark.parametrize("tenant", ["", "HR Team", "-hr", "hr\n", "ä", "a" * 65])
async def test_a_key_is_bound_to_what_can_be_a_tenant(tenant: str) -> None:
    store = MemoryKeyStore()
    with pytest.raises(InvalidRequest, match=re.escape(repr(tenant))):
        await create_api_key(store, name="a", scopes=["read"], now_ms=1, tenant=tenant)
    assert await store.list() == ()


@pytest.mark.parametrize("tenant", [None, "hr", "HR.Team_1-2", "7", "a" * 64])
async def test_any_tenant_can_have_a_key(tenant: str | None) -> None:
    store = MemoryKeyStore()
    key, _ = await create_api_key(store, name="a", scopes=["read"], now_ms=1, tenant=tenant)
    assert key.tenant == tenant
