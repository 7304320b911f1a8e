"""Programs whose meaning shrinking once changed without a word."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from test_readings import result_of

import generator
from generator.errors import InputError
from generator.source.naming import Renamer
from generator.source.options import NOTICEABLE
from generator.source.readings import find_readings
from generator.source.shrink import ASSUMED, Shrinking, minify, shrink, shrinking_notes

PROGRAMS = {
    "imports that are combined, and a function that keeps its names": """
import os
import sys
from math import floor
from math import ceil
def f():
    long_name = floor(1.5) + ceil(1.5)
    return locals()
print(f())
""",
    "the module by its name": """
import sys
long_name = 1
setattr(sys.modules[__name__], "long_" + "name", 2)
print(long_name, hasattr(sys.modules[__name__], "long_" + "name"))
""",
    "modules, imported": """
from sys import modules
long_name = 1
print(long_name, modules['__main__'].__dict__['long_' + 'name'])
""",
    "the module, imported by a function": """
from importlib import import_module
long_name = 1
print(long_name, getattr(import_module("__main__"), "long_" + "name"), getattr(__import__("__main__"), "long_" + "name"))
""",
    "attrgetter on the module": """
import operator, sys
def long_name():
    return 1
print(operator.attrgetter("long_name")(sys.modules[__name__])(), operator.methodcaller("long_name")(sys.modules[__name__]))
""",
    "eval of builtins": """
import builtins
def f():
    long_name = 1
    return long_name + builtins.eval('long_' + 'name')
print(f())
""",
    "eval under another name": "from builtins import eval as run\nlong_name = 1\nprint(long_name + run('long_' + 'name'))",
    "a mention of eval": "long_name = 1\nrun = eval\nprint(long_name + run('long_' + 'name'))",
    "mock of a global": """
from unittest.mock import patch
def long_name():
    return 1
with patch("__main__.long_name", lambda: 2):
    print(long_name())
""",
    "mock of a builtin": """
from unittest import mock
def f():
    return ascii(1) + ascii(2) + ascii(3) + ascii(4) + ascii(5) + ascii(6)
with mock.patch("builtins.ascii", lambda value: "patched"):
    print(f())
""",
    "a functional namedtuple and pickle": """
from collections import namedtuple
from importlib import import_module
LongName = namedtuple("LongName", "a b")
pickler = import_module("pick" + "le")
print(pickler.loads(pickler.dumps(LongName(1, 2))))
""",
    "a functional enum and pickle": """
import enum
from importlib import import_module
LongName = enum.Enum("LongName", "a b")
pickler = import_module("pick" + "le")
print(pickler.loads(pickler.dumps(LongName.a)))
""",
    "reduced to a name": """
from importlib import import_module
class Kind:
    def __reduce__(self):
        return "long_name"
long_name = Kind()
pickler = import_module("pick" + "le")
print(pickler.loads(pickler.dumps(long_name)) is long_name)
""",
    "a class variable in a string": """
import typing as all_kinds
from dataclasses import dataclass
@dataclass
class Config:
    width: all_kinds.Any = 1
    height: all_kinds.Any = 1
    shared: "all_kinds.ClassVar[int]" = 2
print(Config(3))
""",
    "private names of related classes": """
class LongBase:
    def __init__(self):
        self.__value = 1
    def base(self):
        return self.__value
def make():
    class LongDerived(LongBase):
        def __init__(self):
            super().__init__()
            self.__value = 2
    return LongDerived()
def other():
    class LongBase:
        def __init__(self):
            self.__value = 1
        def base(self):
            return self.__value
    return LongBase().base()
print(make().base(), other(), sorted(make().__dict__))
""",
    "private names of local classes": """
def first():
    class LongNameOne:
        def __init__(self): self.__value = 1
        def one(self): return self.__value
    return LongNameOne, LongNameOne, LongNameOne
def second(base):
    class LongNameTwo(base):
        def __init__(self):
            super().__init__()
            self.__value = 2
    return LongNameTwo, LongNameTwo, LongNameTwo
made = second
print(made(first()[0])[0]().one())
""",
    "a private global": """
class C:
    def f(self):
        return __value
_C__value = 1
__value = 2
print(C().f(), __value)
""",
    "self beside any keyword": """
