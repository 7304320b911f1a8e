"""Arguments by position: only where all callers are known, and no program can tell."""

from __future__ import annotations

import ast
import copy
import pickle
import textwrap
from pathlib import Path

import pytest
from positional_programs import LEFT_ALONE, REWRITTEN
from test_source import output_of

from generator.emit import Emitter
from generator.packing import Options
from generator.source.calls import make_positional, restore_parameters
from generator.source.collecting import Bundle, Module
from generator.source.positional import pass_by_position
from generator.source.script import Script, parse
from generator.source.shrink import Shrinking, shrink


def source(text: str) -> str:
    return textwrap.dedent(text).lstrip()


@pytest.mark.parametrize("name", REWRITTEN)
def test_calls_whose_function_is_certain_are_rewritten(name: str) -> None:
    text, expected = source(REWRITTEN[name][0]), REWRITTEN[name][1]
    tree = ast.parse(text)
    assert pass_by_position(tree) > 0
    calls = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert set(expected) <= calls
    for variant in shrink(parse(text.encode(), name), Shrinking(frozenset({"globals"}))).variants:
        assert output_of(variant.text) == output_of(text) != "", variant.name


def test_parameters_lose_only_the_slash_that_the_step_gave_them() -> None:
    text = "def half(number, /, rest=0, *, unit=1):\n    return number + rest\nprint(half(4, rest=1))"
    tree = ast.parse(text)
    assert pass_by_position(tree) == 2
    assert "def half(number, rest=0, /, *, unit=1):" in ast.unparse(tree)
    assert pass_by_position(tree) == 2  # the calls may have changed meanwhile
    copied = pickle.loads(pickle.dumps(copy.deepcopy(tree)))
    restore_parameters(copied)
    assert ast.unparse(copied) == ast.unparse(ast.parse(text.replace("rest=1", "1")))


def test_parameters_made_positional_keep_the_slash_beside_any_keyword() -> None:
    tree = ast.parse("def f(a, b, **rest): pass")
    definition = tree.body[0]
    assert isinstance(definition, ast.FunctionDef)
    make_positional(definition.args)
    restore_parameters(tree)
    assert ast.unparse(definition) == "def f(a, b, /, **rest):\n    pass"


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_functions_whose_callers_are_not_certain_are_left_alone(name: str) -> None:
    text = source(LEFT_ALONE[name])
    tree = ast.parse(text)
    assert pass_by_position(tree) == 0
    assert ast.dump(tree) == ast.dump(ast.parse(text))


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_programs_that_reflect_print_the_same(name: str) -> None:
    text = source(LEFT_ALONE[name])
    # Without short names for globals: what reads those by string is the matter of another step.
    for variant in shrink(parse(text.encode(), name), Shrinking(frozenset({"globals"}))).variants:
        assert output_of(variant.text) == output_of(text) != "", variant.name


AREA = "def area(width, height=2):\n    return width * height\nprint(area(1, height=3))\n"
POINT = "class Point:\n    def __init__(self, across=1, down=2):\n        self.down = down\nprint(Point(1, down=3))\n"
PLAIN = "def other():\n    pass\nclass Other:\n    def method(self):\n        pass\nthing = other()\n"


def filled(template: str, names: str) -> list[str]:
    return [template.format(name) for name in names.split()]


# What leads to functions, or to classes alone, that are not named; each by itself.
LEADS_ANYWHERE = [
    *filled("thing.{}", "__builtins__ __closure__ __globals__ ag_frame cell_contents cr_frame gi_frame tb_frame"),
    *filled("thing.{}", "f_back f_builtins f_code f_globals f_locals"),
    *filled("getattr(thing, '{}')", "__closure__ __globals__ __import__ f_locals"),
    *filled("print({})", "__builtins__ __loader__ __spec__ eval exec globals() locals() vars() vars vars(*[thing])"),
    *filled("__import__({})", "'__main__' thing"),
    *filled(
        "import {}",
        "__main__ cProfile cgitb code codeop doctest fire imp pdb pkgutil profile pydoc runpy timeit trace zipimport",
    ),
    *filled("from {} import thing", "__main__ fire runpy"),
    "from helper import *",
    "import sys\nsys.modules",
    "import sys as system\nsystem._getframe()",
    "import sys\nprint(sys)",
    "from sys import modules",
    "import sys\nif thing:\n    sys = None",
    "import sys\nsys.settrace(thing)",
    "import gc\ngc.get_objects()",
    "import inspect\ninspect.stack()",
    "from inspect import currentframe as here",
    "import importlib\nimportlib.import_module('helper')",
    "from importlib import import_module",
    "import builtins\nbuiltins.eval('1')",
    "from builtins import exec",
]
HOOK = "class Hook:\n    def {}(self, other): pass"
LEADS_TO_CLASSES = [
    *filled("thing.{}", "__base__ __bases__ __class__ __init__ __mro__ __new__ __self__ __subclasses__ from_pretrained mro"),
    *filled("thing.{}", "__objclass__ __reduce__ __reduce_ex__ __self_class__ __thisclass__"),
    *filled("getattr(thing, '{}')", "__class__ __init__ from_pretrained mro"),
    *filled(HOOK, "__get__ __instancecheck__ __mro_entries__ __prepare__ __set__ __set_name__"),
    *filled(HOOK, "__subclasscheck__ __subclasshook__"),
    *filled(HOOK + "\ntype(thing) == Hook()", "__contains__ __eq__ __hash__ __ne__"),
    "type(thing)()",
    "kinds = [type(thing)]",
    "kinds = map(type, [thing])",
    "type(*[thing])",
    "vars(type(Point))",
    "method = classmethod(other)",
    "class Hook:\n    def method(self):\n        return __class__",
    "super(Other, thing).__class__",
]


