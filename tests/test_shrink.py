"""Code shrinking: each step does what it says and can be switched off; behaviour stays."""

from __future__ import annotations

import ast
import builtins
import textwrap

import pytest
from test_source import BEHAVIOURS, output_of

from generator.errors import InputError
from generator.source.positional import pass_by_position
from generator.source.readings import find_readings
from generator.source.script import parse
from generator.source.shrink import OPTIONAL, STEPS, Shrinking, minify, shrink

MORE = {
    "keyword arguments": """
        def area(width, height=2, *, unit="m"):
            return f"{width * height}{unit}"
        def apply(function, *args, **kwargs):
            return function(*args, **kwargs)
        class Box:
            def __init__(self, width, height, depth=1, label="b"):
                self.volume, self.label = width * height * depth, label
        def nested(start=1):
            def inner(step, times=2):
                return start + step * times
            return inner(times=3, step=2), inner(5)
        print(area(3, height=4), area(width=3, unit="cm"), apply(area, 2, height=5), nested())
        print(Box(1, 2, depth=3).volume, Box(height=4, width=5).volume, Box(1, 1, label="x").label)
    """,
    "order of evaluation": """
        log = []
        def note(value):
            log.append(value)
            return value
        def f(a, b, c=0):
            return a, b, c
        print(f(c=note(1), a=note(2), b=note(3)), log)
    """,
    "subclasses and type(self)": """
        class Base:
            def __init__(self, size=1, name="base"):
                self.size, self.name = size, name
            def copy(self):
                return type(self)(size=self.size + 1, name=self.name)
        class Child(Base):
            def __init__(self, size=1, name="child"):
                super().__init__(size=size, name=name)
        print(Child(size=4).copy().size, Base(name="q").name)
    """,
    "enums, named tuples and exceptions": """
        import enum, collections, typing
        class Color(enum.Enum):
            RED = 1
        class Pair(typing.NamedTuple):
            left: int
            right: int = 5
        class CustomError(Exception):
            pass
        try:
            raise CustomError("x")
        except CustomError as error:
            print(repr(error), Color.RED, Pair(left=1), Color(value=1))
    """,
    "names read at run time": """
        def visible():
            return 1
        class Thing:
            pass
        print(visible.__name__, type(Thing()).__name__, Thing.__qualname__)
    """,
    "names by string": """
        state = 1
        def change():
            globals()["state"] += 1
        change()
        print(state)
    """,
    "vars": """
        class Options:
            rate = 0.5
            size = 3
        class Point:
            def __init__(self):
                self.x, self.y = 1, 2
        print(sorted(vars(Point()).items()), [k for k in vars(Options) if not k.startswith("_")])
    """,
    "private names": """
        class Vault:
            def __init__(self, __secret):
                self.__secret = __secret
            def get(self):
                return self.__secret
        print(Vault(3).get(), Vault(4)._Vault__secret, getattr(Vault(5), "_Vault__secret"))
    """,
    "vars without argument": "def f():\n    amount = 3\n    return sorted(vars())\nprint(f())",
    "vars of one's own": "def vars(x):\n    return x + 1\nprint(vars(2))",
    "star imports": "from math import *\nvalue = 3\nprint(floor(2.5) + value)",
    "shadowed builtins": "def f(list, len=3):\n    return list, len\nprint(f(1), f(list=2, len=4), len('ab'))",
    "class scope": "name = 'global'\nclass C:\n    name = name + '!'\n    def get(self): return name\nprint(C.name, C().get())",
    "walrus and lambda": "f = lambda first, second=2: (total := first + second) and total\nprint(f(1), f(1, second=5))",
    "decorated": """
        import functools
        def twice(function):
            @functools.wraps(function)
            def wrapper(*args, **kwargs):
                return function(*args, **kwargs) * 2
            return wrapper
        @twice
        def scaled(value, factor=3):
            return value * factor
        print(scaled(2, factor=5), scaled(value=1), scaled.__name__)
    """,
    "positional-only and any keyword": "def f(a, /, **rest):\n    return a, rest\nprint(f(1, a=2))",
    "dataclass defaults": """
        from dataclasses import dataclass, field
        @dataclass
        class Config:
            width: int = 4
            names: list = field(default_factory=list)
        print(Config(width=3), Config(names=[1]))
    """,
    "dead branches": "if False:\n    print('dead')\nelse:\n    print('alive')\nif 0:\n    pass\nprint(__debug__)",
    "conditional definitions": """
        if True:
            def f(x, y=1): return x + y
        else:
            def f(x, y=2): return x - y
        print(f(1, y=3))
    """,
    "recursion by keyword": """
        def down(count, seen=()):
            return seen if not count else down(count - 1, seen=(*seen, count))
        print(down(3))
    """,
    "star arguments": "def f(a, b, c=3): return a, b, c\nargs = (1, 2)\nprint(f(*args), f(*args, c=5), f(**{'a': 1, 'b': 2}))",
    "generators and defaults": """
        def g(n, step=1):
            for i in range(0, n, step): yield i
        print(list(g(5, step=2)), list(g(3)))
    """,
}


def source(name: str) -> str:
    return textwrap.dedent({**BEHAVIOURS, **MORE}[name])


@pytest.mark.parametrize("name", {**BEHAVIOURS, **MORE})
def test_every_variant_prints_the_same(name: str) -> None:
    text = source(name)
    for variant in shrink(parse(text.encode(), name)).variants:
        assert output_of(variant.text) == output_of(text) != "", variant.name


@pytest.mark.parametrize("step", STEPS)
def test_every_step_can_be_left_out(step: str) -> None:
    for name in ("keyword arguments", "classes and decorators", "vars", "closures"):
        text = source(name)
        minified = minify(parse(text.encode(), name), Shrinking(skip=frozenset({step})))
        assert output_of(minified) == output_of(text)