class Template:
    def sub(self, text, **values):
        return text, self.name, values
template = Template()
template.name = "t"
print([template.sub("x", **{letter: 1}) for letter in "ABCDEFabcdef"], template.sub("y", A=2, a=3))
""",
    "self by keyword": "class C:\n    def f(self, x):\n        return x\nprint(C.f(self=C(), x=1), C.f(**{'self': 1, 'x': 2}))",
    "a keyword that would be the new name of self": """
class C:
    def f(self, x=1):
        return self
for call in (lambda: C.f(A=C()), lambda: C.f(a=C()), lambda: C().f(A=1)):
    try:
        print(type(call()) is C)
    except TypeError:
        print("refused")
""",
    "an assignment expression in a comprehension": """
def squares():
    return [(last := value * value) for value in (1, 2, 3)], last
print(squares())
def odd():
    rows = [[(one := x) for x in row if (two := x) % 2] for row in ([1, 2, 3], [4]) if (three := row)]
    return rows, one, two, three
print(odd())
print([(total := item) + sum((inner := other) for other in range(item)) for item in range(3)], total, inner)
""",
    "vars without a dict": """
def kind(x):
    try:
        return sorted(vars(x))
    except TypeError:
        return 'none'
print(kind(1), kind([]))
""",
    "a class that is printed": "class LongName:\n    pass\nprint(LongName, str(type(LongName())), f'{LongName().__class__}')",
    "exceptions at one remove": "class Oops(KeyError):\n    pass\nclass Worse(Oops):\n    pass\nprint(repr(Worse(1)))",
    "an exception that is not called so": """
class Stop(KeyboardInterrupt):
    pass
class Stopped(Stop):
    pass
print(repr(Stopped()))
""",
    "containers that show their class": """
import collections
class Bag(set):
    pass
class Row(collections.deque):
    pass
print(Bag([1]), Row([2]))
""",
    "a dataclass at one remove": """
from dataclasses import dataclass
@dataclass
class Base:
    x: int = 1
class Derived(Base):
    pass
print(Derived(2))
""",
    "a type of argparse": """
import argparse, contextlib, io
def long_name(text):
    raise ValueError
parser = argparse.ArgumentParser(prog="p", exit_on_error=False)
parser.add_argument("--x", type=long_name)
try:
    parser.parse_args(["--x", "1"])
except argparse.ArgumentError as error:
    print(error)
""",
    "a parameter that is let go": """
import weakref
class Thing:
    pass
class User:
    def use(self, thing):
        watch = weakref.ref(thing)
        count = len([thing, thing, thing, thing, thing])
        thing = None
        return watch() is None, thing, count
    def drop(self, thing):
        watch = weakref.ref(thing)
        count = len([thing, thing, thing, thing, thing])
        del thing
        return watch() is None, count
print(User().use(Thing()), User().drop(Thing()))
""",
    "a literal in a scripted function": """
import torch
def f(kind: str) -> bool:
    return kind == "a long literal" or kind + "a long literal" == "a long literal" or "a long literal" == kind
print(torch.jit.script(f)("a long literal"))
""",
    "builtins by a function of one's own": """
print(eval("1 + 1"))
def run():
    def eval(text):
        return text * 2
    long_name = 3
    return eval("long"), long_name
print(run())
""",
    "names in a string that is a path": """
import sys
class Registry:
    pass
def find(path):
    program = sys.modules['__main__']
    return path.split('.')[-1] in dir(program)
