"""Where the server is and how patient to be: what both faces of the client are made with."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from orchx.client.retries import RetryPolicy
from orchx.client.steps import Lost, Reply, Send
from orchx.errors import InvalidRequest, Violation

DEFAULT_URL: Final = "http://127.0.0.1:8600"
URL_VARIABLE: Final = "ORCHX_URL"
API_KEY_VARIABLE: Final = "ORCHX_API_KEY"
MAX_CONNECTIONS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long to wait: to connect, for a silent server, to send, for a free connection."""

    connect_s: float = 5.0
    read_s: float = 30.0
    write_s: float = 30.0
    pool_s: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """Everything that a client is told at its construction.

    Args:
        url: of the server, without a path or with the one it is served below.
        api_key: None sends none.
    """

    url: str
    api_key: str | None = field(repr=False)
    timeouts: Timeouts
    retries: RetryPolicy

    @classmethod
    def of(
        cls,
        url: str | None,
        api_key: str | None,
        timeouts: Timeouts | None,
        retries: RetryPolicy | None,
    ) -> Connection:
        """Return a connection; what is None comes from the environment, else the defaults.

        Raises:
            InvalidRequest: the URL is none, or the key cannot stand in a header.
        """
        address = (url or os.environ.get(URL_VARIABLE) or DEFAULT_URL).rstrip("/")
        key = api_key or os.environ.get(API_KEY_VARIABLE) or None
        check_url(address)
        if key is not None and not (key.isascii() and key.isprintable() and " " not in key):
            raise InvalidRequest("the API key must be visible ASCII characters")
        return cls(
            url=address,
            api_key=key,
            timeouts=timeouts or Timeouts(),
            retries=retries or RetryPolicy(),
        )

    def http_options(self) -> dict[str, Any]:
        """Return the arguments for httpx's client, blocking or not."""
        timeouts = self.timeouts
        headers = {"User-Agent": f"orchx-client/{_version()}", "Accept": "application/json"}
        if self.api_key is not None:
            headers["Authorization"] = f"Bearer {self.api_key}"
        return {
            "base_url": self.url,
            "headers": headers,
            "timeout": httpx.Timeout(
                connect=timeouts.connect_s,
                read=timeouts.read_s,
                write=timeouts.write_s,
                pool=timeouts.pool_s,
            ),
            "limits": httpx.Limits(max_connections=MAX_CONNECTIONS),
        }

    def request_options(self, send: Send) -> dict[str, Any]:
        """Return the arguments for httpx's `build_request`."""
        options: dict[str, Any] = {
            "method": send.method,
            "url": send.path,
            "headers": dict(send.headers),
            "content": send.body,
        }
        if send.query:
            options["params"] = dict(send.query)
        if send.read_timeout_s is not None:
            timeouts = self.timeouts
            options["timeout"] = httpx.Timeout(
                connect=timeouts.connect_s,
                read=send.read_timeout_s,
                write=timeouts.write_s,
                pool=timeouts.pool_s,
            )
        return options

    def lost(self, error: httpx.TransportError) -> Lost:
        """Return what a failure of the transport means for a plan."""
        cause = str(error) or type(error).__name__
        if isinstance(error, httpx.ConnectTimeout):
            return Lost(reason=f"{self.url} cannot be reached: no answer in time", error=error)
        if isinstance(error, httpx.ConnectError):
            return Lost(reason=f"{self.url} cannot be reached: {cause}", error=error)
        if isinstance(error, httpx.TimeoutException):
            return Lost(reason=f"{self.url} did not answer in time", error=error, silent=True)
        return Lost(reason=f"the connection to {self.url} broke: {cause}", error=error)


def reply_of(response: httpx.Response, body: bytes) -> Reply:
    """Return httpx's response as a plan sees it."""
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Reply(status=response.status_code, headers=headers, body=body)


def check_url(url: str) -> None:
    """Check that a server can be looked for at `url`.

    Raises:
        InvalidRequest: it is no address.
    """
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname)
        valid = valid and not (parts.query or parts.fragment) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        violation = Violation(
            pointer="url", message="is no address", found=url, expected="http://HOST:PORT"
        )
        raise InvalidRequest("the server's URL is wrong", (violation,))


def _version() -> str:
    try:
        return version("orchx")
    except PackageNotFoundError:
        return "unknown"
