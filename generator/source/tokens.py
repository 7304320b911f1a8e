"""An upper bound on the tokens of Python text, before anything is parsed: a syntax tree takes some 700 bytes for each.

The tokenize module does not serve: its regular expression takes gigabytes for a literal of many escapes.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass

from generator.errors import InputError

TOKEN_LIMIT = 250_000  # a literal is one token, so that files with much data in them pass
OPERATOR_LIMIT = 50_000  # Python 3.10 overflows its stack on expressions of some 100,000 operators, and is gone
_SHORT = 2 * OPERATOR_LIMIT  # characters that can't hold too much of either
_NESTED_FIELDS = sys.version_info >= (3, 12)  # whether formatted strings are part of the grammar (PEP 701)
_SMALL_STACK = sys.version_info < (3, 11)
_TOKEN = re.compile(r"""[\s\\]*(#[^\n\r]*|\w+|"{3}|'{3}|[^\s\\])""")


def check_tokens(text: str) -> None:
    """Count tokens, rather a few too many than too few.

    Raises:
        InputError: there are more than TOKEN_LIMIT, or too many operators for this Python.
    """
    if len(text) <= _SHORT:
        return
    # Without escaped quotes, a literal ends at the next quote.
    text = text.replace("\\\\", "__").replace('\\"', "__").replace("\\'", "__")
    fields: list[_Field] = []
    place = tokens = operators = word_end = 0
    word = ""
    while tokens <= TOKEN_LIMIT and operators <= OPERATOR_LIMIT:
        token = _TOKEN.match(text, place)
        if token is None:
            return
        tokens += 1
        place, kind = token.end(), token[1]
        inner = fields[-1] if fields and not fields[-1].brackets else None
        if kind[0] in "\"'":
            formatted = token.start(1) == word_end and set(word.lower()) & {"f", "t"}
            if formatted and _NESTED_FIELDS:
                place = _pass_literal(text, place, kind, False, fields)
            else:
                end = text.find(kind, place)
                tokens += end - place if formatted else 0
                place = end + len(kind) if end >= 0 else len(text)  # unterminated: a syntax error
        elif kind == "}" and inner is not None:
            fields.pop()
            place = _pass_literal(text, place, inner.quote, inner.in_specification, fields)
        elif kind == ":" and inner is not None:
            place = _pass_literal(text, place, inner.quote, True, fields)
        elif kind[0] != "#":
            if fields and kind in "()[]{}":
                fields[-1].brackets += 1 if kind in "([{" else -1
            operators += _SMALL_STACK and kind in "+-*/%@&|^<>.(["
            word, word_end = kind, place
    raise InputError(f"it has more than {TOKEN_LIMIT:,} tokens, or {OPERATOR_LIMIT:,} operators")


@dataclass
class _Field:
    """An open replacement field: its string's quote, whether it stands in a format specification, brackets open in it."""

    quote: str
    in_specification: bool
    brackets: int = 0


def _pass_literal(text: str, place: int, quote: str, specification: bool, fields: list[_Field]) -> int:
    """Pass over a formatted string's text, up to a replacement field, which is opened in `fields`, or to the string's end."""
    while True:
        found = _BRACES[quote].search(text, place)
        if found is None:
            return len(text)
        kind, place = found[0], found.end()
        if kind == quote:
            return place
        if kind == "{{" and specification:
            raise InputError("doubled braces in a format specification mean different things in different Pythons")
        if kind == "{":
            fields.append(_Field(quote, specification))
            return place
        if kind == "}" and specification:
            specification = fields.pop().in_specification


_BRACES = {quote: re.compile(rf"{quote}|{{{{|[{{}}]") for quote in ('"', "'", '"""', "'''")}
