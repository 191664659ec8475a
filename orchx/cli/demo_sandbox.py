"""The demo's side door to the sandbox: faults, ledgers and inboxes, over its HTTP controls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Final, Self

import httpx

PAGE: Final = 1_000
TIMEOUT_S: Final = 10.0


class SandboxControl:
    """Talks to one sandbox; threads may share it.

    Raises:
        httpx.HTTPError: from every method, when the sandbox does not answer as it should.
    """

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=TIMEOUT_S, trust_env=False)

    def disturb(self, service: str, operation: str | None, settings: Mapping[str, Any]) -> None:
        """Let a service, or one of its operations, misbehave from now on."""
        self._call("PUT", _fault_path(service, operation), settings)

    def calm(self, service: str, operation: str | None) -> None:
        """Let it behave again."""
        self._call("DELETE", _fault_path(service, operation))

    def faults(self) -> list[dict[str, Any]]:
        """Return every plan in force, with what it has injected so far."""
        report: list[dict[str, Any]] = self._call("GET", "/faults").json()
        return report

    def share_secret(self, system: str, secret: str) -> None:
        """Tell a system's inbox the secret that webhooks are signed with."""
        self._call("PUT", f"/inbox/{system}/secret", {"secret": secret})

    def effects(self, since: int = 0) -> Iterator[dict[str, Any]]:
        """Iterate over the ledgers' entries numbered above `since`, oldest first."""
        more = True
        while more:
            page = self._call("GET", f"/ledger?since={since}&limit={PAGE}").json()
            yield from page["effects"]
            since, more = page["next_since"], page["more"]

    def deliveries(self, system: str, since: int = 0) -> Iterator[dict[str, Any]]:
        """Iterate over what a system's inbox got, numbered above `since`, oldest first."""
        while True:
            page = self._call("GET", f"/inbox/{system}?since={since}&limit={PAGE}").json()
            yield from page
            if len(page) < PAGE:
                return
            since = page[-1]["seq"]

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> httpx.Response:
        return self._http.request(method, path, json=body).raise_for_status()


def _fault_path(service: str, operation: str | None) -> str:
    return f"/faults/{service}" + (f"/{operation}" if operation else "")