EFFECTS = {
    "docstrings": ("'doc of the module'\nprint(1)", "doc of"),
    "annotations": ("def f(x: complex): return x\nprint(f(1))", "complex"),
    "branches": ("if False:\n    unreachable()\nprint(1)", "unreachable"),
    "fold": ("print(60 * 60 * 24)", "60*60"),
    "imports": ("import os\nimport sys\nprint(os, sys)", "import os;import sys"),
    "positional": ("def f(value, amount):\n    return value * amount\nprint(f(2, amount=3))", "amount"),
    "locals": ("def f():\n    long_name = 1\n    return long_name * long_name\nprint(f())", "long_name"),
    "globals": ("long_name = 1\nprint(long_name * long_name)", "long_name"),
}


@pytest.mark.parametrize("step", STEPS)
def test_what_a_step_takes_away(step: str) -> None:
    text, token = EFFECTS[step]
    tree = parse(text.encode(), step)
    assert token not in minify(tree)
    assert token in minify(tree, Shrinking(skip=frozenset({step})))


def test_without_any_step_the_syntax_tree_is_the_same() -> None:
    nothing = Shrinking(skip=frozenset(STEPS))
    for name in {**BEHAVIOURS, **MORE}:
        tree = parse(source(name).encode(), name)
        if "f(list" in source(name):
            continue
        assert ast.dump(ast.parse(minify(tree, nothing))) == ast.dump(tree), name


def test_steps_that_only_rename_keep_the_shape() -> None:
    """With names made equal, the tree is the script's."""
    only_names = Shrinking(skip=frozenset(STEPS) - {"locals", "globals"})

    class Blank(ast.NodeTransformer):
        def generic_visit(self, node: ast.AST) -> ast.AST:
            for field in ("id", "name", "asname", "arg", "rest", "names"):
                value = getattr(node, field, None)
                if isinstance(value, str) or (isinstance(value, list) and all(isinstance(item, str) for item in value)):
                    setattr(node, field, "x")
            if isinstance(node, ast.alias):
                node.asname = None
            return super().generic_visit(node)

    for name in ("closures", "comprehensions", "classes and decorators", "match", "globals and keywords", "decorated"):
        tree = parse(source(name).encode(), name)
        minified = ast.parse(minify(tree, only_names))
        assert ast.dump(Blank().visit(minified)) == ast.dump(Blank().visit(tree)), name


def test_optional_steps() -> None:
    text = "assert 1 == 1, 'checked'\nif __debug__:\n    print('debugging')\nprint('done')"
    tree = parse(text.encode(), "s")
    assert "checked" in minify(tree)
    assert "debugging" in minify(tree)
    slim = minify(tree, Shrinking(extra=frozenset(OPTIONAL)))
    assert "checked" not in slim
    assert "debugging" not in slim
    assert output_of(slim) == "done\n"


def test_kept_names() -> None:
    tree = parse(b"entry_point = 1\nother_name = 2\nprint(entry_point + other_name, entry_point)", "s")
    minified = minify(tree, Shrinking(keep_names=frozenset({"entry_point"})))
    assert "entry_point=1" in minified
    assert "other_name" not in minified


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x = 1\nprint(vars(x), dir(x))", []),
        ("def f():\n    return vars()", ["line 2: vars() looks names up, so the names in this function stay"]),
        (
            "a = 1\nexec('b = 2')\nprint(eval('a'))",
            ["line 2: exec() looks names up, so global names stay", "line 3: eval() looks names up, so global names stay"],
        ),
        ("from math import *", ["line 1: from math import * brings unknown names, so global names stay"]),
        ("import timeit", ["line 1: timeit reads what the program defines, so global names stay"]),
        ("g = vars", ["line 1: vars() looks names up, so no name is shortened"]),
        ("import torch\nf = torch.compile(model.eval())", []),
        ("def f(eval, dir):\n    return eval(dir)", []),
        ("if __name__ == '__main__':\n    pass", []),
        ("import logging\nlogging.getLogger(__name__)", []),
        ("import sys\nprint('torch' in sys.modules, sys.modules['os'])", []),
    ],
)
def test_what_is_read_is_reported_with_its_line(text: str, expected: list[str]) -> None:
    assert find_readings(ast.parse(text)).notes() == expected


def test_calls_are_rewritten_only_where_certain() -> None:
    tree = ast.parse(
        "def known(first, second=2): pass\n"
        "def passed_on(first, second=2): pass\n"
        "class Model:\n    def forward(self, tokens, targets=None): pass\n"
        "known(1, second=3)\npassed_on(1, second=3)\nprint(passed_on)\nModel().forward(1, targets=2)\n"
    )
    assert pass_by_position(tree) == 2
    text = ast.unparse(tree)
    assert "known(1, 3)" in text
    assert "passed_on(1, second=3)" in text
    assert "forward(1, targets=2)" in text


def test_unknown_steps_are_refused() -> None:
    with pytest.raises(InputError, match="unknown shrinking step 'renaming'; steps: docstrings, annotations"):
        Shrinking(skip=frozenset({"renaming"}))
    with pytest.raises(InputError, match="unknown optional shrinking step 'x'; known: asserts, debug"):
        Shrinking(extra=frozenset({"x"}))


def test_an_interactive_session_names_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    tree = ast.parse("def f(count):\n    for _ in range(count):\n        total = _\n    return total\n")
    plain = minify(tree)
    monkeypatch.setattr(builtins, "_", "the last result", raising=False)
    assert minify(tree) == plain
    assert builtins._ == "the last result"
