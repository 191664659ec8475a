"""Whether there is room for another request: by backlog, tenant share and deadline."""

from __future__ import annotations

from collections.abc import Mapping

from orchx.errors import InvalidRequest, Overloaded, Unavailable
from orchx.ports.supervision import Load
from orchx.settings import AdmissionSettings

BACKLOG_RETRY_S = 2.0


class Admission:
    """Keeps the last load that the Dispatcher told, and what was let in since."""

    def __init__(self, settings: AdmissionSettings) -> None:
        self._settings = settings
        self._load = Load(waiting=0, by_tenant={}, running=0)
        self._since = 0
        self._tenants_since: dict[str, int] = {}

    def update(self, load: Load) -> None:
        """Take what the Dispatcher says now; what it has said before changes nothing."""
        if load is self._load:
            return
        self._load = load
        self._since = 0
        self._tenants_since = {}

    def check(self, requests: Mapping[str, int], deadlines_ms: list[int], now_ms: int) -> None:
        """Let requests in (counted per tenant), or raise.

        Raises:
            InvalidRequest: a deadline has passed already.
            Unavailable: the backlog is full.
            Overloaded: a tenant's share of the backlog is full.
        """
        if any(deadline_ms <= now_ms for deadline_ms in deadlines_ms):
            raise InvalidRequest("the deadline has passed already")
        limit = self._settings.backlog_limit
        count = sum(requests.values())
        if self._load.waiting + self._since + count > limit:
            raise Unavailable(f"the backlog is full ({limit} requests wait)", BACKLOG_RETRY_S)
        share = max(1, int(limit * self._settings.tenant_share))
        for tenant, wanted in requests.items():
            waiting = self._load.by_tenant.get(tenant, 0) + self._tenants_since.get(tenant, 0)
            if waiting + wanted > share:
                detail = f"tenant {tenant!r} has its share of the backlog ({share}) in use"
                raise Overloaded(detail, BACKLOG_RETRY_S)
        self._since += count
        for tenant, wanted in requests.items():
            self._tenants_since[tenant] = self._tenants_since.get(tenant, 0) + wanted
