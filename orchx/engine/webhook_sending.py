"""What the reporter asks of whoever makes the HTTP calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from orchx.ports.deliveries import Delivery


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of one attempt.

    `status` is the HTTP status, None if there was no answer; then `error` says why. `refused`:
    orchx itself will not call this address, so another attempt is of no use.
    """

    status: int | None = None
    error: str | None = None
    retry_after_s: float | None = None
    refused: bool = False


class WebhookSender(Protocol):
    """Makes one attempt, within a time limit of its own."""

    async def send(self, delivery: Delivery, *, at_ms: int) -> Answer:
        """Sign the body for `at_ms` and send it. A failure is an answer, not an exception."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...
