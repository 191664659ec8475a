"""The reusable components of `use`: errors, retry policies, timeouts, functions."""

from __future__ import annotations

from typing import Final, Literal, cast

from orchx.domain.document import Duration, RetryPolicy
from orchx.domain.document_context import Context
from orchx.domain.document_data import check_uri, read_timeout_definition
from orchx.domain.document_durations import PLACEHOLDER, optional_duration, read_duration
from orchx.domain.document_expressions import is_expression
from orchx.domain.document_reader import Node
from orchx.domain.document_unsupported import CALLS, USE, refuse_use
from orchx.domain.expressions import Template

SUPPORTED: Final = ("errors", "functions", "retries", "timeouts")
WITH_NAME: Final = "with"  # of the task that stands for a call's arguments
RESERVED_FUNCTIONS: Final = ("http", "openapi", *CALLS, WITH_NAME)
MAX_ATTEMPTS: Final = 10_000
MAX_BACKOFF_FACTOR: Final = 100.0

# The DSL leaves the members of each strategy open; these are the ones that orchx reads.
BACKOFF: Final[dict[str, tuple[str, ...]]] = {
    "constant": (),
    "linear": ("increment", "maxDelay"),
    "exponential": ("factor", "maxDelay"),
}


def read_components(context: Context) -> None:
    """Fill `context` with the reusable components, each checked whether used or not."""
    use = context.use
    if not use.is_object((*SUPPORTED, *USE)):
        return
    refuse_use(use)
    for name, node in _named(use.child("timeouts")):
        context.timeouts[name] = read_timeout_definition(node, context) or PLACEHOLDER
    for name, node in _named(use.child("errors")):
        context.errors[name] = read_error(node, context)
    for name, node in _named(use.child("retries")):
        context.retries[name] = read_retry_policy(node, context)
    for name, node in _named(use.child("functions")):
        if name in RESERVED_FUNCTIONS:
            node.report.invalid(node.pointer, "a function cannot have this name, which is reserved")
        else:
            context.functions[name] = node


def read_error(node: Node, context: Context) -> Template:
    """Return the error to raise that is defined at `node`; its members may be expressions."""
    if node.is_object(("type", "status", "instance", "title", "detail")):
        check_uri(node.required("type"))
        status = node.required("status")
        if status is not None and not is_expression(status.value):
            status.integer()
        instance = node.child("instance")
        if instance is not None and not is_expression(instance.value):
            text = instance.text(empty=True)
            if text and not text.startswith("/"):
                instance.fail("this is not a JSON pointer", expected="a path such as /do/0/task")
        for key in ("title", "detail"):
            member = node.child(key)
            if member is not None:
                member.text(empty=True)
    return context.read.template(node)


def read_retry(node: Node | None, context: Context) -> RetryPolicy | None:
    """Return the retry policy at `node`: a definition, or the name of a reusable one."""
    if node is None:
        return None
    if not isinstance(node.value, str):
        return read_retry_policy(node, context)
    if node.value not in context.retries:
        context.unknown_reference(node, "retries")
    return context.retries.get(node.value)


def read_retry_policy(node: Node, context: Context) -> RetryPolicy:
    """Return the retry policy that is defined at `node`."""
    if not node.is_object(("when", "exceptWhen", "delay", "backoff", "limit", "jitter")):
        return RetryPolicy()
    read = context.read
    backoff, increment, factor, max_delay = _read_backoff(node.child("backoff"), context)
    count, attempt_duration, duration = _read_limit(node.child("limit"), context)
    jitter_from, jitter_to = _read_jitter(node.child("jitter"), context)
    return RetryPolicy(
        when=read.optional(node.child("when")),
        except_when=read.optional(node.child("exceptWhen")),
        delay=read_duration(node.child("delay"), read),
        backoff=backoff,
        backoff_increment=increment,
        backoff_factor=factor,
        max_delay=max_delay,
        limit_attempts=count,
        limit_attempt_duration=attempt_duration,
        limit_duration=duration,
        jitter_from=jitter_from,
        jitter_to=jitter_to,
    )


def _named(node: Node | None) -> list[tuple[str, Node]]:
    if node is None or not node.is_object():
        return []
    for name, entry in node.entries():
        entry.check_name(name)
    return node.entries()


_Backoff = Literal["constant", "linear", "exponential"]


def _read_backoff(
    node: Node | None, context: Context
) -> tuple[_Backoff, Duration | None, float, Duration | None]:
    default_factor = RetryPolicy().backoff_factor
    if node is None or not node.is_object(BACKOFF):
        return "constant", None, default_factor, None
    strategy = node.exactly_one(tuple(BACKOFF))
    details = node.child(strategy) if strategy is not None else None
    if strategy is None or details is None or not details.is_object(BACKOFF[strategy]):
        return "constant", None, default_factor, None
    factor = details.child("factor")
    return (
        cast(_Backoff, strategy),
        optional_duration(details.child("increment"), context.read),
        default_factor if factor is None else _read_factor(factor),
        optional_duration(details.child("maxDelay"), context.read, positive=True),
    )


def _read_factor(node: Node) -> float:
    value = node.value
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not 1 <= value <= MAX_BACKOFF_FACTOR:
        expected = f"a number from 1 to {MAX_BACKOFF_FACTOR:g}"
        node.fail("this is no factor of an exponential backoff", expected=expected)
        return 1.0
    return float(value)


def _read_limit(
    node: Node | None, context: Context
) -> tuple[int | None, Duration | None, Duration | None]:
    if node is None or not node.is_object(("attempt", "duration")):
        return None, None, None
    duration = optional_duration(node.child("duration"), context.read, positive=True)
    attempt = node.child("attempt")
    if attempt is None or not attempt.is_object(("count", "duration")):
        return None, None, duration
    count = attempt.child("count")
    return (
        None if count is None else count.integer(minimum=1, maximum=MAX_ATTEMPTS),
        optional_duration(attempt.child("duration"), context.read, positive=True),
        duration,
    )


def _read_jitter(node: Node | None, context: Context) -> tuple[Duration | None, Duration | None]:
    if node is None or not node.is_object(("from", "to")):
        return None, None
    start, stop = node.required("from"), node.required("to")
    if start is None or stop is None:
        return None, None
    least, most = read_duration(start, context.read), read_duration(stop, context.read)
    least_ms, most_ms = least.constant_ms, most.constant_ms
    if least_ms is not None and most_ms is not None and least_ms > most_ms:
        node.fail("the jitter's `from` is longer than its `to`")
    return least, most
