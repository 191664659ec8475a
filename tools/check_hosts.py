"""No file names a package registry's host or a path of somebody's machine.

Where packages come from is the business of whoever installs: pip, apt and the like are set up
by their own configuration. Prints `file:line: message` and exits 1 if there is a finding.
Usage: python tools/check_hosts.py [ROOT]
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MAX_FILE_BYTES = 4 * 1024 * 1024
SKIPPED_FOLDERS = frozenset({".git", "node_modules", "build", "dist", "__pycache__"})

# Hosts are spelt in pieces, so that this file passes its own check.
_TLD = r"\.(?:org|com|io|dev|net|sh)\b"
_INDEX_NAMES = (
    "py" + "pi",
    "python" + "hosted",
    "npm" + "js",
    "yarn" + "pkg",
    "crates",
    "ruby" + "gems",
)
_IMAGE_NAMES = ("docker", "gh" + "cr", "quay", "g" + "cr", "mcr" + r"\.microsoft")
_MAVEN_HOST = r"\b(?:repo\d*|central|search)\.(?:maven|sona" + r"type)\b"

PATTERNS = {
    "a package registry's host": re.compile(
        rf"(?<![\w-])(?:{'|'.join(_INDEX_NAMES)}){_TLD}"
        rf"|(?<![\w-])(?:{'|'.join(_IMAGE_NAMES)})\.(?:io|com)/"
        rf"|\bregistry\.[a-z0-9-]+{_TLD}"
        rf"|{_MAVEN_HOST}"
        r"|\bproxy\.go" + r"lang\b",
        re.IGNORECASE,
    ),
    "an option that names a package index": re.compile(
        r"--(?:extra-)?index-" + r"url\b|--find-" + r"links\b|--trusted-" + r"host\b"
    ),
    # /home/ray is where the public Ray images keep their files.
    "an absolute path of one machine": re.compile(
        r"(?<![\w.}/-])/(?:home/(?!ray\b)|Users/|root/|work/)[\w.]"
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line that names what it should not."""

    path: Path
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


def check_text(text: str, path: Path) -> Iterator[Finding]:
    """Yield the lines that name a registry's host, an index option or a machine's path."""
    for number, line in enumerate(text.splitlines(), start=1):
        for meaning, pattern in PATTERNS.items():
            if match := pattern.search(line):
                yield Finding(path=path, line=number, message=f"{meaning}: {match.group()}")


def project_files(root: Path) -> list[Path]:
    """List the files that are or would be in the repository, relative to `root`.

    In a git work tree: tracked files and new ones that are not ignored. Elsewhere (an unpacked
    archive, no git): every file outside of caches and virtual environments.
    """
    if (root / ".git").exists() and shutil.which("git"):
        listing = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=root,
            check=False,
            capture_output=True,
            text=True,
        )
        if listing.returncode == 0:  # git refuses a clone that belongs to another user
            return sorted(Path(name) for name in listing.stdout.split("\0") if name)
    found = []
    for folder, subfolders, names in os.walk(root):
        here = Path(folder)
        subfolders[:] = [
            name
            for name in subfolders
            if name not in SKIPPED_FOLDERS
            and not name.endswith("_cache")
            and not (here / name / "pyvenv.cfg").exists()
        ]
        found += [(here / name).relative_to(root) for name in names]
    return sorted(found)


def check_tree(root: Path) -> Iterator[Finding]:
    """Yield the findings of every text file; binary and huge files are passed over."""
    for path in project_files(root):
        full = root / path
        if not full.is_file() or full.stat().st_size > MAX_FILE_BYTES:
            continue
        content = full.read_bytes()
        if b"\0" not in content:
            yield from check_text(content.decode("utf-8", errors="replace"), path)


def main(arguments: list[str]) -> int:
    """Check the tree at the given root (default: the repository's) and return the exit status."""
    root = Path(arguments[0]) if arguments else Path(__file__).resolve().parent.parent
    findings = list(check_tree(root))
    for finding in findings:
        print(finding)
    return int(bool(findings))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
