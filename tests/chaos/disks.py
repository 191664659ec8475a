"""Disks that can run full and become slow: an ext4 image behind a loop device, with a limit.

Slow: the kernel's block throttle lets so many writes a second through to this device. Needs the
throttle of control groups' first version, whose root group may be limited too; then all writes
are, those of the journal included.
"""

from __future__ import annotations

import contextlib
import errno
from pathlib import Path

from tests.chaos.commands import output_of
from tests.chaos.network import END_TIMEOUT_S, PREFIX
from tests.e2e.conditions import eventually

_THROTTLE = Path("/sys/fs/cgroup/blkio/blkio.throttle.write_iops_device")
_FILLER = "filler"
_BLOCK = bytes(1 << 16)


class Disk:
    """A disk of `size_mb` at a folder, from the call of `attach` to that of `detach`."""

    def __init__(self, folder: Path, image: Path, *, size_mb: int) -> None:
        self.folder = folder
        self._image = image
        self._size_mb = size_mb
        self._device = ""

    def attach(self) -> None:
        """Make the disk and mount it."""
        self._image.parent.mkdir(parents=True, exist_ok=True)
        with self._image.open("wb") as image:
            image.truncate(self._size_mb << 20)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._device = output_of(("losetup", "--find", "--show", str(self._image))).strip()
        # No blocks kept back for root: what is full is full for everyone.
        output_of(("mkfs.ext4", "-q", "-m", "0", self._device))
        output_of(("mount", self._device, str(self.folder)))
        with contextlib.suppress(OSError):
            (self.folder / "lost+found").rmdir()

    def detach(self) -> None:
        """Unmount it, and forget what it held."""
        self.quicken()
        eventually(self._is_unmounted, f"{self.folder} to be let go of", timeout_s=END_TIMEOUT_S)
        output_of(("losetup", "--detach", self._device))
        self._image.unlink()

    def fill(self) -> None:
        """Take all the room that is left, to the last byte."""
        with (self.folder / _FILLER).open("ab", buffering=0) as filler:
            for block in (_BLOCK, b"\0"):
                try:
                    while filler.write(block):
                        pass
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise

    def free(self) -> None:
        """Give the room back."""
        (self.folder / _FILLER).unlink(missing_ok=True)

    def slow(self, writes_per_s: int) -> None:
        """Let only so many writes a second through."""
        _THROTTLE.write_text(f"{self._number()} {writes_per_s}")

    def quicken(self) -> None:
        """Let all through again."""
        if can_slow() and self._device:
            _THROTTLE.write_text(f"{self._number()} 0")

    def _is_unmounted(self) -> bool:
        """Unmount it, unless somebody who was killed has not quite ended."""
        try:
            output_of(("umount", str(self.folder)))
        except RuntimeError:
            return False
        return True

    def _number(self) -> str:
        return (Path("/sys/block") / Path(self._device).name / "dev").read_text().strip()


def can_slow() -> bool:
    """Tell whether this kernel can limit a device's writes for everyone."""
    return _THROTTLE.exists()


def remove_leftovers() -> None:
    """Unmount and detach the disks of a harness that was killed."""
    for line in Path("/proc/mounts").read_text().splitlines():
        device, folder, kind, *_ = line.split()
        if kind == "ext4" and f"/{PREFIX}" in folder and device.startswith("/dev/loop"):
            output_of(("umount", "--lazy", folder))
    for line in output_of(("losetup", "--list", "--noheadings", "-O", "NAME,BACK-FILE")).split(
        "\n"
    ):
        device, _, image = line.strip().partition(" ")
        if f"/{PREFIX}" in image:
            output_of(("losetup", "--detach", device))
