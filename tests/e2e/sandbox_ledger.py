"""What the sandbox's services have done, asked over HTTP."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import httpx

PAGE_EFFECTS = 1_000


class SandboxLedger:
    """Reads effects on from where it stands; `effects` are all of them so far."""

    def __init__(self, url: str) -> None:
        self.effects: list[dict[str, Any]] = []
        self._http = httpx.Client(base_url=url, timeout=30)
        self._since = 0

    def begin(self) -> None:
        """Count from here on: what was done before is somebody else's."""
        self.read()
        self.effects = []

    def read(self) -> int:
        """Read what is new and return how many effects there are."""
        more = True
        while more:
            query = {"since": self._since, "limit": PAGE_EFFECTS}
            page = self._http.get("/ledger", params=query).raise_for_status().json()
            self.effects += page["effects"]
            self._since, more = page["next_since"], page["more"]
        return len(self.effects)

    def disturb(self, service: str, **settings: Any) -> None:
        """Have a service misbehave."""
        self._http.put(f"/faults/{service}", json=settings).raise_for_status()

    def calm(self) -> None:
        """Have all services behave."""
        self._http.delete("/faults").raise_for_status()

    def deliveries(self, system: str) -> list[dict[str, Any]]:
        """Return the webhooks that a system has received."""
        found: list[dict[str, Any]] = []
        page: list[dict[str, Any]] = [{"seq": 0}]
        while page:
            query = {"since": page[-1]["seq"], "limit": PAGE_EFFECTS}
            page = self._http.get(f"/inbox/{system}", params=query).raise_for_status().json()
            found += page
        return found

    def check(self, workflow_ids: Iterable[str], operations: Iterable[str]) -> tuple[int, int]:
        """Return how many effects are missing, and how many were made more than once.

        Args:
            workflow_ids: those that have ended well.
            operations: what each of them does, once.
        """
        self.read()
        times = Counter((effect["workflow"], effect["operation"]) for effect in self.effects)
        wanted = [(id_, operation) for id_ in workflow_ids for operation in operations]
        missing = sum(times[pair] == 0 for pair in wanted)
        doubled = sum(count - 1 for count in times.values() if count > 1)
        return missing, doubled

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()
