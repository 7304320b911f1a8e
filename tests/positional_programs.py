"""Programs for the tests of arguments by position: what must stay as it is, and what must become of calls."""

from __future__ import annotations

# Programs in which a caller is not known, an argument's name or place can be told, or a call is wrong: nothing may change.
LEFT_ALONE = {
    "a subclass of float": """
        class Celsius(float):
            def __init__(self, first=0, unit="C"):
                self.unit = unit
        print(Celsius(unit="F"), Celsius(2.5, unit="K").unit)
    """,
    "a subclass of tuple": """
        class Pair(tuple):
            def __init__(self, first=(), label="none"):
                self.label = label
        try:
            print(Pair((1, 2), label="x"))
        except TypeError:
            print("no keywords")
    """,
    "a subclass of Exception": """
        class Failure(Exception):
            def __init__(self, message, status=1):
                self.message, self.status = message, status
        try:
            raise Failure("broken", status=3)
        except Exception as error:
            print(error.args, error.status)
    """,
    "a base's __new__": """
        class Base:
            def __new__(kind, *args, **kwargs):
                made = super().__new__(kind)
                made.seen = (args, sorted(kwargs))
                return made
        class Child(Base):
            def __init__(self, width=1, height=2):
                pass
        print(Child(width=3).seen, Child(4, height=5).seen)
    """,
    "the __call__ of a metaclass": """
        class Meta(type):
            def __call__(cls, *args, **kwargs):
                print(args, sorted(kwargs))
                return super().__call__(*args, **kwargs)
        class Base(metaclass=Meta):
            pass
        class Child(Base):
            def __init__(self, width=1):
                self.width = width
        print(Child(width=3).width)
    """,
    "a class made by its metaclass": """
        class Meta(type):
            def __init__(cls, name, bases, namespace):
                Meta.last = cls
        class Point(metaclass=Meta):
            def __init__(self, across, down=0):
                self.across = across
        print(Point(1, down=2).across, Meta.last(across=5).across)
    """,
    "an unknown base": """
        from collections import UserDict
        class Table(UserDict):
            def __init__(self, source=None, strict=False):
                super().__init__(source or {})
                self.strict = strict
        print(Table(strict=True).strict, Table(source={1: 2}))
    """,
    "a nested class called by keyword": """
        class Config:
            class Opt:
                def __init__(self, lr=0.5, momentum=0.9):
                    self.lr, self.momentum = lr, momentum
            default = Opt(0.25, momentum=0.5)
        print(Config.Opt(lr=1).lr, Config().Opt(momentum=2).momentum, Config.default.lr)
    """,
    "functions of a class body": """
        from contextlib import nullcontext
        class Shapes:
            def make(kind, size=1):
                return kind, size
            square = make("square", size=3)
            if True:
                def scaled(self, value, factor=2):
                    return value * factor
            for offset in (1, 2):
                def shifted(self, value, by=offset):
                    return value + by
            try:
                def safe(self, value, fallback=0):
                    return value or fallback
            finally:
                pass
            with nullcontext():
                def written(self, text, end=""):
                    return text + end
            other = scaled(None, 1, factor=5), shifted(None, 1, by=3), safe(None, 0, fallback=7), written(None, "a", end="!")
        print(Shapes().scaled(value=3), Shapes().shifted(2, by=5), Shapes().safe(value=0, fallback=1))
        print(Shapes().written(text="b", end="?"), Shapes.square, Shapes.other)
    """,
    "__init__ in a branch of the class body": """
        class Box:
            if True:
                def __init__(self, width=1, height=2):
                    self.area = width * height
            else:
                def __init__(self, height=1, width=2):
                    self.area = width - height
        print(Box(width=3).area, Box(2, height=4).area)
    """,
    "__init__ under two names": """
        class Box:
            def __init__(self, width, height=2):
                self.area = width * height
            reset = __init__
        box = Box(1, height=3)
        box.reset(width=5)
        print(box.area)
    """,
    "__init__ called again": """
        class Box:
            def __init__(self, width, height=2):
                self.area = width * height
            def reset(self):
                self.__init__(width=7)
        box = Box(1, height=3)
        box.reset()
        print(box.area)
    """,
    "a local function with a builtin's name": """
        def report():
            values = []
            def print(text, end="."):
                values.append(text + end)
            print("a", end="!")
            return values
        print("x", end=";")
        print(report(), end="|")
    """,
    "a builtin's name in a branch": """
        import sys
        if len(sys.argv) > 10**6:
            def print(text, end="\\n"):
                pass
        print("x", end=";")
        print("y")
    """,
    "a name of an outer scope in a class body": """
        def scale(value, factor=2):
            return value * factor
        class Table:
            first = scale(1, factor=3)
            def scale(value, times=2):
                return value + times
            second = scale(1, times=5)
        print(Table.first, Table.second)
    """,
    "decorators named like those of torch": """
        def cache(function):
            def wrapper(*args, **kwargs):
                return function(*args, **kwargs), sorted(kwargs)
            return wrapper
        class torch:
            compile = staticmethod(cache)
        @cache
        def area(width, height=2):
            return width * height
        @torch.compile
        def volume(width, height=2):
            return width * height
        def disable(function):
            return cache(function)
        @disable
        def length(width, height=2):
            return width
        print(area(2, height=3), area(width=4), volume(2, height=3), length(1, height=2))
    """,
    "a decorator that someone replaced": """
        import functools, types
        functools.cache = lambda function: lambda *args, **kwargs: (function(*args, **kwargs), sorted(kwargs))
        @functools.cache
        def area(width, height):
            return width * height
        print(area(2, height=3))
    """,
    "a decorator that takes any keyword": """
        def logged(function):
            def wrapper(*args, **kw):
                print(args, sorted(kw))
                return function(*args, **kw)
            return wrapper
        @logged
        def area(width, height=2):
            return width * height
        print(area(2, height=3), area(width=4))
    """,
    "entries of a cache": """
        from functools import cache, lru_cache
        @lru_cache(maxsize=None)
        def square(number, power=2):
            print("computing", number)
            return number**power
        @cache
        def cube(number):
            print("computing", number)
            return number**3
        print(square(3), square(number=3), square(3, power=2), cube(2), cube(number=2))
    """,
    "self by keyword": """
        class Point:
            def __init__(self, across=1, down=2):
                self.across, self.down = across, down
        try:
            print(Point(self=3, across=4))
        except TypeError:
            print("several values")
        print(Point(5, down=6).down)
    """,
    "dataclasses.replace": """
        from dataclasses import dataclass, replace
        @dataclass
        class Base:
            width: int = 1
            height: int = 2
        class Child(Base):
            def __init__(self, width=1, height=2):
                self.width, self.height = width, height
        print(replace(Child(3, height=4), height=5).height, Child(width=1).width)
    """,
    "copy.replace": """
        class Point:
            def __init__(self, across=1, down=2):
                self.across, self.down = across, down
            def __replace__(self, **changes):
                return type(self)(**{"across": self.across, "down": self.down, **changes})
        print(Point(3, down=4).__replace__(down=5).down)
    """,
    "a class method": """
        class Point:
            def __init__(self, across=1, down=2):
                self.across, self.down = across, down
            @classmethod
            def make(klass, **options):
                return klass(**options)
        print(Point(3, down=4).make(down=5).down)
    """,
    "a class method of a base": """
        class Base:
            @classmethod
            def make(klass, **options):
                return klass(**options)
        class Point(Base):
            def __init__(self, across=1, down=2):
                self.across, self.down = across, down
        print(Point(3, down=4).make(down=5).down)
    """,
    "a class method by another name": """
        shared = classmethod
        class Point:
            def __init__(self, across=1, down=2):
                self.across, self.down = across, down
            def make(klass, **options):
                return klass(**options)
            make = shared(make)
        print(Point(3, down=4).make(down=5).down)
    """,
    "a descriptor": """
        class Maker:
            def __get__(self, instance, owner):
                return lambda **options: owner(**options)
        class Point:
            make = Maker()
            def __init__(self, across=1, down=2):
                self.across, self.down = across, down
        print(Point(3, down=4).make(down=5).down)
    """,
    "__init_subclass__": """
        class Base:
            known = []
            def __init_subclass__(cls):
                Base.known.append(cls)
        class Point(Base):
            def __init__(self, across=1, down=2):
                self.across, self.down = across, down
        print(Point(3, down=4).down, Base.known[0](down=5).down)
    """,
    "__subclasses__": """
        class Base:
            pass
        class Point(Base):
            def __init__(self, across=1, down=2):
                self.across, self.down = across, down
        print(Point(3, down=4).down, Base.__subclasses__()[0](down=5).down)
    """,
    "__class__": """
        class Point:
            def __init__(self, across=1, down=2):
                self.across, self.down = across, down
            def moved(self):
                return __class__(down=self.down + 1)
        print(Point(3, down=4).moved().down, Point(1).__class__(down=5).down)
    """,
    "__class__ by string": """
        import operator
        class Point:
            def __init__(self, across=1, down=2):
                self.across, self.down = across, down
        print(getattr(Point(3, down=4), "__class__")(down=5).down, operator.attrgetter("__class__")(Point())(down=6).down)
    """,
    "type by another name": """
        class Point:
            def __init__(self, across=1, down=2):
                self.across, self.down = across, down
        points = [Point(3, down=4)]
        print([kind(down=5).down for kind in map(type, points)])
    """,
    "a class kept in a table": """
        class Point:
            def __init__(self, across=1, down=2):
                self.across, self.down = across, down
        kinds = {"point": Point}
        print(Point(3, down=4).down, kinds["point"](down=5).down)
    """,
    "a class with a decorator": """
        def known(kind):
            known.all = [kind]
            return kind
        @known
        class Point:
            def __init__(self, across=1, down=2):
                self.across, self.down = across, down
        print(Point(3, down=4).down, known.all[0](down=5).down)
    """,
    "a wrong keyword": """
        def area(width, height=2):
            return width * height
        for call in (lambda: area(1, depth=3), lambda: area(a=1), lambda: area(1, height=4)):
            try:
                print(call())
            except TypeError:
                print("wrong")
    """,
    "an argument twice": """
        def area(width, height=2):
            return width * height
        for call in (lambda: area(1, width=3), lambda: area(1, 2, height=3), lambda: area(1, height=4)):
            try:
                print(call())
            except TypeError:
                print("wrong")
    """,
    "too few and too many": """
        def area(width, height=2, *, unit):
            return width * height
        for call in (lambda: area(1), lambda: area(unit=2), lambda: area(1, 2, 3, unit=4), lambda: area(1, height=4, unit=5)):
            try:
                print(call())
            except TypeError:
                print("wrong")
    """,
    "a positional-only parameter by keyword": """
        def half(number, /, rest=0):
            return number // 2 + rest
        try:
            print(half(4, rest=1), half(number=4))
        except TypeError as error:
            print("wrong")
    """,
    "arguments in a mapping": """
        def area(width, height=2):
            return width * height
        print(area(1, height=3), area(**{"width": 4}))
    """,
    "arguments in a list": """
        def area(width, height=2):
            return width * height
        try:
            print(area(*[1, 2], height=3))
        except TypeError:
            print("wrong")
    """,
    "a function passed on": """
        from functools import partial
        def area(width, height=2):
            return width * height
        print(area(1, height=3), partial(area, height=5)(2), list(map(area, [1, 2])))
    """,
    "the signature": """
        import inspect
        def area(width, height=2):
            return width * height
        print(area(1, height=3), inspect.signature(area), inspect.getfullargspec(area).args, area.__defaults__)
        print(area.__code__.co_varnames[:2])
    """,
    "a new value": """
        def area(width, height=2):
            return width * height
        print(area(1, height=3))
        def area(height, width=2):
            return width - height
        print(area(1, width=5))
    """,
    "a name made global": """
        def replace():
            global area
            area = lambda **sides: sorted(sides)
        def area(width, height=2):
            return width * height
        print(area(1, height=3))
        replace()
        print(area(width=1, height=3))
    """,
    "a name that is nonlocal": """
        def outer():
            def area(width, height=2):
                return width * height
            def replace():
                nonlocal area
                area = lambda **sides: sorted(sides)
            print(area(width=1, height=3))
            replace()
            print(area(width=1, height=3))
        outer()
    """,
    "a name deleted": """
        def area(width, height=2):
            return width * height
        print(area(1, height=3))
        del area
        try:
            area(1, height=3)
        except NameError:
            print("gone")
    """,
    "a name that is also imported": """
        def sqrt(number, digits=2):
            return round(number**0.5, digits)
        print(sqrt(2, digits=3))
        from math import sqrt
        try:
            print(sqrt(2, digits=3))
        except TypeError:
            print("wrong")
    """,
    "a definition in one of two branches": """
        import sys
        if sys:
            def area(width, height=2):
                return width * height
        else:
            def area(height, width=2):
                return width - height
        print(area(1, height=3))
    """,
    "a name taken by a comprehension's walrus": """
        def area(width, height=2):
            return width * height
        print(area(1, height=3), [(area := lambda **sides: sorted(sides)) for _ in range(1)] and area(width=1, height=3))
    """,
    "attributes of the module": """
        import sys
        def area(width, height=2):
            return width * height
        here = sys.modules.get(__name__)
        print(area(1, height=3), here is None or not hasattr(here, "area") or here.area(width=1))
    """,
    "globals of a function": """
        def area(width, height=2):
            return width * height
        def other():
            pass
        print(area(1, height=3), other.__globals__["ar" + "ea"](width=4))
    """,
    "variables of a frame": """
        import sys
        def area(width, height=2):
            return width * height
        print(area(1, height=3), sys._getframe().f_globals["ar" + "ea"](width=4))
    """,
    "a name in a string": """
        def area(width, height=2):
            return width * height
        class Module:
            pass
        print(area(1, height=3), getattr(Module, "area", None))
    """,
    "private names": """
        class Box:
            def __init__(self, __width, height=2):
                self.area = __width * height
        print(Box(1, height=3).area, Box(_Box__width=4).area)
    """,
    "any keyword": """
        def describe(name, /, *values, **options):
            return name, values, options
        def tag(kind, **attributes):
            return kind, attributes
        print(describe("a", 1, name=2), tag("b", a=1), tag(kind="c", A=2))
    """,
    "a base that is called by its child": """
        class Base:
            def __init__(self, size=1, name="base"):
                self.size, self.name = size, name
        class Child(Base):
            pass
        print(Child(size=4).size, Base(name="q").name, Base(1, name="r").name)
    """,
    "an old name for a class": """
        class Point:
            def __init__(self, across=1, down=2):
                self.across, self.down = across, down
        Place = Point
        print(Point(3, down=4).down, Place(down=5).down)
    """,
    "pattern matching": """
        class Point:
            __match_args__ = ("across", "down")
            def __init__(self, across=1, down=2):
                self.across, self.down = across, down
        match Point(3, down=4):
            case Point(down=4, across=value):
                print(value)
    """,
    "hooks found by name": """
        def pytest_configure(config, option=None):
            return config, option
        print("loaded")
    """,
    "carried code": """
        modules = {"helper": "import __main__\\ndef f():\\n    return __main__.area(width=3)"}
        def area(width, height=2):
            return width * height
        print(area(1, height=3), len(modules))
    """,
}


