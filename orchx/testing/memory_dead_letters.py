"""Dead letters in memory, for tests; shared by all simulated processes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import msgspec

from orchx.domain.messages import AnyCommand
from orchx.errors import Conflict, InvalidRequest
from orchx.ports.dead_letters import (
    PAGE_MAX,
    PREVIEW_BYTES,
    Contents,
    DeadLetter,
    DeadLetterPage,
    Handled,
    Kind,
    SourceRecord,
)
from orchx.testing.memory_io import OnIo, reach

_command = msgspec.json.Decoder(AnyCommand)


class MemoryDeadLetters:
    """A `DeadLetters`: topics that end in `.commands` hold commands, in `.events` events."""

    def __init__(self, on_io: OnIo | None = None) -> None:
        """Start empty; `on_io` is called around every write."""
        self._on_io = on_io
        self._kept = 0
        self._letters: dict[tuple[str, int, int], Contents] = {}

    async def keep(self, record: SourceRecord, error: str) -> None:
        """Keep a copy, with what is wrong with it."""
        await reach(self._on_io, "dead_letters.keep:before")
        number, self._kept = self._kept, self._kept + 1
        source = (record.topic, record.partition, record.offset)
        there = self._letters.get(source)
        if there is not None:
            letter = replace(there.letter, copies=there.letter.copies + 1)
            self._letters[source] = replace(there, letter=letter)
        else:
            self._letters[source] = _contents(number, record, error)
        await reach(self._on_io, "dead_letters.keep:after")

    async def list(self, *, handled: bool, after: int = -1, limit: int = 100) -> DeadLetterPage:
        """Return letters, oldest first."""
        letters = [one.letter for one in self._letters.values()]
        shown = [one for one in letters if one.number > after and (handled or not one.handled)]
        limit = min(max(limit, 1), PAGE_MAX)
        return DeadLetterPage(letters=shown[:limit], more=len(shown) > limit, unread=0)

    async def find(self, numbers: Collection[int]) -> Mapping[int, Contents]:
        """Return the letters among these numbers that are there."""
        wanted = sorted(numbers)[:PAGE_MAX]
        found = self._letters.values()
        return {one.letter.number: one for one in found if one.letter.number in wanted}

    def command_of(self, contents: Contents, value: bytes | None = None) -> AnyCommand:
        """Return the command that a letter holds, or `value` in its place."""
        if contents.letter.kind != "command":
            raise Conflict(f"{contents.letter.topic} holds no commands")
        try:
            command: AnyCommand = _command.decode(value or contents.value or b"")
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise InvalidRequest(f"it is no command of this release: {error}") from error
        return command

    async def mark(self, letters: Sequence[DeadLetter], handled: Handled) -> None:
        """Note what became of letters."""
        await reach(self._on_io, "dead_letters.mark:before")
        for letter in letters:
            there = self._letters[letter.topic, letter.partition, letter.offset]
            marked = replace(there, letter=replace(there.letter, handled=handled))
            self._letters[letter.topic, letter.partition, letter.offset] = marked
        await reach(self._on_io, "dead_letters.mark:after")

    async def close(self) -> None:
        """Do nothing: another simulated process may still use it."""


def _contents(number: int, record: SourceRecord, error: str) -> Contents:
    kinds: dict[str, Kind] = {"commands": "command", "events": "event"}
    value = record.value or b""
    letter = DeadLetter(
        number=number,
        kind=kinds.get(record.topic.rpartition(".")[2], "other"),
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        at_ms=record.at_ms,
        kept_at_ms=record.at_ms,
        error=error,
        size_bytes=len(value),
        preview=value[:PREVIEW_BYTES],
    )
    return Contents(letter=letter, key=record.key, value=record.value, headers=record.headers)
