"""A difference in any field, a missing and an extra item are found and named."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import fields, replace
from typing import Any

import pytest

from orchx.engine.comparison import (
    FIELDS_SHOWN,
    VALUE_CHARACTERS,
    Difference,
    Item,
    Tally,
    difference,
    item_of,
    side_by_side,
)
from orchx.ports.state_store import WorkflowSummary
from tests.summaries import summary

FULL = summary(
    "w",
    ended_at_ms=5,
    epoch=2,
    owner="o",
    seq=7,
    passivated=True,
    due_at_ms=9,
    listens=("t",),
    listening=(3,),
    task="/do/0",
    output={"n": 1},
    error={"status": 500},
    parent_id="p",
    correlation_id="c",
    labels={"a": "b"},
    traceparent="00-aa-bb-01",
    tasks_completed=1,
    tasks_faulted=2,
    retries=3,
)


def item(key: str, **values: object) -> Item:
    return Item(key=key, raw=values, fields=lambda: values)


async def each(items: Sequence[Item]) -> AsyncIterator[Item]:
    for one in items:
        yield one


def test_equal_items_have_no_difference() -> None:
    assert difference("s", item("a", n=1), item("a", n=1)) is None
    assert difference("s", item_of(FULL), item_of(replace(FULL))) is None
    assert difference("s", None, None) is None


@pytest.mark.parametrize("name", [field.name for field in fields(WorkflowSummary)])
def test_a_difference_in_any_field_of_a_summary_is_named(name: str) -> None:
    changes: Any = {name: "something else"}
    changed = replace(FULL, **changes)
    found = difference("workflows", item_of(changed), item_of(FULL))
    assert found is not None
    assert found.kind == "differs"
    assert list(found.fields) == [name]
    assert found.fields[name][0] == '"something else"'


def test_a_missing_and_an_extra_item_are_told_apart() -> None:
    assert difference("s", None, item("a")) == Difference(store="s", key="a", kind="missing")
    assert difference("s", item("a"), None) == Difference(store="s", key="a", kind="extra")


def test_a_field_that_only_one_side_has_is_named() -> None:
    found = difference("s", item("a", n=None), item("a"))
    assert found is not None
    assert found.fields == {"n": ("null", "nothing")}


def test_what_is_only_written_differently_is_equal() -> None:
    """The bytes differ, what they say does not: another release wrote them."""
    live = Item(key="a", raw=b'{"n": 1}', fields=lambda: {"n": 1})
    assert difference("s", live, Item(key="a", raw=b'{"n":1}', fields=lambda: {"n": 1})) is None


def test_what_is_shown_is_bounded() -> None:
    many = {f"f{n:02}": "x" * 1_000 for n in range(FIELDS_SHOWN + 3)}
    found = difference("s", item("a", **many), item("a"))
    assert found is not None
    assert len(found.fields) == FIELDS_SHOWN + 1
    assert found.fields["…"][0] == "3 more"
    assert all(len(live) <= VALUE_CHARACTERS + 1 for live, _ in found.fields.values())


@pytest.mark.parametrize(
    ("live", "rebuilt"),
    [("", ""), ("abc", "abc"), ("ac", "b"), ("b", "ac"), ("abc", ""), ("", "abc"), ("abd", "bcd")],
)
async def test_items_are_paired_by_key(live: str, rebuilt: str) -> None:
    pairs = [
        (None if left is None else left.key, None if right is None else right.key)
        async for left, right in side_by_side(
            each([item(key) for key in live]), each([item(key) for key in rebuilt])
        )
    ]
    assert pairs == [
        (key if key in live else None, key if key in rebuilt else None)
        for key in sorted({*live, *rebuilt})
    ]


def test_a_tally_keeps_the_first_and_counts_all() -> None:
    tally = Tally(store="s", shown_max=2)
    for key in "abc":
        tally.differs(Difference(store="s", key=key, kind="extra"))
    assert tally.differing == 3
    assert [one.key for one in tally.differences] == ["a", "b"]