# Programs, and what becomes of the calls in them.
REWRITTEN = {
    "functions": (
        """
        def area(width, height=2, *, unit="m"):
            return f"{width * height}{unit}"
        print(area(3, height=4), area(width=3, unit="cm"), area(height=1, width=2))
        """,
        ["area(3, 4)", "area(3, unit='cm')", "area(2, 1)"],
    ),
    "functions in functions, of one name": (
        """
        def first(value):
            def scaled(times=2, add=0):
                return value * times + add
            return scaled(times=3), scaled(add=1, times=4)
        def second(value):
            def scaled(add=0):
                return value + add
            return scaled(add=5)
        print(first(value=1), second(value=2))
        """,
        ["scaled(3)", "scaled(4, 1)", "scaled(5)", "first(1)", "second(2)"],
    ),
    "a parameter of the same name": (
        """
        def area(width, height=2):
            return width * height
        def doubled(area):
            return 2 * area
        print(area(1, height=3), doubled(area=4), [area for area in (1,)])
        """,
        ["area(1, 3)", "doubled(4)"],
    ),
    "a function in a branch": (
        """
        if __name__:
            def area(width, height=2):
                return width * height
        print(area(1, height=3))
        """,
        ["area(1, 3)"],
    ),
    "recursion": (
        """
        def down(count, seen=()):
            return seen if not count else down(count - 1, seen=(*seen, count))
        print(down(3, seen=()))
        """,
        ["down(count - 1, (*seen, count))", "down(3, ())"],
    ),
    "classes without a base": (
        """
        class Point:
            def __init__(self, across=1, down=2):
                self.across, self.down = across, down
        def name_of(thing):
            return type(thing).__name__
        print(Point(3, down=4).down, isinstance(3, (Point, int)), isinstance(3, Point), type(3) is Point, f"{type(3)}")
        """,
        ["Point(3, 4)"],
    ),
    "type() of a variable whose class is known": (
        """
        class Options:
            rate = 0.5
        class Point:
            def __init__(self, across=1, down=2):
                self.across, self.down = across, down
        options = Options()
        print(Point(3, down=4).down, sorted(k for k in vars(type(options)) if k == "rate"))
        """,
        ["Point(3, 4)"],
    ),
    "modules, under every name": (
        """
        import torch, torch.nn as net
        from torch import nn
        from torch.nn import Module, Linear as Dense
        class One(nn.Module):
            def __init__(self, width=1, depth=2):
                super().__init__()
                self.size = width, depth
        class Two(torch.nn.Module):
            def __init__(self, width=1, depth=2):
                super(Two, self).__init__()
                self.size = width, depth
        class Three(net.Linear):
            def __init__(self, width=1, depth=2):
                net.Linear.__init__(self, width, depth, bias=False)
                self.size = width, depth
            @torch.no_grad()
            def forward(self, tokens):
                return super().forward(tokens)
            @property
            def area(self):
                return self.size[0]
            @area.setter
            def area(self, value):
                self.size = value
            @staticmethod
            def unit():
                return 1
        class Four(Module):
            def __init__(self, width=1, depth=2):
                super().__init__()
                self.size = width, depth
        class Base(nn.Module):
            pass
        class Five(Base):
            def __init__(self, width=1, depth=2):
                super().__init__()
                self.size = width, depth
        for made in (One(3, depth=4), Two(5, depth=6), Three(7, depth=8), Four(9, depth=10), Five(11, depth=12)):
            print(made.size, made.__class__.__name__)
        """,
        ["One(3, 4)", "Two(5, 6)", "Three(7, 8)", "Four(9, 10)", "Five(11, 12)"],
    ),
    "optimizers and datasets": (
        """
        import torch
        from torch.utils.data import Dataset
        class Descent(torch.optim.Optimizer):
            def __init__(self, params, lr=0.1, momentum=0.9):
                super().__init__(params, dict(lr=lr, momentum=momentum))
        class Numbers(Dataset):
            def __init__(self, count=1, start=0):
                self.values = list(range(start, start + count))
        print(Descent([torch.nn.Parameter(torch.zeros(1))], lr=0.5).defaults["lr"], Numbers(count=2, start=3).values)
        """,
        ["Descent([torch.nn.Parameter(torch.zeros(1))], 0.5)", "Numbers(2, 3)"],
    ),
    "decorators of torch and functools": (
        """
        import functools, torch
        from torch.compiler import disable
        from functools import lru_cache as kept
        @torch.no_grad()
        def one(width, height=2):
            return width * height
        @torch.inference_mode()
        @disable
        def two(width, height=2):
            return width * height
        @functools.cache
        def three(width, height=2):
            return width * height
        @kept(maxsize=None)
        def four(width, height=2):
            return width * height
        print(one(1, height=3), two(width=1), three(2, height=3), three(3, height=4), four(width=1, height=2))
        """,
        ["one(1, 3)", "two(1)", "three(2, 3)", "three(3, 4)", "four(1, 2)"],
    ),
    "what must not pass": (
        """
        log = []
        def note(value):
            log.append(value)
            return value
        def total(first, second=0, third=0):
            return first, second, third
        print(total(third=note(1), first=note(2)), total(third=3, first=note(4), second=5), log)
        print(total(third=note(6), second=7, first=8), log)
        """,
        ["total(third=note(1), first=note(2))", "total(note(4), 5, 3)", "total(8, 7, note(6))"],
    ),
    "generators and lambdas": (
        "def total(values, key=None):\n    return sorted(values, key=key)\n"
        "print(total(values=(v for v in (2, 1))), total(values=[1, 2], key=lambda v: -v))",
        ["total((v for v in (2, 1)))", "total([1, 2], lambda v: -v)"],
    ),
}
