"""OpenAPI documents, fetched once in a while and kept, failures too."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import msgspec
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

Fetch: TypeAlias = Callable[[yarl.URL, int], Awaitable[bytes]]
Document: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    until_ms: int
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

    async def get(self, url: yarl.URL) -> Document:
        """Return a document.

        Raises:
            WorkflowFault: it cannot be had, or is no OpenAPI 3 or Swagger 2 document.
        """
        key = str(url)
        kept = self._kept.get(key)
        if kept is None or kept.until_ms <= self._clock.now_ms():
            task = self._fetching.get(key)
            if task is None:
                task = asyncio.ensure_future(self._load(url))
                self._fetching[key] = task
                task.add_done_callback(lambda _: self._fetching.pop(key, None))
            # Shielded: the others who wait for it do not share this call's deadline.
            kept = await asyncio.shield(task)
        if kept.document is None:
            raise WorkflowFault(kept.fault or http_faults.bad_answer("no OpenAPI document", key))
        return kept.document

    async def _load(self, url: yarl.URL) -> _Kept:
        try:
            content = await self._fetch(url, MAX_DOCUMENT_BYTES)
            # Parsing a large document would hold up every other call.
            document = await asyncio.to_thread(parse, content)
            kept = _Kept(until_ms=self._clock.now_ms() + FRESH_MS, document=document)
        except WorkflowFault as failed:
            kept = _Kept(until_ms=self._clock.now_ms() + FAILED_MS, fault=failed.fault)
        key = str(url)
        self._kept[key] = kept
        self._kept.move_to_end(key)
        while len(self._kept) > MAX_DOCUMENTS:
            self._kept.popitem(last=False)
        return kept


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
