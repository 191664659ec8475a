"""The operations on dead letters, as a part of the API's table."""

from __future__ import annotations

from typing import Final

from orchx.serve import dead_letter_bodies as bodies
from orchx.serve import dead_letters_api
from orchx.serve.media import JSON_TYPE
from orchx.serve.routing import NEXT, BodyDoc, Operation, json_answer

# Before the one with a number in its path: the first route that fits is taken.
DEAD_LETTER_OPERATIONS: Final = (
    Operation(
        method="GET",
        path="/v1/dead-letters",
        handler=dead_letters_api.list_dead_letters,
        id="listDeadLetters",
        tag="dead letters",
        summary="List records that could not be read, oldest first",
        scope="operate",
        any_tenant=False,
        query=bodies.DeadLettersQuery,
        answers=(json_answer(200, "one page", bodies.DeadLetterList, bodies.EXAMPLE_PAGE, NEXT),),
    ),
    Operation(
        method="POST",
        path="/v1/dead-letters/replay",
        handler=dead_letters_api.replay_dead_letters,
        id="replayDeadLetters",
        tag="dead letters",
        summary="Have the commands of dead letters run, once however often this is done",
        scope="admin",
        any_tenant=False,
        body=BodyDoc(
            content={JSON_TYPE: bodies.ReplayLettersBody}, examples={"one": {"numbers": [17]}}
        ),
        answers=(
            json_answer(
                200, "what became of each", bodies.LettersReplayed, bodies.EXAMPLE_REPLAYED
            ),
        ),
        problems=(404, 429),
    ),
    Operation(
        method="POST",
        path="/v1/dead-letters/drop",
        handler=dead_letters_api.drop_dead_letters,
        id="dropDeadLetters",
        tag="dead letters",
        summary="Mark dead letters as needing nothing more",
        scope="operate",
        any_tenant=False,
        body=BodyDoc(
            content={JSON_TYPE: bodies.DropBody},
            examples={"one": {"numbers": [17], "reason": "a test wrote it"}},
        ),
        answers=(json_answer(200, "how many", bodies.LettersDropped, {"dropped": 1}),),
        problems=(404,),
    ),
    Operation(
        method="GET",
        path="/v1/dead-letters/{number}",
        handler=dead_letters_api.show_dead_letter,
        id="showDeadLetter",
        tag="dead letters",
        summary="Show a dead letter with all that was kept of it",
        scope="operate",
        any_tenant=False,
        answers=(json_answer(200, "the dead letter", bodies.DeadLetterShown, bodies.EXAMPLE),),
        path_examples={"number": "17"},
    ),
)
