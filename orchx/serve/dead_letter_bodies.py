"""What is asked and answered about dead letters: models for reading bodies and for documenting."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from orchx.ports.dead_letters import PAGE_MAX
from orchx.serve.answers import Answer
from orchx.serve.fields import QueryBool, QueryInt, Timestamp, whole
from orchx.serve.models import INT64_MAX, Body

MAX_NUMBERS: Final = 100
MAX_NUMBER: Final = INT64_MAX // 10

# Declared on the integer itself: what stands outside `Int` is lost in a list's schema.
_Number = Annotated[int, Field(ge=0, le=MAX_NUMBER), BeforeValidator(whole)]


class ReplayLettersBody(Body):
    """Dead letters whose commands are to be run; with a `value`, that in place of the one kept."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"properties": {"value": {"type": "null"}}},
                {"properties": {"numbers": {"type": "array", "maxItems": 1}}},
            ]
        }
    )

    numbers: list[_Number] = Field(min_length=1, max_length=MAX_NUMBERS)
    value: str | None = Field(None, min_length=1, description="a command's JSON, as text")


class DropBody(Body):
    """Dead letters that need nothing more."""

    numbers: list[_Number] = Field(min_length=1, max_length=MAX_NUMBERS)
    reason: str = Field("", max_length=1000)


class DeadLettersQuery(BaseModel):
    """`GET /v1/dead-letters`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    handled: QueryBool = Field(False, description="those replayed or dropped too")
    after: QueryInt = Field(-1, ge=-1, le=MAX_NUMBER, description="number; from the page before")
    limit: QueryInt = Field(100, ge=1, le=PAGE_MAX)


class LetterHandled(Answer):
    """What became of a dead letter."""

    how: Literal["replayed", "dropped"]
    by: str
    at: Timestamp
    note: str


class DeadLetterListed(Answer):
    """A record that could not be read; `preview` are its first bytes as text."""

    number: int
    kind: Literal["command", "event", "other"]
    topic: str
    partition: int
    offset: int
    at: Timestamp
    kept_at: Timestamp
    error: str
    size_bytes: int
    preview: str
    copies: int
    handled: LetterHandled | None


class Octets(Answer):
    """Bytes: as text if they are UTF-8, else in base64."""

    text: str | None
    base64: str | None


class LetterHeader(Answer):
    """A header of the record as it stood."""

    name: str
    value: Octets


class DeadLetterShown(DeadLetterListed):
    """A record that could not be read, with all that was kept of it."""

    value: Octets | None
    key: Octets | None
    headers: list[LetterHeader]
    cut: list[Literal["value", "key", "headers"]]


class DeadLetterList(Answer):
    """One page, oldest first. `kept`: whether this profile has dead letters at all."""

    kept: bool
    dead_letters: list[DeadLetterListed]
    after: int | None
    unread: int = Field(description="older records that were not looked at")


class LetterReplayed(Answer):
    """What became of one: its command was accepted (`replayed`: it had been before), or why not."""

    number: int
    command_id: str | None
    replayed: bool
    error: str | None


class LettersReplayed(Answer):
    """What became of each."""

    results: list[LetterReplayed]


class LettersDropped(Answer):
    """How many are marked as dropped."""

    dropped: int


_TIME: Final = "2026-03-01T09:30:00.000Z"
LISTED: Final = {
    "number": 17,
    "kind": "command",
    "topic": "orchx.commands",
    "partition": 2,
    "offset": 1534,
    "at": _TIME,
    "keptAt": _TIME,
    "error": "Object missing required field `workflow_id`",
    "sizeBytes": 28,
    "preview": '{"kind":"cancel","id":"c-1"}',
    "copies": 1,
    "handled": None,
}
EXAMPLE_PAGE: Final = {"kept": True, "deadLetters": [LISTED], "after": None, "unread": 0}
EXAMPLE: Final = {
    **LISTED,
    "value": {"text": '{"kind":"cancel","id":"c-1"}', "base64": None},
    "key": {"text": "wf_1", "base64": None},
    "headers": [],
    "cut": [],
}
EXAMPLE_REPLAYED: Final = {
    "results": [{"number": 17, "commandId": "c-1", "replayed": False, "error": None}]
}
