"""Outgoing mail."""

from __future__ import annotations

from typing import Final

from orchx.sandbox.operations import Call, Input, Operation, Output, Service
from orchx.sandbox.services.fields import Email, Name, Text


class NewMessage(Input, frozen=True, kw_only=True):
    """A message to be sent."""

    to: Email
    subject: Name
    body: Text
    reply_to: Email | None = None


class SentMessage(Output, frozen=True, kw_only=True):
    """A message that is on its way."""

    message_id: str
    to: str
    status: str


def _send_message(request: NewMessage, call: Call) -> SentMessage:
    return SentMessage(message_id=call.new_id("MSG"), to=request.to, status="queued")


MAIL: Final = Service(
    name="mail",
    title="Mail",
    operations=(
        Operation(
            operation_id="sendMessage",
            capability="mail.send-message",
            method="POST",
            path="/messages",
            summary="Send a message",
            input=NewMessage,
            output=SentMessage,
            handle=_send_message,
            subject=lambda request, _: f"{request.to}/{request.subject}",
            status=202,
        ),
    ),
)
