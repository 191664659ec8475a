"""How many calls may be open at once: slots held as leases, which end by themselves."""

from __future__ import annotations

from collections.abc import Hashable


class CallLeases:
    """At most `limit` holders at once; a lease that is not given back ends at its time.

    `limit` may change while leases are out: no new lease is given until enough have ended.
    """

    __slots__ = ("_earliest_ms", "_expiry_ms", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = max(1, limit)
        self._expiry_ms: dict[Hashable, int] = {}
        self._earliest_ms: int | None = None  # not later than the first expiry

    def __len__(self) -> int:
        return len(self._expiry_ms)

    def is_full(self, now_ms: int) -> bool:
        """Tell whether no slot is free at `now_ms`."""
        if len(self._expiry_ms) < self.limit:
            return False
        self.expire(now_ms)
        return len(self._expiry_ms) >= self.limit

    def take(self, holder: Hashable, expires_ms: int, now_ms: int) -> bool:
        """Give `holder` a slot until `expires_ms`; False if none is free or it has one."""
        if holder in self._expiry_ms or self.is_full(now_ms):
            return False
        self._expiry_ms[holder] = expires_ms
        if self._earliest_ms is None or expires_ms < self._earliest_ms:
            self._earliest_ms = expires_ms
        return True

    def give_back(self, holder: Hashable) -> bool:
        """End a lease; False if it had ended by itself."""
        return self._expiry_ms.pop(holder, None) is not None

    def expire(self, now_ms: int) -> None:
        """End every lease whose time has come."""
        if self._earliest_ms is None or now_ms < self._earliest_ms:
            return
        self._expiry_ms = {
            holder: expires_ms
            for holder, expires_ms in self._expiry_ms.items()
            if expires_ms > now_ms
        }
        self._earliest_ms = min(self._expiry_ms.values(), default=None)
