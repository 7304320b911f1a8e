"""Small programs that look at names, arguments, annotations or source in the ways Python allows.

What each prints must not change by packing. `Program.note` is for those where it may: a pattern that one of the notes which the
build prints has to match.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
import textwrap
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType


@dataclass(frozen=True)
class Program:
    """A program, and the note that must be printed where packing changes what it does ("" where nothing may change)."""

    text: str
    note: str = ""


@dataclass(frozen=True)
class Outcome:
    """What a program printed, and the exception that ended it, "" for none."""

    printed: str
    error: str


@contextlib.contextmanager
def modules_as_before(text: str) -> Iterator[None]:
    """Run a program inside; what it replaces in the modules that it names, and in builtins, is put back afterwards.

    Some of the programs do replace functions, `functools.cache` for one; who imports torch's compiler after that gets a broken
    one.
    """
    chains = [chain.split(".") for chain in re.findall(r"\w+(?:\.\w+)*", text)]
    named = {".".join(chain[:length]) for chain in chains for length in range(1, len(chain) + 1)} | {"builtins"}
    modules = [sys.modules.get(name) for name in named - {"__main__"}]
    before = [(vars(module), dict(vars(module))) for module in modules if isinstance(module, ModuleType)]
    try:
        yield
    finally:
        for now, known in before:
            now.update(known)  # not cleared: what was imported meanwhile stays


def outcome_of(text: str, filename: str = "program.py") -> Outcome:
    """Run a program in this process as the module `__main__`; a SyntaxError counts as an outcome, too."""
    module = ModuleType("__main__")
    module.__file__ = filename
    out = io.StringIO()
    main, arguments = sys.modules["__main__"], sys.argv
    recursion_limit = sys.getrecursionlimit()
    error = ""
    try:
        sys.modules["__main__"] = module
        sys.argv = [filename]
        with (
            modules_as_before(text),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(io.StringIO()),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            exec(compile(text, filename, "exec", dont_inherit=True), module.__dict__)
    except BaseException as raised:
        if isinstance(raised, KeyboardInterrupt):
            raise
        error = f"{type(raised).__name__}: {raised}"
    finally:
        sys.modules["__main__"], sys.argv = main, arguments
        sys.setrecursionlimit(recursion_limit)
    return Outcome(out.getvalue(), error)


def _program(text: str, note: str = "") -> Program:
    return Program(textwrap.dedent(text).strip() + "\n", note)


PROGRAMS: dict[str, Program] = {}


def _add(name: str, text: str, note: str = "") -> None:
    assert name not in PROGRAMS, name
    PROGRAMS[name] = _program(text, note)


# Globals that are reached by string.

_add(
    "setattr on this module",
    """
    import sys
    learning_rate = 1
    def current():
        return learning_rate
    setattr(sys.modules[__name__], "learning_rate", 5)
    print(current(), learning_rate)
    """,
)
_add(
    "getattr on this module",
    """
    import sys
    def train_small(): return "small"
    def train_large(): return "large"
    for size in ("small", "large", "huge"):
        function = getattr(sys.modules[__name__], "train_" + size, None)
        print(size, function and function())
    """,
)
_add(
    "attribute of this module",
    """
    import sys
    module = sys.modules[__name__]
    counter = 1
    module.counter += 4
    print(counter, hasattr(module, "counter"))
    """,
)
_add(
    "import of the main module",
    """
    import __main__
    learning_rate = 3
    def current(): return learning_rate
    __main__.learning_rate = 7
    print(current(), getattr(__main__, "learning_rate"))
    """,
)
_add(
    "import_module of the main module",
    """
    import importlib
    setting = 3
    print(importlib.import_module("__main__").setting)
    """,
)
_add(
    "attrgetter on the module",
    """
    import sys, operator
    batch_size, sequence = 4, 8
    print(operator.attrgetter("batch_size", "sequence")(sys.modules[__name__]))
    """,
)
_add(
    "methodcaller and attrgetter on objects",
    """
    import operator
    class Thing:
        def __init__(self, amount): self.amount = amount
        def doubled(self, times=2): return self.amount * times
    things = [Thing(3), Thing(1)]
    print([t.amount for t in sorted(things, key=operator.attrgetter("amount"))])
    print([operator.methodcaller("doubled", times=5)(t) for t in things])
    """,
)
_add(
    "globals of a function",
    """
    threshold = 2
    def above(value): return value > threshold
    above.__globals__["threshold"] = 10
    print(above(5), threshold)
    """,
)
_add(
    "globals of a frame",
    """
    import sys
    def flag(): return sys._getframe(1).f_globals.get("verbose_mode", "unset")
    verbose_mode = "on"
    print(flag())
    """,
)
_add(
    "locals of a frame",
    """
    import sys
    def caller_value(): return sys._getframe(1).f_locals["hidden_amount"]
    def caller():
        hidden_amount = 42
        return caller_value()
    print(caller())
    """,
)
_add(
    "locals by inspect",
    """
    import inspect
    def show():
        print(sorted(inspect.currentframe().f_back.f_locals))
    def caller(first_number, second_number=2):
        total_sum = first_number + second_number
        show()
    caller(1)
    """,
)
_add(
    "dir of the module",
    """
    def step_one(): return 1
    def step_two(): return 2
    class Helper: pass
    print([name for name in dir() if name.startswith("step_") or name == "Helper"])
    """,
)
_add(
    "dir of the module through sys.modules",
    """
    import sys
    alpha_setting = 1
    print([name for name in dir(sys.modules[__name__]) if "setting" in name])
    """,
)
_add(
    "inspect.getmembers of the module",
    """
    import inspect, sys
    class First: pass
    class Second(First): pass
    print([name for name, _ in inspect.getmembers(sys.modules[__name__], inspect.isclass)])
    """,
)
_add(
    "hooks that unittest finds by name",
    """
    import unittest, io
    log = []
    def setUpModule(): log.append("set up")
    def tearDownModule(): log.append("torn down")
    class SomeTests(unittest.TestCase):
        def setUp(self): log.append("set up one")
        def test_first(self): self.assertEqual(log[0], "set up")
        def test_second(self): self.assertIn("set up one", log)
    result = unittest.main(argv=["x"], exit=False, testRunner=unittest.TextTestRunner(io.StringIO())).result
    print(result.testsRun, len(result.failures), len(result.errors), log)
    """,
)
_add(
    "load_tests of unittest",
    """
    import unittest, io
    class SomeTests(unittest.TestCase):
        def test_first(self): pass
        def helper(self): pass
    def load_tests(loader, tests, pattern):
        tests.addTest(SomeTests("helper"))
        return tests
    result = unittest.main(argv=["x"], exit=False, testRunner=unittest.TextTestRunner(io.StringIO())).result
    print(result.testsRun)
    """,
)
_add(
    "unittest's names of tests",
    """
    import unittest
    class AdditionTests(unittest.TestCase):
        def test_first(self): pass
    class SubtractionTests(unittest.TestCase):
        def test_second(self): pass
    for suite in unittest.defaultTestLoader.loadTestsFromModule(__import__("__main__")):
        print([test.id() for test in suite])
    """,
)
_add(
    "mock.patch by name",
    """
    from unittest import mock
    def fetch_data(): return "real"
    def use(): return fetch_data()
    with mock.patch("__main__.fetch_data", return_value="fake"):
        print(use())
    print(use())
    """,
)
_add(
    "mock.patch.object on this module",
    """
    import sys
    from unittest import mock
    speed_limit = 50
    def limit(): return speed_limit
    with mock.patch.object(sys.modules[__name__], "speed_limit", 80):
        print(limit())
    print(limit())
    """,
)
_add(
    "profiler that runs a string",
    """
    import cProfile, io, contextlib
    def long_computation(): print("computed")
    cProfile.run("long_computation()", "/dev/null")
    """,
)
_add(
    "eval through builtins",
    """
    import builtins
    base_value = 20
    print(builtins.eval("base_value + 1"))
    """,
)
_add(
    "exec under another name",
    """
    run = exec
    base_value = 20
    run("print(base_value + 1)")
    """,
)
_add(
    "eval with a given namespace",
    """
    def evaluate(expression, count): return eval(expression, {"count": count})
    print(evaluate("count * 2", 21))
    """,
)
_add(
    "globals() that is updated",
    """
    settings = {"width": 3, "depth": 4}
    globals().update(settings)
    print(width, depth, sorted(k for k in settings if k in globals()))
    """,
)
_add(
    "configurator idiom",
    """
    import sys
    batch_size = 12
    learning_rate = 0.5
    config_keys = [k for k, v in globals().items() if not k.startswith("_") and isinstance(v, (int, float))]
    for argument in ["--batch_size=3"]:
        key, value = argument[2:].split("=")
        globals()[key] = int(value)
    print({k: globals()[k] for k in config_keys})
    """,
)
_add(
    "locals in a format",
    """
    def report(loss_value, step_count):
        return "{loss_value} at {step_count}".format(**locals())
    print(report(0.5, 3))
    """,
)
_add(
    "vars of the module",
    """
    import sys
    quantity = 3
    print(vars(sys.modules[__name__])["quantity"])
    """,
)
_add(
    "star import and own names",
    """
    from math import *
    def floored(value): return floor(value) + ceil(value)
    print(floored(2.5), sorted(name for name in ("tau", "floored") if name in globals()))
    """,
)
_add(
    "runpy-like module attributes",
    """
    print(__name__, __doc__, __file__ is not None, "json" in __import__("sys").modules or True)
    """,
)
_add(
    "__all__ and module __getattr__",
    """
    import sys
    __all__ = ["visible_thing"]
    visible_thing = 1
    def __getattr__(name): return "made " + name
    module = sys.modules[__name__]
    print(module.visible_thing, module.anything_else, [getattr(module, name) for name in __all__])
    """,
)

# What is asked of functions and classes.

_add(
    "signature",
    """
    import inspect
    def train(data, learning_rate=0.1, *, warmup_steps: int = 3, **options) -> float: return 1.0
    print(inspect.signature(train), list(inspect.signature(train).parameters))
    """,
)
_add(
    "getfullargspec",
    """
    from inspect import getfullargspec
    def train(data: list, learning_rate: float = 0.1, *rest, warmup_steps=3): pass
    spec = getfullargspec(train)
    print(spec.args, spec.varargs, spec.kwonlyargs, spec.annotations)
    """,
)
_add(
    "arguments chosen by signature",
    """
    import inspect
    def build(width, height): return width * 10 + height
    available = {"height": 2, "width": 4, "depth": 9}
    wanted = {k: v for k, v in available.items() if k in inspect.signature(build).parameters}
    print(build(**wanted))
    """,
)
_add(
    "code object",
    """
    def compute(first_value, second_value):
        inner_total = first_value + second_value
        return inner_total
    code = compute.__code__
    print(code.co_name, code.co_varnames, code.co_argcount)
    """,
)
_add(
    "__name__ by getattr",
    """
    def long_function_name(): pass
    class LongClassName: pass
    print(getattr(long_function_name, "__name__"), getattr(LongClassName, "__qualname__"))
    """,
)
_add(
    "__doc__ by getattr",
    '''
    def documented():
        """What it does."""
    print(getattr(documented, "__doc__"))
    ''',
)
_add(
    "inspect.getdoc",
    '''
    import inspect
    class Documented:
        """The class.

        More.
        """
        def method(self):
            """The method."""
    print(inspect.getdoc(Documented), inspect.getdoc(Documented().method))
    ''',
)
_add(
    "argparse description from the docstring",
    '''
    """What the script does."""
    import argparse
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--learning-rate", type=float, default=0.5, help="step size")
    arguments = parser.parse_args([])
    print(parser.description, arguments.learning_rate, vars(arguments))
    ''',
)
_add(
    "help of cmd.Cmd",
    '''
    import cmd, sys
    class Shell(cmd.Cmd):
        def do_greet(self, line):
            """Say hello."""
            print("hello", line, file=sys.stdout)
        def do_quit(self, line): return True
    shell = Shell(stdout=sys.stdout)
    shell.onecmd("greet you")
    shell.onecmd("help greet")
    shell.onecmd("help")
    ''',
)
_add(
    "doctest",
    '''
    import doctest
    def doubled(value):
        """
        >>> doubled(3)
        6
        """
        return value * 2
    print(doctest.testmod())
    ''',
)
_add(
    "annotations by getattr",
    """
    def convert(value: int, factor: float = 2.0) -> str: return str(value * factor)
    print(getattr(convert, "__annotations__"))
    """,
)
_add(
    "annotations of parameters that no caller can name",
    """
    def convert(value: int, /, factor: float = 2.0, *rest: str, **more: bytes) -> str: return str(value * factor)
    def outer():
        def inner(amount: int, /): ...
        return inner
    print(convert.__annotations__, outer().__annotations__)
    """,
)
_add(
    "get_type_hints",
    """
    import typing
    class Node:
        value: int
        children: "list[Node]"
    def visit(node: "Node", depth: int = 0) -> "typing.Optional[Node]": return node
    print(sorted(typing.get_type_hints(Node)), sorted(typing.get_type_hints(visit)))
    """,
)
_add(
    "conversion driven by annotations",
    """
    import functools, inspect
    def converting(function):
        hints = function.__annotations__
        @functools.wraps(function)
        def call(*args):
            return function(*(kind(value) for kind, value in zip(hints.values(), args)))
        return call
    @converting
    def scaled(amount: int, factor: float): return amount * factor
    print(scaled("3", "1.5"))
    """,
)
_add(
    "singledispatch by annotation",
    """
    from functools import singledispatch
    @singledispatch
    def describe(value): return "thing"
    @describe.register
    def _(value: int): return "number"
    @describe.register
    def _(value: list): return "list of " + ", ".join(describe(item) for item in value)
    print(describe(3), describe([1, "x"]), describe(None))
    """,
)
_add(
    "singledispatchmethod",
    """
    from functools import singledispatchmethod
    class Printer:
        @singledispatchmethod
        def show(self, value): return "any"
        @show.register
        def _(self, value: int): return "int"
        @show.register(str)
        def _text(self, value): return "text"
    print(Printer().show(1), Printer().show("a"), Printer().show(1.5))
    """,
)
_add(
    "module annotations",
    """
    import sys
    width: int = 3
    name: str
    print(sys.modules[__name__].__annotations__ if sys.version_info < (3, 14) else {"width": int, "name": str})
    """,
)
_add(
    "dataclass with string annotations",
    """
    from __future__ import annotations
    from dataclasses import dataclass, field, fields, asdict, replace
    from typing import ClassVar
    @dataclass
    class Options:
        registry: ClassVar[dict] = {}
        width: int = 3
        names: list[str] = field(default_factory=list)
    print([f.name for f in fields(Options)], asdict(Options()), replace(Options(), width=5))
    """,
)
_add(
    "dataclasses.replace",
    """
    import dataclasses
    @dataclasses.dataclass(frozen=True)
    class Setup:
        learning_rate: float = 0.5
        momentum: float = 0.9
        def faster(self): return dataclasses.replace(self, learning_rate=self.learning_rate * 2)
    print(Setup().faster(), dataclasses.astuple(Setup(momentum=1.0)))
    """,
)
_add(
    "replace of a class of one's own",
    """
    import dataclasses
    @dataclasses.dataclass(init=False)
    class Pair:
        left: int
        right: int
        def __init__(self, left, right):
            self.left, self.right = left, right
    print(dataclasses.replace(Pair(1, right=2), right=5))
    """,
)
_add(
    "__replace__ by hand",
    """
    class Point:
        def __init__(self, across, down): self.across, self.down = across, down
        def __replace__(self, **changes):
            return type(self)(**{**self.__dict__, **changes})
    moved = Point(1, down=2).__replace__(down=7)
    print(moved.across, moved.down)
    """,
)
_add(
    "post init and InitVar",
    """
    from dataclasses import dataclass, InitVar
    @dataclass
    class Area:
        width: int
        scale: InitVar[int] = 2
        def __post_init__(self, scale): self.width *= scale
    print(Area(3), Area(3, scale=5).width)
    """,
)
_add(
    "enum by name and value",
    """
    from enum import Enum, auto, IntFlag
    class Mode(Enum):
        TRAIN = auto()
        EVAL = auto()
        @property
        def short(self): return self.name[0].lower()
    class Bits(IntFlag):
        READ = 1
        WRITE = 2
    print(Mode["TRAIN"], Mode(2), repr(Mode.EVAL), [m.short for m in Mode], Bits.READ | Bits.WRITE, Mode(value=1))
    """,
)
_add(
    "functional enum and namedtuple",
    """
    import enum, collections, pickle
    Color = enum.Enum("Color", "RED GREEN")
    Pair = collections.namedtuple("Pair", ["left", "right"], defaults=[9])
    print(Color.RED, Pair(left=1), Pair(1)._replace(right=4)._asdict())
    print(pickle.loads(pickle.dumps(Pair(1, 2))), pickle.loads(pickle.dumps(Color.GREEN)))
    """,
)
_add(
    "typed named tuple",
    """
    from typing import NamedTuple
    class Step(NamedTuple):
        loss: float
        index: int = 0
        def label(self): return f"{self.index}:{self.loss}"
    print(Step(0.5), Step(loss=1.0, index=2).label(), Step._fields, Step._make([1, 2]))
    """,
)
_add(
    "pickle of instances and functions",
    """
    import pickle
    class Parameter:
        def __init__(self, value, grad=None): self.value, self.grad = value, grad
    def transform(value): return value + 1
    copied = pickle.loads(pickle.dumps([Parameter(3, grad=4), transform]))
    print(copied[0].value, copied[0].grad, copied[1](1), b"Parameter" in pickle.dumps(Parameter(1)))
    """,
)
_add(
    "pickle protocol by name",
    """
    import copy
    class Money:
        def __init__(self, amount, currency="EUR"): self.amount, self.currency = amount, currency
        def __reduce__(self): return Money, (self.amount, self.currency)
        def __eq__(self, other): return (self.amount, self.currency) == (other.amount, other.currency)
    print(copy.deepcopy(Money(3, currency="USD")) == Money(3, "USD"), copy.copy(Money(1)).currency)
    """,
)
_add(
    "getstate and setstate",
    """
    import copyreg, copy
    class Buffer:
        def __init__(self, size, fill=0): self.data = [fill] * size
        def __getstate__(self): return {"data": self.data, "version": 2}
        def __setstate__(self, state): self.data = state["data"] + [state["version"]]
    print(copy.deepcopy(Buffer(2, fill=7)).data)
    """,
)
_add(
    "class that is printed",
    """
    class TransformerBlock:
        class Inner: pass
    print(TransformerBlock, type(TransformerBlock()), [TransformerBlock.Inner])
    """,
)
_add(
    "instance with the default repr",
    """
    class TransformerBlock: pass
    print(repr(TransformerBlock()).split(" object")[0], f"{TransformerBlock()}".split(" ")[0])
    """,
)
_add(
    "function that is printed",
    """
    def long_function_name(): pass
    class Holder:
        def method_name(self): pass
    print(str(long_function_name).split(" at ")[0], str(Holder.method_name).split(" at ")[0], repr(len))
    """,
    note="short names where they are printed",
)
_add(
    "exception's type and text",
    """
    class ConfigurationError(ValueError):
        def __init__(self, key, reason="unknown"):
            super().__init__(f"{key}: {reason}")
            self.key = key
    try:
        raise ConfigurationError("width", reason="negative")
    except ValueError as error:
        print(type(error), error, error.args, error.key, repr(error))
    """,
)
_add(
    "exception whose args are set by the constructor call",
    """
    class Problem(Exception):
        def __init__(self, code, detail=None): self.code = code
    for error in (Problem(1, detail="x"), Problem(code=2), Problem(3)):
        print(error.args, error.code)
    """,
)
_add(
    "exception class that is not called error",
    """
    class Stop(Exception): pass
    class Finish(Stop): pass
    try:
        raise Finish("now")
    except Stop as stop:
        print(repr(stop), type(stop))
    """,
)
_add(
    "subclasses of float, str and tuple",
    """
    class Length(float):
        def __new__(cls, value, unit="m"): return super().__new__(cls, value)
        def __init__(self, value, unit="m"): self.unit = unit
    class Named(str):
        def __new__(cls, text, kind): return super().__new__(cls, text + "!")
        def __init__(self, text, kind): self.kind = kind
    class Triple(tuple):
        def __new__(cls, first, second, third): return super().__new__(cls, (first, second, third))
    print(Length(2, unit="km").unit, Length(3), Named("a", kind="b").kind, Named(kind="k", text="t"))
    print(Triple(third=3, first=1, second=2))
    """,
)
_add(
    "subclass whose base reads the constructor's arguments",
    """
    class Recorder:
        def __new__(cls, *args, **kwargs):
            made = super().__new__(cls)
            made.recorded = (args, sorted(kwargs))
            return made
    class Layer(Recorder):
        def __init__(self, inputs, outputs=2): self.inputs, self.outputs = inputs, outputs
    print(Layer(1, outputs=3).recorded, Layer(inputs=4).recorded, Layer(5).outputs)
    """,
)
_add(
    "metaclass that reads keywords",
    """
    class Registry(type):
        known = {}
        def __new__(mcls, name, bases, namespace, tag=None, **rest):
            cls = super().__new__(mcls, name, bases, namespace)
            mcls.known[tag or name] = cls
            return cls
        def __init__(cls, name, bases, namespace, **rest): super().__init__(name, bases, namespace)
        def __call__(cls, *args, **kwargs):
            print("calling with", args, sorted(kwargs.items()))
            return super().__call__(*args, **kwargs)
    class Base(metaclass=Registry): pass
    class Special(Base, tag="special"):
        def __init__(self, width, height=3): self.area = width * height
    print(sorted(Registry.known), Special(2, height=5).area)
    """,
)
_add(
    "registry by class name",
    """
    class Plugin:
        found = {}
        def __init_subclass__(cls, **options):
            super().__init_subclass__()
            Plugin.found[cls.__name__] = sorted(options.items())
    class AdamOptimizer(Plugin, momentum=1): pass
    class SgdOptimizer(Plugin): pass
    print(Plugin.found)
    """,
)
_add(
    "__class_getitem__ and generics",
    """
    from typing import Generic, TypeVar
    ItemType = TypeVar("ItemType")
    class Box(Generic[ItemType]):
        def __init__(self, item: ItemType, label: str = ""): self.item, self.label = item, label
    class Sized:
        def __class_getitem__(cls, size): return f"sized {size}"
    print(Box[int](3, label="x").label, Sized[4], ItemType, Box(item=2).item)
    """,
)
_add(
    "descriptors with __set_name__",
    """
    class Field:
        def __set_name__(self, owner, name): self.name = name
        def __get__(self, instance, owner=None):
            return self if instance is None else instance.__dict__.get(self.name, "unset " + self.name)
        def __set__(self, instance, value): instance.__dict__[self.name] = value
    class Record:
        width_field = Field()
        height_field = Field()
        def __init__(self, width_field=None): self.width_field = width_field
    record = Record(width_field=3)
    print(record.width_field, record.height_field, sorted(record.__dict__))
    """,
)
_add(
    "properties and __slots__",
    """
    class Slotted:
        __slots__ = ("width", "__private", "_Slotted__other")
        def __init__(self, width, private=2): self.width, self.__private = width, private
        @property
        def total(self): return self.width + self.__private
        @total.setter
        def total(self, value): self.width = value - self.__private
    thing = Slotted(1, private=5)
    thing.total = 20
    print(thing.total, thing.width, hasattr(thing, "__dict__"), Slotted.__slots__, thing._Slotted__private)
    """,
)
_add(
    "abstract classes",
    """
    import abc
    class Shape(abc.ABC):
        def __init__(self, name="shape"): self.name = name
        @abc.abstractmethod
        def area(self): ...
    class Square(Shape):
        def __init__(self, side, name="square"):
            super().__init__(name=name)
            self.side = side
        def area(self): return self.side ** 2
    try:
        Shape()
    except TypeError as error:
        print("TypeError", "area" in str(error), "Shape" in str(error))
    print(Square(side=3).area(), Square(2, name="q").name)
    """,
)
_add(
    "protocols and structural checks",
    """
    from typing import Protocol, runtime_checkable
    @runtime_checkable
    class Sized(Protocol):
        def __len__(self): ...
    @runtime_checkable
    class Closing(Protocol):
        def shut_down(self, force=False): ...
    class Door:
        def shut_down(self, force=False): return force
    print(isinstance([], Sized), isinstance(Door(), Closing), isinstance(3, Closing), Door().shut_down(force=True))
    """,
)

# Private names.

_add(
    "private names of classes that inherit from one another",
    """
    class Account:
        def __init__(self): self.__balance = 1
        def read_base(self): return self.__balance
    class Savings(Account):
        def __init__(self):
            super().__init__()
            self.__balance = 2
        def read_derived(self): return self.__balance
    thing = Savings()
    print(thing.read_base(), thing.read_derived(), len(thing.__dict__))
    """,
)
_add(
    "private names of local classes that inherit from one another",
    """
    def make_first():
        class Account:
            def __init__(self): self.__balance = 1
            def read_base(self): return self.__balance
        return Account
    def make_second(Base):
        class Savings(Base):
            def __init__(self):
                super().__init__()
                self.__balance = 2
            def read_derived(self): return self.__balance
        return Savings
    thing = make_second(make_first())()
    print(thing.read_base(), thing.read_derived(), len(thing.__dict__))
    """,
)
_add(
    "private names seen from outside",
    """
    class Vault:
        __count = 0
        def __init__(self, secret): self.__secret = secret; Vault.__count += 1
        def __hidden(self, times=1): return self.__secret * times
        def show(self): return self.__hidden(times=2)
    vault = Vault(3)
    print(vault.show(), vault._Vault__secret, Vault._Vault__count, sorted(vars(vault)))
    print([n for n in dir(Vault) if "hidden" in n])
    """,
)
_add(
    "private names as keyword and parameter",
    """
    class Caller:
        def run(self, __depth=0, *, __limit=3): return self.run(__depth + 1) if __depth < __limit else __depth
        def start(self): return self.run(**{"_Caller__limit": 5})
    print(Caller().run(), Caller().start())
    """,
)
_add(
    "private global seen from a class",
    """
    _Worker__speed = 7
    class Worker:
        def speed(self): return __speed
    print(Worker().speed())
    """,
)

# Arguments.

_add(
    "any keyword beside self",
    """
    class Store:
        def __init__(self, **values): self.values = values
        def get(self, key, **fallbacks): return self.values.get(key, fallbacks)
    for name in ("A", "B", "C", "a", "b", "s"):
        print(Store(**{name: 1}).get("x", **{name: 2}))
    """,
)
_add(
    "string.Template with one-letter keys",
    """
    import string
    class Fancy(string.Template):
        def fill(self, template_text, **mapping): return Fancy(template_text).substitute(**mapping)
    print(Fancy("").fill("$A-$B-$a", A=1, B=2, a=3), string.Template("$A $C").substitute(A=1, C=2))
    """,
)
_add(
    "any keyword beside parameters",
    """
    def apply(function, times, **options): return function(times, **options)
    def show(count, **options): return count, sorted(options.items())
    print(apply(show, 2, A=1, B=2, C=3, D=4, a=5, b=6), show(1, A=2, B=3))
    """,
)
_add(
    "self by keyword",
    """
    class Counter:
        def __init__(self, start): self.value = start
        def add(self, amount=1):
            self.value += amount
            return self.value
    counter = Counter(3)
    print(Counter.add(self=counter, amount=4), Counter.add(counter))
    """,
)
_add(
    "positional-only parameters refuse keywords",
    """
    def strict(value, /, other=1): return value + other
    try:
        print(strict(value=5))
    except TypeError:
        print("refused")
    def open_ended(first, /, second=0, **rest): return first, second, rest
    print(open_ended(1, first=2, second=3), strict(1, other=4))
    """,
)
_add(
    "keyword-only parameters refuse positions",
    """
    def strict(*, width, height=2): return width * height
    for call in (lambda: strict(3), lambda: strict(width=3), lambda: strict(width=1, height=5), lambda: strict(depth=1)):
        try:
            print(call())
        except TypeError:
            print("refused")
    """,
)
_add(
    "calls with wrong arguments",
    """
    def area(width, height=2): return width * height
    class Box:
        def __init__(self, width, label="b"): self.width = width
    for call in (
        lambda: area(), lambda: area(1, width=2), lambda: area(1, 2, 3), lambda: area(1, depth=3), lambda: area(height=1),
        lambda: Box(), lambda: Box(1, 2, 3), lambda: Box(1, width=2), lambda: Box(size=1), lambda: area(3, height=3),
    ):
        try:
            print(call())
        except TypeError:
            print("refused")
    """,
)
_add(
    "lru_cache counts",
    """
    from functools import lru_cache, cache
    @lru_cache(maxsize=None)
    def squared(number, power=2): return number ** power
    squared(3), squared(number=3), squared(3, power=2), squared(3, 2)
    print(squared.cache_info())
    @cache
    def cubed(number): return number ** 3
    cubed(2), cubed(number=2)
    print(cubed.cache_info().misses, squared.cache_parameters())
    """,
)
_add(
    "decorator that takes any keyword",
    """
    import functools
    def logging(function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            print(function.__name__, args, sorted(kwargs.items()))
            return function(*args, **kwargs)
        return wrapper
    @logging
    def train(steps, learning_rate=0.1): return steps * learning_rate
    class Model:
        @logging
        def forward(self, tokens, targets=None): return tokens
        def __repr__(self): return "model"
    print(train(2, learning_rate=0.5), train(steps=3), Model().forward(1, targets=2))
    """,
)
_add(
    "decorators called compile, cache and disable that are one's own",
    """
    def cache(function):
        def wrapper(*args, **kwargs): return len(args), sorted(kwargs), function(*args, **kwargs)
        return wrapper
    def disable(reason):
        def decorate(function): return lambda *args, **kwargs: (reason, args, kwargs)
        return decorate
    @cache
    def first(width, height=1): return width
    @disable("off")
    def second(width, height=1): return width
    print(first(1, height=2), second(width=3), second(1, height=4))
    """,
)
_add(
    "nested class called by keyword",
    """
    class Config:
        class Optimizer:
            def __init__(self, name, rate=0.1): self.name, self.rate = name, rate
        def __init__(self, depth, rate=1): self.optimizer = self.Optimizer("adam", rate=rate); self.depth = depth
    print(Config.Optimizer(rate=3, name="sgd").rate, Config(depth=2).optimizer.rate, Config(1, rate=5).optimizer.name)
    """,
)
_add(
    "methods made in loops and blocks",
    """
    import contextlib
    class Table:
        for scale in (1, 2):
            def value(self, row, column=0): return row * 10 + column
        if True:
            def other(self, row, column=0): return row - column
        with contextlib.nullcontext():
            def third(self, row, column=0): return (row, column)
        try:
            def fourth(self, row, column=0): return [row, column]
        finally:
            pass
    table = Table()
    print(table.value(1, column=2), table.other(row=5, column=2), table.third(column=1, row=2), table.fourth(1, column=3))
    """,
)
_add(
    "local function that shadows a builtin",
    """
    print("first", end="|")
    print()
    def inner():
        def print(value, end="?"): return f"<{value}{end}>"
        return print("x", end="!")
    def sorted_copy(values):
        def sorted(values, reverse=False): return list(values)
        return sorted(values, reverse=True)
    print(inner(), sorted_copy([2, 1]), sorted([1, 3, 2], reverse=True), sep="\\n")
    """,
)
_add(
    "builtin redefined under a condition",
    """
    if False:
        def print(value, end=""): pass
    def max(first, key=None): return first
    print("a", "b", sep="-", end="\\n")
    print(max(3, key=4), min(3, 4, key=lambda value: -value))
    """,
)
_add(
    "builtin replaced at run time",
    """
    import builtins
    original = print
    def loud(*values, **options): original(*(str(value).upper() for value in values), **options)
    builtins.print = loud
    try:
        print("quiet", "words", sep="-")
        print("again")
        print("and again")
    finally:
        builtins.print = original
    """,
)
_add(
    "type(self) and __class__ called by keyword",
    """
    class Base:
        def __init__(self, size=1, name="base"): self.size, self.name = size, name
        def grown(self): return type(self)(name=self.name, size=self.size + 1)
        def renamed(self): return self.__class__(name="new", size=self.size)
        @classmethod
        def make(cls, **options): return cls(**options)
    class Child(Base): pass
    print(Child(3).grown().size, Base(name="q").renamed().name, Child.make(size=4).size)
    """,
)
_add(
    "class reached through a variable",
    """
    class Small:
        def __init__(self, width, height=1): self.area = width * height
    class Large:
        def __init__(self, height, width=2): self.area = width * height * 100
    for kind in (Small, Large):
        print(kind(width=3, height=5).area)
    chosen = {"small": Small}["small"]
    print(chosen(2, height=7).area, Small(1, height=4).area, Large(1, width=4).area)
    """,
)
_add(
    "functions passed on and partial",
    """
    import functools
    def scale(value, factor=2, offset=0): return value * factor + offset
    def apply(function, **options): return function(5, **options)
    print(apply(scale, factor=3), functools.partial(scale, offset=1)(2), list(map(functools.partial(scale, factor=1), [1, 2])))
    """,
)
_add(
    "threads and timers with kwargs",
    """
    import threading
    results = []
    def work(amount, label="none"): results.append((amount, label))
    thread = threading.Thread(target=work, args=(3,), kwargs={"label": "thread"})
    thread.start(); thread.join()
    work(4, label="direct")
    print(results)
    """,
)
_add(
    "sort keys and callbacks by keyword",
    """
    def by_length(text): return len(text)
    def combine(left, right=0): return left + right
    print(sorted(["ccc", "a", "bb"], key=by_length), by_length(text="four"), combine(right=1, left=2))
    """,
)
_add(
    "star expressions",
    """
    def collect(first, *middle, last=None, **rest): return first, middle, last, sorted(rest)
    head, *body, tail = range(5)
    values = {"last": 3, "other": 4}
    print(collect(*body, **values), collect(head, *[tail, *body], last=tail), [*body, head], {**values, "last": 9})
    """,
)
_add(
    "order of evaluation with keywords",
    """
    log = []
    def note(value): log.append(value); return value
    def target(first, second, third=0): return first, second, third
    print(target(third=note(3), second=note(2), first=note(1)), log)
    print(target(note("a"), third=note("b"), second=note("c")), log[3:])
    """,
)
_add(
    "defaults that are shared and captured",
    """
    def gather(item, into=[]): into.append(item); return list(into)
    functions = [lambda value, index=index: value + index for index in range(3)]
    print(gather(1), gather(2), gather(3, into=[]), [function(10) for function in functions], gather(item=4))
    """,
)
_add(
    "recursion and mutual recursion",
    """
    def even(number, depth=0): return (True, depth) if number == 0 else odd(number - 1, depth=depth + 1)
    def odd(number, depth=0): return (False, depth) if number == 0 else even(number - 1, depth=depth + 1)
    print(even(6), odd(number=3), even(depth=5, number=1))
    """,
)

# Scopes.

_add(
    "walrus in comprehensions",
    """
    def found(values):
        hits = [doubled for value in values if (doubled := value * 2) > 2]
        return hits, doubled
    print(found([1, 2, 3]), [last := number for number in range(3)], last)
    print(any((match := word).startswith("b") for word in ["a", "bc", "d"]), match)
    total = 0
    print([total := total + number for number in range(5)], total)
    """,
)
_add(
    "walrus in nested comprehensions and lambdas",
    """
    def deep(rows):
        cells = [[(seen := cell) + offset for cell in row] for offset, row in enumerate(rows)]
        return cells, seen
    biggest = lambda values: [top for value in values if (top := max(values)) == value]
    print(deep([[1, 2], [3]]), biggest([3, 1, 3]))
    """,
)
_add(
    "comprehension's variable and the same outer name",
    """
    value = "outer"
    inner = [value for value in range(3)]
    print(value, inner, {value: value + 1 for value in range(2)}, (lambda value: [value for value in (value,)])(7))
    class Scope:
        value = "class"
        inner = [value for _ in range(1)]
        copied = value
    print(Scope.inner, Scope.copied)
    """,
)
_add(
    "global and nonlocal",
    """
    count = 0
    def outer():
        count = 10
        def middle():
            nonlocal count
            count += 1
            def inner():
                global count
                count += 100
                return count
            return inner(), count
        return middle(), count
    print(outer(), count)
    def declare():
        global made_here
        made_here = 5
    declare()
    print(made_here)
    """,
)
_add(
    "class scope is not closed over",
    """
    name = "global"
    def function():
        name = "function"
        class Scope:
            own = name
            name = "class"
            def read(self): return name
            listed = [name for _ in range(1)]
        return Scope.own, Scope.name, Scope().read(), Scope.listed
    print(function())
    class Reader:
        name = name
        def get(self): return name
    print(Reader.name, Reader().get())
    """,
)
_add(
    "names that are deleted",
    """
    value = 1
    del value
    try:
        print(value)
    except NameError:
        print("gone")
    def local():
        item = 3
        del item
        try:
            return item
        except UnboundLocalError:
            return "unbound"
    print(local())
    """,
)
_add(
    "exception variable goes",
    """
    error = "before"
    try:
        raise KeyError("k")
    except KeyError as error:
        print(repr(error))
    try:
        print(error)
    except NameError:
        print("no longer")
    """,
)
_add(
    "try, else, finally and return",
    """
    def flow(value):
        steps = []
        try:
            steps.append("try")
            if value == 0: return steps
            if value == 1: raise ValueError(value)
        except ValueError as problem:
            steps.append(problem.args)
        else:
            steps.append("else")
        finally:
            steps.append("finally")
        return steps
    print(flow(0), flow(1), flow(2))
    for number in range(3):
        try:
            if number == 1: continue
        finally:
            print("end", number)
    """,
)
_add(
    "match with captures, classes and guards",
    """
    from dataclasses import dataclass
    @dataclass
    class Point:
        x: int
        y: int = 0
    class Named:
        __match_args__ = ("label", "size")
        def __init__(self, label, size=1): self.label, self.size = label, size
    def describe(thing):
        match thing:
            case Point(x=0, y=other): return "axis", other
            case Point(left, right) if left == right: return "diagonal", left
            case Named(label, size=amount): return label, amount
            case {"kind": kind, **remaining}: return kind, remaining
            case [first, *middle, last]: return first, middle, last
            case (1 | 2) as small: return "small", small
            case str() as text: return text.upper()
            case _: return "other"
    for thing in (Point(0, 5), Point(2, 2), Named("n", size=3), {"kind": 1, "z": 2}, [1, 2, 3, 4], 2, "s", None):
        print(describe(thing))
    """,
)
_add(
    "f-strings",
    '''
    width, value, name = 8, 3.14159, "it's"
    nested = {"key": [1, 2]}
    print(f"{value:{width}.2f}|{name!r:>{width}}|{nested['key'][0]}|{'a' if value else 'b'}|{{literal}}|{value=}|{width = }")
    print(f"{f'{width}' + 'x'!s}", f"""{
        nested["key"]
    }""", f"{(lambda offset: offset + 1)(2)}", f'{width:>{width}}' f"{name}")
    ''',
)
_add(
    "f-string that shows its expression",
    """
    learning_rate = 0.5
    def show(step_number): return f"{learning_rate=} {step_number + 1=}"
    print(show(3))
    """,
)
_add(
    "generators, send and yield from",
    """
    def accumulate(start, step=1):
        total = start
        while True:
            received = yield total
            if received is None: return total
            total += received * step
    def outer(start):
        result = yield from accumulate(start, step=2)
        yield ("done", result)
    machine = outer(1)
    print(next(machine), machine.send(3), machine.send(None), list(number for number in range(3) if number % 2 == 0))
    """,
)
_add(
    "async functions, generators and context managers",
    """
    import asyncio, contextlib
    async def numbers(count, delay=0):
        for number in range(count):
            await asyncio.sleep(delay)
            yield number
    @contextlib.asynccontextmanager
    async def resource(name, loud=False):
        yield name.upper() if loud else name
    async def main(count):
        collected = [number async for number in numbers(count, delay=0) if number]
        async with resource("file", loud=True) as opened:
            collected.append(opened)
        results = await asyncio.gather(double(1), double(value=2))
        return collected, results
    async def double(value, times=2): return value * times
    print(asyncio.run(main(4)))
    """,
)
_add(
    "context managers",
    """
    import contextlib
    @contextlib.contextmanager
    def tagged(tag, closing=True):
        print("<" + tag)
        try:
            yield tag * 2
        finally:
            if closing: print("/" + tag)
    class Suppress:
        def __init__(self, *kinds): self.kinds = kinds
        def __enter__(self): return self
        def __exit__(self, kind, value, traceback): return kind is not None and issubclass(kind, self.kinds)
    with tagged("a") as double, Suppress(ValueError), tagged("b", closing=False):
        print(double)
        raise ValueError
    class Decorating(contextlib.ContextDecorator):
        def __enter__(self): print("enter")
        def __exit__(self, *details): print("exit")
    @Decorating()
    def work(amount, label="x"): return print(amount, label)
    work(1, label="y")
    with contextlib.ExitStack() as stack:
        stack.callback(print, "called", sep="-")
    """,
)
_add(
    "vars of what has no __dict__",
    """
    class Slotted:
        __slots__ = ("x",)
    class Plain:
        def __init__(self): self.size = 3
    def fields(thing):
        try:
            return sorted(vars(thing))
        except TypeError:
            return "no fields"
    print(fields(Slotted()), fields(3), fields(Plain()))
    """,
)
_add(
    "vars and the class's own __dict__",
    """
    class Namespace:
        def __init__(self, **values): vars(self).update(values)
        def __repr__(self): return f"Namespace({', '.join(f'{k}={v}' for k, v in vars(self).items())})"
    space = Namespace(alpha=1, beta=2)
    vars(space)["gamma"] = 3
    print(space, space.gamma)
    """,
)
_add(
    "getattr and setattr on instances",
    """
    class Settings:
        learning_rate = 0.5
        def __init__(self):
            for key, value in (("depth", 2), ("width", 3)): setattr(self, key, value)
        def update(self, **changes):
            for key, value in changes.items():
                if not hasattr(self, key): raise AttributeError(key)
                setattr(self, key, value)
    settings = Settings()
    settings.update(learning_rate=1, width=9)
    print(settings.depth * settings.width, getattr(settings, "learning_rate"), getattr(Settings, "depth", None))
    """,
)
_add(
    "method found by name",
    """
    class Visitor:
        def visit(self, node): return getattr(self, "visit_" + type(node).__name__, self.generic)(node)
        def visit_int(self, node): return node + 1
        def visit_Leaf(self, node): return node.value
        def generic(self, node): return "generic"
    class Leaf:
        def __init__(self, value): self.value = value
    print([Visitor().visit(item) for item in (1, "x", Leaf(value=5))])
    """,
)
_add(
    "ast.NodeVisitor-like dispatch through __class__.__name__",
    """
    class SquareShape:
        def __init__(self, side=2): self.side = side
    class RoundShape:
        def __init__(self, radius=3): self.radius = radius
    areas = {"SquareShape": lambda shape: shape.side ** 2, "RoundShape": lambda shape: shape.radius * 3}
    print([areas[shape.__class__.__name__](shape) for shape in (SquareShape(side=4), RoundShape())])
    """,
)
_add(
    "class found by name in a table",
    """
    class LinearModel:
        def __init__(self, width): self.width = width
    class ConvModel(LinearModel): pass
    models = {cls.__name__: cls for cls in (LinearModel, ConvModel)}
    print(sorted(models), models["ConvModel"](width=3).width, [c.__name__ for c in LinearModel.__subclasses__()])
    """,
)
_add(
    "type() with three arguments",
    """
    def initialize(self, size, name="made"): self.size, self.name = size, name
    Made = type("Made", (), {"__init__": initialize, "double": lambda self: self.size * 2})
    thing = Made(3, name="x")
    print(Made.__name__, thing.double(), thing.name, Made(size=1).size)
    """,
)
_add(
    "mro, super and cooperative keywords",
    """
    class Root:
        def __init__(self, **rest): self.rest = rest
    class Left(Root):
        def __init__(self, left=1, **rest): super().__init__(**rest); self.left = left
    class Right(Root):
        def __init__(self, right=2, **rest): super().__init__(**rest); self.right = right
    class Both(Left, Right):
        def __init__(self, own, **rest): super().__init__(**rest); self.own = own
    both = Both(0, left=3, right=4, A=5)
    print(both.own, both.left, both.right, both.rest, [c.__name__ for c in Both.__mro__])
    """,
)
_add(
    "operators and container protocol",
    """
    class Vector:
        def __init__(self, *parts, name=""): self.parts, self.name = parts, name
        def __add__(self, other): return Vector(*map(sum, zip(self.parts, other.parts)), name="sum")
        def __getitem__(self, index): return self.parts[index]
        def __iter__(self): return iter(self.parts)
        def __contains__(self, value): return value in self.parts
        def __len__(self): return len(self.parts)
        def __call__(self, scale=1, offset=0): return [part * scale + offset for part in self.parts]
        def __eq__(self, other): return tuple(self) == tuple(other)
        __hash__ = None
    total = Vector(1, 2, name="a") + Vector(3, 4)
    print(list(total), total.name, total[0], 6 in total, len(total), total(scale=2, offset=1), total == (4, 6))
    """,
)
_add(
    "staticmethod, classmethod and properties by keyword",
    """
    class Tools:
        base = 10
        @staticmethod
        def scaled(value, factor=2): return value * factor
        @classmethod
        def shifted(cls, value, offset=1): return cls.base + value + offset
        @property
        def answer(self): return self.scaled(factor=6, value=7)
    print(Tools.scaled(value=1), Tools().shifted(1, offset=5), Tools().answer, Tools.shifted(value=0))
    """,
)
_add(
    "string constants equal to names",
    """
    width = 3
    options = {"width": width, "height": 4}
    def build(width, height): return width, height
    print(build(**options), "width" in options, options["width"] == width, sorted(options))
    """,
)
_add(
    "logging shows the function's name",
    """
    import logging, sys
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(levelname)s %(funcName)s %(message)s"))
    logger = logging.getLogger("program")
    logger.propagate = False
    logger.handlers = [handler]
    logger.setLevel("INFO")
    def training_step(): logger.info("step %d", 1)
    training_step()
    """,
)
_add(
    "warnings and assertion texts",
    """
    import warnings
    def check(value, limit=3):
        assert value < limit, f"{value} is too large"
        return value
    class OldWarning(UserWarning): pass
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.warn("old", OldWarning)
    print([(item.category.__name__, str(item.message)) for item in caught])
    try:
        check(5)
    except AssertionError as error:
        print(error)
    """,
)
_add(
    "atexit, weakref and finalizers by keyword",
    """
    import weakref
    class Resource:
        def __init__(self, name, log): self.name = name; weakref.finalize(self, log.append, name)
    log = []
    resource = Resource("file", log=log)
    reference = weakref.ref(resource)
    del resource
    print(reference(), log)
    """,
)
_add(
    "imports under other names",
    """
    import os.path, collections as containers
    import json as serializer, xml.etree.ElementTree
    from functools import reduce as fold, partial
    def total(values): return fold(lambda left, right: left + right, values, 0)
    print(total([1, 2]), serializer.dumps({"a": 1}), containers.Counter("aab").most_common(1), os.path.join("a", "b"))
    print(xml.etree.ElementTree.fromstring("<a b='1'/>").attrib)
    """,
)
_add(
    "import inside a function, and of one name twice",
    """
    def load(use_json):
        if use_json:
            import json as codec
        else:
            import pprint as codec
        return codec.__name__
    import math
    def inner():
        import math
        return math.floor(2.5)
    print(load(True), load(False), inner(), math.ceil(0.5))
    """,
)
_add(
    "conditional and repeated definitions",
    """
    def helper(value, times=2): return value * times
    first = helper(3, times=3)
    def helper(value, power=2): return value ** power
    print(first, helper(3, power=3))
    try:
        import does_not_exist_anywhere as fast
    except ImportError:
        class fast:
            @staticmethod
            def run(value, speed=1): return value / speed
    print(fast.run(4, speed=2))
    """,
)
_add(
    "complex targets",
    """
    class Bag: pass
    bag, data = Bag(), [0, 0, 0]
    bag.first, data[1], (bag.rest, *data[2:]) = 1, 2, (3,)
    for bag.index, data[0] in enumerate("ab"): pass
    with open("/dev/null") as bag.handle: pass
    print(bag.first, bag.rest, bag.index, data, bag.handle.closed)
    counts = {}
    for word in "aba": counts[word] = counts.get(word, 0) + 1
    bag.first += counts["a"]
    print(bag.first)
    """,
)
_add(
    "exec of one's own code object",
    """
    def template(value):
        result = value + 1
        return result
    namespace = {}
    exec("def made(value):\\n    return value * 3", namespace)
    print(namespace["made"](4), template(1))
    """,
)
_add(
    "type aliases and casts",
    """
    from typing import Optional, Union, cast, TypedDict, Literal, NewType
    UserId = NewType("UserId", int)
    class Movie(TypedDict, total=False):
        title: str
        year: int
    Mode = Literal["train", "eval"]
    def pick(mode: Mode, movie: Optional[Movie] = None) -> Union[int, str]:
        return cast(Movie, movie or {"title": mode})["title"]
    print(pick("train"), pick("eval", movie=Movie(title="m")), UserId(3), sorted(Movie.__annotations__), UserId.__name__)
    """,
)
_add(
    "traceback's last line",
    """
    import traceback
    class DomainError(Exception): pass
    def risky(amount, limit=1):
        if amount > limit: raise DomainError(f"{amount} > {limit}")
    try:
        risky(3, limit=2)
    except DomainError:
        print(traceback.format_exc().splitlines()[-1])
    """,
)
_add(
    "exceptions' cause, context and notes",
    """
    class Outer(Exception): pass
    def fail():
        try:
            {}["missing"]
        except KeyError as problem:
            raise Outer("wrapped") from problem
    try:
        fail()
    except Outer as error:
        print(repr(error.__cause__), error.__context__ is error.__cause__, error.args)
    try:
        try:
            1 / 0
        finally:
            raise Outer
    except Outer as error:
        print(type(error.__context__), error.args)
    """,
)
_add(
    "uncaught exception of the program's own class",
    """
    class BudgetExceeded(Exception): pass
    print("about to fail")
    raise BudgetExceeded("too much")
    """,
)
_add(
    "sys.exit with a message",
    """
    import sys
    def main(arguments=None):
        print("about to fail")
        return "failed: " + repr(arguments)
    if __name__ == "__main__":
        sys.exit(main(arguments=[]))
    """,
)
_add(
    "partial application through functools.partialmethod and cached_property",
    """
    import functools
    class Cell:
        def __init__(self): self.alive, self.computed = False, 0
        def set_state(self, state, loud=False): self.alive = state; return loud
        set_alive = functools.partialmethod(set_state, True, loud=True)
        @functools.cached_property
        def expensive(self): self.computed += 1; return self.computed
        @functools.total_ordering
        class Ordered:
            def __init__(self, rank): self.rank = rank
            def __lt__(self, other): return self.rank < other.rank
            def __eq__(self, other): return self.rank == other.rank
    cell = Cell()
    print(cell.set_alive(), cell.alive, cell.expensive, cell.expensive, sorted(vars(cell)))
    print(Cell.Ordered(1) <= Cell.Ordered(rank=2))
    """,
)
_add(
    "attribute hooks",
    """
    class Recorder:
        def __init__(self, **preset): self.__dict__["preset"] = preset
        def __getattr__(self, name): return self.preset.get(name, f"<{name}>")
        def __setattr__(self, name, value): self.preset[name + "!"] = value
        def __delattr__(self, name): self.preset.pop(name + "!")
    recorder = Recorder(alpha=1)
    recorder.beta = 2
    print(recorder.alpha, recorder.beta, recorder.missing_attribute, sorted(recorder.preset))
    del recorder.beta
    print(sorted(recorder.preset))
    """,
)
_add(
    "codec of a class by its fields' order",
    """
    import json
    class Config:
        vocabulary_size: int = 10
        width: int = 20
        def __init__(self, **overrides):
            for key, value in overrides.items():
                setattr(self, key, value)
        @classmethod
        def names(cls): return [key for key in cls.__annotations__]
    print(json.dumps({key: getattr(Config(width=3), key) for key in Config.names()}))
    """,
)
