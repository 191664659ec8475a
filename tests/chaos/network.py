"""Machines that are network namespaces, joined by a bridge in one more: nobody else is touched.

All names begin with `orchx-chaos-`; what a harness that was killed has left is removed by them.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.commands import output_of
from tests.e2e import process_tree
from tests.e2e.conditions import eventually

PREFIX = "orchx-chaos-"
END_TIMEOUT_S = 20.0
_LOCK = Path(tempfile.gettempdir()) / f"{PREFIX}lock"
_SWITCH = f"{PREFIX}switch"
_TABLE = "inet orchx_chaos_machine"
_NAMESPACES = Path("/run/netns")
_CLONE_NEWNET = 0x40000000
_CALLED = 'echo "$0" >/proc/sys/kernel/hostname && exec "$@"'
# All that is not the machine's talk with itself is dropped, without a word to either side.
_CUT = """\
table {table} {{
  chain arriving {{
    type filter hook input priority 0; policy drop;
    iifname "lo" accept
  }}
  chain leaving {{
    type filter hook output priority 0; policy drop;
    oifname "lo" accept
  }}
}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A network namespace with an address of its own.

    Args:
        is_called_so: whether its processes see the name as the host's. Those of the engine tell
            machines apart by it; a server may want to resolve it, and there is nobody to ask.
    """

    name: str
    address: str
    is_called_so: bool = False

    @property
    def namespace(self) -> str:
        """The namespace's name."""
        return PREFIX + self.name

    def command(self, *words: str) -> tuple[str, ...]:
        """Return the command that runs another one here; the process is the same one."""
        there = (str(shutil.which("nsenter")), f"--net={_path(self.namespace)}", "--")
        called = ("unshare", "--uts", "--", "sh", "-c", _CALLED, self.name)
        return (*there, *(called if self.is_called_so else ()), *words)

    def firewall(self, rules: str) -> None:
        """Have nft carry out commands here."""
        output_of(self.command("nft", "-f", "-"), text=rules)

    def cut(self) -> None:
        """Drop all packets from and to other machines."""
        self.firewall(_CUT.format(table=_TABLE))

    def mend(self) -> None:
        """Let them pass again."""
        self.firewall(f"delete table {_TABLE}\n")


@contextlib.contextmanager
def network(machines: Sequence[Machine]) -> Iterator[None]:
    """Have machines, joined by a switch, for the length of a `with` block.

    Whatever still runs on them is killed at its end, and what a killed run has left before.

    Raises:
        BlockingIOError: another run has its machines now.
    """
    with ExitStack() as stack:
        lock = stack.enter_context(_LOCK.open("w"))
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        stack.callback(remove_namespaces)
        remove_namespaces()
        _add(_SWITCH)
        _ip("-n", _SWITCH, "link", "add", "bridge0", "type", "bridge")
        _ip("-n", _SWITCH, "link", "set", "bridge0", "up")
        for number, machine in enumerate(machines):
            _join(machine, f"port{number}")
        yield


@contextlib.contextmanager
def standing_on(machine: Machine) -> Iterator[None]:
    """Have this thread, and the threads and processes that it starts, be on a machine.

    Raises:
        OSError: the kernel refuses.
    """
    with open("/proc/thread-self/ns/net", "rb") as home:
        with _path(machine.namespace).open("rb") as there:
            _enter(there.fileno())
        try:
            yield
        finally:
            _enter(home.fileno())


def pids_on(machine: Machine) -> list[int]:
    """Return the processes on a machine."""
    return _pids_in(machine.namespace)


def remove_namespaces() -> None:
    """Remove the namespaces of this name, and kill what runs in them (never this process)."""
    names = [each.name for each in _NAMESPACES.glob(f"{PREFIX}*")]

    def nobody_left() -> bool:
        pids = {pid for name in names for pid in _pids_in(name)} - {os.getpid()}
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not any(process_tree.is_alive(pid) for pid in pids)

    eventually(nobody_left, "the end of what ran on the machines", timeout_s=END_TIMEOUT_S)
    for name in names:
        _ip("netns", "delete", name)


def _join(machine: Machine, port: str) -> None:
    name = machine.namespace
    _add(name)
    cable = ("type", "veth", "peer", "name", port, "netns", _SWITCH)
    _ip("link", "add", "eth0", "netns", name, *cable)
    _ip("-n", _SWITCH, "link", "set", port, "master", "bridge0", "up")
    _ip("-n", name, "address", "add", f"{machine.address}/24", "dev", "eth0")
    _ip("-n", name, "link", "set", "eth0", "up")


def _add(name: str) -> None:
    _ip("netns", "add", name)
    _ip("-n", name, "link", "set", "lo", "up")


def _pids_in(name: str) -> list[int]:
    return [int(word) for word in _ip("netns", "pids", name).split()]


def _path(name: str) -> Path:
    return _NAMESPACES / name


def _ip(*words: str) -> str:
    return output_of(("ip", *words))


def _enter(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def is_permitted() -> bool:
    """Tell whether this user may make namespaces: root, with the kernel's leave."""
    probe = ("unshare", "--net", "true")
    return subprocess.run(probe, check=False, capture_output=True).returncode == 0
