"""Proof, before it runs, that an expression is cheap; else it belongs into the sandbox.

`work` parses the part of jq whose cost is bounded by a small multiple of the size of the
data, and adds that multiple up. Everything else is unbounded, which costs only time. The
argument: every value built is at most `growth` times the data; a pipe multiplies what
stands on its two sides; loops do not nest; inside a loop a variable may only be compared
with something that comes from the loop's own element, so that nothing large is visited
once per element. ADR 0003 has the details.
"""

from __future__ import annotations

from math import ceil

from orchx.domain.expression_costs import (
    COMPARISONS,
    LITERAL_CHARS,
    LOOPS,
    NUMERIC,
    ONE_STRING,
    ONE_VALUE,
    PLAIN,
    WORK_LIMIT,
    Unbounded,
    Value,
    divide,
    times,
)
from orchx.domain.jq_tokens import Token


def work(tokens: list[Token]) -> int | None:
    """Return the cost of a program in multiples of the size of its data, or None.

    None: not proven to be at most `WORK_LIMIT`.
    """
    parser = _Parser(tokens)
    try:
        parser.single(parser.pipe(), many=True)
        parser.expect_end()
    except Unbounded:
        return None
    return parser.spent


class _Parser:
    """Recursive descent over the bounded part of jq; leaves by `Unbounded` at anything else."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._at = 0
        self._scale = 1  # how much larger than the data the value of `.` may be here
        self._in_loop = False
        self.spent = 0

    # --- reading -----------------------------------------------------------------------

    def _text(self) -> str:
        """Return the operator or keyword that comes next, or an empty text."""
        if self._at < len(self._tokens) and self._tokens[self._at].kind in ("op", "keyword"):
            return self._tokens[self._at].text
        return ""

    def _next(self) -> Token:
        if self._at >= len(self._tokens):
            raise Unbounded
        self._at += 1
        return self._tokens[self._at - 1]

    def _accept(self, text: str) -> bool:
        if self._text() != text:
            return False
        self._at += 1
        return True

    def _expect(self, text: str) -> None:
        if not self._accept(text):
            raise Unbounded

    def expect_end(self) -> None:
        """Leave if tokens are left over."""
        if self._at != len(self._tokens):
            raise Unbounded

    # --- accounting ----------------------------------------------------------------------

    def _spend(self, value: Value) -> Value:
        self.spent += value.growth * self._scale
        if self.spent > WORK_LIMIT:
            raise Unbounded
        return value

    @staticmethod
    def single(value: Value, *, many: bool = False) -> Value:
        """Return the value if it is an ordinary one: no generator unless `many`."""
        if value.foreign or (value.many and not many):
            raise Unbounded
        return value

    def _loop_body(self, scale: int) -> Value:
        """Read what runs once per element (of a value `scale` times the data)."""
        if self._in_loop:
            raise Unbounded
        self._in_loop = True
        outer, self._scale = self._scale, self._scale * scale
        body = self.single(self.pipe())
        self._in_loop, self._scale = False, outer
        return body

    # --- grammar, weakest binding first --------------------------------------------------

    def pipe(self) -> Value:
        """Read `a | b | c`."""
        left = self._comma()
        outer_scale, outer_loop = self._scale, self._in_loop
        while self._accept("|"):
            self.single(left, many=True)
            if left.many and outer_loop:
                raise Unbounded
            self._in_loop = outer_loop or left.many
            self._scale *= left.growth
            right = self._comma()
            if left.many:
                self.single(right)
            left = Value(
                left.growth * right.growth, left.many or right.many, right.numeric,
                foreign=right.foreign,
            )  # fmt: skip
        self._scale, self._in_loop = outer_scale, outer_loop
        return left

    def _comma(self) -> Value:
        left = self._alternative()
        while self._accept(","):
            right = self._alternative()
            growth = self.single(left, many=True).growth + self.single(right).growth
            left = self._spend(Value(growth, many=True))
        return left

    def _alternative(self) -> Value:
        left = self._logic()
        while self._accept("//"):
            right = self._logic()
            growth = self.single(left).growth + self.single(right).growth
            left = self._spend(Value(growth, numeric=left.numeric and right.numeric))
        return left

    def _logic(self) -> Value:
        left = self._comparison()
        while self._text() in ("and", "or"):
            self._at += 1
            self.single(left)
            self.single(self._comparison())
            left = self._spend(Value())
        return left

    def _comparison(self) -> Value:
        left = self._sum()
        if self._text() not in COMPARISONS:
            return left
        self._at += 1
        right = self._sum()
        if left.many or right.many or (left.foreign and right.foreign):
            raise Unbounded
        return self._spend(Value())

    def _sum(self) -> Value:
        left = self._product()
        while self._text() in ("+", "-"):
            operator = self._next().text
            right = self._product()
            growth = self.single(left).growth + self.single(right).growth
            numeric = left.numeric or right.numeric
            if operator == "-" and not numeric:
                raise Unbounded  # on arrays every element is compared with every other
            # `null + 1`, `"a" + 1`: a sum with a number is a number, or fails
            left = self._spend(Value(growth, numeric=numeric))
        return left

    def _product(self) -> Value:
        if self._accept("-"):
            self.single(self._product())
            return self._spend(Value(numeric=True))
        left = self._term()
        while self._text() in ("*", "/", "%"):
            operator = self._next().text
            right = self._term()
            self.single(left)
            self.single(right)
            left = self._spend(times(left, right) if operator == "*" else divide(left, right))
        return left

    def _term(self) -> Value:
        value = self._primary()
        while True:
            if self._at >= len(self._tokens):
                return value
            token = self._tokens[self._at]
            if token.kind == "field":
                self._at += 1
            elif token.text == "?" and token.kind == "op":
                self._at += 1
                continue
            elif token.text == "[" and token.kind == "op":
                self._at += 1
                if self._accept("]"):
                    value = self._iterate(value)
                    continue
                self._literal_index(slices=not value.foreign)
            elif token.text == "." and token.kind == "op" and not value.many:
                self._at += 1
                if self._next().kind != "string":
                    raise Unbounded
            else:
                return value
            value = Value(value.growth, value.many, foreign=value.foreign)

    def _iterate(self, value: Value) -> Value:
        """`value[]`: the one generator. What follows it runs once per element."""
        if value.many or value.foreign or self._in_loop:
            raise Unbounded
        return self._spend(Value(value.growth, many=True))

    def _literal_index(self, *, slices: bool) -> None:
        """Read `"key"]`, `3]`, `-1]` or, as slicing walks a string, if allowed `1:3]`."""
        if self._tokens[self._at : self._at + 1] and self._tokens[self._at].kind == "string":
            self._at += 1
        else:
            for _ in range(2):
                self._accept("-")
                if self._at < len(self._tokens) and self._tokens[self._at].kind == "number":
                    self._at += 1
                if not slices or not self._accept(":"):
                    break
        self._expect("]")

    def _primary(self) -> Value:
        token = self._next()
        match token.kind:
            case "number":
                number = float(token.text)
                return self._spend(Value(self._size(token.text), numeric=True, literal=number))
            case "string":
                return self._spend(Value(self._size(token.text)))
            case "string_open":
                return self._interpolation(token)
            case "field":
                return self._spend(Value())
            case "variable":
                return self._spend(Value(foreign=self._in_loop))
            case "name":
                return self._call(token.text)
            case _:
                return self._bracket(token.text)

    def _bracket(self, text: str) -> Value:
        if text == ".":
            if self._at < len(self._tokens) and self._tokens[self._at].kind == "string":
                self._at += 1
            return self._spend(Value())
        if text == "(":
            value = self.pipe()
            self._expect(")")
            return Value(value.growth, value.many, value.numeric, foreign=value.foreign)
        if text == "[":
            if self._accept("]"):
                return self._spend(Value())
            value = self.single(self.pipe(), many=True)
            self._expect("]")
            return self._spend(Value(value.growth + 1))
        if text == "{":
            return self._object()
        if text == "if":
            return self._if()
        raise Unbounded

    def _object(self) -> Value:
        growth = 1
        while not self._accept("}"):
            key = self._next()
            if key.kind not in ("key", "string", "variable"):
                raise Unbounded
            growth += self._size(key.text) if self._in_loop else 0
            if self._accept(":") and key.kind != "variable":
                growth += self.single(self._alternative()).growth
            elif key.kind == "variable" and self._in_loop:
                raise Unbounded
            else:
                growth += self._spend(Value()).growth
            if self._text() != "}":
                self._expect(",")
        return self._spend(Value(growth))

    def _if(self) -> Value:
        growth = 1
        while True:
            self.single(self.pipe())
            self._expect("then")
            growth += self.single(self.pipe()).growth
            if self._accept("elif"):
                continue
            if self._accept("else"):
                growth += self.single(self.pipe()).growth
            self._expect("end")
            return self._spend(Value(growth))

    def _interpolation(self, opening: Token) -> Value:
        growth = self._size(opening.text)
        while True:
            growth += 2 * self.single(self.pipe()).growth  # quotes within are escaped
            piece = self._next()
            growth += self._size(piece.text) if self._in_loop else 0
            if piece.kind == "string_close":
                return self._spend(Value(growth))
            if piece.kind != "string_next":
                raise Unbounded

    def _call(self, name: str) -> Value:
        if not self._accept("("):
            if name not in PLAIN:
                raise Unbounded
            return self._spend(Value(PLAIN[name], numeric=name in NUMERIC))
        value = self._call_with_argument(name)
        self._expect(")")
        return self._spend(value)

    def _call_with_argument(self, name: str) -> Value:
        if name in ONE_STRING:
            argument = self._next()
            if argument.kind != "string" and not (name == "has" and argument.kind == "number"):
                raise Unbounded
            glue = len(argument.text) if name == "join" else 0
            return Value(ONE_STRING[name] + glue)
        if name in ONE_VALUE:
            self.single(self.pipe())
            return Value()
        if name == "select":
            self.single(self.pipe())
            return Value()
        if name in ("first", "last"):
            return Value(self.single(self.pipe(), many=True).growth)
        if name in LOOPS:
            weight = LOOPS[name]
            body = self._loop_body(weight if name == "with_entries" else 1)
            return Value(body.growth * weight if name in ("map", "with_entries") else weight)
        raise Unbounded

    def _size(self, literal: str) -> int:
        """Return the growth of a literal: inside a loop it is written once per element."""
        return 1 + ceil(len(literal) / LITERAL_CHARS) if self._in_loop else 1
