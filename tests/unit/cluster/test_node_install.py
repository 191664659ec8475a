"""What installs orchx on a node: once for each wheel and its pinned versions."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "cluster" / "node" / "install.sh"

# `python3 -m venv FOLDER`, whose pip tells what it installs, and makes what a wheel would.
PYTHON = """\
#!/bin/sh
mkdir -p "$3/bin"
cat >"$3/bin/pip" <<'PIP'
#!/bin/sh
echo "$5" >>"$HOME/installed"
cp /bin/true "$(dirname "$0")/orchx"
PIP
ln -s /bin/true "$3/bin/python"
chmod +x "$3/bin/pip"
"""


class Node:
    """A node to install on, with what the launcher copies there."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.copied = home / "orchx-node"
        self.copied.mkdir()
        (self.copied / "install.sh").write_bytes(SCRIPT.read_bytes())
        (home / "bin").mkdir()
        (home / "bin" / "python3").write_text(PYTHON)
        (home / "bin" / "python3").chmod(0o755)
        self.copy(wheel="first")

    def copy(self, *, wheel: str = "", version: str = "1.0", at_s: int = 1, pins: str = "") -> None:
        """Copy a wheel, by what is in it, or pinned versions."""
        if wheel:
            path = self.copied / f"orchx-{version}-py3-none-any.whl"
            path.write_text(wheel)
            os.utime(path, (at_s, at_s))
        (self.copied / "constraints.txt").write_text(pins)

    def install(self) -> list[str]:
        """Run the script; return the wheels that were installed so far."""
        path = f"{self.home / 'bin'}:{os.environ['PATH']}"
        environment = {"HOME": str(self.home), "PATH": path}
        subprocess.run(["bash", self.copied / "install.sh"], env=environment, check=True)
        assert (self.home / ".orchx" / "bin" / "orchx").is_file()
        installed = (self.home / "installed").read_text().split()
        return [Path(each).name.split("-")[1] for each in installed]

    @property
    def versions(self) -> int:
        """How many installations there are."""
        return len(list((self.home / ".orchx-versions").iterdir()))


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_the_same_again_installs_nothing(node: Node) -> None:
    assert node.install() == ["1.0"]
    assert node.install() == ["1.0"]


def test_a_newer_wheel_is_installed_beside_the_one_that_runs(node: Node) -> None:
    node.install()
    running = (node.home / ".orchx").resolve()
    node.copy(wheel="second", version="0.9", at_s=2)  # the first one's file stays on the node
    assert node.install() == ["1.0", "0.9"]
    assert (running / "bin" / "orchx").is_file()
    node.copy(wheel="third", version="0.9", at_s=3)
    assert node.install() == ["1.0", "0.9", "0.9"]
    assert not running.exists()
    assert node.versions == 2


def test_other_pinned_versions_are_installed(node: Node) -> None:
    node.install()
    node.copy(pins="ray==0")
    assert node.install() == ["1.0", "1.0"]
