"""How much of one turn of the event loop decisions may take."""

from __future__ import annotations

import asyncio

from orchx.engine.environment import MAX_TURN_S, World


class LoopShare:
    """Tells whether decisions have had their share of this turn of the loop.

    A thousand short turns keep the loop as long as one that does not end. Whoever finds the
    share spent goes on in the next turn of the loop, after everybody else who is waiting.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._until_s: float | None = None  # None: nothing has begun in this turn of the loop

    def begin(self) -> bool:
        """Count from now on; False if something has begun before."""
        if self._until_s is not None:
            return False
        self._until_s = self._world.ticks_s() + MAX_TURN_S
        asyncio.get_running_loop().call_soon(self._renew)
        return True

    def spent(self) -> bool:
        """Return whether others should have the loop now; whoever begins has it in any case."""
        return not self.begin() and self._world.ticks_s() >= (self._until_s or 0.0)

    async def wait(self) -> None:
        """Return once there is something left to spend."""
        while self.spent():  # noqa: ASYNC110  who waits goes on in the order in which they came
            await asyncio.sleep(0)

    def _renew(self) -> None:
        self._until_s = None
