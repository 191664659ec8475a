"""Machines with addresses, processes, homes and an SSH server of their own, on this machine.

Each is a set of namespaces (network, processes, mounts), joined by a bridge in one more: no
interface, address or process of this machine is touched, and `ray stop` sees its own machine only.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.e2e.conditions import eventually
from tests.e2e.server_process import ROOT

NETWORK = "10.203.77"
PROGRAMS = ("ip", "unshare", "ssh", "ssh-keygen", "rsync", "bash")
SSHD = Path("/usr/sbin/sshd")
RAY_FOLDER = Path("/tmp/ray")

_INIT = f"""\
set -e
[ $$ = 1 ]
mount --bind "$1/ray" {RAY_FOLDER}
mount --bind "$1/passwd" /etc/passwd
mount -t tmpfs none /run
mkdir /run/sshd
cd /
"$2" "$3/tests/e2e/relay.py" $4 &
{SSHD} -D -e -f "$1/sshd_config" 2>>"$1/sshd.log" &
while :; do wait; done
"""

_SSHD_CONFIG = """\
ListenAddress {address}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/../key.pub
StrictModes no
UsePAM no
PidFile none
PermitRootLogin prohibit-password
PasswordAuthentication no
"""


def what_is_missing() -> str:
    """Return why there can be no such machines here; nothing if they can be had."""
    if os.geteuid() != 0:
        return "machines in namespaces need root"
    programs = [name for name in PROGRAMS if shutil.which(name) is None]
    missing = [*programs, *(() if SSHD.exists() else (str(SSHD),))]
    if missing:
        return f"{', '.join(missing)} missing: apt-get install openssh-server rsync iproute2"
    tried = subprocess.run(
        ["unshare", "--net", "--pid", "--mount", "--fork", "--mount-proc", "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    return f"no namespaces can be made: {tried.stderr.strip()}" if tried.returncode else ""


class Machine:
    """One of them; its user is root, with a home of its own."""

    def __init__(self, folder: Path, namespace: str, number: int) -> None:
        self.address = f"{NETWORK}.{number}"
        self.home = folder / "home"
        self._folder = folder
        self._namespace = namespace
        (folder / "ray").mkdir(parents=True)
        self.home.mkdir()
        users = Path("/etc/passwd").read_text()
        mine = re.sub(r"(?m)^root:.*$", f"root:x:0:0:root:{self.home}:/bin/bash", users)
        (folder / "passwd").write_text(mine)
        config = _SSHD_CONFIG.format(address=self.address, folder=folder)
        (folder / "sshd_config").write_text(config)
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "host_key"))
        (self.home / ".bashrc").write_text(f"export PYTHONPATH={ROOT}\n")
        self.install(sys.prefix)

    def install(self, prefix: str, name: str = "none") -> None:
        """Have an environment of this machine be orchx there, as install.sh would do it.

        Args:
            prefix: the environment's folder.
            name: what install.sh calls it, of which it installs nothing then.
        """
        versions = self.home / ".orchx-versions"
        versions.mkdir(exist_ok=True)
        (versions / name).symlink_to(prefix)
        current = self.home / ".orchx"
        current.unlink(missing_ok=True)
        current.symlink_to(versions / name)

    @contextmanager
    def running(self, relays: Sequence[str]) -> Iterator[None]:
        """Let it run until the end."""
        process = subprocess.Popen(
            [
                *("ip", "netns", "exec", self._namespace),
                *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
                *("bash", "-c", _INIT, "init", str(self._folder), sys.executable, str(ROOT)),
                " ".join(relays),
            ],
            stdin=subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
        )
        try:
            eventually(lambda: self.run("true", check=False) == "", f"SSH at {self.address}")
            yield
        finally:
            process.kill()
            process.wait()

    def run(self, command: str, *, check: bool = True, timeout_s: float = 60.0) -> str | None:
        """Run a command by SSH; returns what it printed, or None if it failed unchecked.

        Raises:
            AssertionError: it failed; all that it said is in the message.
        """
        ran = subprocess.run(
            [
                *("ip", "netns", "exec", self._namespace, "ssh", "-q"),
                *("-i", str(self._folder.parent / "key")),
                *("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"),
                *("-o", "ConnectTimeout=5", f"root@{self.address}"),
                f"source ~/.bashrc; export PATH=~/.orchx/bin:$PATH; {command}",
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if ran.returncode == 0:
            return ran.stdout
        assert not check, f"{command} at {self.address}: {ran.stdout[-6_000:]}{ran.stderr[-3_000:]}"
        return None


@contextmanager
def machines(
    folder: Path, names: Sequence[str], ports: Sequence[int]
) -> Iterator[Mapping[str, Machine]]:
    """Make machines, by name, that find these ports of this machine's loopback at their own."""
    prefix = f"orchx-{secrets.token_hex(3)}"
    RAY_FOLDER.mkdir(exist_ok=True)
    with ExitStack() as stack:
        stack.enter_context(_namespace(f"{prefix}-net"))
        _run("ip", "-n", f"{prefix}-net", "link", "add", "bridge", "type", "bridge")
        _run("ip", "-n", f"{prefix}-net", "link", "set", "bridge", "up")
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "key"))
        sockets = {port: f"{folder}/{port}.sock" for port in ports}
        out = [part for port, path in sockets.items() for part in (path, f"127.0.0.1:{port}")]
        into = [part for port, path in sockets.items() for part in (f"127.0.0.1:{port}", path)]
        stack.enter_context(_relay(out))
        made = {}
        for number, name in enumerate(names, 10):
            stack.enter_context(_namespace(f"{prefix}-{name}"))
            _join(prefix, name, number)
            made[name] = Machine(folder / name, f"{prefix}-{name}", number)
            stack.enter_context(made[name].running(into))
        yield made


@contextmanager
def _namespace(name: str) -> Iterator[None]:
    _run("ip", "netns", "add", name)
    try:
        yield
    finally:
        _run("ip", "netns", "delete", name)


@contextmanager
def _relay(arguments: Sequence[str]) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, str(ROOT / "tests/e2e/relay.py"), *arguments])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _join(prefix: str, name: str, number: int) -> None:
    net, host = f"{prefix}-net", f"{prefix}-{name}"
    end = f"to{number}"
    _run("ip", "-n", net, "link", "add", end, "type", "veth", "peer", "name", "eth0", "netns", host)
    _run("ip", "-n", net, "link", "set", end, "master", "bridge", "up")
    _run("ip", "-n", host, "address", "add", f"{NETWORK}.{number}/24", "dev", "eth0")
    for link in ("lo", "eth0"):
        _run("ip", "-n", host, "link", "set", link, "up")
    # Ray learns its own address by asking which way it would go out.
    _run("ip", "-n", host, "route", "add", "default", "via", f"{NETWORK}.1")


def _run(*command: str) -> None:
    subprocess.run(command, check=True)
