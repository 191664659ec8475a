"""Which programs are proven cheap, and which must go to the sandbox."""

from __future__ import annotations

import pytest

from orchx.domain.expressions import parse_expression


@pytest.mark.parametrize(
    "text",
    [
        ".",
        ".a.b[0].c",
        '.["a b"]."c"',
        ".items[1:3]",
        ".a?",
        "$context.a == .b",
        ".a > 38 and (.b | not) or .c != null",
        "($context.messages | length) == 5",
        ".count + 1",
        ".count - 1",
        "-.count",
        ".price * 1.2",
        "(.a | length) * (.b | length)",
        ".a / .b",
        ".a % 2 == 0",
        '.name // "nobody"',
        'if .a then 1 elif .b then "x" else null end',
        '{a: .x, "b": [1, .y], c, $d}',
        '"Dear \\(.name), \\(.n + 1)"',
        '. + {status: "done"}',
        ".items | map(.price) | add",
        "[.items[] | select(.id == $context.id) | .name]",
        "first(.items[] | select(.ok))",
        ".items | map(select(.price > 3)) | length",
        "[.items[].name]",
        ".items | any(.ok) and (.names | all)",
        ".items | sort_by(.price) | first",
        ".items | group_by(.kind)",
        'with_entries(select(.key != "secret"))',
        '.tags | index("x")',
        '.name | startswith("a") or endswith($suffix)',
        '.name | ascii_downcase | ltrimstr("a")',
        '.a | split(",") | join(";")',
        ".a, .b",
        "[.a, .b] | map(tostring)",
        "true",
        "empty",
    ],
)
def test_cheap_programs_run_in_process(text: str) -> None:
    assert parse_expression(text).bounded


@pytest.mark.parametrize(
    "text",
    [
        # what is not on the list
        "now",
        "range(3)",
        "[limit(3; .[])]",
        "[recurse]",
        "[..]",
        "[paths]",
        'getpath(["a"])',
        'test("a")',
        "repeat(.)",
        "[.[] | until(. > 3; . + 1)]",
        "def f: .; f",
        "reduce .[] as $x (0; . + $x)",
        "foreach .[] as $x (0; . + $x)",
        ". as $x | $x",
        "label $l | .a",
        "try .a",
        "@json",
        '@base64 "\\(.)"',
        ".a = 1",
        ".a |= 1",
        "explode",
        "any(.[]; .a)",
        "{(.a): 1}",
        # loops in loops
        "[.[] | .[]]",
        "map(map(.a))",
        "map([.a[]])",
        "map(first(.a[]))",
        ".[][]",
        "[.[] | (.a, .b) | .c]",
        "[.a[] + .b[]]",
        "{a: .x[], b: .y[]}",
        "[{a: .x[], b: .big}]",
        "[.a[], .b[]]",
        "map(any(.x))",
        "[.[] as $a | .[] as $b | .[] as $c | 1]",
        # a variable visited once per element
        "map($big)",
        "map({a: $big})",
        "map({$big})",
        "map($big | length)",
        "map(. + $big)",
        "map($big == $big)",
        "map($big[1:2] == .)",
        "map(startswith($big))",
        "[.[] | $big]",
        "[$big[] | $big]",
        'map("\\($big)")',
        # repetition and doubling
        '"x" * 1e9',
        "1e9 * .",
        ". * 1e9",
        ". * 20",
        ". * 1e999",
        ". * (1000000000)",
        ".a * .b",
        "(.a * 1) * 1000",
        "[.,.] | [.,.] | [.,.] | [.,.] | [.,.] | [.,.] | [.,.]",
        ". + . | . + . | . + . | . + . | . + . | . + . | . + .",
        "{a: ., b: .} | {a: ., b: .} | {a: ., b: .} | {a: ., b: .} | {a: ., b: .}",
        "tojson | tojson | tojson | tojson | tojson | tojson | tojson",
        '"\\(["\\(["\\(["\\(["\\(["\\([.])"])"])"])"])"])"',
        f'join("{"x" * 500}")',
        f'map("{"x" * 500}")',
        # quadratic on arrays
        ".a - .b",
        "contains(.a)",
        "inside($x)",
        "index(.a)",
        ".a[.b]",
    ],
)
def test_everything_else_goes_to_the_sandbox(text: str) -> None:
    assert not parse_expression(text).bounded
