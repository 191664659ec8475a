"""What every store of dead letters does."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orchx.domain.messages import CancelWorkflow
from orchx.errors import Conflict, InvalidRequest
from orchx.ports.dead_letters import (
    PREVIEW_BYTES,
    DeadLetter,
    DeadLetters,
    Handled,
    SourceRecord,
)

COMMAND = b'{"kind":"cancel","id":"c","workflow_id":"w","created_at_ms":7,"reason":"r"}'


def record(offset: int, value: bytes | None = b"poison", **changes: object) -> SourceRecord:
    fields = {"topic": "elsewhere", "partition": 2, "at_ms": 1_000 + offset, "key": b"w", **changes}
    return SourceRecord(offset=offset, value=value, **fields)  # type: ignore[arg-type]


def handled(how: str = "dropped", at_ms: int = 5, note: str = "") -> Handled:
    return Handled(how=how, by="ada", at_ms=at_ms, note=note)  # type: ignore[arg-type]


async def listed(letters: DeadLetters, *, all_: bool = False) -> list[DeadLetter]:
    page = await letters.list(handled=all_)
    assert (page.more, page.unread) == (False, 0)
    return list(page.letters)


class TestDeadLetters:
    async def test_there_are_none_at_first(self, letters: DeadLetters) -> None:
        assert await listed(letters) == []
        assert await letters.find([0, 1]) == {}

    async def test_a_record_is_kept_whole_with_where_it_stood(self, letters: DeadLetters) -> None:
        headers = [("epoch", b"3"), ("x", b"\xff"), ("x", b"")]
        await letters.keep(record(8, b"\xffpoison", headers=headers), "it is no JSON")
        (letter,) = await listed(letters)
        assert (letter.topic, letter.partition, letter.offset) == ("elsewhere", 2, 8)
        assert (letter.error, letter.at_ms, letter.copies) == ("it is no JSON", 1_008, 1)
        assert (letter.kind, letter.size_bytes, letter.handled) == ("other", 7, None)
        assert letter.preview == b"\xffpoison"
        contents = (await letters.find([letter.number]))[letter.number]
        assert (contents.key, contents.value) == (b"w", b"\xffpoison")
        assert list(contents.headers) == headers
        assert (contents.letter, list(contents.cut)) == (letter, [])

    async def test_what_has_neither_key_nor_value_is_kept_too(self, letters: DeadLetters) -> None:
        await letters.keep(record(1, None, key=None), "the record has no value")
        (letter,) = await listed(letters)
        assert (letter.size_bytes, letter.preview) == (0, b"")
        contents = (await letters.find([letter.number]))[letter.number]
        assert (contents.key, contents.value, list(contents.headers)) == (None, None, [])

    async def test_only_the_beginning_is_listed(self, letters: DeadLetters) -> None:
        value = bytes(range(256)) * 2
        await letters.keep(record(1, value), "e")
        (letter,) = await listed(letters)
        assert letter.preview == value[:PREVIEW_BYTES]
        assert letter.size_bytes == 512

    async def test_a_record_that_was_kept_twice_is_one(self, letters: DeadLetters) -> None:
        for offset in (1, 2, 1):
            await letters.keep(record(offset), "e")
        found = await listed(letters)
        assert [(one.offset, one.copies) for one in found] == [(1, 2), (2, 1)]
        await letters.mark([found[0]], handled())
        await letters.keep(record(1), "e")  # a third time, after it was dealt with
        assert [one.offset for one in await listed(letters)] == [2]
        assert [(one.offset, one.copies) for one in await listed(letters, all_=True)] == [
            (1, 3),
            (2, 1),
        ]

    async def test_what_was_dealt_with_is_listed_on_request(self, letters: DeadLetters) -> None:
        for offset in (1, 2, 3):
            await letters.keep(record(offset), "e")
        first, second, _ = await listed(letters)
        await letters.mark([first, second], handled("replayed", note="command c"))
        await letters.mark([second], handled(note="for the é of it", at_ms=9))
        assert [one.offset for one in await listed(letters)] == [3]
        marks = {one.offset: one.handled for one in await listed(letters, all_=True)}
        assert marks == {
            1: handled("replayed", note="command c"),
            2: handled(note="for the é of it", at_ms=9),
            3: None,
        }
        contents = (await letters.find([second.number]))[second.number]
        assert contents.letter.handled == handled(note="for the é of it", at_ms=9)

    async def test_another_process_sees_the_same(
        self, dead_letters: Callable[[], DeadLetters]
    ) -> None:
        one, other = dead_letters(), dead_letters()
        await one.keep(record(1), "e")
        assert await listed(other) == await listed(one)
        await other.mark(await listed(other), handled())
        assert await listed(one) == []

    async def test_pages_follow_each_other(self, letters: DeadLetters) -> None:
        for offset in range(5):
            await letters.keep(record(offset), "e")
        await letters.mark([(await listed(letters))[1]], handled())
        seen: list[int] = []
        after, more = -1, True
        while more:
            page = await letters.list(handled=False, after=after, limit=2)
            seen += [one.offset for one in page.letters]
            after, more = page.letters[-1].number, page.more
        assert seen == [0, 2, 3, 4]

    async def test_a_command_comes_out_as_the_queue_takes_it(self, letters: DeadLetters) -> None:
        commands = {"topic": await _topic_of_commands(letters)}
        await letters.keep(record(1, b"poison", **commands), "e")
        await letters.keep(record(2, COMMAND, **commands), "of an older release")
        await letters.keep(record(3, COMMAND), "e")
        poison, command, other = await listed(letters)
        assert [poison.kind, command.kind, other.kind] == ["command", "command", "other"]
        found = await letters.find([poison.number, command.number, other.number])
        wanted = CancelWorkflow(id="c", workflow_id="w", created_at_ms=7, reason="r")
        assert letters.command_of(found[command.number]) == wanted
        assert letters.command_of(found[poison.number], COMMAND) == wanted
        with pytest.raises(InvalidRequest, match="no command of this release"):
            letters.command_of(found[poison.number])
        with pytest.raises(InvalidRequest, match="no command of this release"):
            letters.command_of(found[command.number], b"{}")
        with pytest.raises(Conflict):
            letters.command_of(found[other.number], COMMAND)


async def _topic_of_commands(letters: DeadLetters) -> str:
    topics = getattr(letters, "_topics", None)
    return "any.commands" if topics is None else str(topics.commands)
