"""API documents: kept, fetched anew after a change of the catalog, used on while that fails."""

from __future__ import annotations

import asyncio

import pytest
import structlog
import yarl

from orchx.adapters import http_faults
from orchx.adapters.openapi_documents import (
    FAILED_MS,
    FRESH_MS,
    MAX_DOCUMENTS,
    STALE_MS,
    OpenApiDocuments,
)
from orchx.domain.faults import WorkflowFault
from orchx.testing.virtual_clock import VirtualClock

URL = yarl.URL("http://it.example/openapi.json?token=s3cret")


class Site:
    """Serves a document by its number; may be down, or slow."""

    def __init__(self) -> None:
        self.version = 1
        self.fetches = 0
        self.down = False
        self.answers = asyncio.Event()
        self.answers.set()

    async def fetch(self, url: yarl.URL, limit_bytes: int) -> bytes:
        self.fetches += 1
        content = b'{"openapi": "3.1.0", "info": {"version": "%d"}}' % self.version
        await self.answers.wait()
        if self.down:
            raise WorkflowFault(http_faults.bad_answer("no OpenAPI document", "it is down"))
        return content


class Rig:
    def __init__(self) -> None:
        self.site, self.clock = Site(), VirtualClock()
        self.documents = OpenApiDocuments(self.site.fetch, self.clock)

    async def version(self, url: yarl.URL = URL) -> int:
        return int((await self.documents.get(url))["info"]["version"])

    async def later(self, delay_ms: int) -> None:
        await self.clock.advance(delay_ms / 1000)


@pytest.fixture
async def rig() -> Rig:
    return Rig()


async def test_a_document_is_kept_for_a_while(rig: Rig) -> None:
    assert [await rig.version() for _ in range(3)] == [1, 1, 1]
    rig.site.version = 2
    await rig.later(FRESH_MS - 1)
    assert (await rig.version(), rig.site.fetches) == (1, 1)
    await rig.later(1)
    assert (await rig.version(), rig.site.fetches) == (2, 2)


async def test_a_change_of_the_catalog_has_it_fetched_anew_once(rig: Rig) -> None:
    await rig.version()
    rig.site.version = 2
    rig.documents.expire()
    assert rig.site.fetches == 1  # nobody has needed it yet
    assert await asyncio.gather(*(rig.version() for _ in range(5))) == [2] * 5
    assert rig.site.fetches == 2


async def test_what_was_being_fetched_during_a_change_is_fetched_again(rig: Rig) -> None:
    slow = rig.site.answers = asyncio.Event()
    before = asyncio.create_task(rig.version())
    await rig.later(0)
    rig.site.version = 2
    rig.site.answers = asyncio.Event()
    rig.site.answers.set()
    rig.documents.expire()
    assert await rig.version() == 2
    slow.set()
    assert await before == 1  # whoever had asked before gets what was there before
    assert (await rig.version(), rig.site.fetches) == (2, 2)


async def test_one_that_cannot_be_had_anew_is_used_on_and_a_line_says_so(rig: Rig) -> None:
    await rig.version()
    rig.site.down = True
    rig.documents.expire()
    with structlog.testing.capture_logs() as logs:
        assert [await rig.version() for _ in range(3)] == [1, 1, 1]
    assert rig.site.fetches == 2  # not again at once
    (line,) = logs
    assert line["event"] == "openapi.kept"
    assert "s3cret" not in str(line)
    await rig.later(FAILED_MS)
    rig.site.down, rig.site.version = False, 2
    assert await rig.version() == 2


async def test_not_for_ever(rig: Rig) -> None:
    await rig.version()
    rig.site.down = True
    await rig.later(STALE_MS - 1)
    assert await rig.version() == 1
    await rig.later(FAILED_MS)
    with pytest.raises(WorkflowFault, match="it is down"):
        await rig.version()


async def test_what_never_was_there_fails_and_is_asked_for_again_after_a_change(rig: Rig) -> None:
    rig.site.down = True
    for _ in range(2):
        with pytest.raises(WorkflowFault):
            await rig.version()
    assert rig.site.fetches == 1
    rig.site.down = False
    rig.documents.expire()
    assert await rig.version() == 1


async def test_no_more_are_kept_than_may_be(rig: Rig) -> None:
    for number in range(MAX_DOCUMENTS + 1):
        await rig.version(URL.with_path(f"/{number}"))
    await rig.version(URL.with_path(f"/{MAX_DOCUMENTS}"))
    assert rig.site.fetches == MAX_DOCUMENTS + 1
    await rig.version(URL.with_path("/0"))
    assert rig.site.fetches == MAX_DOCUMENTS + 2
