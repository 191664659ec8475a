"""Answers that a broken service or proxy might give although the work was done."""

from __future__ import annotations

from typing import Literal

from orchx.sandbox.replies import Reply

WrongAnswer = Literal["malformed_json", "wrong_content_type", "schema_violation", "flood"]


def spoiled(reply: Reply, kind: WrongAnswer, flood_bytes: int) -> Reply:
    """Replace a good reply by a wrong one of this kind.

    Args:
        reply: the good answer; its status is kept, since only the content lies.
        kind: how it is wrong.
        flood_bytes: size of the filler of a `flood`.
    """
    match kind:
        case "malformed_json":
            return Reply(status=reply.status, body=reply.body[: len(reply.body) // 2])
        case "wrong_content_type":
            page = b"<html><body><h1>Welcome to the corporate proxy</h1></body></html>"
            return Reply(status=reply.status, body=page, content_type=b"text/html")
        case "schema_violation":
            return Reply(status=reply.status, body=b'{"id":{"unexpected":true},"items":42}')
        case "flood":
            return Reply(status=reply.status, body=b'{"filler":"', flood_bytes=flood_bytes)
