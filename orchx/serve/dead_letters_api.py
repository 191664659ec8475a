"""Dead letters: records that could not be read, shown, replayed and dropped; see ADR 0019."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Sequence
from typing import Final

import structlog
from starlette.responses import Response

from orchx.domain.cloud_events import rfc3339
from orchx.domain.json_values import JSON
from orchx.errors import CallerError, InvalidRequest, NotFound, Violation
from orchx.ports.dead_letters import Contents, DeadLetter, DeadLetters, Handled
from orchx.serve.context import Api
from orchx.serve.dead_letter_bodies import DropBody, ReplayLettersBody
from orchx.serve.media import read_json_request
from orchx.serve.models import INT64_MAX
from orchx.serve.paging import next_link
from orchx.serve.routing import Call, json_response
from orchx.serve.validation import read_model, summary

NONE_KEPT: Final = (
    "the profile embedded keeps no dead letters: nobody but orchx writes to its files"
)

_log = structlog.get_logger("orchx.serve")


async def list_dead_letters(api: Api, call: Call) -> Response:
    """`GET /v1/dead-letters`."""
    letters, query = api.gateway.dead_letters, call.query
    if letters is None:
        return json_response({"kept": False, "deadLetters": [], "after": None, "unread": 0})
    page = await letters.list(handled=query.handled, after=query.after, limit=query.limit)
    after = page.letters[-1].number if page.more else None
    headers = {} if after is None else {"Link": next_link(call.request, {"after": str(after)})}
    body = {
        "kept": True,
        "deadLetters": [letter_json(one) for one in page.letters],
        "after": after,
        "unread": page.unread,
    }
    return json_response(body, 200, headers)


async def show_dead_letter(api: Api, call: Call) -> Response:
    """`GET /v1/dead-letters/{number}`."""
    text: str = call.request.path_params["number"]
    letters = _kept(api)
    if not (text.isascii() and text.isdigit() and int(text) <= INT64_MAX):
        raise _missing(text)
    found = (await letters.find([int(text)])).get(int(text))
    if found is None:
        raise _missing(text)
    return json_response(contents_json(found))


async def replay_dead_letters(api: Api, call: Call) -> Response:
    """`POST /v1/dead-letters/replay`: each by itself, for one fault must not hold up the others."""
    raw = read_json_request(await call.request.body(), call.request, api.settings.max_depth)
    body = read_model(ReplayLettersBody, raw)
    letters = _kept(api)
    if body.value is not None and len(body.numbers) > 1:
        fault = Violation(pointer="/value", message="goes with one number, not with several")
        raise InvalidRequest(summary((fault,)), (fault,))
    value = None if body.value is None else body.value.encode("utf-8")
    results: dict[int, JSON] = {
        number: _result(number, error=_missing(str(number)).detail) for number in body.numbers
    }
    async for found in _rounds(letters, body.numbers):
        for contents in found:
            number = contents.letter.number
            try:
                results[number] = await _replay(api, call, letters, contents, value)
            except CallerError as error:
                results[number] = _result(number, error=error.detail)
    return json_response({"results": list(results.values())})


async def drop_dead_letters(api: Api, call: Call) -> Response:
    """`POST /v1/dead-letters/drop`."""
    raw = read_json_request(await call.request.body(), call.request, api.settings.max_depth)
    body = read_model(DropBody, raw)
    letters, dropped = _kept(api), 0
    async for found in _rounds(letters, body.numbers):
        handled = Handled(how="dropped", by=call.caller.name, at_ms=api.now_ms(), note=body.reason)
        await letters.mark([contents.letter for contents in found], handled)
        for contents in found:
            _log.info("dead letter dropped", number=contents.letter.number, by=call.caller.name)
        dropped += len(found)
    return json_response({"dropped": dropped})


async def _replay(
    api: Api, call: Call, letters: DeadLetters, contents: Contents, value: bytes | None
) -> JSON:
    """Have the command run once, however often this is done: the queue knows it by its id."""
    command = letters.command_of(contents, value)
    (accepted,) = await api.gateway.submit([command])
    number = contents.letter.number
    note = f"command {command.id}" + ("" if value is None else ", with another value")
    handled = Handled(how="replayed", by=call.caller.name, at_ms=api.now_ms(), note=note)
    await letters.mark([contents.letter], handled)
    _log.info("dead letter replayed", number=number, command_id=command.id, by=call.caller.name)
    return _result(number, command_id=command.id, replayed=accepted.duplicate)


def _kept(api: Api) -> DeadLetters:
    if api.gateway.dead_letters is None:
        raise NotFound(NONE_KEPT)
    return api.gateway.dead_letters


async def _rounds(letters: DeadLetters, numbers: Sequence[int]) -> AsyncIterator[list[Contents]]:
    """Yield those that are there, by number, as many at a time as memory is allowed for."""
    left = set(numbers)
    while left and (found := await letters.find(left)):
        yield [found[number] for number in sorted(found)]
        left -= found.keys()


def _missing(number: str) -> NotFound:
    return NotFound(f"there is no dead letter {number}")


def _result(
    number: int, *, command_id: str | None = None, replayed: bool = False, error: str | None = None
) -> JSON:
    return {"number": number, "commandId": command_id, "replayed": replayed, "error": error}


def letter_json(letter: DeadLetter) -> dict[str, JSON]:
    """Return a `DeadLetterListed`."""
    handled = letter.handled
    return {
        "number": letter.number,
        "kind": letter.kind,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "at": rfc3339(letter.at_ms),
        "keptAt": rfc3339(letter.kept_at_ms),
        "error": letter.error,
        "sizeBytes": letter.size_bytes,
        "preview": letter.preview.decode("utf-8", "replace"),
        "copies": letter.copies,
        "handled": None
        if handled is None
        else {
            "how": handled.how,
            "by": handled.by,
            "at": rfc3339(handled.at_ms),
            "note": handled.note,
        },
    }


def contents_json(contents: Contents) -> dict[str, JSON]:
    """Return a `DeadLetterShown`."""
    return {
        **letter_json(contents.letter),
        "value": _bytes_json(contents.value),
        "key": _bytes_json(contents.key),
        "headers": [
            {"name": name, "value": _bytes_json(value)} for name, value in contents.headers
        ],
        "cut": list(contents.cut),
    }


def _bytes_json(content: bytes | None) -> JSON:
    """Return bytes as the text that they are, or else in base64."""
    if content is None:
        return None
    try:
        return {"text": content.decode("utf-8"), "base64": None}
    except UnicodeDecodeError:
        return {"text": None, "base64": base64.b64encode(content).decode()}
