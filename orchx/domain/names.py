"""What a name may be, wherever it comes in: patterns to be matched against the whole text."""

from __future__ import annotations

import re
from typing import Final

# Of a definition's namespace and name: the pattern of the DSL's schema.
DNS_LABEL: Final = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
MAX_DNS_LABEL_CHARS: Final = 63
TENANT: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
MAX_TENANT_CHARS: Final = 64
TENANT_IN_WORDS: Final = (
    f"1 to {MAX_TENANT_CHARS} letters, digits, dots, hyphens and underscores,"
    " beginning with a letter or digit"
)


def is_tenant(text: str) -> bool:
    """Tell whether a text can be the name of a tenant."""
    return re.fullmatch(TENANT, text) is not None
