"""What a service can do: one `Operation` per endpoint, and the records it works on."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct

RecordT = TypeVar("RecordT", bound=Struct)


class Input(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The root of what services are given: a body, or query parameters."""


class NoInput(Input, frozen=True, kw_only=True):
    """An operation that takes path parameters only."""


class Output(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The root of what services answer."""


class Records:
    """What the services remember, by kind and id, within the current transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def find(self, kind: type[RecordT], record_id: str) -> RecordT | None:
        """Return a record, or None if there is none with this id."""
        row = self._connection.execute(
            "SELECT body FROM records WHERE kind = ? AND id = ?", (kind.__name__, record_id)
        ).fetchone()
        return msgspec.json.decode(row[0], type=kind) if row else None

    def put(self, record_id: str, record: Struct) -> None:
        """Store a record in place of the one with this id."""
        self._connection.execute(
            "INSERT INTO records VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET body = excluded.body",
            (type(record).__name__, record_id, msgspec.json.encode(record)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """The circumstances of one call, beside its input.

    Args:
        path: path parameters by name.
        number: what the effect will be numbered; the basis of new ids.
        records: what the services remember.
    """

    path: dict[str, str]
    number: int
    records: Records

    def new_id(self, prefix: str) -> str:
        """Return an id that no other effect gets, such as `EMP-000042`."""
        return f"{prefix}-{self.number:06d}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One endpoint of one service.

    Args:
        operation_id: name in the OpenAPI document.
        capability: what it does, the same for every service that can do it.
        method: HTTP method.
        path: path template below the service's prefix.
        summary: one line for the OpenAPI document.
        input: type of the body, or of the query for GET and DELETE.
        output: type of the answer.
        handle: does it. It may raise `Problem`, before it stores anything.
        subject: names the business object that is changed, so that doing it twice can be
            seen; None for an operation without effect.
        status: HTTP status of success.
    """

    operation_id: str
    capability: str
    method: Literal["GET", "POST", "DELETE"]
    path: str
    summary: str
    input: type[Input] = NoInput
    output: type[Output]
    handle: Callable[[Any, Call], Output]
    subject: Callable[[Any, Call], str] | None = None
    status: int = 201

    @property
    def takes_body(self) -> bool:
        """Say whether the input is a JSON body rather than a query."""
        return self.method == "POST" and self.input is not NoInput


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Operations under one path prefix, `/{name}`."""

    name: str
    title: str
    operations: tuple[Operation, ...]
