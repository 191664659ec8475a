"""Submitting requests: the hot path.

One item or a batch goes through the same steps: read, check everything, make commands,
hand them over in one call (which makes them durable or raises), answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import structlog
from starlette.responses import Response

from orchx.domain.events import Callback, Request
from orchx.domain.json_values import JSON
from orchx.domain.keys import workflow_id_for
from orchx.domain.messages import StartWorkflow
from orchx.errors import (
    Bug,
    CallerError,
    Conflict,
    DriverError,
    InvalidRequest,
    NotFound,
    StorageFull,
    TryLater,
    Violation,
)
from orchx.ports.command_queue import Accepted
from orchx.ports.state_store import TERMINAL, WorkflowSummary
from orchx.serve.answers import accepted_json, workflow_json
from orchx.serve.context import Api
from orchx.serve.identifiers import fresh_workflow_id
from orchx.serve.limits import only_waits
from orchx.serve.media import read_json_request
from orchx.serve.models import SubmitItem
from orchx.serve.preferences import idempotency_key_of, preferred_wait_s
from orchx.serve.routing import Call, json_response
from orchx.serve.runnable_definitions import Runnable
from orchx.serve.validation import MAX_VIOLATIONS, read_model, summary

DEFAULT_TENANT: Final = "default"
LATEST: Final = "latest"
_content: Final = msgspec.json.Encoder(order="deterministic")
_log = structlog.get_logger("orchx.serve")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Item:
    """One checked item. `key`: what its id is derived from; None: it gets a fresh one."""

    body: SubmitItem
    pointer: str
    tenant: str
    key: str | None


async def submit(api: Api, call: Call) -> Response:
    """`POST /v1/requests`."""
    accepted, is_batch, wait_s = await _store(api, call)
    call.stored()
    only_waits(call.request.scope)
    if is_batch:
        return json_response({"results": [_result(one) for one in accepted]}, 202)
    return await _answer(api, accepted[0], wait_s, preferred=call.query.wait is None)


async def _store(api: Api, call: Call) -> tuple[list[Accepted], bool, float | None]:
    """Make what the body asks for durable; nothing of the body outlives this.

    Returns:
        what became of each item, whether it was a batch, and how long to wait for the end.
    """
    raw = b"".join([part async for part in call.request.stream()])  # `body()` would keep it
    body = read_json_request(raw, call.request, api.settings.max_depth)
    is_batch = isinstance(body, list)
    wait_s = _wait_s(api, call, is_batch)
    items = _read_batch(api, call, body) if is_batch else [_read_single(call, body)]
    return [accepted for _, accepted in await _submit(api, call, items)], is_batch, wait_s


def _wait_s(api: Api, call: Call, is_batch: bool) -> float | None:
    asked: float | None = call.query.wait
    if asked is not None and is_batch:
        fault = Violation(pointer="?wait", message="goes with one request, not with a batch")
        raise InvalidRequest(summary((fault,)), (fault,))
    if asked is None and not is_batch:
        asked = preferred_wait_s(call.request.headers.getlist("prefer"))
    return None if asked is None else min(asked, api.settings.max_wait_s)


def _read_single(call: Call, body: JSON) -> _Item:
    item = read_model(SubmitItem, body)
    given = idempotency_key_of(call.request)
    if given is not None and item.idempotency_key not in (None, given):
        fault = Violation(
            pointer="/idempotencyKey",
            message="differs from the Idempotency-Key header",
            found=item.idempotency_key,
            expected=given,
        )
        raise InvalidRequest(summary((fault,)), (fault,))
    key = given or item.idempotency_key
    return _Item(body=item, pointer="", tenant=_tenant(call, item), key=key)


def _read_batch(api: Api, call: Call, body: list[JSON]) -> list[_Item]:
    if not 1 <= len(body) <= api.settings.max_batch:
        fault = Violation(
            pointer="",
            message="is not a batch of the right size",
            found=f"{len(body)} items",
            expected=f"1 to {api.settings.max_batch} items",
        )
        raise InvalidRequest(summary((fault,)), (fault,))
    batch_key = idempotency_key_of(call.request)
    items: list[_Item] = []
    violations: list[Violation] = []
    seen: dict[tuple[str, str], str] = {}
    for index, raw in enumerate(body):
        pointer = f"/{index}"
        try:
            item = read_model(SubmitItem, raw, pointer=pointer)
        except InvalidRequest as error:
            violations.extend(error.violations)
            if len(violations) >= MAX_VIOLATIONS:
                break
            continue
        key = item.idempotency_key
        if key is None and batch_key is not None:
            key = f"{batch_key} {index}"  # a key of a caller's own has no space in it
        tenant = _tenant(call, item)
        if key is not None and (first := seen.setdefault((tenant, key), pointer)) != pointer:
            message = f"is the key of {first} too"
            violations.append(
                Violation(pointer=f"{pointer}/idempotencyKey", message=message, found=key)
            )
        items.append(_Item(body=item, pointer=pointer, tenant=tenant, key=key))
    if violations:
        raise InvalidRequest(summary(tuple(violations)), tuple(violations))
    return items


def _tenant(call: Call, item: SubmitItem) -> str:
    return call.caller.tenant_for(item.tenant) or DEFAULT_TENANT


async def _commands(api: Api, call: Call, items: list[_Item]) -> list[StartWorkflow]:
    """Check every item against what is published, and make its command.

    Raises:
        InvalidRequest: nothing may be stored, for what the violations say.
    """
    now_ms = api.now_ms()
    violations: list[Violation] = []
    commands: list[StartWorkflow] = []
    for item in items:
        found = await _find(api, item.body)
        wrong = (*_check(item, found, now_ms), *_check_callback(api, item))
        violations.extend(wrong)
        if len(violations) >= MAX_VIOLATIONS:
            break
        if found is not None and not violations:
            commands.append(_command(item, found, now_ms, call.traceparent))
    if violations:
        raise InvalidRequest(summary(tuple(violations)), tuple(violations))
    return commands


async def _find(api: Api, body: SubmitItem) -> Runnable | None:
    if body.type is not None:
        return await api.definitions.by_type(body.type)
    choice = body.definition
    if choice is None:
        raise Bug("an item with neither type nor definition was taken")
    return await api.definitions.find(choice.namespace, choice.name, choice.version)


def _check(item: _Item, found: Runnable | None, now_ms: int) -> tuple[Violation, ...]:
    body = item.body
    violations: tuple[Violation, ...] = ()
    if body.deadline is not None and body.deadline <= now_ms:
        violations += (
            Violation(
                pointer=f"{item.pointer}/deadline", message="is past", expected="a time ahead"
            ),
        )
    if found is not None and not found.stored.retired:
        if found.input_schema is not None:
            pointer = f"{item.pointer}/input"
            violations += found.input_schema.violations(body.input, pointer=pointer)
        return violations
    return (*violations, _missing(item, found))


def _check_callback(api: Api, item: _Item) -> tuple[Violation, ...]:
    if item.body.callback is None:
        return ()
    try:
        api.check_callback(item.body.callback.url, pointer=f"{item.pointer}/callback/url")
    except InvalidRequest as error:
        return error.violations
    return ()


def _missing(item: _Item, found: Runnable | None) -> Violation:
    choice = item.body.definition
    if choice is None:
        return Violation(
            pointer=f"{item.pointer}/type",
            message=f"no definition is bound to the request type {item.body.type}",
            found=item.body.type,
            expected="the request type of a published definition",
        )
    wanted = f"{choice.namespace}/{choice.name}:{choice.version}"
    state = "is retired" if found is not None else "is not published"
    return Violation(
        pointer=f"{item.pointer}/definition",
        message=f"the definition {wanted} {state}",
        found=wanted,
        expected="a published definition",
    )


def _command(item: _Item, found: Runnable, now_ms: int, traceparent: str | None) -> StartWorkflow:
    body = item.body
    if item.key is None:
        workflow_id = fresh_workflow_id(now_ms)
    else:
        workflow_id = workflow_id_for(item.tenant, item.key)
    callback = body.callback
    request = Request(
        tenant=item.tenant,
        type=body.type,
        priority=body.priority if "priority" in body.model_fields_set else found.priority,
        deadline_ms=body.deadline,
        isolation=body.isolation if "isolation" in body.model_fields_set else found.isolation,
        callback=None if callback is None else Callback(url=callback.url, events=callback.events),
        correlation_id=body.correlation_id,
        labels=body.labels,
    )
    return StartWorkflow(
        id=workflow_id,
        workflow_id=workflow_id,
        created_at_ms=now_ms,
        traceparent=traceparent,
        namespace=found.stored.namespace,
        name=found.stored.name,
        version=found.stored.version,
        digest=found.stored.digest,
        input=body.input,
        request=request,
    )


async def _submit(api: Api, call: Call, items: list[_Item]) -> list[tuple[StartWorkflow, Accepted]]:
    try:
        return await _offer(api, call, items)
    except (CallerError, TryLater, StorageFull):
        # What was accepted once stays accepted: a repetition may come after its deadline,
        # after a newer version or the end of its definition, or while there is no room.
        known = await _accepted_before(api, items)
        if not known:
            raise
    fresh = [item for item in items if _keyed_id(item) not in known]
    offered = iter(await _offer(api, call, fresh) if fresh else ())
    return [
        next(offered) if (command := known.get(_keyed_id(item))) is None else _replayed(command)
        for item in items
    ]


async def _offer(api: Api, call: Call, items: list[_Item]) -> list[tuple[StartWorkflow, Accepted]]:
    commands = await _commands(api, call, items)
    accepted = await api.gateway.submit(commands)
    return list(zip(commands, accepted, strict=True))


async def _accepted_before(api: Api, items: list[_Item]) -> Mapping[str, StartWorkflow]:
    """Return, by workflow id, what is there already of the items that have a key.

    Raises:
        Conflict: a key was used before for something else.
    """
    keyed = {_keyed_id(item): item for item in items if item.key is not None}
    if not keyed:
        return {}
    known = await api.gateway.accepted(list(keyed))
    for workflow_id, command in known.items():
        item = keyed[workflow_id]
        if not await _asks_for(api, item, command):
            detail = f"the idempotency key {item.key!r} was used before with another content"
            raise Conflict(detail)
    return known


async def _asks_for(api: Api, item: _Item, command: StartWorkflow) -> bool:
    """Tell whether an item, had it met the definition of then, would be this command."""
    choice = item.body.definition
    if choice is not None:
        version = command.version if choice.version == LATEST else choice.version
        named = (choice.namespace, choice.name, version)
        if named != (command.namespace, command.name, command.version):
            return False
    found = await api.definitions.find(command.namespace, command.name, command.version)
    if found is None:
        return False
    again = _command(item, found, command.created_at_ms, command.traceparent)
    # as bytes: for Python, true is 1 and 1 is 1.0
    return _content.encode(again) == _content.encode(command)


def _keyed_id(item: _Item) -> str:
    return "" if item.key is None else workflow_id_for(item.tenant, item.key)


def _replayed(command: StartWorkflow) -> tuple[StartWorkflow, Accepted]:
    return command, Accepted(command_id=command.id, duplicate=True)


# From here on the request is stored and will run: whoever is told otherwise sends it again.


async def _ended(api: Api, workflow_id: str, wait_s: float) -> WorkflowSummary | None:
    """Return the end; None: time is up, or the end cannot be told now."""
    try:
        return await api.gateway.wait(workflow_id, wait_s)
    except (TryLater, DriverError) as error:
        _log.warning("request.wait_failed", workflow_id=workflow_id, error=str(error))
        return None


async def _show(api: Api, workflow_id: str) -> WorkflowSummary | None:
    try:
        return await api.gateway.show(workflow_id)
    except (NotFound, TryLater, DriverError):
        return None


def _result(accepted: Accepted) -> dict[str, Any]:
    return {
        "status": 202,
        "replayed": accepted.duplicate,
        "workflow": accepted_json(accepted.command_id, "pending"),
    }


async def _answer(
    api: Api, accepted: Accepted, wait_s: float | None, *, preferred: bool
) -> Response:
    workflow_id = accepted.command_id  # the start's id is the workflow's
    headers = {"Location": f"/v1/workflows/{workflow_id}"}
    if accepted.duplicate:
        headers["Idempotency-Replayed"] = "true"
    if wait_s is not None and preferred:
        headers["Preference-Applied"] = f"wait={wait_s:g}"
    # With too many waiting already the request itself still counts: it is stored.
    if wait_s and api.waits.free:
        with api.waits.take():
            ended = await _ended(api, workflow_id, wait_s)
        if ended is not None and ended.status in TERMINAL:
            return json_response(workflow_json(ended), 200, headers)
    status = "pending"
    if accepted.duplicate and (known := await _show(api, workflow_id)) is not None:
        status = known.status
    return json_response(accepted_json(workflow_id, status), 202, headers)
