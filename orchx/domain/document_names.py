"""The two kinds of names that the schema fixes: DNS labels and semantic versions."""

from __future__ import annotations

import re
from typing import Final

from orchx.domain.document_reader import Node
from orchx.domain.names import DNS_LABEL

MAX_VERSION_CHARACTERS: Final = 128
# Both patterns are the schema's own; ASCII, matched against the whole text.
_DNS_LABEL = re.compile(DNS_LABEL)
_VERSION = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(?:-((?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)"
    r"(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?"
    r"(?:\+([0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*))?",
    re.ASCII,
)


def check_dns_label(node: Node | None) -> str:
    """Return the DNS label (RFC 1123) at `node`; that it is none is recorded."""
    text = "" if node is None else node.text()
    if node is not None and text and not _DNS_LABEL.fullmatch(text):
        expected = "1 to 63 letters, digits and hyphens, with no hyphen at either end"
        node.fail("this is not a DNS label", expected=expected)
    return text


def check_version(node: Node | None) -> str:
    """Return the semantic version (semver 2.0) at `node`; that it is none is recorded."""
    text = "" if node is None else node.text()
    is_version = len(text) <= MAX_VERSION_CHARACTERS and _VERSION.fullmatch(text)
    if node is not None and text and not is_version:
        node.fail("this is not a semantic version", expected="a version such as 1.0.0")
    return text
