"""OpenAPI documents, fetched once in a while and kept, failures too.

They are fetched anew after some minutes, and after a change in the catalog: whoever has changed an
API registers it again, and every pool hears of that within a second. A document that cannot be had
anew is used on for a while.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

import msgspec
import structlog
import yaml
import yarl

from orchx.adapters import http_faults
from orchx.domain.faults import Fault, WorkflowFault
from orchx.ports.clock import Clock

MAX_DOCUMENTS: Final = 64
MAX_DOCUMENT_BYTES: Final = 4_194_304
MAX_YAML_BYTES: Final = 1_048_576
FRESH_MS: Final = 300_000
FAILED_MS: Final = 5_000
"""How long a document that could not be had is not asked for again."""

STALE_MS: Final = 3_600_000
"""How long one that was had before is used while it cannot be had anew."""

_log = structlog.get_logger(__name__)

Fetch: TypeAlias = Callable[[yarl.URL, int], Awaitable[bytes]]
Document: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    until_ms: int
    fetched_ms: int = 0
    document: Document | None = None
    fault: Fault | None = None


class OpenApiDocuments:
    """A cache of documents by URL, bounded; one fetch at a time for each.

    Args:
        fetch: gets a URL's content, of at most so many bytes; raises `WorkflowFault`.
        clock: tells how old a document is.
    """

    def __init__(self, fetch: Fetch, clock: Clock) -> None:
        self._fetch = fetch
        self._clock = clock
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._fetching: dict[str, asyncio.Task[_Kept]] = {}
        self._expired = 0

    async def get(self, url: yarl.URL) -> Document:
        """Return a document.

        Raises:
            WorkflowFault: it cannot be had, or is no OpenAPI 3 or Swagger 2 document.
        """
        key = str(url)
        kept = self._kept.get(key)
        if kept is None or kept.until_ms <= self._clock.ticks_ms():
            task = self._fetching.get(key)
            if task is None:
                task = asyncio.ensure_future(self._load(url))
                self._fetching[key] = task
                task.add_done_callback(lambda done: self._fetched(key, done))
            # Shielded: the others who wait for it do not share this call's deadline.
            kept = await asyncio.shield(task)
        if kept.document is None:
            raise WorkflowFault(kept.fault or http_faults.bad_answer("no OpenAPI document", key))
        return kept.document

    def _fetched(self, key: str, task: asyncio.Task[_Kept]) -> None:
        if self._fetching.get(key) is task:
            del self._fetching[key]

    def expire(self) -> None:
        """Fetch whatever is kept anew when it is next needed, also what is being fetched now."""
        self._expired += 1
        for key, kept in self._kept.items():
            self._kept[key] = replace(kept, until_ms=0)
        self._fetching.clear()

    async def _load(self, url: yarl.URL) -> _Kept:
        key, expired, now_ms = str(url), self._expired, self._clock.ticks_ms()
        try:
            content = await self._fetch(url, MAX_DOCUMENT_BYTES)
            # Parsing a large document would hold up every other call.
            document = await asyncio.to_thread(parse, content)
            kept = _Kept(until_ms=now_ms + FRESH_MS, fetched_ms=now_ms, document=document)
        except WorkflowFault as failed:
            kept = self._failed(key, failed.fault)
        if expired != self._expired:  # it is of before the change
            return kept
        self._kept[key] = kept
        self._kept.move_to_end(key)
        while len(self._kept) > MAX_DOCUMENTS:
            self._kept.popitem(last=False)
        return kept

    def _failed(self, key: str, fault: Fault) -> _Kept:
        """Return what is used of a document that cannot be had: the one before, for a while."""
        now_ms, before = self._clock.ticks_ms(), self._kept.get(key)
        until_ms = now_ms + FAILED_MS
        if before is not None and before.document is not None:
            age_ms = now_ms - before.fetched_ms
            if age_ms < STALE_MS:
                place = str(yarl.URL(key).with_query(None))
                _log.warning("openapi.kept", place=place, age_ms=age_ms, error=fault.title)
                return replace(before, until_ms=until_ms)
        return _Kept(until_ms=until_ms, fault=fault)


def parse(content: bytes) -> Document:
    """Parse a document, JSON or YAML.

    Raises:
        WorkflowFault: it is neither, or not an OpenAPI document of a known version.
    """
    try:
        if content.lstrip()[:1] == b"{":
            document = msgspec.json.decode(content)
        elif len(content) > MAX_YAML_BYTES:
            raise ValueError(f"YAML of more than {MAX_YAML_BYTES} bytes; give JSON")
        else:
            document = yaml.load(content, Loader=yaml.CSafeLoader)
    except (msgspec.MsgspecError, yaml.YAMLError, ValueError, RecursionError) as error:
        fault = http_faults.bad_answer("malformed OpenAPI document", str(error))
        raise WorkflowFault(fault) from error
    version = ""
    if isinstance(document, dict):
        version = str(document.get("openapi") or document.get("swagger") or "")
    if not version.startswith(("3.", "2.")):
        detail = "neither an OpenAPI 3 nor a Swagger 2 document"
        raise WorkflowFault(http_faults.bad_answer("malformed OpenAPI document", detail))
    parsed: Document = document
    return parsed
