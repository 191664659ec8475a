"""Listing by several labels: all of them have to be there."""

from __future__ import annotations

import httpx

from orchx.serve.openapi import build_openapi
from orchx.serve.operation_table import OPERATIONS
from orchx.settings import HttpSettings
from tests.unit.serve.conftest import Rig


async def test_labels_can_be_asked_for_together(rig: Rig, client: httpx.AsyncClient) -> None:
    sent: list[str] = []
    for labels in ({"a": "1"}, {"a": "1", "b": "2=3"}, {"a": "0", "b": "2=3"}):
        item = {"type": "hr.leave", "labels": labels}
        rig.clock["now_ms"] += 1
        sent.append((await client.post("/v1/requests", json=item)).json()["id"])
    first, both, last = sent
    for asked, expected in [
        (["a=1"], [both, first]),
        (["b=2=3"], [last, both]),
        (["a=1", "b=2=3"], [both]),
        (["a=1", "a=0"], []),
    ]:
        response = await client.get("/v1/workflows", params={"label": asked})
        assert [one["id"] for one in response.json()["workflows"]] == expected
    page = await client.get("/v1/workflows", params={"label": ["a=1", "b=2=3"], "limit": 1})
    assert "link" not in page.headers
    page = await client.get("/v1/workflows", params={"label": ["a=1"], "limit": 1})
    assert "label=a%3D1" in page.headers["link"]
    for wrong in (["a=1", "b"], ["=1"], [f"a={number}" for number in range(33)]):
        response = await client.get("/v1/workflows", params={"label": wrong})
        assert response.status_code == 422
        assert response.json()["errors"][0]["pointer"].startswith("?label")


def test_the_openapi_document_has_labels_repeated() -> None:
    document = build_openapi(OPERATIONS, HttpSettings(), "1.0.0")
    parameters = document["paths"]["/v1/workflows"]["get"]["parameters"]
    (label,) = (one for one in parameters if one["name"] == "label")
    assert label["schema"]["type"] == "array"
    assert label["schema"]["items"]["type"] == "string"
