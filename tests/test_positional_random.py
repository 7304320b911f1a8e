"""Arguments by position: random programs of functions, classes and calls print the same."""

from __future__ import annotations

import ast
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st
from test_source import output_of

from generator.source.calls import restore_parameters
from generator.source.positional import pass_by_position
from generator.source.script import parse
from generator.source.shrink import Shrinking, shrink

NAMES = ("a", "b", "c", "d", "e")


@dataclass(frozen=True)
class Signature:
    """Parameters: those that go by position (of these the first `only` by nothing else, the last `optional` have defaults)."""

    ordinary: list[str]
    only: int
    optional: int
    keyword_only: list[str]
    more: str

    def __str__(self) -> str:
        required = len(self.ordinary) - self.optional
        parts = [name if index < required else f"{name}={index}" for index, name in enumerate(self.ordinary)]
        if self.only:
            parts.insert(self.only, "/")
        if "*more" in self.more or self.keyword_only:
            parts.append("*more" if "*more" in self.more else "*")
        parts += [f"{name}=9" for name in self.keyword_only]
        return ", ".join([*parts, *(["**rest"] if "**rest" in self.more else [])])

    def value(self) -> str:
        """An expression that shows what arrived."""
        shown = [*self.ordinary, *self.keyword_only, *(name for name in ("more", "rest") if f"*{name}" in self.more)]
        return f"[{', '.join(shown)}]"


@st.composite
def signatures(draw: st.DrawFn) -> Signature:
    names = draw(st.permutations(NAMES))
    count = draw(st.integers(1, 4))
    only = draw(st.sampled_from((0, 0, 0, 1, count)))
    keyword_only = list(names[4 : draw(st.sampled_from((4, 4, 5)))])
    more = draw(st.sampled_from(("", "", "", "", "*more", "**rest", "*more, **rest")))
    return Signature(list(names[:count]), only, draw(st.integers(0, count)), keyword_only, more)


@st.composite
def arguments(draw: st.DrawFn, signature: Signature) -> str:
    """The arguments of a call, most often right."""
    values = st.sampled_from(("1", "None", "note(2)", "note(3)", "log", "[*log]", "lambda: 4"))
    if draw(st.integers(0, 9)) == 0:
        count, names = draw(st.integers(0, 3)), draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=3))
    else:
        count = draw(st.integers(signature.only, len(signature.ordinary)))
        required = len(signature.ordinary) - signature.optional
        omitted = draw(st.sets(st.sampled_from([*signature.ordinary[max(count, required) :], *signature.keyword_only, ""])))
        names = [name for name in [*signature.ordinary[count:], *signature.keyword_only] if name not in omitted]
    given = [draw(values) for _ in range(count)]
    given += [f"{name}={draw(values)}" for name in draw(st.permutations(names))]
    star = draw(st.sampled_from(("",) * 20 + ("*(1, 2)", "**{'a': 5}")))
    return ", ".join([*given, *([star] if star else [])])


@st.composite
def programs(draw: st.DrawFn) -> str:
    """Functions, nested functions and classes, with calls of each and a few other uses."""
    lines = ["log = []", "def note(value):", "    log.append(value)", "    return value", "def shown(call):", "    try:"]
    lines += ["        print(*(x if x is None or isinstance(x, int) else 0 for x in call()), log)"]
    lines += ["    except TypeError:", "        print('wrong', log)"]
    uses = ("",) * 9 + ("other = {0}", "print([{0}] != [])", "del {0}", "{0} = None", "print('{0}')", "class X: {0} = 1")
    for kind in draw(st.lists(st.sampled_from(("function", "nested", "class", "base", "method")), min_size=1, max_size=4)):
        name = draw(st.sampled_from(("f", "g", "h", "Kind", "Point")))
        signature = draw(signatures())
        indent = "    " if kind == "nested" else ""
        lines += [f"def outer_{name}():"] if kind == "nested" else []
        if kind in ("function", "nested"):
            lines += [f"{indent}def {name}({signature}):", f"{indent}    return {signature.value()}"]
        else:
            base = draw(st.sampled_from(("object", "dict", "Exception", "float"))) if kind == "base" else "object"
            lines += [f"class {name}({base}):", f"    def __init__(self, {signature}):"]
            lines += [f"        self.value = {signature.value()}"]
            if kind == "method" and draw(st.booleans()):
                lines += ["    @classmethod", "    def again(kind, **given):", "        return kind(**given).value"]
                lines += [f"shown(lambda: {name}(1).again({draw(st.sampled_from(NAMES))}=3))"]
        suffix = "" if kind in ("function", "nested") else ".value"
        for _ in range(draw(st.integers(1, 3))):
            lines.append(f"{indent}shown(lambda: {name}({draw(arguments(signature))}){suffix})")
        use = draw(st.sampled_from(uses)).format(name)
        lines += [f"{indent}{use}"] if use else []
        if use.startswith("other"):
            lines.append(f"{indent}shown(lambda: other({draw(arguments(signature))}){suffix})")
        lines += [f"outer_{name}()"] if kind == "nested" else []
    return "\n".join(lines)


@settings(max_examples=150, deadline=None)
@given(programs())
def test_any_program_of_calls_prints_the_same(text: str) -> None:
    try:
        expected = output_of(text)
    except (NameError, TypeError, AttributeError, SyntaxError):
        return
    tree = ast.parse(text)
    pass_by_position(tree)
    assert output_of(ast.unparse(tree)) == expected
    restore_parameters(tree)
    assert output_of(ast.unparse(tree)) == expected
    for variant in shrink(parse(text.encode(), "s"), Shrinking(frozenset({"globals"})), 2).variants:
        assert output_of(variant.text) == expected, variant.name
