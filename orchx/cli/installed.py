"""What is installed, and where."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def version_of(package: str) -> str:
    """Return an installed package's version, or `missing`."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def orchx_version() -> str:
    """Return orchx's version."""
    return version_of("orchx")


def orchx_command() -> str:
    """Return what to type for this very `orchx`: its path, where PATH leads elsewhere."""
    own = Path(sys.executable).with_name("orchx")
    found = shutil.which("orchx")
    if not own.exists() or (found is not None and own.samefile(found)):
        return "orchx"
    return shlex.quote(near(own))


def near(path: Path) -> str:
    """Return a path as it is typed here: relative to the working directory if it is below."""
    absolute, here = Path(os.path.abspath(path)), Path.cwd()
    return str(absolute.relative_to(here) if absolute.is_relative_to(here) else absolute)
