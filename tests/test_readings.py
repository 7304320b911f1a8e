"""What a program reads of itself stays: for every entry of the tables, a program whose output changes without it."""

from __future__ import annotations

import ast
import builtins
import contextlib
import io
import linecache
import subprocess
import sys
import textwrap
import types
import warnings
from pathlib import Path

import pytest
from programs import modules_as_before

from generator.source import readings
from generator.source.effects import ANYTHING, BUILTINS, GIVEN, MODULES, WORDS, Effect
from generator.source.shrink import shrink

A, D, E, G, N, S, B, L = (
    Effect.ANNOTATIONS,
    Effect.DOCSTRINGS,
    Effect.EVERYTHING,
    Effect.GLOBALS,
    Effect.DEFINITIONS,
    Effect.SIGNATURES,
    Effect.BUILTINS,
    Effect.SCOPE,
)
FUNCTION = "def long_name(value: complex):\n    return value\n"
PATCHED = (
    "def f():\n    return ascii(1) + ascii(2) + ascii(3) + ascii(4) + ascii(5) + ascii(6)\n"
    "{module}.ascii = lambda value: 'patched'\nprint(f())"
)
CLASS = "import sys, io\nclass LongName:\n    pass\nthing = LongName()\n"
TORCH = "import torch\ndef f(x: torch.Tensor) -> torch.Tensor:\n    return x.clone()\n"

