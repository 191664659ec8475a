"""Webhooks over HTTP: signed as Standard Webhooks 1.0, and only to where they may go."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

import aiohttp
from standardwebhooks import Webhook
from yarl import URL

from orchx.adapters.address_guard import AddressGuard, AddressRefused, GuardedResolver
from orchx.adapters.retry_after import retry_after_ms
from orchx.adapters.webhook_secret import tenant_secret
from orchx.engine.webhook_sending import Answer
from orchx.errors import InvalidRequest, Violation
from orchx.ports.deliveries import Delivery
from orchx.settings import Settings

URL_CHARS_LIMIT: Final = 2_048
RESPONSE_BYTES_LIMIT: Final = 16_384
"""Read of a response body, so that its connection can be used again; beyond, it is closed."""
KEEPALIVE_S: Final = 30.0
CONTENT_TYPE: Final = "application/cloudevents+json; charset=utf-8"
USER_AGENT: Final = "orchx-webhooks/1"


class HttpWebhookSender:
    """Makes attempts with aiohttp. Build it inside the event loop that uses it.

    `secret` is `whsec_` and base64; each tenant's webhooks are signed with one of its own that
    is derived from it. Redirects are not followed: they would go round the check of the
    address. No cookies, no proxies from the environment.
    """

    def __init__(
        self, settings: Settings, secret: str, *, guard: AddressGuard | None = None
    ) -> None:
        webhooks = settings.webhooks
        self._secret = secret
        self._guard = guard or callback_guard(settings)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=GuardedResolver(self._guard),
                use_dns_cache=False,
                limit=webhooks.concurrency,
                keepalive_timeout=KEEPALIVE_S,
            ),
            timeout=aiohttp.ClientTimeout(total=webhooks.timeout_ms / 1000),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": USER_AGENT},
            auto_decompress=False,
            trust_env=False,
        )

    async def send(self, delivery: Delivery, *, at_ms: int) -> Answer:
        """Sign the body for `at_ms`, send it, and say what came back."""
        try:
            url = URL(delivery.url)
            self._guard.check_url(str(url))  # literal addresses, which aiohttp does not resolve
            async with self._session.post(
                url,
                data=delivery.body,
                headers=self._headers(delivery, at_ms),
                allow_redirects=False,
            ) as response:
                asked_ms = retry_after_ms(response.headers.get("Retry-After"), at_ms)
                await _drain(response)
                return Answer(
                    status=response.status,
                    retry_after_s=None if asked_ms is None else asked_ms / 1000,
                )
        except AddressRefused as error:
            return Answer(error=str(error), refused=True)
        except (aiohttp.InvalidURL, ValueError) as error:
            return Answer(error=f"the callback URL cannot be called: {error}", refused=True)
        except TimeoutError:
            return Answer(error="no answer in time")
        except (aiohttp.ClientError, OSError) as error:
            refusal = _refusal_in(error)
            if refusal is not None:
                return Answer(error=str(refusal), refused=True)
            return Answer(error=f"{type(error).__name__}: {error}")

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    def _headers(self, delivery: Delivery, at_ms: int) -> dict[str, str]:
        at = datetime.fromtimestamp(at_ms // 1000, tz=UTC)
        webhook = Webhook(tenant_secret(self._secret, delivery.tenant))
        return {
            "Content-Type": CONTENT_TYPE,
            "webhook-id": delivery.id,
            "webhook-timestamp": str(at_ms // 1000),
            "webhook-signature": webhook.sign(delivery.id, at, delivery.body.decode()),
        }


def callback_guard(settings: Settings) -> AddressGuard:
    """Return the guard that callbacks are checked with: public addresses and the allow-list."""
    return AddressGuard(allow_private=False, allowed_hosts=settings.webhooks.allowed_hosts)


def check_callback_url(url: str, settings: Settings, *, pointer: str = "/callback/url") -> None:
    """Check what can be known of a callback URL without asking DNS.

    `pointer` is the JSON pointer to the URL in the caller's document.

    Raises:
        InvalidRequest: no callback can ever go there.
    """
    try:
        _check_callback_url(url, settings)
    except InvalidRequest as error:
        violation = Violation(
            pointer=pointer, message=error.detail
        )  # not the URL: it may hold secrets
        raise InvalidRequest("the callback URL cannot be used", (violation,)) from error


def _check_callback_url(url: str, settings: Settings) -> None:
    if len(url) > URL_CHARS_LIMIT:
        raise InvalidRequest(f"a callback URL has at most {URL_CHARS_LIMIT} characters")
    if any(character <= " " or character == "\x7f" for character in url):
        raise InvalidRequest("a URL holds no spaces or control characters")
    try:
        parts = urlsplit(url)
        parsed = URL(url)
        host, port = parsed.host, parsed.port
    except ValueError as error:
        raise InvalidRequest(f"this is not a URL: {error}") from error
    if parts.scheme not in {"http", "https"}:
        raise InvalidRequest("the scheme must be http or https")
    if "@" in parts.netloc:
        raise InvalidRequest("a URL with credentials is not accepted: it would end up in logs")
    if not host or not port:
        raise InvalidRequest("the URL names no host or no valid port")
    if ":" not in host and not _is_host_name(parsed.raw_host or ""):
        raise InvalidRequest(f"{host!r} is not a host name")
    guard = callback_guard(settings)
    try:
        guard.check_url(str(parsed))
    except AddressRefused as error:
        raise InvalidRequest(str(error)) from error
    if _is_this_machine(host) and not guard.is_listed(host, port):
        raise InvalidRequest(f"{host} is this machine, and no allowed host")


def _is_this_machine(host: str) -> bool:
    name = host.lower().rstrip(".")
    return name == "localhost" or name.endswith(".localhost")


def _refusal_in(error: BaseException | None) -> AddressRefused | None:
    """Return the guard's refusal that an error of aiohttp's wraps, if any."""
    while error is not None and not isinstance(error, AddressRefused):
        error = error.__cause__
    return error


def _is_host_name(host: str) -> bool:
    """Return whether this is a DNS name (RFC 1123), in its ASCII form."""
    labels = host.removesuffix(".").split(".")
    return len(host) <= 253 and all(
        0 < len(label) <= 63
        and label.isascii()
        and label.replace("-", "").replace("_", "").isalnum()
        and not label.startswith("-")
        and not label.endswith("-")
        for label in labels
    )


async def _drain(response: aiohttp.ClientResponse) -> None:
    """Read a little of the body; close the connection if there is more."""
    left = RESPONSE_BYTES_LIMIT
    try:
        while left > 0:
            chunk = await response.content.read(left)
            if not chunk:
                return
            left -= len(chunk)
    except (aiohttp.ClientError, OSError):  # the status came: that is all that counts
        pass
    response.close()
