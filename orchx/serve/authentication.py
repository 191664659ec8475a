"""Who is calling, and whether they may."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request

from orchx.errors import Forbidden, InvalidRequest, Unauthenticated
from orchx.ports.key_store import Scope
from orchx.serve.api_keys import ApiKeys
from orchx.settings import HttpSettings

_BEARER: Final = "bearer "


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A verified caller. `tenant` None: not bound to one."""

    name: str
    scopes: Sequence[Scope]
    tenant: str | None = None

    def require(self, scope: Scope, *, any_tenant: bool) -> None:
        """Refuse what the key does not allow.

        Args:
            scope: what the operation needs.
            any_tenant: whether the operation is open to keys bound to a tenant.

        Raises:
            Forbidden: the scope is missing, or the key is bound to a tenant.
        """
        if scope not in self.scopes and "admin" not in self.scopes:
            raise Forbidden(f"this needs a key with the scope {scope}")
        if not any_tenant and self.tenant is not None:
            raise Forbidden("this concerns all tenants; the key is bound to one")

    def tenant_for(self, wanted: str | None) -> str | None:
        """Return the tenant that a request is for: the wanted one, else the key's.

        Raises:
            Forbidden: the key is bound to another tenant.
        """
        if self.tenant is None:
            return wanted
        if wanted is not None and wanted != self.tenant:
            raise Forbidden(f"the key is bound to another tenant than {wanted}")
        return self.tenant

    def sees(self, tenant: str) -> bool:
        """Tell whether things of this tenant exist for the caller."""
        return self.tenant is None or self.tenant == tenant


ANYONE: Final = Caller(name="anyone", scopes=("admin",))


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address is this machine and nothing else."""
    name = host.strip().lower().strip("[]")
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def check_authentication_setting(settings: HttpSettings) -> None:
    """Refuse to serve strangers without authentication.

    Raises:
        InvalidRequest: authentication is off and the host is not loopback.
    """
    if settings.authentication == "off" and not is_loopback(settings.host):
        raise InvalidRequest(
            f"http.authentication=off is for loopback only, but http.host is {settings.host}"
        )


class Authenticator:
    """Finds out who is calling."""

    def __init__(self, keys: ApiKeys, settings: HttpSettings) -> None:
        self._keys = keys
        self._off = settings.authentication == "off"

    async def identify(self, request: Request) -> Caller:
        """Return the caller.

        Raises:
            Unauthenticated: no key, or not a valid one.
            Forbidden: without authentication, the request names a host that is not loopback.
            Unavailable: the keys cannot be read.
        """
        if self._off:
            _refuse_rebinding(request.headers.get("host", ""))
            return ANYONE
        given = request.headers.get("authorization")
        if given is None:
            raise Unauthenticated("this needs an API key: Authorization: Bearer orx_…")
        if given[: len(_BEARER)].lower() != _BEARER:
            raise Unauthenticated("the Authorization header must be: Bearer orx_…")
        key = await self._keys.verify(given[len(_BEARER) :].strip())
        return Caller(name=key.id, scopes=key.scopes, tenant=key.tenant)


def _refuse_rebinding(host: str) -> None:
    """A page in a browser can reach loopback under a name of its own (DNS rebinding)."""
    name = host[: host.rindex("]") + 1] if "]" in host else host.partition(":")[0]
    if host and not is_loopback(name):
        raise Forbidden("without authentication, the Host header must name loopback")
