"""Batches as messages, of which none is larger than a channel takes.

What is lost on the way is sent again. A message that can never arrive would be lost for ever,
with all that is in it; so what is too large for one message becomes several, in order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeVar

import msgspec
import structlog

from orchx.ports.supervision import OwnerReport

logger = structlog.get_logger(__name__)

PART_BYTES: Final = 8 * 1_048_576
ITEM_BYTES_MAX: Final = 128 * 1_048_576  # half of a channel's frame

T = TypeVar("T")

_encode: Final = msgspec.msgpack.Encoder().encode
# In the order in which the Dispatcher takes them.
_LISTS: Final = ("applied", "listening", "passivated", "lost", "ended", "commands", "published")


def parts(items: Iterable[T]) -> Iterator[list[T]]:
    """Yield items in order, as many at a time as `PART_BYTES` hold, and at least one list.

    One that is larger goes alone. One that no channel would take is dropped: values are
    limited (`domain/value_limits.py`), so there is none unless something is wrong.
    """
    part: list[T] = []
    size = 0
    for item in items:
        item_bytes = len(_encode(item))
        if item_bytes > ITEM_BYTES_MAX:
            workflow_id = getattr(item, "workflow_id", None)
            kind = type(item).__name__
            logger.error("dropped", item=kind, bytes=item_bytes, workflow_id=workflow_id)
            continue
        if part and size + item_bytes > PART_BYTES:
            yield part
            part, size = [], 0
        part.append(item)
        size += item_bytes
    yield part


def messages(items: Sequence[object]) -> Iterator[bytes]:
    """Yield a batch as one message, or as several if one would be too large."""
    whole = _encode(items)
    if len(whole) <= PART_BYTES:
        yield whole
    else:
        yield from map(_encode, parts(items))


def first_message(items: Sequence[T]) -> tuple[bytes, Sequence[T]]:
    """Return as many items as one message holds, and those that are left."""
    whole = _encode(items)
    if len(whole) <= PART_BYTES:
        return whole, ()
    first, *rest = parts(items)
    return _encode(first), [item for part in rest for item in part]


def report_messages(report: OwnerReport) -> Iterator[bytes]:
    """Yield a report as one message, or as several that say the same in the same order."""
    whole = _encode(report)
    if len(whole) <= PART_BYTES:
        yield whole
        return
    rest = msgspec.structs.replace(report, **{name: [] for name in _LISTS})
    for name in _LISTS:
        for part in parts(getattr(report, name)):
            if part:
                yield _encode(msgspec.structs.replace(rest, **{name: part}))
                rest.hello = False  # said once
