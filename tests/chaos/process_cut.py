"""Cutting one process off from other machines while its neighbours on the same one are not.

The kernel marks the packets of a control group's processes (net_cls), those of open
connections too, and the firewall drops what is marked: the process lives, and hears and says
nothing. Its replies to what still arrives are dropped as well, so that nothing gets through.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.chaos.commands import output_of
from tests.chaos.network import PREFIX, Machine

_MARK = "0x00c40001"
_GROUP = f"{PREFIX}cut"
_TABLE = "inet orchx_chaos_process"
_CUT = """\
table {table} {{
  chain arriving {{
    type filter hook input priority 0;
    meta cgroup {mark} ip saddr {{ {addresses} }} drop
  }}
  chain leaving {{
    type filter hook output priority 0;
    meta cgroup {mark} ip daddr {{ {addresses} }} drop
  }}
}}
"""


class ProcessCut:
    """One machine's processes, and the machines that some of them shall not reach."""

    def __init__(self, machine: Machine, unreachable: Sequence[Machine]) -> None:
        self._machine = machine
        self._unreachable = unreachable

    def cut(self, pids: Iterable[int]) -> None:
        """Cut these processes off.

        Raises:
            RuntimeError, OSError: this kernel has no net_cls control groups.
        """
        group = _hierarchy() / _GROUP
        group.mkdir(exist_ok=True)
        (group / "net_cls.classid").write_text(_MARK)
        for pid in pids:
            (group / "cgroup.procs").write_text(str(pid))
        addresses = ", ".join(each.address for each in self._unreachable)
        self._machine.firewall(_CUT.format(table=_TABLE, mark=_MARK, addresses=addresses))

    def mend(self) -> None:
        """Let them speak again."""
        self._machine.firewall(f"delete table {_TABLE}\n")
        empty_group()


def empty_group() -> None:
    """Put what is in the control group back where it was, and remove the group."""
    for hierarchy in _mounted():
        group = hierarchy / _GROUP
        if not group.exists():
            continue
        for pid in (group / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                (hierarchy / "cgroup.procs").write_text(pid)
        group.rmdir()


def unmount() -> None:
    """Remove the control group, and unmount the hierarchy if it was mounted here."""
    empty_group()
    for hierarchy in _mounted():
        if hierarchy == _own_mount():
            output_of(("umount", str(hierarchy)))
            hierarchy.rmdir()


def _hierarchy() -> Path:
    """Return where net_cls is mounted, mounting it if need be."""
    for hierarchy in _mounted():
        return hierarchy
    own = _own_mount()
    own.mkdir(exist_ok=True)
    output_of(("mount", "-t", "cgroup", "-o", "net_cls", "none", str(own)))
    return own


def _mounted() -> list[Path]:
    lines = (line.split() for line in Path("/proc/mounts").read_text().splitlines())
    return [
        Path(where)
        for _, where, kind, options, *_ in lines
        if kind == "cgroup" and "net_cls" in options.split(",")
    ]


def _own_mount() -> Path:
    return Path(tempfile.gettempdir()) / f"{PREFIX}net-cls"
