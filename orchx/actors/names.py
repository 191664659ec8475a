"""The names of the actors in orchx's Ray namespace."""

from __future__ import annotations

import re
from typing import Final

from orchx.settings import Settings

DISPATCHER = "dispatcher"
PROJECTOR = "projector"
REPORTER = "reporter"
_NUMBERED: Final = re.compile(r"(owner-(shared|dedicated)|pool)-\d+")


def shared_owners(settings: Settings) -> list[str]:
    """Return the names of the owners that multiplex workflows."""
    return [f"owner-shared-{number}" for number in range(settings.owners.shared)]


def dedicated_owners(settings: Settings) -> list[str]:
    """Return the names of the owners that take one workflow at a time."""
    return [f"owner-dedicated-{number}" for number in range(settings.owners.dedicated)]


def is_numbered(name: str) -> bool:
    """Tell whether a name is that of an owner or a pool, however many the settings now want."""
    return bool(_NUMBERED.fullmatch(name))


def is_pool(name: str) -> bool:
    """Tell whether a name is that of a pool."""
    return is_numbered(name) and name.startswith("pool-")


def everything(settings: Settings) -> list[str]:
    """Return the names of all actors, in the order in which they are stopped."""
    return [
        DISPATCHER,
        *shared_owners(settings),
        *dedicated_owners(settings),
        *pools(settings),
        REPORTER,
        PROJECTOR,
    ]


def pools(settings: Settings) -> list[str]:
    """Return the names of the task pools' actors."""
    return [f"pool-{number}" for number in range(settings.pools.io_actors)]
