"""The size rules of the style: short files, short functions.

Prints `file:line: message` for each breach and exits 1 if there is one. Warnings alone exit 0.
Usage: python tools/check_sizes.py [ROOT]
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDERS = ("orchx", "benchmarks", "tests", "tools")
FILE_WARN_LINES = 300
FILE_MAX_LINES = 500
FUNCTION_MAX_LINES = 70


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One place that is too long. `is_error` tells a breach from a warning."""

    path: Path
    line: int
    message: str
    is_error: bool

    def __str__(self) -> str:
        kind = "error" if self.is_error else "warning"
        return f"{self.path}:{self.line}: {kind}: {self.message}"


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count the lines of a function's body, without its docstring: words are not complexity."""
    body = function.body
    if ast.get_docstring(function, clean=False) is not None:
        body = body[1:]
    if not body:
        return 0
    first, last = body[0], body[-1]
    return (last.end_lineno or last.lineno) - first.lineno + 1


def check_source(source: str, path: Path) -> Iterator[Finding]:
    """Yield what is too long in one file.

    Args:
        source: the file's text.
        path: its name in the findings.

    Raises:
        SyntaxError: the text is not Python.
    """
    count = len(source.splitlines())
    if count > FILE_MAX_LINES:
        message = f"file of {count} lines (at most {FILE_MAX_LINES})"
        yield Finding(path=path, line=FILE_MAX_LINES + 1, message=message, is_error=True)
    elif count > FILE_WARN_LINES:
        message = f"file of {count} lines (reconsider above {FILE_WARN_LINES})"
        yield Finding(path=path, line=FILE_WARN_LINES + 1, message=message, is_error=False)
    for node in ast.walk(ast.parse(source, filename=str(path))):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        length = body_lines(node)
        if length > FUNCTION_MAX_LINES:
            message = f"body of {node.name} has {length} lines (at most {FUNCTION_MAX_LINES})"
            yield Finding(path=path, line=node.lineno, message=message, is_error=True)


def check_tree(root: Path) -> Iterator[Finding]:
    """Yield what is too long in the checked folders under `root`, in the order of the paths."""
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*.py")):
            yield from check_source(path.read_text(encoding="utf-8"), path.relative_to(root))


def main(arguments: list[str]) -> int:
    """Check the tree at the given root (default: the repository's) and return the exit status."""
    root = Path(arguments[0]) if arguments else Path(__file__).resolve().parent.parent
    findings = list(check_tree(root))
    for finding in findings:
        print(finding)
    return int(any(finding.is_error for finding in findings))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
