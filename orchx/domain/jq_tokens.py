"""A tokenizer for jq programs: what is written, before jq is asked what it means.

It serves three purposes: to find where `${ ... }` ends, to refuse what an expression must
not name (`env`, `input`, ...), and to feed the cost analysis of `expression_risk`. It
knows tokens and brackets, no grammar: jq itself is the judge of syntax.
Source: the lexer of jq 1.8 (`src/lexer.l`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, cast

MAX_TEXT_CHARS: Final = 16 * 1024  # of one expression
MAX_TOKENS: Final = 2_000  # jq compiles long operator chains in quadratic time
MAX_NESTING: Final = 64  # brackets, strings within strings, if ... end

# Impure, or readers of the process they run in: a value must follow from data alone.
REFUSED: Final = frozenset(
    {
        "env", "input", "inputs", "debug", "stderr", "halt", "halt_error", "input_filename",
        "input_line_number", "modulemeta", "get_search_list", "get_jq_origin",
        "get_prog_origin", "import", "include", "localtime", "strflocaltime",
    }
)  # fmt: skip
KEYWORDS: Final = frozenset(
    {
        "and", "as", "break", "catch", "def", "elif", "else", "end", "foreach", "if", "import",
        "include", "label", "module", "or", "reduce", "then", "try",
    }
)  # fmt: skip
_CLOSING: Final = {"(": ")", "[": "]", "{": "}", "if": "end", "\\(": ")"}

TokenKind: TypeAlias = Literal[
    "field",  # .name
    "variable",  # $name
    "number",
    "string",  # without interpolation, quotes included
    "string_open",  # the text up to the first \(
    "string_next",  # the text between ) and \(
    "string_close",  # the text after the last )
    "format",  # @name
    "keyword",
    "name",  # a function
    "key",  # a bare word that names a member in an object
    "op",
]


@dataclass(frozen=True, slots=True)
class Token:
    """One token; `start` is its offset in the text that was scanned."""

    kind: TokenKind
    text: str
    start: int


class ExpressionSyntaxError(ValueError):
    """A runtime expression is not valid, or names what expressions must not use.

    The message says what is wrong and, where that is known, at which line and column
    (1-based) of the expression.
    """


_SPACE = re.compile(r"(?:[ \t\r\n]+|#[^\r\n]*)*")
_STRING_CHUNK = re.compile(r'(?:[^"\\]|\\[^(])*')
_KEY_FOLLOWS = re.compile(r"(?:[ \t\r\n]+|#[^\r\n]*)*[:,}]")
_TOKEN = re.compile(
    r"""(?P<field>\.[A-Za-z_][A-Za-z0-9_]*)
      | (?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
      | (?P<variable>\$[A-Za-z_][A-Za-z0-9_]*)
      | (?P<format>@[A-Za-z0-9_]+)
      | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<op>\?//=?|//=|\.\.|!=|==|//|\|=|\+=|-=|\*=|/=|%=|<=|>=|[.?=<>:;,|+\-*/%\[\]{}()])
    """,
    re.VERBOSE | re.ASCII,
)


def where(text: str, offset: int) -> str:
    """Return `line L, column C` (1-based) of an offset in a text."""
    line = text.count("\n", 0, offset) + 1
    return f"line {line}, column {offset - text.rfind(chr(10), 0, offset)}"


class Scanner:
    """Reads the tokens of one program, from an offset to the end or to a closing `}`."""

    def __init__(self, text: str, start: int = 0) -> None:
        self._text = text
        self._start = start
        self._at = start
        self._open: list[tuple[str, int]] = []
        self.tokens: list[Token] = []

    def scan(self, *, until_brace: bool = False) -> int:
        """Read all tokens and return the offset after the last one.

        With `until_brace` the program ends before the first `}` that it did not open
        (and must have one); else at the end of the text.

        Raises:
            ExpressionSyntaxError: an unknown character, a bracket or string that does
                not close, or one of the limits above.
        """
        text = self._text
        while True:
            self._at = _space_end(text, self._at)
            if self._at >= len(text):
                break
            if until_brace and not self._open and text[self._at] == "}":
                return self._at
            if text[self._at] == '"':
                self._string("string_open", self._at + 1)
            else:
                self._token()
            self._check_size()
        if self._open:
            opener, offset = self._open[-1]
            raise self._error(f"`{opener}` is not closed", offset)
        if until_brace:
            raise self._error("`${` is not closed by `}`", self._start)
        return self._at

    def _token(self) -> None:
        match = _TOKEN.match(self._text, self._at)
        if match is None:
            raise self._error(f"unexpected character {self._text[self._at]!r}", self._at)
        kind = cast(Literal["field", "number", "variable", "format", "name", "op"], match.lastgroup)
        word, start = match.group(), self._at
        self._at = match.end()
        if kind == "name":
            self._word(word, start)
        elif kind == "op":
            self._operator(word, start)
        else:
            self.tokens.append(Token(kind, word, start))

    def _word(self, word: str, start: int) -> None:
        if self._is_key():
            self.tokens.append(Token("key", word, start))
        elif word not in KEYWORDS:
            self.tokens.append(Token("name", word, start))
        else:
            self.tokens.append(Token("keyword", word, start))
            if word == "if":
                self._push("if", start)
            elif word == "end":
                self._pop("end", start)

    def _is_key(self) -> bool:
        """Tell whether the word just read stands where an object wants a key.

        In doubt it is a function: that only refuses more.
        """
        if not self._open or self._open[-1][0] != "{":
            return False
        before = self.tokens[-1]
        if before.kind != "op" or before.text not in ("{", ","):
            return False
        return _KEY_FOLLOWS.match(self._text, self._at) is not None

    def _operator(self, word: str, start: int) -> None:
        if word in ("(", "[", "{"):
            self._push(word, start)
        elif word in (")", "]", "}") and self._pop(word, start) == "\\(":
            self._string("string_next", self._at)
            return
        self.tokens.append(Token("op", word, start))

    def _string(self, kind: TokenKind, chunk: int) -> None:
        """Read a piece of a string, which begins at `chunk`: up to its quote or a bracket."""
        match = _STRING_CHUNK.match(self._text, chunk)
        end = match.end() if match is not None else chunk
        start, piece = self._at, self._text[chunk:end]
        if self._text.startswith("\\(", end):
            self.tokens.append(Token(kind, piece, start))
            self._push("\\(", end)
            self._at = end + 2
        elif self._text.startswith('"', end):
            self._at = end + 1
            if kind == "string_open":
                self.tokens.append(Token("string", f'"{piece}"', start))
            else:
                self.tokens.append(Token("string_close", piece, start))
        else:
            raise self._error("a string is not closed", start)

    def _push(self, opener: str, start: int) -> None:
        self._open.append((opener, start))
        if len(self._open) > MAX_NESTING:
            raise self._error(f"nested deeper than {MAX_NESTING} levels", start)

    def _pop(self, closer: str, start: int) -> str:
        if not self._open or _CLOSING[self._open[-1][0]] != closer:
            raise self._error(f"unexpected `{closer}`", start)
        return self._open.pop()[0]

    def _check_size(self) -> None:
        if self._at - self._start > MAX_TEXT_CHARS:
            raise self._error(f"longer than {MAX_TEXT_CHARS} characters", self._at)
        if len(self.tokens) > MAX_TOKENS:
            raise self._error(f"more than {MAX_TOKENS} tokens", self._at)

    def _error(self, what: str, offset: int) -> ExpressionSyntaxError:
        program = self._text[self._start :]
        return ExpressionSyntaxError(f"{what} at {where(program, offset - self._start)}")


def _space_end(text: str, offset: int) -> int:
    match = _SPACE.match(text, offset)
    return offset if match is None else match.end()


def without_comments(text: str, tokens: list[Token]) -> str:
    """Return the program with every comment blanked, lines and columns kept.

    jq continues a comment after a backslash; so that nothing hangs on who reads a
    comment how, jq never sees one.
    """
    kept: list[str] = []
    at = 0
    for token in tokens:
        kept.append(_blank(text[at : token.start]))
        at = _token_end(text, token)
        kept.append(text[token.start : at])
    kept.append(_blank(text[at:]))
    return "".join(kept)


def _token_end(text: str, token: Token) -> int:
    match token.kind:
        case "string_open":
            return token.start + 1 + len(token.text) + 2
        case "string_next":
            return token.start + len(token.text) + 2
        case "string_close":
            return token.start + len(token.text) + 1
        case _:
            return token.start + len(token.text)


def _blank(gap: str) -> str:
    return re.sub(r"#[^\r\n]*", lambda comment: " " * len(comment.group()), gap)


def refuse_impure(text: str, tokens: list[Token]) -> None:
    """Refuse what reads or changes more than the expression's data.

    Raises:
        ExpressionSyntaxError: the program uses `env`, `$ENV`, `input`, a module, ...
    """
    for token in tokens:
        if token.kind in ("name", "keyword") and token.text in REFUSED:
            raise ExpressionSyntaxError(
                f"`{token.text}` is not available to expressions,"
                f" at {where(text, token.start)}: a value must follow from the data alone"
            )
        if token.kind == "variable" and (token.text == "$ENV" or token.text.startswith("$__")):
            raise ExpressionSyntaxError(
                f"`{token.text}` is reserved, at {where(text, token.start)}"
            )
