"""What happens to a target, and how it is undone."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import Protocol

from tests.chaos.targets import Target
from tests.e2e import process_tree

SLOW_WRITES_PER_S = 20
SKEW_S = 120


class Fault(Protocol):
    """A fault that lasts from `strike` to `heal`."""

    @property
    def name(self) -> str:
        """What the table calls it."""

    def strike(self, target: Target) -> None:
        """Bring it about."""

    def heal(self, target: Target) -> None:
        """Take its cause away, and start again what has ended of it."""


class Kill:
    """`kill -9`, and a restart."""

    name = "kill -9"

    def strike(self, target: Target) -> None:
        for pid in target.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def heal(self, target: Target) -> None:
        target.revive()


class Stop:
    """The processes stand still, and go on."""

    name = "stop, continue"

    def strike(self, target: Target) -> None:
        for pid in target.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)

    def heal(self, target: Target) -> None:
        for pid in target.pids():
            process_tree.thaw(pid)
        target.revive()


class Cut:
    """A firewall drops what it sends and is sent."""

    name = "cut off"

    def strike(self, target: Target) -> None:
        target.cut()

    def heal(self, target: Target) -> None:
        target.mend()
        target.revive()


class FullDisk:
    """The disk has no byte left."""

    name = "disk full"

    def strike(self, target: Target) -> None:
        for disk in target.disks():
            disk.fill()

    def heal(self, target: Target) -> None:
        for disk in target.disks():
            disk.free()
        target.revive()


class SlowDisk:
    """The disk writes at a crawl."""

    name = f"disk at {SLOW_WRITES_PER_S} writes/s"

    def strike(self, target: Target) -> None:
        for disk in target.disks():
            disk.slow(SLOW_WRITES_PER_S)

    def heal(self, target: Target) -> None:
        for disk in target.disks():
            disk.quicken()
        target.revive()


class SkewedClock:
    """The wall clock jumps, and later back."""

    def __init__(self, ahead_s: int) -> None:
        self._ahead_s = ahead_s
        self.name = f"clock {ahead_s:+d} s"

    def strike(self, target: Target) -> None:
        for clock in target.clocks():
            clock.set(self._ahead_s)

    def heal(self, target: Target) -> None:
        for clock in target.clocks():
            clock.set(0)
        target.revive()


class Nothing:
    """Nothing happens: what the machine does by itself."""

    name = "nothing"

    def strike(self, target: Target) -> None:
        pass

    def heal(self, target: Target) -> None:
        pass
