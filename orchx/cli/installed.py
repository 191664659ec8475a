"""Which packages are installed."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def version_of(package: str) -> str:
    """Return an installed package's version, or `missing`."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def orchx_version() -> str:
    """Return orchx's version."""
    return version_of("orchx")
