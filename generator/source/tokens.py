"""An upper bound on the tokens of Python text, before anything is parsed: a syntax tree takes some 700 bytes for each.

The tokenize module does not serve: its regular expression takes gigabytes for a literal of many escapes.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from generator.errors import InputError

TOKEN_LIMIT = 250_000  # a literal is one token, so that files with much data in them pass
OPERATOR_LIMIT = 50_000  # Python 3.10 overflows its stack on expressions of some 100,000 operators, and is gone
_SHORT = 2 * OPERATOR_LIMIT  # characters that can't hold too much of either
_NESTED_FIELDS = sys.version_info >= (3, 12)  # whether formatted strings are part of the grammar (PEP 701)
_SMALL_STACK = sys.version_info < (3, 11)
_OPERATORS = frozenset("+-*/%@&|^<>.([") if _SMALL_STACK else frozenset()  # that are counted
_DEPTH = {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}
_TOKEN = re.compile(r"""[\s\\]*(#[^\n\r]*|\w+|"{3}|'{3}|[^\s\\])""")
_BRACES = {quote: re.compile(rf"{quote}|{{{{|[{{}}]") for quote in ('"', "'", '"""', "'''")}


def check_tokens(text: str) -> None:
    """Count tokens, rather a few too many than too few.

    Raises:
        InputError: there are more than TOKEN_LIMIT, or too many operators for this Python.
    """
    if len(text) <= _SHORT:
        return
    tokens = operators = 0
    for token, inside in _Scanner(text).tokens():
        tokens += 1 + inside
        operators += token in _OPERATORS
        if tokens > TOKEN_LIMIT or operators > OPERATOR_LIMIT:
            raise InputError(f"it has more than {TOKEN_LIMIT:,} tokens, or {OPERATOR_LIMIT:,} operators")


@dataclass
class _Field:
    """An open replacement field: its string's quote, whether it stands in a format specification, brackets open in it."""

    quote: str
    in_specification: bool
    brackets: int = 0


class _Scanner:
    """Goes through Python text, passes over literals, and knows in which replacement fields it is, the innermost last."""

    def __init__(self, text: str):
        # Without escaped quotes, a literal ends at the next quote.
        self._text = text.replace("\\\\", "__").replace('\\"', "__").replace("\\'", "__")
        self._place = 0
        self._fields: list[_Field] = []

    def tokens(self) -> Iterator[tuple[str, int]]:
        """Each token, of a literal its quote; and how many more there may be inside it."""
        word, word_end = "", 0
        while token := _TOKEN.match(self._text, self._place):
            kind, self._place, inside = token[1], token.end(), 0
            field = self._fields[-1] if self._fields and not self._fields[-1].brackets else None
            if kind[0] in "\"'":
                prefix = word if token.start(1) == word_end else ""
                inside = self._pass_literal(kind, bool(set(prefix.lower()) & {"f", "t"}))
            elif field is not None and kind == "}":
                self._fields.pop()
                self._pass_text(field.quote, field.in_specification)
            elif field is not None and kind == ":":
                self._pass_text(field.quote, True)
            elif kind[0] != "#":
                if self._fields:
                    self._fields[-1].brackets += _DEPTH.get(kind, 0)
                word, word_end = kind, self._place
            yield kind, inside

    def _pass_literal(self, quote: str, formatted: bool) -> int:
        """Pass over a literal whose quote was read, or over its text up to a field; how many tokens it may hold."""
        if formatted and _NESTED_FIELDS:
            self._pass_text(quote, False)
            return 0
        start, end = self._place, self._text.find(quote, self._place)
        self._place = end + len(quote) if end >= 0 else len(self._text)  # unterminated: a syntax error
        return end - start if formatted else 0

    def _pass_text(self, quote: str, specification: bool) -> None:
        """Pass over a formatted string's text, up to a replacement field, which is opened, or to the string's end."""
        while found := _BRACES[quote].search(self._text, self._place):
            kind, self._place = found[0], found.end()
            if kind == quote:
                return
            if kind == "{{" and specification:
                raise InputError("doubled braces in a format specification mean different things in different Pythons")
            if kind == "{":
                self._fields.append(_Field(quote, specification))
                return
            if kind == "}" and specification:
                specification = self._fields.pop().in_specification
        self._place = len(self._text)
