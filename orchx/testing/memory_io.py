"""Where a simulator takes hold of the in-memory stores: before and after they change."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias

OnIo: TypeAlias = Callable[[str], Awaitable[None]]
"""Called with `store.operation:before` and `store.operation:after`, such as
`event_log.append:before`. What it raises goes to the caller: before, nothing has changed;
after, the change is durable but the caller never learns of it, as in a crash."""


async def reach(on_io: OnIo | None, point: str) -> None:
    """Let others run once, or let `on_io` decide what happens at this point."""
    if on_io is None:
        await asyncio.sleep(0)
    else:
        await on_io(point)
