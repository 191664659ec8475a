"""Versions sort as Semantic Versioning 2.0.0 says."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orchx.domain.semantic_version import precedence

# Section 11.4 of the standard, and its example of numbers.
ORDERED = [
    "not-a-version",
    "0.0.0-0",
    "1.0.0-alpha",
    "1.0.0-alpha.1",
    "1.0.0-alpha.beta",
    "1.0.0-beta",
    "1.0.0-beta.2",
    "1.0.0-beta.11",
    "1.0.0-rc.1",
    "1.0.0",
    "2.0.0",
    "2.1.0",
    "2.1.1",
    "10.0.0",
]
NUMBER = st.integers(0, 20)
IDENTIFIER = st.one_of(NUMBER.map(str), st.from_regex(r"[0-9]{0,2}[a-zA-Z-]{1,2}", fullmatch=True))
VERSION = st.tuples(st.tuples(NUMBER, NUMBER, NUMBER), st.lists(IDENTIFIER, max_size=3))


def text(version: tuple[tuple[int, int, int], list[str]]) -> str:
    numbers, pre = version
    return ".".join(map(str, numbers)) + ("-" + ".".join(pre) if pre else "")


def lower(
    one: tuple[tuple[int, int, int], list[str]], other: tuple[tuple[int, int, int], list[str]]
) -> bool:
    """Section 11, word for word, as a comparison of two."""
    if one[0] != other[0]:
        return one[0] < other[0]
    if not one[1] or not other[1]:
        return bool(one[1]) and not other[1]
    for a, b in zip(one[1], other[1], strict=False):
        if a == b:
            continue
        if a.isdigit() and b.isdigit():
            return int(a) < int(b)
        if a.isdigit() != b.isdigit():
            return a.isdigit()
        return a < b
    return len(one[1]) < len(other[1])


def test_the_standards_own_examples() -> None:
    backwards = ORDERED[::-1]
    assert sorted(backwards, key=precedence) == ORDERED


def test_build_metadata_only_breaks_ties() -> None:
    assert precedence("1.0.0+b") > precedence("1.0.0+a")
    assert precedence("1.0.1+a") > precedence("1.0.0+b")


def test_what_only_looks_like_a_version_is_none() -> None:
    for wrong in (
        "01.0.0",
        "1.0",
        "1.0.0-01",
        "1.0.0-",
        "1.0.0+",
        "v1.0.0",
        "1.0.0\n",
        "\u0661.0.0",
    ):
        assert precedence(wrong) < precedence("0.0.0-0"), wrong


@given(VERSION, VERSION)
def test_agrees_with_the_standard(
    one: tuple[tuple[int, int, int], list[str]], other: tuple[tuple[int, int, int], list[str]]
) -> None:
    assert (precedence(text(one)) < precedence(text(other))) == lower(one, other)