print(find('x.Registry'))
""",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_variant_means_the_same(name: str, tmp_path: Path) -> None:
    text = PROGRAMS[name]
    expected = result_of(text, tmp_path)
    assert expected
    for variant in shrink(ast.parse(text)).variants:
        assert result_of(variant.text, tmp_path) == expected, variant


@pytest.mark.parametrize(
    ("text", "gone", "stays"),
    [
        (
            "def f():\n    kept = 1\n    return eval('kept ')\ndef g():\n    shortened = 1\n    return shortened",
            "shortened",
            "kept",
        ),
        ("def f():\n    kept = 1\n    return locals()\nshortened = 1\nprint(shortened, shortened)", "shortened", "kept"),
        ("def f():\n    shortened = 1\n    return shortened\nkept = 1\nprint(globals())", "shortened", "kept"),
        (
            "import os\nLONG_NAME = os.environ.get('LONG_NAME', 'x')\nOTHER_NAME = 1\nprint('OTHER_NAME', OTHER_NAME)",
            "LONG_NAME=",
            "OTHER_NAME=",
        ),
        ("from math import *\ndef f():\n    shortened = 1\n    return shortened", "shortened", "math"),
        ("def f(x):\n    shortened = vars(x)\n    return shortened, dir(shortened)", "shortened", "vars"),
    ],
)
def test_only_what_may_be_read_stays(text: str, gone: str, stays: str) -> None:
    for variant in shrink(ast.parse(text)).variants:
        assert gone not in variant.text
        assert stays in variant.text


SAFE = Shrinking(NOTICEABLE)
SAVED = "import torch\nclass LongName(torch.nn.Linear):\n    pass\nmodel = LongName(1, 1)\n"


@pytest.mark.parametrize("saved", ["model", "{'model': model}", "model.cpu()", "torch.compile(model)", "[LongName(1, 2)]"])
def test_whole_objects_that_are_saved_keep_the_names_of_classes(saved: str) -> None:
    text = f"{SAVED}torch.save({saved}, 'file')\n"
    assert "class LongName" in minify(ast.parse(text))
    assert find_readings(ast.parse(text)).notes() == [
        "line 5: torch.save writes objects of classes, so names of functions and classes stay"
    ]


@pytest.mark.parametrize(
    "saved",
    [
        "model.state_dict()",
        "{'model': model.state_dict(), 'step': 1}",
        "{name: value.detach().cpu() for name, value in model.state_dict().items()}",
        "halved(model.state_dict())",
        "[value.clone() for value in model.parameters()]",
    ],
)
def test_tensors_that_are_saved_keep_nothing(saved: str) -> None:
    text = f"{SAVED}def halved(state):\n    return {{name: x.half() for name, x in state.items()}}\ntorch.save({saved}, 'f')"
    assert "LongName" not in minify(ast.parse(text))
    assert find_readings(ast.parse(text)).notes() == []


def test_what_may_be_an_object_is_told() -> None:
    text = f"{SAVED}def keep(thing):\n    torch.save(thing.inner, 'f')\nkeep(model)"
    assert find_readings(ast.parse(text)).notes() == [
        "line 6: torch.save may write objects of classes; their names would be short in the file"
    ]


def test_code_that_does_not_compile_is_never_a_variant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Renamer, "_rename_binding", lambda self, binding, scope: binding.rename("if"))
    text = "def f(long_name):\n    other_name = long_name\n    return other_name\nprint(f(1))"
    shrunk = shrink(ast.parse(text))
    assert [variant.name for variant in shrunk.variants] == ["fewer names"]
    assert "other_name" in shrunk.variants[0].text
    assert shrunk.notes == [
        "shortening every name gave code that does not compile (invalid syntax), so fewer names are shortened"
    ]


def test_scripts_that_do_not_compile_are_refused() -> None:
    with pytest.raises(InputError, match="the script does not compile: 'return' outside function"):
        shrink(ast.parse("return 1"))


def test_the_safe_preset_leaves_all_but_local_names() -> None:
    text = (
        "'doc'\nlong_global = 1\ndef f(value: int, amount=2):\n    'doc'\n    long_local = value\n    return long_local\n"
        "f(1, amount=3)"
    )
    minified = minify(ast.parse(text), SAFE)
    assert "long_local" not in minified
    tree = ast.parse(minified)
    assert ast.get_docstring(tree) == "doc"
    assert all(word in minified for word in ("long_global", "value:int", "f(1,amount=3)"))


def test_what_is_taken_for_granted_is_told() -> None:
    tree = ast.parse("def long_name():\n    return 1\nprint(long_name())")
    assert shrinking_notes(tree, Shrinking(), find_readings(tree)) == [ASSUMED]
    assert shrinking_notes(tree, SAFE, find_readings(tree)) == []
    tree = ast.parse("long_name = 1\nprint(long_name)")
    assert shrinking_notes(tree, Shrinking(), find_readings(tree)) == []


def test_notes_of_steps_that_are_not_done_are_left_out() -> None:
    tree = ast.parse("def f():\n    'doc'\n    return locals(), f.__doc__, globals()")
    assert len(shrinking_notes(tree, Shrinking(), find_readings(tree))) == 3
    assert shrinking_notes(tree, SAFE, find_readings(tree)) == [
        "line 3: locals() looks names up, so the names in this function stay"
    ]


def test_the_safe_preset_from_the_command_line(golfpack, tmp_path: Path) -> None:
    script = tmp_path / "main.py"
    script.write_text("def long_name():\n    'doc'\n    local_name = 1\n    return local_name\nprint(long_name())")
    sources = []
    for options in ([], ["--safe"]):
        result = golfpack("wrap", script, "-o", tmp_path / "out.py", *options)
        assert result.status == 0
        assert ("assumed:" in result.err) is (not options)
        sources.append(generator.unpack(tmp_path / "out.py").source)
    assert "long_name" not in sources[0]
    assert "long_name" in sources[1]
    assert "local_name" not in sources[1]
    generator.wrap(script, tmp_path / "again.py", safe=True)
    assert generator.unpack(tmp_path / "again.py").source == sources[1]


MODULE = "kinds = {}\ndef register(kind):\n    kinds[kind.__name__] = kind.run.__annotations__\n"


def test_a_carried_module_reads_what_the_script_defines(tmp_path: Path) -> None:
    """The registry lies in one file, and what it registers in another."""
    (tmp_path / "registry.py").write_text(MODULE)
    script = tmp_path / "main.py"
    script.write_text(
        "import registry\nclass LongName:\n    def run(self, x: complex):\n        return x\n"
        "registry.register(LongName)\nprint(registry.kinds)\n"
    )
    inspection = generator.wrap(script, tmp_path / "out" / "main.py") if (tmp_path / "out").mkdir() is None else None
    assert inspection is not None
    assert "module registry, line 3: __name__ reads what the program defines, so names of functions and classes stay" in (
        inspection.notes
    )
    assert result_of((tmp_path / "out" / "main.py").read_text(), tmp_path, True).startswith(
        "{'LongName': {'x': <class 'complex'>}}"
    )


def test_what_large_code_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is a number of syntax nodes, so that the same input gives the same bytes on every machine."""
    tree = ast.parse("def f():\n    local_name = 1\n    return local_name\nprint(f(), 60 * 60, [f(), f()])")
    size = sum(1 for _ in ast.walk(tree))
    assert len(shrink(tree).variants) > 1
    monkeypatch.setattr("generator.source.shrink.NODES_FOR_ALL", size - 5)
    shrunk = shrink(tree)
    assert len(shrunk.variants) == 1
    assert "local_name" not in shrunk.variants[0].text
    assert shrunk.notes[0].endswith("syntax nodes, so one way of naming is tried")
    monkeypatch.setattr("generator.source.shrink.NODES_FOR_NAMES", size - 5)
    shrunk = shrink(tree)
    assert "local_name" in shrunk.variants[0].text
    assert shrunk.notes[1].endswith("syntax nodes, so no name is shortened")


def test_programs_that_take_every_short_name(tmp_path: Path) -> None:
    letters = [chr(code) for code in range(ord("A"), ord("Z") + 1)]
    names = [*letters, *(first + second for first in letters for second in letters)]
    script = tmp_path / "main.py"
    script.write_text("".join(f"{name} = 1\n" for name in names) + f"print(sum([{', '.join(names)}]), globals()['ZZ'])")
    generator.wrap(script, tmp_path / "out.py")
    assert result_of((tmp_path / "out.py").read_text(), tmp_path, True).startswith(f"{len(names)} 1")


def test_f_strings_that_the_minifier_cannot_express(tmp_path: Path) -> None:
    """Both kinds of quotes inside, before Python 3.12: names are shortened all the same."""
    tree = ast.parse("""def wrapped(text):
    long_name = text
    return (f"say('{long_name or b''}" f"{long_name}')")
print(wrapped(1))
""")
    text = minify(tree)
    assert "long_name" not in text
    assert result_of(text, tmp_path) == "say('11')\n"
