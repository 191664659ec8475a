"""How expressions and templates of them become one jq program each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from orchx.domain import jq_programs
from orchx.domain.expression_plans import ArrayPlan, ConstantPlan, ObjectPlan, Plan, path_plan
from orchx.domain.expression_risk import work
from orchx.domain.jq_tokens import (
    ExpressionSyntaxError,
    Scanner,
    Token,
    refuse_impure,
    without_comments,
)
from orchx.domain.json_values import JSON

MAX_TEMPLATE_CHARS: Final = 256 * 1024  # of the program that a template becomes
MAX_TEMPLATE_DEPTH: Final = 64
TEMPLATE_WORK_LIMIT: Final = 256  # of all its expressions together, see `expression_risk`
OPEN: Final = "${"


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a program: its text, and what is known of it.

    `work` is None where the piece is not bounded, `plan` where jq has to run it.
    """

    source: str
    variables: frozenset[str] = frozenset()
    work: int | None = 0
    plan: Plan | None = None


def expression_part(text: str) -> Part:
    """Return the checked part of one jq program.

    Raises:
        ExpressionSyntaxError: see `expressions.parse_expression`.
    """
    scanner = Scanner(text)
    scanner.scan()
    tokens = scanner.tokens
    if not tokens:
        raise ExpressionSyntaxError("the expression is empty")
    refuse_impure(text, tokens)
    source = jq_programs.unfolded(without_comments(text, tokens), tokens).strip()
    used = frozenset(token.text[1:] for token in tokens if token.kind == "variable")
    plan = path_plan(source)
    if plan is not None:
        return Part(source, used, 1, plan)
    own = _own_names(tokens)
    return Part(source, jq_programs.check(source, used - own, own), work(tokens))


def _own_names(tokens: list[Token]) -> frozenset[str]:
    """Return the `$names` that a program binds itself, or uses as labels."""
    own: set[str] = set()
    binding = False
    depth = 0
    before = ""
    for token in tokens:
        if token.kind == "keyword" and token.text in ("as", "def"):
            binding, depth = True, 0
        elif token.kind == "op" and binding:
            # patterns end at `|`, those of reduce and foreach at `(`, parameters at `:`
            depth += (token.text in ("[", "{", "(")) - (token.text in ("]", "}", ")"))
            binding = not (token.text in ("|", ":") and depth == 0)
        elif token.kind == "variable" and (binding or before in ("label", "break")):
            own.add(token.text[1:])
        before = token.text
    return frozenset(own)


def template_part(value: JSON) -> Part:
    """Return the part of a whole template; its plan is a `ConstantPlan` if it has no expression.

    Raises:
        ExpressionSyntaxError: see `expressions.parse_template`.
    """
    part = _template(value, "", 0)
    if isinstance(part.plan, ConstantPlan):
        return part
    if len(part.source) > MAX_TEMPLATE_CHARS:
        raise ExpressionSyntaxError(f"the template is longer than {MAX_TEMPLATE_CHARS} characters")
    if part.plan is None:
        jq_programs.check(part.source, part.variables, frozenset())
    if part.work is not None and part.work > TEMPLATE_WORK_LIMIT:
        return Part(part.source, part.variables, None, part.plan)
    return part


def _template(value: JSON, pointer: str, depth: int) -> Part:
    if depth > MAX_TEMPLATE_DEPTH:
        raise ExpressionSyntaxError(f"{pointer}: nested deeper than {MAX_TEMPLATE_DEPTH} levels")
    if isinstance(value, str) and OPEN in value:
        try:
            return _text(value)
        except ExpressionSyntaxError as error:
            raise ExpressionSyntaxError(f"{pointer}: {error}" if pointer else str(error)) from error
    if isinstance(value, Mapping):
        return _object(value, pointer, depth)
    if isinstance(value, (list, tuple)):
        return _array(value, pointer, depth)
    return _constant(value, pointer)


def _object(value: Mapping[str, JSON], pointer: str, depth: int) -> Part:
    parts = {
        str(key): _template(member, f"{pointer}/{_escaped(str(key))}", depth + 1)
        for key, member in value.items()
    }
    plans = {key: part.plan for key, part in parts.items() if part.plan is not None}
    if all(isinstance(part.plan, ConstantPlan) for part in parts.values()):
        return _constant(value, pointer)
    pairs = ",".join(f"{_literal(key, pointer)}:{part.source}" for key, part in parts.items())
    plan = ObjectPlan(tuple(plans.items())) if len(plans) == len(parts) else None
    return _joined("{" + pairs + "}", list(parts.values()), plan)


def _array(value: list[JSON] | tuple[JSON, ...], pointer: str, depth: int) -> Part:
    parts = [_template(item, f"{pointer}/{at}", depth + 1) for at, item in enumerate(value)]
    plans = tuple(part.plan for part in parts if part.plan is not None)
    if all(isinstance(part.plan, ConstantPlan) for part in parts):
        return _constant(value, pointer)
    plan = ArrayPlan(plans) if len(plans) == len(parts) else None
    return _joined("[" + ",".join(part.source for part in parts) + "]", parts, plan)


def _text(text: str) -> Part:
    """Return the part of a string with at least one `${`."""
    pieces: list[str] = []
    parts: list[Part] = []
    at = 0
    while (start := text.find(OPEN, at)) >= 0:
        end = Scanner(text, start + len(OPEN)).scan(until_brace=True)
        pieces.append(text[at:start])
        parts.append(_value(expression_part(text[start + len(OPEN) : end])))
        at = end + 1
    pieces.append(text[at:])
    if len(parts) == 1 and not any(piece.strip() for piece in pieces):
        return parts[0]
    source = "".join(
        f"{_literal(piece, '')[1:-1]}\\({part.source})"
        for piece, part in zip(pieces, parts, strict=False)
    )
    return _joined(f'"{source}{_literal(pieces[-1], "")[1:-1]}"', [*parts, *parts], None)


def _value(part: Part) -> Part:
    """Make the part give exactly one value: its first output, or null."""
    single = part.plan is not None
    source = f"({part.source})" if single else f"([first(\n{part.source}\n)][0])"
    return Part(source, part.variables, part.work, part.plan)


def _joined(source: str, parts: list[Part], plan: Plan | None) -> Part:
    works = [part.work for part in parts if part.work is not None]
    return Part(
        source,
        frozenset().union(*(part.variables for part in parts)),
        sum(works) if len(works) == len(parts) else None,
        plan,
    )


def _constant(value: JSON, pointer: str) -> Part:
    return Part(_literal(value, pointer), plan=ConstantPlan(value))


def _literal(value: JSON, pointer: str) -> str:
    """Return a constant as jq text.

    It is JSON as it stands. No interpolation can arise: a backslash is written twice.
    """
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        text.encode()  # half of a surrogate pair is no JSON
    except (TypeError, ValueError, RecursionError) as error:
        raise ExpressionSyntaxError(f"{pointer or '/'}: not JSON: {error}") from error
    return text


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
