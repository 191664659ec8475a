"""Comparing what a store holds with what it should hold, item by item. No I/O of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Final, Literal, TypeAlias

import msgspec

from orchx.ports.state_store import WorkflowSummary

Kind: TypeAlias = Literal["missing", "extra", "differs", "unsettled"]
"""missing: the log has it, the store has not. extra: the other way round. unsettled: it changed
each time that it was looked at, so that nothing can be said of it."""

VALUE_CHARACTERS: Final = 160  # of a value that differs, as it is shown
FIELDS_SHOWN: Final = 8  # of one item

_encode: Final = msgspec.json.Encoder(order="sorted", enc_hook=repr).encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One document, row or entry.

    Two with the same `raw` are equal; else their `fields` decide, which are made when they are
    needed. `offset` of `partition` of the log is up to where the item says that it is true.
    """

    key: str
    raw: object
    fields: Callable[[], Mapping[str, object]]
    partition: int = 0
    offset: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What is wrong with one item: of each field that differs, what is there and what should be."""

    store: str
    key: str
    kind: Kind
    fields: Mapping[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Tally:
    """What was found in one store; the first `shown_max` differences are kept.

    `excused` counts, by reason, what may differ.
    """

    store: str
    shown_max: int
    live: int = 0
    rebuilt: int = 0
    equal: int = 0
    differing: int = 0
    excused: Counter[str] = field(default_factory=Counter)
    differences: list[Difference] = field(default_factory=list)

    def count(self, live: Item | None, rebuilt: Item | None) -> None:
        """Count an item on the sides where it is."""
        self.live += live is not None
        self.rebuilt += rebuilt is not None

    def differs(self, difference: Difference) -> None:
        """Add a difference."""
        self.differing += 1
        if len(self.differences) < self.shown_max:
            self.differences.append(difference)


def item_of(summary: WorkflowSummary) -> Item:
    """Return a summary as an item."""
    return Item(key=summary.workflow_id, raw=summary, fields=lambda: asdict(summary))


def difference(store: str, live: Item | None, rebuilt: Item | None) -> Difference | None:
    """Return what differs between what is there and what should be; None: nothing."""
    there = live or rebuilt
    if there is None:
        return None
    if live is None or rebuilt is None:
        return Difference(store=store, key=there.key, kind="extra" if live else "missing")
    if live.raw == rebuilt.raw:
        return None
    fields = _differing(live.fields(), rebuilt.fields())
    if not fields:
        return None
    return Difference(store=store, key=there.key, kind="differs", fields=fields)


async def side_by_side(
    live: AsyncIterator[Item], rebuilt: AsyncIterator[Item]
) -> AsyncIterator[tuple[Item | None, Item | None]]:
    """Yield items with the same key together; both sides come in ascending order of their keys."""
    left, right = await anext(live, None), await anext(rebuilt, None)
    while left is not None or right is not None:
        if right is None or (left is not None and left.key < right.key):
            yield left, None
            left = await anext(live, None)
        elif left is None or right.key < left.key:
            yield None, right
            right = await anext(rebuilt, None)
        else:
            yield left, right
            left, right = await anext(live, None), await anext(rebuilt, None)


def _differing(
    live: Mapping[str, object], rebuilt: Mapping[str, object]
) -> Mapping[str, tuple[str, str]]:
    names = [name for name in {**live, **rebuilt} if not _same(live, rebuilt, name)]
    shown = {name: (_text(live, name), _text(rebuilt, name)) for name in names[:FIELDS_SHOWN]}
    if len(names) > FIELDS_SHOWN:
        shown["…"] = (f"{len(names) - FIELDS_SHOWN} more", "")
    return shown


def _same(live: Mapping[str, object], rebuilt: Mapping[str, object], name: str) -> bool:
    return name in live and name in rebuilt and live[name] == rebuilt[name]


def _text(fields: Mapping[str, object], name: str) -> str:
    if name not in fields:
        return "nothing"
    text = _encode(fields[name]).decode()
    return text if len(text) <= VALUE_CHARACTERS else text[:VALUE_CHARACTERS] + "…"
