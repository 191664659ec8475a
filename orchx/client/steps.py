"""What a client does, without doing it: plans that yield steps and are sent the replies.

A plan is a generator. It yields steps (send this, pause, read on, hand this to the caller)
and is sent what came of each; what it returns is the result. All of the client's logic is
in plans, once; `blocking` and `asynchronous` only carry out steps. A failure to exchange
anything is a reply too (`Lost`), so that plans alone decide what is tried again.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """Send a request. The reply is a `Reply`, or `Lost`.

    Args:
        method, path: the path is below the server's address.
        query: values that are sequences are repeated.
        headers, body: beside what every request carries.
        read_timeout_s: how long the server may be silent; None: the client's default.
        stream: leave the body to `Read`; only a 200 is streamed.
        retry: whether to try again what failed for a reason that may pass.
        retry_silence: also when the server did not answer in time, and may be at work still:
            for what the server knows again when it comes once more.
    """

    method: str
    path: str
    query: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    read_timeout_s: float | None = None
    stream: bool = False
    retry: bool = True
    retry_silence: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """Read on in the open stream. The reply is bytes (empty: it ended), or `Lost`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Wait for some seconds."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Now:
    """Look at the clock. The reply is in seconds that only grow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Emit:
    """Hand one value to the caller, who iterates."""

    value: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The server's answer. Header names are in lower case; `body` is empty for a stream."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """No answer, or no more of it. `silent`: the server may be at work on it still."""

    reason: str
    error: Exception | None = None
    silent: bool = False


Step: TypeAlias = Send | Read | Pause | Now | Emit
Plan: TypeAlias = Generator[Step, Any, T]
