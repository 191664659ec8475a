"""Plans about dead letters: records that could not be read."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from orchx.client.exchange import JSON_TYPE, call, decode, encode, query_of
from orchx.client.models import DeadLetter, DeadLetterList, ReplayedLetter
from orchx.client.steps import Plan, Send

_PATH = "/v1/dead-letters"


class _Replayed(msgspec.Struct, frozen=True):
    results: tuple[ReplayedLetter, ...]


class _Dropped(msgspec.Struct, frozen=True):
    dropped: int


def list_dead_letters(
    *, handled: bool = False, after: int | None = None, limit: int = 100
) -> Plan[DeadLetterList]:
    """Return one page of dead letters, oldest first.

    Args:
        handled: those that were replayed or dropped too.
        after: number behind which the page begins: the last page's `after`.
        limit: how many at most, 1 to 1000.
    """
    query = query_of(handled=handled or None, after=after, limit=limit)
    reply = yield from call(Send(method="GET", path=_PATH, query=query))
    return decode(reply, DeadLetterList)


def show_dead_letter(number: int) -> Plan[DeadLetter]:
    """Return one dead letter with all that was kept of it.

    Raises:
        NotFound: there is none of this number, or the server keeps none.
    """
    reply = yield from call(Send(method="GET", path=f"{_PATH}/{number}"))
    return decode(reply, DeadLetter)


def replay_dead_letters(
    numbers: Sequence[int], *, value: str | None = None
) -> Plan[tuple[ReplayedLetter, ...]]:
    """Have the commands of dead letters run, once however often this is done.

    Args:
        numbers: of the letters, up to 100.
        value: with one number, the command's JSON to run in place of what was kept.

    Returns:
        what became of each: why not, in `error`, of those that cannot be run.
    """
    body = encode({"numbers": list(numbers)} | ({} if value is None else {"value": value}))
    reply = yield from call(_post("replay", body))
    return decode(reply, _Replayed).results


def drop_dead_letters(numbers: Sequence[int], *, reason: str = "") -> Plan[int]:
    """Mark dead letters as needing nothing more, and return how many there were.

    Args:
        numbers: of the letters, up to 100.
        reason: for whoever asks later.
    """
    reply = yield from call(_post("drop", encode({"numbers": list(numbers), "reason": reason})))
    return decode(reply, _Dropped).dropped


def _post(what: str, body: bytes) -> Send:
    headers = {"Content-Type": JSON_TYPE}
    return Send(method="POST", path=f"{_PATH}/{what}", headers=headers, body=body)
