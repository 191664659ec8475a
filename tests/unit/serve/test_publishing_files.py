"""What a start publishes from files, and what it says of those that it cannot publish."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchx.adapters.definition_source import read_definition
from orchx.errors import Conflict
from orchx.ports.catalog import StoredDefinition
from orchx.serve.server import publish_files
from orchx.settings import Settings
from orchx.stores import open_stores

DOCUMENT = """\
document: {dsl: 1.0.3, namespace: hr, name: trip, version: 1.0.0}
do:
  - greet:
      set: {greeting: hello}
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    path = tmp_path / "trip.yaml"
    path.write_text(DOCUMENT)
    return Settings(data_dir=tmp_path / "data", definitions=(path,))


async def publish_before(settings: Settings, request_type: str | None) -> None:
    definition = read_definition(DOCUMENT)
    catalog = open_stores(settings).catalog()
    await catalog.publish(
        StoredDefinition(
            namespace="hr",
            name="trip",
            version="1.0.0",
            digest=definition.digest,
            source=b"{}",
            text=DOCUMENT,
            created_at_ms=1,
            request_type=request_type,
        )
    )
    await catalog.close()


async def bound_to(settings: Settings, request_type: str) -> str | None:
    catalog = open_stores(settings).catalog()
    found = await catalog.by_request_type(request_type)
    await catalog.close()
    return None if found is None else found.name


@pytest.mark.parametrize("was_there", [False, True])
async def test_a_file_is_bound_to_the_type_of_its_name(settings: Settings, was_there: bool) -> None:
    if was_there:
        await publish_before(settings, request_type=None)
    await publish_files(settings)
    await publish_files(settings)  # as the next start does
    assert await bound_to(settings, "trip") == "trip"


async def test_a_file_that_is_bound_otherwise_is_named(settings: Settings) -> None:
    await publish_before(settings, request_type="hr.trip")
    with pytest.raises(Conflict, match=r"trip\.yaml: .* is bound to requests of type 'hr\.trip'"):
        await publish_files(settings)
    assert await bound_to(settings, "trip") is None
