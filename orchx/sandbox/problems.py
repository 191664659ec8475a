"""Errors of the sandbox's APIs, as RFC 9457 problem details.

They stand for somebody else's errors, so they are not part of the tree in `orchx.errors`.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from orchx.sandbox.replies import Reply

PROBLEM_CONTENT_TYPE: Final = b"application/problem+json"
_PROBLEM_TYPE_PREFIX: Final = "urn:orchx:sandbox:"
_PATH_SUFFIX: Final = re.compile(r" - at `(?:key in )?\$(?P<path>[^`]*)`$")
_MISSING_FIELD: Final = re.compile(r"missing required field `(?P<field>[^`]+)`")
_UNKNOWN_FIELD: Final = re.compile(r"contains unknown field `(?P<field>[^`]+)`")


class Problem(Exception):
    """The answer to a call that is refused or fails.

    Args:
        status: HTTP status, 400 to 599.
        name: last part of the problem's type, in kebab case.
        detail: what is wrong with this call.
        pointer: JSON pointer to the fault in the request, if there is one.
        headers: further response headers.
    """

    def __init__(
        self,
        status: int,
        name: str,
        detail: str,
        *,
        pointer: str | None = None,
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.name = name
        self.detail = detail
        self.pointer = pointer
        self.headers = headers

    def reply(self) -> Reply:
        """Render as `application/problem+json`."""
        document: dict[str, object] = {
            "type": _PROBLEM_TYPE_PREFIX + self.name,
            "title": self.name.replace("-", " ").capitalize(),
            "status": self.status,
            "detail": self.detail,
        }
        if self.pointer is not None:
            document["errors"] = [{"detail": self.detail, "pointer": self.pointer}]
        return Reply(
            status=self.status,
            body=msgspec.json.encode(document),
            content_type=PROBLEM_CONTENT_TYPE,
            headers=self.headers,
        )


def invalid_input(error: msgspec.ValidationError) -> Problem:
    """Turn a decoding error into a 422 with a JSON pointer to the fault."""
    message = str(error)
    pointer = ""
    if found := _PATH_SUFFIX.search(message):
        pointer = re.sub(r"\[(\d+)\]|\.", r"/\1", found["path"])
        message = message[: found.start()]
    if field := (_MISSING_FIELD.search(message) or _UNKNOWN_FIELD.search(message)):
        pointer += "/" + field["field"]
    return Problem(422, "invalid-input", message, pointer=pointer)
