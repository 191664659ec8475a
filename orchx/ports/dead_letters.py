"""Records of a topic that could not be read: kept aside, looked at, replayed or dropped."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeAlias

from orchx.domain.messages import AnyCommand

PREVIEW_BYTES: Final = 200
PAGE_MAX: Final = 1_000

Ending: TypeAlias = Literal["replayed", "dropped"]
Kind: TypeAlias = Literal["command", "event", "other"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRecord:
    """A record as it stood where it could not be read. Time in epoch milliseconds."""

    topic: str
    partition: int
    offset: int
    at_ms: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Handled:
    """How a dead letter was dealt with, by whom (the id of a key), when, and why."""

    how: Ending
    by: str
    at_ms: int
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A record that was kept aside. Times are epoch milliseconds.

    `number` is its place among the dead letters; kept `copies` times (a crash, or a second
    reader), the record is one letter all the same: that of its first copy that is left. `topic`,
    `partition` and `offset` say where it stood, `kind` what stands there, `error` what was wrong;
    `preview` are the first bytes of its value, which has `size_bytes`.
    """

    number: int
    kind: Kind
    topic: str
    partition: int
    offset: int
    at_ms: int
    kept_at_ms: int
    error: str
    size_bytes: int
    preview: bytes
    copies: int = 1
    handled: Handled | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """A dead letter with all that was kept of it; `cut` names what was too large to be whole."""

    letter: DeadLetter
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    cut: Collection[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterPage:
    """A part of a listing; `more`: there is another behind it.

    `unread`: how many older records were not looked at, for there are too many.
    """

    letters: Sequence[DeadLetter]
    more: bool
    unread: int


class DeadLetters(Protocol):
    """Keeps what cannot be read, and says what has become of it.

    All raise `DriverError` or `Unavailable` where it is out of reach.
    """

    async def keep(self, record: SourceRecord, error: str) -> None:
        """Keep a copy, with what is wrong with it; what is too large is cut."""
        ...

    async def list(self, *, handled: bool, after: int = -1, limit: int = 100) -> DeadLetterPage:
        """Return letters, oldest first, behind number `after`.

        Args:
            handled: those that were replayed or dropped too.
            after: a letter's number.
            limit: at most `PAGE_MAX` count.
        """
        ...

    async def find(self, numbers: Collection[int]) -> Mapping[int, Contents]:
        """Return the letters among these numbers that are there, `PAGE_MAX` of them at most.

        A page is bounded in bytes too: what is missing may be asked for again by itself.
        """
        ...

    def command_of(self, contents: Contents, value: bytes | None = None) -> AnyCommand:
        """Return the command that a letter holds, or that `value` holds in its place.

        Raises:
            InvalidRequest: this release cannot read it either.
            Conflict: the letter is no command's, or was too large to be kept whole.
        """
        ...

    async def mark(self, letters: Sequence[DeadLetter], handled: Handled) -> None:
        """Note, durably, that all copies of these have been dealt with; the last note counts."""
        ...

    async def close(self) -> None:
        """Let go of the connections."""
        ...
