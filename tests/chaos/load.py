"""Requests at a fixed rate, whatever the server does: an open loop, as real clients are one.

Each request has a key of its own and is tried again with it until it is accepted, after the
pause that the refusal asks for.
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from orchx.client.retries import PASSING

CONNECTIONS_MAX = 1_000
CONNECT_TIMEOUT_S = 3.0
ANSWER_TIMEOUT_S = 15.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 2.0
REASONS_MAX = 8
_REQUESTS = "/v1/requests"
_NUMBERS = re.compile(r"\b\w*\d\w*\b")


@dataclass(slots=True, kw_only=True)
class Request:
    """One request and what became of it; times are on the monotonic clock, in seconds."""

    key: str
    due_s: float
    accepted_s: float | None = None
    workflow_id: str | None = None
    refusals: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)


class Load(threading.Thread):
    """Submits `rate_per_s` requests a second until it is told to end; see `requests`.

    Args:
        url: of the server.
        api_key: that may submit.
        label: of this crowd, in every request; the keys begin with it.
        definition: namespace and name.
    """

    def __init__(
        self, url: str, api_key: str, label: str, *, definition: tuple[str, str], rate_per_s: float
    ) -> None:
        super().__init__(name=f"load-{label}", daemon=True)
        self.label = label
        self.rate_per_s = rate_per_s
        self.requests: list[Request] = []
        self.error: BaseException | None = None
        self._url = url + _REQUESTS
        self._headers = {"Authorization": f"Bearer {api_key}"}
        self._definition = dict(zip(("namespace", "name"), definition, strict=True))
        self._ends = threading.Event()
        self._gives_up = threading.Event()

    def run(self) -> None:
        """Submit; what goes wrong in here is kept in `error`."""
        try:
            asyncio.run(self._submit_all())
        except BaseException as error:
            self.error = error

    def stop(self) -> None:
        """Try nothing more, and wait for what is being tried."""
        self._ends.set()
        self._gives_up.set()
        self.join(ANSWER_TIMEOUT_S + CONNECT_TIMEOUT_S + LONGEST_PAUSE_S)

    def finish(self, timeout_s: float) -> None:
        """Wait until every request is accepted; those that are not by then never are."""
        self._ends.set()
        self.join(timeout_s)
        self.stop()
        if self.error is not None:
            raise self.error

    @property
    def workflow_ids(self) -> list[str]:
        """The workflows that were accepted."""
        return [each.workflow_id for each in self.requests if each.workflow_id]

    async def _submit_all(self) -> None:
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=ANSWER_TIMEOUT_S
        )
        connector = aiohttp.TCPConnector(limit=CONNECTIONS_MAX)
        begun_s = time.monotonic()
        async with (
            aiohttp.ClientSession(timeout=timeout, connector=connector) as http,
            asyncio.TaskGroup() as group,
        ):
            while not self._ends.is_set():
                due_s = begun_s + len(self.requests) / self.rate_per_s
                if (early_s := due_s - time.monotonic()) > 0:
                    await asyncio.sleep(early_s)
                request = Request(key=f"{self.label}-{len(self.requests)}", due_s=due_s)
                self.requests.append(request)
                group.create_task(self._submit(http, request))

    async def _submit(self, http: aiohttp.ClientSession, request: Request) -> None:
        pause_s = FIRST_PAUSE_S
        while not self._gives_up.is_set():
            refusal, asked_s = await self._try(http, request)
            if refusal is None:
                return
            request.refusals[refusal] += 1
            await asyncio.sleep(max(asked_s, pause_s))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _try(self, http: aiohttp.ClientSession, request: Request) -> tuple[str | None, float]:
        """Submit once; return why it was refused, and for how long the server asks to wait."""
        headers = {**self._headers, "Idempotency-Key": request.key}
        try:
            async with http.post(self._url, json=self._body(request), headers=headers) as response:
                told: Any = await response.json(content_type=None)
                if response.ok:
                    request.workflow_id = str(told["id"])
                    request.accepted_s = time.monotonic()
                    return None, 0.0
                asked_s = float(response.headers.get("Retry-After", 0))
                request.reasons[_reason_in(told)] += 1
                return f"{response.status}", min(asked_s, LONGEST_PAUSE_S)
        except TimeoutError:
            return "silence", 0.0
        except (aiohttp.ClientError, ValueError) as error:
            return type(error).__name__, 0.0

    def _body(self, request: Request) -> dict[str, Any]:
        return {
            "definition": self._definition,
            "input": {"name": request.key},
            "labels": {"crowd": self.label},
        }


def _reason_in(told: Any) -> str:
    detail = told.get("detail") if isinstance(told, dict) else None
    return _NUMBERS.sub("#", str(detail or "no reason"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """How requests were taken: counts, and seconds from when a request was due."""

    requests: int
    refused_then_accepted: int
    never_accepted: int
    longest_refusal_s: float
    refusals: dict[str, int]  # by status, `silence`, or what became of the connection
    wrong_answers: dict[str, int]  # that told the client to give up: 4xx, 500
    reasons: dict[str, int]  # that the answers gave, numbers and names left out

    @classmethod
    def of(cls, requests: list[Request]) -> Acceptance:
        """Sum up what became of requests."""
        refused = [each for each in requests if each.refusals]
        accepted = [each for each in refused if each.accepted_s is not None]
        passing = {str(status) for status in PASSING}
        refusals: Counter[str] = Counter()
        reasons: Counter[str] = Counter()
        for each in refused:
            refusals.update(each.refusals)
            reasons.update(each.reasons)
        wrong = {why: n for why, n in refusals.items() if why.isdigit() and why not in passing}
        return cls(
            requests=len(requests),
            refused_then_accepted=len(accepted),
            never_accepted=sum(each.accepted_s is None for each in requests),
            longest_refusal_s=max(
                (each.accepted_s - each.due_s for each in accepted if each.accepted_s), default=0.0
            ),
            refusals=dict(refusals),
            wrong_answers=wrong,
            reasons=dict(reasons.most_common(REASONS_MAX)),
        )
