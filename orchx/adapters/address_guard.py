"""Which addresses orchx may be made to call: the defence against server-side request forgery.

Names are resolved here, every address is checked, and the connection goes to a checked
address: a name that answers differently the second time (DNS rebinding) gains nothing.
Source: OWASP "Server-Side Request Forgery Prevention"; RFC 6890 (special-purpose addresses);
IANA "IPv6 Address Space" (2000::/3).
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

# Public by their block, but a cloud's own plumbing.
_METADATA: Final = frozenset({ipaddress.ip_address("168.63.129.16")})
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
# All that has been given out as public. Outside of it stand, among others, wrappings of IPv4
# addresses that only a network of one's own unwraps: IPv4-compatible (::/96), SIIT
# (::ffff:0:0:0/96), NAT64 with a local prefix (64:ff9b:1::/48).
_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class AddressRefused(OSError):
    """This address may not be called. An `OSError`, so that clients pass it on as their own."""


class AddressGuard:
    """Decides which hosts and addresses may be called.

    Args:
        allow_private: whether loopback, link-local, private and metadata addresses may be.
        allowed_hosts: `host`, `host:port` or `*.domain`: these may be called wherever they
            are, private addresses included.
        only_allowed: whether nothing but `allowed_hosts` may be called.
    """

    def __init__(
        self,
        *,
        allow_private: bool = False,
        allowed_hosts: Sequence[str] = (),
        only_allowed: bool = False,
    ) -> None:
        self._allow_private = allow_private
        self._only_allowed = only_allowed
        self._allowed_hosts = frozenset(host.lower().rstrip(".") for host in allowed_hosts)

    def check_url(self, url: str) -> None:
        """Refuse what can be refused without resolving a name; the resolver does the rest.

        Raises:
            AddressRefused: another scheme than HTTP, no host, a host that is not listed
                where only listed ones may be called, or a literal address that may not be.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise AddressRefused(f"not a URL: {error}") from error
        if parts.scheme not in _DEFAULT_PORTS or not host:
            raise AddressRefused("only http and https URLs with a host may be called")
        port = port or _DEFAULT_PORTS[parts.scheme]
        if self._only_allowed and not self.is_listed(host, port):
            raise AddressRefused(f"{host}:{port} is not on the list of allowed hosts")
        try:
            address = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return  # a name
        self.check_addresses(host, port, [address])

    def check_addresses(self, host: str, port: int, addresses: Sequence[Address]) -> None:
        """Refuse a host if any of the addresses that its name stands for may not be called.

        Raises:
            AddressRefused: one of them is loopback, link-local, private, metadata or reserved.
        """
        if self._allow_private or self.is_listed(host, port):
            return
        if self._only_allowed:
            raise AddressRefused(f"{host}:{port} is not on the list of allowed hosts")
        for address in addresses:
            if not is_public(address):
                # Not which address: that would map the network for whoever asked.
                raise AddressRefused(f"{host} stands for an address that may not be called")

    def is_listed(self, host: str, port: int) -> bool:
        """Tell whether `host` on `port` is among the allowed hosts."""
        host = host.lower().rstrip(".")
        listed = self._allowed_hosts
        if not listed:
            return False
        if host in listed or f"{host}:{port}" in listed:
            return True
        labels = host.split(".")
        domains = ("*." + ".".join(labels[start:]) for start in range(1, len(labels)))
        return any(domain in listed or f"{domain}:{port}" in listed for domain in domains)


def is_public(address: Address) -> bool:
    """Tell whether an address is on the public internet, whatever it is wrapped in."""
    if isinstance(address, ipaddress.IPv6Address):
        embedded = address.ipv4_mapped or address.sixtofour
        if embedded is None and address.teredo is not None:
            embedded = address.teredo[1]
        if embedded is None and address in _NAT64:
            embedded = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if embedded is not None:
            return is_public(embedded)
        if address not in _GLOBAL_UNICAST:
            return False
    return address.is_global and not address.is_multicast and address not in _METADATA


class GuardedResolver(AbstractResolver):
    """Resolves names for an aiohttp connector, and passes on checked addresses only.

    Args:
        guard: decides.
        resolver: does the resolving; the system's, in a thread, by default.
    """

    def __init__(self, guard: AddressGuard, resolver: AbstractResolver | None = None) -> None:
        self._guard = guard
        self._resolver = resolver or ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of a host.

        Raises:
            AddressRefused: one of them may not be called.
            OSError: the name does not resolve.
        """
        found = await self._resolver.resolve(host, port, family)
        addresses = [ipaddress.ip_address(entry["host"].partition("%")[0]) for entry in found]
        self._guard.check_addresses(host, port, addresses)
        return found

    async def close(self) -> None:
        """Let go of the resolver."""
        await self._resolver.close()
