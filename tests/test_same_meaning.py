"""Packed programs mean the same: idioms that look at names and arguments, and programs made at random."""

from __future__ import annotations

import functools
import re
import textwrap
from functools import lru_cache
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from programs import PROGRAMS, Outcome, outcome_of
from random_programs import programs

from generator.emit import Emitter
from generator.source.script import Script, parse
from generator.source.shrink import shrink


@lru_cache(maxsize=4)
def differing_variants(text: str) -> dict[str, tuple[Outcome, str]]:
    """The variants that do something else than the program, each with what it does and its text."""
    expected = outcome_of(text)
    found = {}
    for variant in shrink(parse(text.encode(), "program.py")).variants:
        outcome = outcome_of(variant.text)
        if outcome != expected:
            found[variant.name] = (outcome, variant.text)
    return found


def notes_of(text: str) -> list[str]:
    """What the build prints about a program."""
    tree = parse(text.encode(), "program.py")
    return list(Emitter(Script(Path("program.py"), tree, len(text), False)).emit(None).notes)


@pytest.mark.parametrize("name", PROGRAMS)
def test_idioms(name: str) -> None:
    program = PROGRAMS[name]
    expected = outcome_of(program.text)
    assert expected.printed, "a program that prints nothing shows nothing"
    assert "SyntaxError" not in expected.error
    different = differing_variants(program.text)
    if program.note:
        assert any(re.search(program.note, note) for note in notes_of(program.text))
    else:
        assert not different, (expected, different)


def normalized(outcome: Outcome) -> Outcome:
    """Without the names and addresses that show where functions and objects are printed, and in Python's own messages."""
    return Outcome(re.sub(r"<(?:[^<>\n]|<locals>)*>", "<object>", outcome.printed), outcome.error.split(":")[0])


# Shrinking the choices takes minutes and seldom gives a smaller program.
@settings(max_examples=200, deadline=None, derandomize=True, phases=[Phase.generate])
@given(programs())
def test_random_programs(text: str) -> None:
    expected = normalized(outcome_of(text))
    for variant in shrink(parse(text.encode(), "program.py")).variants:
        assert normalized(outcome_of(variant.text)) == expected, f"{variant.name}\n{text}\n---\n{variant.text}"


def test_what_programs_replace_is_put_back() -> None:
    known = functools.cache, print, textwrap.dedent
    text = "import builtins, functools, textwrap\nfunctools.cache = builtins.print = textwrap.dedent = None\n1 / 0"
    assert outcome_of(text).error.startswith("ZeroDivisionError")
    assert (functools.cache, print, textwrap.dedent) == known
