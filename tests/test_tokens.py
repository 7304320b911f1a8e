"""The bound on tokens: never far below what Python's own tokenizer counts, and few enough for real code to pass."""

from __future__ import annotations

import io
import sys
import tokenize

import pytest
from helpers import ROOT

from generator.errors import InputError
from generator.source import tokens
from generator.source.tokens import OPERATOR_LIMIT, TOKEN_LIMIT, check_tokens

LAYOUT = {tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
AWKWARD = {
    "quotes in comments": 'x = 1  # it\'s """ here\ny = 2\n' * 5,
    "escaped quotes": r"""x = 'a\'b\\' + "c\\\"d\\" + r'\'' + b'''e''f\'g'''""" + "\n",
    "prefixes": "x = rb'a' + Rb\"b\"\nx = u'c' f'd' rf'e'\ndef f(f): return f\n" * 5,
    "fields": 'a, w = 1, 2\nx = f\'{a}{{b}}{a!r:>{w}}{a:{w}.{w}}{(a, w)[0]}{a=}\' f"""{a}\'"""\n' * 5,
}
if sys.version_info >= (3, 12):
    AWKWARD["nested quotes"] = "a = {'b': 1}\nx = f'{a['b']}{f'{a['b']:>{a['b']}}'}{'\"'}'\ny = 1, 2, 3\n" * 5


def count(text: str) -> int:
    """Tokens without those of the layout."""
    return sum(token.type not in LAYOUT for token in tokenize.generate_tokens(io.StringIO(text).readline))


@pytest.mark.parametrize("name", [*AWKWARD, "code"])
def test_the_bound_holds(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    modules = sorted((ROOT / "generator").glob("*.py"))
    text = AWKWARD.get(name) or "\n".join(path.read_text().replace("from __future__", "from typing") for path in modules)
    compile(text, name, "exec")
    monkeypatch.setattr(tokens, "_SHORT", 0)
    monkeypatch.setattr(tokens, "OPERATOR_LIMIT", len(text))
    real = count(text)
    # Where formatted strings are no part of the grammar, their characters count as tokens.
    monkeypatch.setattr(tokens, "TOKEN_LIMIT", 12 * real)
    check_tokens(text)
    # What follows is not taken for a part of some literal.
    with pytest.raises(InputError, match="tokens"):
        check_tokens(text + "1," * 6 * real)
    monkeypatch.setattr(tokens, "TOKEN_LIMIT", real // 2)
    with pytest.raises(InputError, match="tokens"):
        check_tokens(text)


def test_limits() -> None:
    many = "1," * TOKEN_LIMIT
    check_tokens(f'x = \'{many}\'\ny = b"""{many}"""\n# {many}\n')
    for text in (f"x = f'{{{many}}}'", f"x = '{many}', {many}", f"x = {many} '{many}'", f"# \r{many}"):
        with pytest.raises(InputError, match="tokens"):
            check_tokens(text)
    if sys.version_info < (3, 11):
        with pytest.raises(InputError, match="operators"):
            check_tokens("x = " + "1+" * (OPERATOR_LIMIT + 1) + "1")


@pytest.mark.skipif(sys.version_info < (3, 12), reason="before, formatted strings are no part of the grammar")
def test_ambiguous_braces_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_SHORT", 0)
    with pytest.raises(InputError, match="doubled braces"):
        check_tokens("x = f'{a:{{b}}}'\n")
