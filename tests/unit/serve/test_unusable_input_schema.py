"""An `input.schema` that no input can be held against is refused wherever a document comes in."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from orchx.adapters.definition_source import read_definition
from orchx.cli.main import app
from orchx.errors import InvalidDocument
from orchx.serve.server import publish_files
from orchx.settings import Settings

DOCUMENT = """\
document: {dsl: 1.0.3, namespace: hr, name: trip, version: 1.0.0}
input:
  schema:
    format: json
    document:
      type: objekt
do:
  - greet:
      set: {greeting: hello}
"""
POINTER = "/input/schema/document/type"
LINE = 6


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "trip.yaml"
    path.write_text(DOCUMENT)
    return path


def test_the_command_line_refuses_it(file: Path) -> None:
    result = CliRunner().invoke(app, ["definitions", "validate", str(file)])
    assert result.exit_code == 4
    assert f"{POINTER} (line {LINE}): " in result.stderr


async def test_the_start_of_a_server_refuses_it(file: Path, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", definitions=(file,))
    with pytest.raises(InvalidDocument, match=r"trip\.yaml: ") as caught:
        await publish_files(settings)
    assert [(each.pointer, each.line) for each in caught.value.violations] == [(POINTER, LINE)]


async def test_publishing_over_http_refuses_it(client: httpx.AsyncClient) -> None:
    headers = {"content-type": "application/yaml"}
    response = await client.post("/v1/definitions", content=DOCUMENT, headers=headers)
    assert response.status_code == 422
    (fault,) = response.json()["errors"]
    assert (fault["pointer"], fault["line"], fault["found"]) == (POINTER, LINE, '"objekt"')


@pytest.mark.parametrize(
    ("schema", "pointer"),
    [
        ("{$ref: 'https://x.example/s'}", "/input/schema/document"),
        ("{$ref: '#/$defs/nowhere'}", "/input/schema/document"),
        ("{properties: {a/b: {minimum: x}}}", "/input/schema/document/properties/a~1b/minimum"),
        ("{pattern: '(?=a)'}", "/input/schema/document/pattern"),
    ],
)
def test_the_pointer_leads_to_the_fault(schema: str, pointer: str) -> None:
    with pytest.raises(InvalidDocument) as caught:
        read_definition(DOCUMENT.replace("\n      type: objekt", f" {schema}"))
    assert [each.pointer for each in caught.value.violations] == [pointer]
