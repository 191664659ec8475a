from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from bson.errors import InvalidDocument
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    ConfigurationError,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)

from orchx.adapters.mongo_connection import (
    MongoConnection,
    _check_server,
    only_duplicates,
    translated,
)
from orchx.errors import DriverError, StorageFull, Unavailable
from orchx.settings import MongoSettings

TIMEOUT_S = 10.0


def bulk(codes: Sequence[int] = (), concern_codes: Sequence[int] = ()) -> BulkWriteError:
    return BulkWriteError(
        {
            "writeErrors": [{"code": code, "errmsg": "x"} for code in codes],
            "writeConcernErrors": [{"code": code, "errmsg": "x"} for code in concern_codes],
        }
    )


def transient() -> PyMongoError:
    return OperationFailure("x", 251, {"errorLabels": ["TransientTransactionError"]})


@pytest.mark.parametrize(
    ("error", "type_", "text"),
    [
        (ServerSelectionTimeoutError("no answer"), Unavailable, "see ORCHX_MONGODB__URI"),
        (AutoReconnect("connection reset"), Unavailable, "connection reset"),
        (NotPrimaryError("stepping down"), Unavailable, "failing over"),
        (OperationFailure("x", 10107), Unavailable, "failing over"),
        (OperationFailure("over time", 50), Unavailable, "over time"),
        (transient(), Unavailable, "failing over"),
        (bulk([11000, 91]), Unavailable, "failing over"),
        (bulk(concern_codes=[64]), Unavailable, "failing over"),
        (OperationFailure("x", 14031), StorageFull, "no room"),
        (bulk([11000, 14031]), StorageFull, "no room"),
        (OperationFailure("28: No space left on device", 8), StorageFull, "no room"),
        (OperationFailure("x", 18), DriverError, "credentials in ORCHX_MONGODB__URI"),
        (OperationFailure("x", 13), DriverError, "user in ORCHX_MONGODB__URI"),
        (ConfigurationError("odd"), DriverError, "ORCHX_MONGODB__URI says: odd"),
        (OperationFailure("unheard of", 1), DriverError, "unheard of.*OperationFailure"),
        (bulk([11000]), DriverError, "BulkWriteError"),
    ],
)
async def test_errors_say_who_must_act(error: PyMongoError, type_: type, text: str) -> None:
    with pytest.raises(type_, match=text) as caught, MongoConnection(MongoSettings()).translating():
        raise error
    assert type(caught.value) is type_
    assert caught.value.__cause__ is error


def test_texts_are_short_and_hold_no_data() -> None:
    forbidden = OperationFailure('not authorized on orchx to execute command { insert: "x" }', 13)
    assert str(translated(forbidden)).endswith("to execute command")
    error = ServerSelectionTimeoutError(
        "h:1: refused (configured timeouts: x), Timeout: 1s, Topology Description: <...>"
    )
    assert str(translated(error)).endswith("h:1: refused")
    assert len(str(translated(AutoReconnect("x" * 10_000)))) < 500


async def test_a_cancellation_that_the_driver_swallows_is_given_back() -> None:
    went_on = False

    async def call() -> None:
        nonlocal went_on
        # As `asyncio.wait_for` does on Python 3.11, if the answer comes at the same time.
        swallowing = contextlib.suppress(asyncio.CancelledError)
        with MongoConnection(MongoSettings()).translating(), swallowing:
            await asyncio.Event().wait()
        went_on = True

    task = asyncio.create_task(call())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not went_on


async def test_what_is_too_large_is_not_the_servers_fault() -> None:
    connection = MongoConnection(MongoSettings())
    with pytest.raises(DriverError, match="cannot store"), connection.translating():
        raise InvalidDocument("too large")


@pytest.mark.parametrize(
    ("error", "harmless"),
    [
        (bulk([11000, 11000]), True),
        (bulk([11000, 91]), False),
        (bulk([11000], [64]), False),
        (bulk(concern_codes=[64]), False),
    ],
)
def test_duplicates_are_harmless_alone(error: BulkWriteError, harmless: bool) -> None:
    assert only_duplicates(error) == harmless


@pytest.mark.parametrize(
    ("hello", "refused"),
    [
        ({"isWritablePrimary": True, "setName": "orchx"}, None),
        ({"isWritablePrimary": True, "msg": "isdbgrid"}, None),
        ({"isWritablePrimary": True}, r"ORCHX_MONGODB__URI.*replica set"),
        ({"setName": "orchx", "maxWireVersion": 9}, None),
        ({"setName": "orchx", "maxWireVersion": 8}, r"4\.4 or newer is needed; ORCHX_MONGODB__URI"),
    ],
)
async def test_a_server_that_lacks_what_is_needed_is_refused(
    hello: Any, refused: str | None
) -> None:
    async def command(_: str) -> Any:
        return hello

    admin = SimpleNamespace(command=command)
    database = cast(Any, SimpleNamespace(client=SimpleNamespace(admin=admin)))
    if refused is None:
        await _check_server(database)
    else:
        with pytest.raises(DriverError, match=refused):
            await _check_server(database)


async def test_it_closes_when_the_calls_that_go_on_have_ended() -> None:
    connection = MongoConnection(MongoSettings())
    may_end = asyncio.Event()

    async def call() -> None:
        with connection.translating():
            await may_end.wait()

    calls = [asyncio.create_task(call()) for _ in range(2)]
    await asyncio.sleep(0)
    closing = asyncio.create_task(connection.close())
    await asyncio.wait((closing,), timeout=0.05)
    assert not closing.done()
    may_end.set()
    await asyncio.wait_for(asyncio.gather(*calls, closing), TIMEOUT_S)


async def test_a_call_that_does_not_end_holds_up_no_close() -> None:
    connection = MongoConnection(MongoSettings(timeout_ms=500))
    with connection.translating():
        await asyncio.wait_for(connection.close(), TIMEOUT_S)