@pytest.mark.parametrize("line", LEADS_ANYWHERE)
def test_what_leads_to_functions(line: str) -> None:
    assert pass_by_position(ast.parse(PLAIN + AREA)) == 2
    assert pass_by_position(ast.parse(f"{PLAIN}{AREA}{line}\n")) == 0


@pytest.mark.parametrize("line", LEADS_TO_CLASSES)
def test_what_leads_to_classes(line: str) -> None:
    assert pass_by_position(ast.parse(PLAIN + POINT)) == 2
    tree = ast.parse(f"{PLAIN}{POINT}{line}\n")
    pass_by_position(tree)
    assert "Point(1, down=3)" in ast.unparse(tree)


@pytest.mark.parametrize(
    "body",
    [
        "    @classmethod\n    def make(kind, **given): pass\n",
        "    @unknown\n    def make(self): pass\n",
        "    @property.other\n    def make(self): pass\n",
        *(f"    def {name}(kind, *values): pass\n" for name in ("__new__", "__init_subclass__", "__class_getitem__")),
    ],
)
def test_classes_that_make_instances_themselves(body: str) -> None:
    for text in (f"{POINT}{body}", f"class Base:\n{body}{POINT.replace('Point:', 'Point(Base):')}"):
        lines = text.replace("print(Point(1, down=3))\n", "") + "print(Point(1, down=3))\n"
        tree = ast.parse(lines)
        assert pass_by_position(tree) == 0
        assert "Point(1, down=3)" in ast.unparse(tree)


def test_modules_that_are_carried_may_call_the_script() -> None:
    script = Script(Path("s.py"), ast.parse(AREA + "import helper\n"), 0, False)
    module = Module(b"import s\ns.area(width=3)\n", False, Path("helper.py"))
    text = Emitter(script, Options(bundle=Bundle({"helper": module}))).program(None).text
    assert "(1,height=3)" in text
    assert "(width,height=2):" in text
    assert "height=3" not in Emitter(Script(Path("s.py"), ast.parse(AREA), 0, False)).program(None).text


def test_a_module_that_is_not_known_may_be_the_script() -> None:
    for imported, free in (("torch", 2), ("math", 2), ("helper", 0), ("train_gpt", 0)):
        tree = ast.parse(f"import {imported}\n{AREA}{imported}.area(width=3)\n")
        assert pass_by_position(tree) == free, imported


@pytest.mark.parametrize(
    "text",
    [
        # spelled differently inside a class
        "def __area(width, height=2):\n    pass\n__area(1, height=3)",
        "def area(__width, height=2):\n    pass\narea(1, height=3)",
        "def area(width, height=2, **rest):\n    pass\narea(1, height=3)",
        "def area(width, height):\n    pass\narea(height=3)",
        "def area(width, *, height):\n    pass\narea(1)",
        POINT.replace("self, across=1, down=2", "self, down").replace("1, down", "down")
        + "other = Point(4)\nvars(type(other))",
        POINT + "super(int, Point)",
        POINT.replace("    def __init__", "    @staticmethod\n    def __init__"),
        POINT.replace("class Point:", "class Point(metaclass=kinds):"),
        "class Base(other):\n    pass\n" + POINT.replace("Point:", "Point(Base):"),
        # a class body may not have set its own yet
        AREA + "class Table:\n    area(1, height=2)\n    area = None",
        AREA + "def other():\n    global area\n    area(width=2)",
        AREA + "def other():\n    global area\n    def inner():\n        area = 1\n    area = None",
    ],
)
def test_rules_by_themselves(text: str) -> None:
    tree = ast.parse(text)
    assert pass_by_position(tree) == 0
    assert ast.dump(tree) == ast.dump(ast.parse(text))


def test_methods_do_not_see_the_names_of_their_class() -> None:
    text = f"{AREA}class Table:\n    area = None\n    def method(self):\n        return area(1, height=5)\n"
    tree = ast.parse(text)
    assert pass_by_position(tree) == 2
    assert "area(1, 5)" in ast.unparse(tree)