ANNOTATED = "def f(value: int, /, *rest: str):\n    return value, rest\n"
OF_WORDS = {
    ("__annotations__", A): FUNCTION + "print(getattr(long_name, '__annotations__'))",
    ("__annotations__", S): ANNOTATED + "print(f.__annotations__)",
    ("__builtins__", B): PATCHED.format(module="__builtins__"),
    ("__doc__", D): "def f():\n    'a doc'\n    return 1\nprint(getattr(f, '__doc__'))",
    ("__globals__", G): "long_name = 1\ndef f():\n    return long_name\nprint(f.__globals__['long_' + 'name'])",
    ("__main__", G): "import __main__\nlong_name = 1\nprint(long_name, getattr(__main__, 'long_' + 'name'))",
    ("__name__", N): FUNCTION + "print(getattr(long_name, '__name__'))",
    ("__qualname__", N): FUNCTION + "print([long_name.__qualname__])",
    ("_get_name", N): "import torch\nclass LongName(torch.nn.Module):\n    pass\nprint(LongName()._get_name())",
    ("builtins", B): "import builtins\n" + PATCHED.format(module="builtins"),
    ("co_cellvars", E): """
        def f():
            long_name = 1
            def g():
                return long_name
            return g
        print(f.__code__.co_cellvars)
    """,
    ("co_freevars", E): """
        def f():
            long_name = 1
            def g():
                return long_name
            return g
        print(f().__code__.co_freevars)
    """,
    ("co_name", N): FUNCTION + "print([long_name.__code__.co_name])",
    ("co_names", E): "long_name = 1\ndef f():\n    return long_name + long_name\nprint(f.__code__.co_names)",
    ("co_qualname", N): FUNCTION + "print([long_name.__code__.co_qualname])",
    ("co_varnames", E): "def f():\n    long_name = 1\n    return long_name\nprint(f.__code__.co_varnames)",
    ("current_thread", N): """
        import threading
        def long_name():
            print(threading.current_thread().name.split()[1])
        thread = threading.Thread(target=long_name)
        thread.start()
        thread.join()
    """,
    ("custom_op", A): TORCH + "print(torch.library.custom_op('golfpack_tests::one', f, mutates_args=())(torch.ones(2)))",
    ("f_globals", G): "import sys\nlong_name = 1\nprint(long_name, sys._getframe().f_globals['long_' + 'name'])",
    ("f_locals", E): """
        import sys
        def f():
            long_name = 1
            return long_name, sys._getframe().f_locals["long_" + "name"]
        print(f())
    """,
    ("funcName", N): """
        import logging, sys
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(logging.Formatter("%(funcName)s: %(message)s"))
        logger = logging.Logger("a logger")
        logger.addHandler(handler)
        def long_name():
            logger.warning("hello")
        long_name()
    """,
    ("get_annotations", A): "import inspect\n" + FUNCTION + "print(inspect.get_annotations(long_name))",
    ("get_annotations", S): "import inspect\n" + ANNOTATED + "print(inspect.get_annotations(f))",
    ("get_type_hints", A): "import typing\n" + FUNCTION + "print(typing.get_type_hints(long_name))",
    ("get_type_hints", S): "import typing\n" + ANNOTATED + "print(typing.get_type_hints(f))",
    ("getdoc", D): "import inspect\ndef f():\n    'a doc'\n    return 1\nprint(inspect.getdoc(f))",
    ("getfullargspec", A): "import inspect\n" + FUNCTION + "print(inspect.getfullargspec(long_name).annotations)",
    ("getfullargspec", S): """
        import inspect
        class Shape:
            def area(self):
                return self.width
        print(inspect.getfullargspec(Shape.area).args)
    """,
    ("infer_schema", A): TORCH + "print(torch.library.infer_schema(f, mutates_args=()))",
    ("jit", A): "import torch\ndef f(x: int) -> int:\n    return x + 1\nprint(torch.jit.script(f)(2))",
    ("signature", A): "import inspect\n" + FUNCTION + "print(inspect.signature(long_name))",
    ("signature", S): """
        import inspect
        class Shape:
            def area(self):
                return self.width
        print(inspect.signature(Shape.area))
    """,
    ("singledispatch", A): """
        from functools import singledispatch
        @singledispatch
        def show(value):
            return "something"
        @show.register
        def _(value: int):
            return "a number"
        print(show(1), show("a"))
    """,
    ("singledispatchmethod", A): """
        from functools import singledispatchmethod
        class Shower:
            @singledispatchmethod
            def show(self, value):
                return "something"
            @show.register
            def _(self, value: int):
                return "a number"
        print(Shower().show(1), Shower().show("a"))
    """,
    ("threadName", N): """
        import logging, threading
        formatter = logging.Formatter("%(threadName)s")
        def long_name():
            print(formatter.format(logging.LogRecord("x", 10, "x", 1, "x", (), None)).split()[1])
        thread = threading.Thread(target=long_name)
        thread.start()
        thread.join()
    """,
    ("triton_op", A): TORCH + "print(torch.library.triton_op('golfpack_tests::two', f, mutates_args=())(torch.ones(2)))",
}
PROFILED = "def long_name():\n    print('ran')\n{0}.Profile().run('long_' + 'name()')"
STOPPED = """
    import contextlib, io, sys{module}
    output = io.StringIO()
    sys.stdin = io.StringIO("p long_name\\nc\\n")
    def f():
        long_name = ord("*")
        {stop}
        if long_name:
            sys.stdin.close()
    with contextlib.redirect_stdout(output):
        f()
    print("42" in output.getvalue())
"""
OF_MODULES = {
    ("cProfile", G): "import cProfile\n" + PROFILED.format("cProfile"),
    ("cloudpickle", N): CLASS + "import cloudpickle\nprint(b'LongName' in cloudpickle.dumps(thing))",
    ("cmd", D): """
        import cmd
        class Shell(cmd.Cmd):
            def do_sing(self, line):
                "Sing a song."
                return True
        Shell().onecmd("help sing")
    """,
    ("dill", N): CLASS + "import dill\nprint(b'LongName' in dill.dumps(thing))",
    (
        "doctest",
        D,
    ): "import doctest\ndef f():\n    '''\n    >>> 1 + 1\n    2\n    '''\n    return 1\nprint(doctest.testmod().attempted)",
    ("doctest", G): """
        import doctest
        def long_name():
            '''
            >>> long_name()
            1
            '''
            return 1
        print(doctest.testmod())
    """,
    ("joblib", N): CLASS
    + "import joblib\nfile = io.BytesIO()\njoblib.dump(thing, file)\nprint(b'LongName' in file.getvalue())",
    (
        "numexpr",
        E,
    ): "import numexpr\ndef f():\n    long_name = 3\n    return long_name + numexpr.evaluate('long_name * 2')\nprint(f())",
    ("pdb", E): STOPPED.format(module=", pdb", stop="pdb.Pdb(stdin=sys.stdin, stdout=output, nosigint=True).set_trace()"),
    ("pickle", N): CLASS + "import pickle\nprint(b'LongName' in pickle.dumps(thing))",
    ("profile", G): "import profile\n" + PROFILED.format("profile"),
    ("pydoc", D): "import pydoc\ndef f():\n    'a doc'\n    return 1\nprint('a doc' in pydoc.render_doc(f))",
    ("pytest", G): """
        import contextlib, io, pytest
        def test_something():
            assert True
        if __name__ == "__main__":
            with contextlib.redirect_stdout(io.StringIO()):
                code = pytest.main([__file__, "-p", "no:cacheprovider", "--noconftest", "-c", "/dev/null"])
            print(int(code))
    """,
    ("shelve", N): CLASS + "import shelve\nfiles = {}\nshelve.Shelf(files)['k'] = thing\nprint(b'LongName' in files[b'k'])",
    ("timeit", G): """
        import timeit
        def long_name():
            print("ran")
        timeit.timeit("long_name() ", setup="from __main__ import long_name", number=1)
    """,
    ("traceback", N): """
        import traceback
        def long_name():
            return 1 / 0
        try:
            long_name()
        except ZeroDivisionError:
            print("long_" + "name" in traceback.format_exc())
    """,
    ("unittest", D): """
        import unittest
        class Test(unittest.TestCase):
            def test_something(self):
                "What it tests."
                print(self.shortDescription())
        unittest.main(argv=["x"], exit=False)
    """,
    ("unittest", G): """
        import unittest
        def setUpModule():
            print("set up")
        class Test(unittest.TestCase):
            def test_something(self):
                print("tested")
        unittest.main(argv=["x"], exit=False)
    """,
}
IN_FUNCTION, AT_MODULE_LEVEL = 0, 1
LOOK_UP_LOCAL = "def f():\n    long_name = 3\n    return {0}, long_name + long_name\nprint(f())"
LOOK_UP_GLOBAL = "long_name = 3\ndef f():\n    return {0}, long_name + long_name\nprint(f())"
LOOK_UP_AT_MODULE_LEVEL = "long_name = 3\nprint(long_name + long_name, {0})"
HELP = "import contextlib, io\ndef f():\n    'a doc'\n    return 1\noutput = io.StringIO()\n"
OF_BUILTINS = {
    ("breakpoint", IN_FUNCTION, E): STOPPED.format(module="", stop="breakpoint()"),
    ("breakpoint", AT_MODULE_LEVEL, E): """
        import contextlib, io, sys
        output = io.StringIO()
        sys.stdin = io.StringIO("p long_name\\nc\\n")
        long_name = ord("*")
        with contextlib.redirect_stdout(output):
            breakpoint()
            if long_name:
                sys.stdin.close()
        print("42" in output.getvalue())
    """,
    ("dir", IN_FUNCTION, L): LOOK_UP_LOCAL.format("dir()"),
    ("dir", AT_MODULE_LEVEL, G): LOOK_UP_AT_MODULE_LEVEL.format("'long_' + 'name' in dir()"),
    ("eval", IN_FUNCTION, L): LOOK_UP_LOCAL.format("eval('long_' + 'name')"),
    ("eval", IN_FUNCTION, G): LOOK_UP_GLOBAL.format("eval('long_' + 'name')"),
    ("eval", AT_MODULE_LEVEL, G): LOOK_UP_AT_MODULE_LEVEL.format("eval('long_' + 'name')"),
    ("exec", IN_FUNCTION, L): LOOK_UP_LOCAL.format("exec('print(long_' + 'name)')"),
    ("exec", IN_FUNCTION, G): LOOK_UP_GLOBAL.format("exec('print(long_' + 'name)')"),
    ("exec", AT_MODULE_LEVEL, G): LOOK_UP_AT_MODULE_LEVEL.format("exec('print(long_' + 'name)')"),
    ("globals", IN_FUNCTION, G): LOOK_UP_GLOBAL.format("globals()['long_' + 'name']"),
    ("globals", AT_MODULE_LEVEL, G): LOOK_UP_AT_MODULE_LEVEL.format("globals()['long_' + 'name']"),
    ("help", IN_FUNCTION, D): HELP + "def g():\n    help(f)\nwith contextlib.redirect_stdout(output):\n    g()\n"
    "print('a doc' in output.getvalue())",
    ("help", AT_MODULE_LEVEL, D): HELP + "with contextlib.redirect_stdout(output):\n    help(f)\n"
    "print('a doc' in output.getvalue())",
    ("locals", IN_FUNCTION, L): LOOK_UP_LOCAL.format("locals()"),
    ("locals", AT_MODULE_LEVEL, G): LOOK_UP_AT_MODULE_LEVEL.format("locals()['long_' + 'name']"),
    ("vars", IN_FUNCTION, L): LOOK_UP_LOCAL.format("vars()"),
    ("vars", AT_MODULE_LEVEL, G): LOOK_UP_AT_MODULE_LEVEL.format("vars()['long_' + 'name']"),
}
OF_FRAMEWORKS = {
    A: "import framework\n@framework.command\ndef f(value: complex):\n    return value\nprint(framework.schema())",
    D: "import framework\napp = framework.Framework()\n@app.command\ndef f():\n    'a doc'\n    return 1\nprint(app.usage())",
    N: "from framework import command, usage\ndef long_name():\n    return 1\ncommand(long_name)\nprint(usage())",
}
OF_INSPECT = {
    A: "import inspect\n"
    + FUNCTION
    + "print([value for name, value in inspect.getmembers(long_name) if value == {'value': complex}])",
    D: "import inspect\ndef f():\n    'a doc'\n    return 1\nprint('a doc' in [value for _, value in inspect.getmembers(f)])",
    E: "from inspect import getclosurevars\n"
    "def f():\n    long_name = 3\n    def g():\n        return long_name\n    return getclosurevars(g).nonlocals\nprint(f())",
}
IN_A_PROCESS = {"pdb", "breakpoint", "pytest"}
FAKES = {
    "cloudpickle": "from pickle import dumps\n",
    "dill": "from pickle import dumps\n",
    "joblib": "from pickle import dump\n",
    "numexpr": "import sys\ndef evaluate(text):\n    return eval(text, {}, sys._getframe(1).f_locals)\n",
    "framework": """
class Framework:
    def command(self, function):
        self.function = function
        return function
    def usage(self):
        return f"{self.function.__name__[4:]}: {self.function.__doc__}"
    def schema(self):
        return self.function.__annotations__
default = Framework()
command, usage, schema = default.command, default.usage, default.schema
""",
}


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules that read what they are given, under names of packages that do."""
    for name, text in FAKES.items():
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))


def result_of(text: str, folder: Path, in_a_process: bool = False) -> str:
    """What a program prints, and the exception that ends it."""
    path = folder / "program.py"
    path.write_text(text)
    if in_a_process:
        done = subprocess.run([sys.executable, path], capture_output=True, text=True, cwd=folder, check=False)
        return done.stdout + done.stderr.strip().split("\n")[-1]
    module = types.ModuleType("__main__")
    module.__dict__.update(__file__=str(path), __builtins__=builtins)
    output, main = io.StringIO(), sys.modules["__main__"]
    linecache.cache.pop(str(path), None)
    sys.modules["__main__"] = module
    try:
        with (
            modules_as_before(text),
            contextlib.redirect_stdout(output),
            contextlib.redirect_stderr(io.StringIO()),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            exec(compile(text, str(path), "exec", dont_inherit=True), module.__dict__)
    except Exception as error:
        output.write(type(error).__name__)
    finally:
        sys.modules["__main__"] = main
    return output.getvalue()


def assert_needed(text: str, folder: Path, cut: object, in_a_process: bool = False) -> None:
    """That the packed program prints the same, and no longer does once something is cut."""
    text = textwrap.dedent(text)
    expected = result_of(text, folder, in_a_process)
    assert expected
    assert "Error" not in expected
    for variant in shrink(ast.parse(text)).variants:
        assert result_of(variant.text, folder, in_a_process) == expected, variant
    cut()  # type: ignore[operator]
    assert any(result_of(variant.text, folder, in_a_process) != expected for variant in shrink(ast.parse(text)).variants)


def test_every_entry_has_its_program() -> None:
    assert set(OF_WORDS) == {(word, effect) for word, effects in WORDS.items() for effect in effects}
    assert set(OF_MODULES) == {(module, effect) for module, effects in MODULES.items() for effect in effects}
    assert set(OF_BUILTINS) == {
        (name, index, effect) for name, both in BUILTINS.items() for index in (0, 1) for effect in both[index]
    }
    assert set(OF_FRAMEWORKS) == GIVEN
    assert set(OF_INSPECT) == ANYTHING


@pytest.mark.parametrize(("word", "effect"), OF_WORDS)
def test_words(word: str, effect: Effect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if word == "co_qualname" and sys.version_info < (3, 11):
        pytest.skip("new in Python 3.11")
    assert_needed(OF_WORDS[word, effect], tmp_path, lambda: monkeypatch.setitem(WORDS, word, WORDS[word] - {effect}))


@pytest.mark.parametrize(("module", "effect"), OF_MODULES)
def test_modules(module: str, effect: Effect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_needed(
        OF_MODULES[module, effect],
        tmp_path,
        lambda: monkeypatch.setitem(MODULES, module, MODULES[module] - {effect}),
        module in IN_A_PROCESS,
    )


@pytest.mark.parametrize(("name", "index", "effect"), OF_BUILTINS)
def test_builtins(name: str, index: int, effect: Effect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = list(BUILTINS[name])
    both[index] = both[index] - {effect}
    assert_needed(
        OF_BUILTINS[name, index, effect],
        tmp_path,
        lambda: monkeypatch.setitem(BUILTINS, name, (both[0], both[1])),
        name in IN_A_PROCESS,
    )


@pytest.mark.parametrize("effect", OF_FRAMEWORKS)
def test_unknown_frameworks(effect: Effect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_needed(OF_FRAMEWORKS[effect], tmp_path, lambda: monkeypatch.setattr(readings, "GIVEN", GIVEN - {effect}))


@pytest.mark.parametrize("effect", OF_INSPECT)
def test_unknown_functions_of_inspect(effect: Effect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_needed(OF_INSPECT[effect], tmp_path, lambda: monkeypatch.setattr(readings, "ANYTHING", ANYTHING - {effect}))
