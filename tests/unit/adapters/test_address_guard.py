from __future__ import annotations

import ipaddress
import socket

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from orchx.adapters.address_guard import AddressGuard, AddressRefused, GuardedResolver, is_public


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "169.254.169.254",
        "100.100.100.200",
        "168.63.129.16",
        "0.0.0.0",  # noqa: S104 (an address to refuse)
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fd00:ec2::254",
        "fe80::1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "64:ff9b:1::8.8.8.8",  # NAT64 of one's own network
        "64:ff9b:1:7f00:0:100::",
        "::127.0.0.1",  # IPv4-compatible
        "::10.0.0.1",
        "::8.8.8.8",
        "::ffff:0:127.0.0.1",  # SIIT
        "::ffff:0:8.8.8.8",
        "5f00::1",  # segment routing
        "4000::1",  # not given out to anybody
    ],
)
def test_what_is_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8",
        "2606:4700:4700::1111",
        "2a00:1450:4001::8a",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
        "2002:808:808::",
    ],
)
def test_what_is_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "http:///x",
        "http://[::1]/",
        "http://127.0.0.1:1/",
        "http://a:x/",
        "http://[::127.0.0.1]/",
        "http://[::ffff:0:7f00:1]/",
        "http://[64:ff9b:1::7f00:1]/",
    ],
)
def test_urls_that_are_refused_at_sight(url: str) -> None:
    with pytest.raises(AddressRefused):
        AddressGuard().check_url(url)


@pytest.mark.parametrize(
    ("url", "is_allowed"),
    [
        ("http://10.0.0.1/", True),
        ("http://hr.corp:8443/", True),
        ("https://HR.corp./", False),
        ("http://a.b.example.com/", True),
        ("http://example.com/", False),
        ("http://evilexample.com/", False),
    ],
)
def test_a_list_of_hosts(url: str, is_allowed: bool) -> None:
    hosts = ("10.0.0.1", "hr.corp:8443", "*.example.com")
    guard = AddressGuard(allowed_hosts=hosts, only_allowed=True)
    if is_allowed:
        guard.check_url(url)
        return
    with pytest.raises(AddressRefused):
        guard.check_url(url)


class Rebinding(AbstractResolver):
    """Answers with a public address first, then with a private one."""

    def __init__(self) -> None:
        self.answers = ["8.8.8.8", "10.0.0.1"]

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        address = self.answers.pop(0)
        return [
            ResolveResult(
                hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0
            )
        ]

    async def close(self) -> None: ...


async def test_every_answer_is_checked() -> None:
    resolver = GuardedResolver(AddressGuard(), Rebinding())
    assert (await resolver.resolve("evil.example", 80))[0]["host"] == "8.8.8.8"
    with pytest.raises(AddressRefused):
        await resolver.resolve("evil.example", 80)
