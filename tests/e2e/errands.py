"""Many workflows at once, submitted over HTTP by a client that does not give up."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from orchx.client import AsyncClient
from tests.e2e.conditions import eventually
from tests.e2e.server_process import ServerProcess

ERRAND_EFFECTS = (
    "hr.create-employee",
    "it.create-account",
    "it.grant-access",
    "it.provision-laptop",
    "hr.notify-manager",
    "mail.send-message",
)
SUM_EFFECTS = ("mail.send-message",)
AT_ONCE = 16


class Errands:
    """Submits requests in waves, each request under a key of its own.

    Args:
        server: where to.
        name: of the definition, in the namespace `e2e`.
        label: tells this crowd from others; part of every key and input.
        extra: more members of every request.
    """

    def __init__(
        self, server: ServerProcess, name: str, label: str, extra: dict[str, Any] | None = None
    ) -> None:
        self.workflow_ids: list[str] = []
        self._server = server
        self._name = name
        self._label = label
        self._extra = extra or {}
        self._submitted = 0

    def request(self, number: int) -> dict[str, Any]:
        """Return one request."""
        return {
            "definition": {"namespace": "e2e", "name": self._name},
            "input": {"name": f"{self._label}-{number}"},
            "labels": {"crowd": self._label},
            **self._extra,
        }

    async def submit(self, count: int) -> None:
        """Submit that many; returns once every one is acknowledged."""
        numbers = range(self._submitted, self._submitted + count)
        self._submitted += count
        gate = asyncio.Semaphore(AT_ONCE)
        async with self._server.async_client() as client:

            async def one(number: int) -> None:
                async with gate:
                    self.workflow_ids.append(await self._submit_one(client, number))

            async with asyncio.TaskGroup() as group:
                for number in numbers:
                    group.create_task(one(number))

    async def _submit_one(self, client: AsyncClient, number: int) -> str:
        key = f"{self._label}-{number}"
        return (await client.submit(self.request(number), key=key)).id

    def await_ends(self, timeout_s: float) -> dict[str, str]:
        """Wait until all that were acknowledged are over; return how each ended.

        Raises:
            AssertionError: some are not over within `timeout_s`; says which, and their state.
        """
        with self._server.client() as client:

            def unfinished() -> Sequence[tuple[str, str]]:
                left = client.list(
                    status=["pending", "running", "waiting", "suspended"],
                    label={"crowd": self._label},
                )
                return [(workflow.id, workflow.status) for workflow in left]

            def over() -> dict[str, str] | None:
                if unfinished():
                    return None
                known = {w.id: w.status for w in client.list(label={"crowd": self._label})}
                return known if known.keys() >= set(self.workflow_ids) else None

            try:
                return eventually(over, "ends", timeout_s=timeout_s, poll_s=0.2) or {}
            except AssertionError:
                raise AssertionError(f"still there after {timeout_s:g} s: {unfinished()}") from None
