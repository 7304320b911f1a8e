"""The user's script: imports found and replaced, minification that keeps behaviour, the inlined loader."""

from __future__ import annotations

import ast
import contextlib
import importlib
import io
import pkgutil
import sys
from pathlib import Path

import pytest
import torch
from programs import modules_as_before

import runtime_stub
from generator.emit import Emitter
from generator.errors import InputError
from generator.packing import Options
from generator.payload import Payload
from generator.source.loader import render_loader
from generator.source.script import identifiers, parse, read_script, restore_import
from generator.source.shrink import Shrinking, minify
from generator.weights.encode import encode_state_dict
from runtime_stub.registry import DECODERS, DEQUANTIZERS


def write(folder: Path, text: str) -> Path:
    path = folder / "script.py"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "loads"),
    [
        ("from runtime_stub import load_state_dict", True),
        ("from runtime_stub import load_state_dict as weights", True),
        ("def f():\n    from runtime_stub import load_state_dict\n    return load_state_dict()", True),
        ("try:\n    from runtime_stub import load_state_dict\nexcept ImportError:\n    pass", True),
        ("from .runtime_stub import load_state_dict", False),
        ("import json", False),
    ],
)
def test_imports_are_found(tmp_path: Path, text: str, loads: bool) -> None:
    assert read_script(write(tmp_path, text)).loads_weights is loads


@pytest.mark.parametrize(
    "line",
    [
        "import runtime_stub",
        "import runtime_stub.payload as p",
        "from runtime_stub import *",
        "from runtime_stub import load_state_dict, registry",
        "from runtime_stub.payload import read_payload",
    ],
)
def test_other_uses_of_the_stub_are_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(InputError, match=r"script\.py, line 2: only `from runtime_stub import load_state_dict` can be packed"):
        read_script(write(tmp_path, f"import os\n{line}\n"))


SYNTAX_ERRORS = {
    "plain": ("x = = 1", r"line 1: invalid syntax \(Python 3"),
    "newer grammar": (
        "x = 1\ndef f[**P, T = int](x: T): ...\ntype Y[*Z = *W] = int\nlazy from x import y",
        r"line \d: .*written for a newer Python",
    ),
    "null byte": ("x = 1\0", "script.py"),
    "bad encoding": ("# coding: klingon\n", "script.py"),
    "too deep": ("x = " + "(" * 5000 + ")" * 5000, "script.py"),
}


@pytest.mark.parametrize("name", SYNTAX_ERRORS)
def test_what_cannot_be_parsed(tmp_path: Path, name: str) -> None:
    text, message = SYNTAX_ERRORS[name]
    with pytest.raises(InputError, match=message) as error:
        read_script(write(tmp_path, text))
    assert "\n" not in str(error.value)


def test_source_encodings_are_honoured(tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_bytes("# coding: latin-1\nprint('é')\n".encode("latin-1"))
    assert "é" in minify(read_script(path).tree)


BEHAVIOURS = {
    "closures": """
        def outer(start):
            total = start
            def inner(amount):
                nonlocal total
                total += amount
                return total
            return inner
        counter = outer(5)
        print(counter(1), counter(2))
    """,
    "globals and keywords": """
        state = 0
        def bump(*, amount=1, **rest):
            global state
            state += amount + rest.get("extra", 0)
            return state
        print(bump(amount=3, extra=4), state)
    """,
    "comprehensions": "print([a * b for a in range(3) for b in range(a) if a], {k: v for k, v in zip('ab', range(2))})",
    "classes and decorators": """
        import dataclasses, functools
        @dataclasses.dataclass
        class Point:
            '''Doc.'''
            x: int
            y: int = 2
            def norm(self) -> float:
                return (self.x ** 2 + self.y ** 2) ** 0.5
        @functools.lru_cache(maxsize=None)
        def fib(n: int) -> int:
            return n if n < 2 else fib(n - 1) + fib(n - 2)
        print(Point(1), Point(3, 4).norm(), fib(20))
    """,
    "f-strings": "width = 8\nname = 'x'\nprint(f'{name!r:>{width}} {3.14159:.2f} {{}} {name + \"q\"}')",
    "match": """
        def kind(value):
            match value:
                case {"type": t, **rest} if t: return t, sorted(rest)
                case [first, *others]: return first, len(others)
                case str() as text: return text
            return None
        print(kind({"type": 1, "b": 2}), kind([1, 2, 3]), kind("s"), kind(5))
    """,
    "docstrings that are read": "def f():\n    'needed'\nprint(f.__doc__)",
    "annotations that are read": "from typing import get_type_hints\ndef f(x: int) -> str: ...\nprint(get_type_hints(f))",
    "signature annotations": "import inspect\ndef f(x: int = 3): ...\nprint(inspect.signature(f))",
    "locals by name": "def f():\n    long_name = 3\n    return sorted(locals())\nprint(f())",
    "async and generators": """
        import asyncio
        async def ticks(count):
            for i in range(count):
                yield i
        async def main():
            print([i async for i in ticks(3)])
        asyncio.run(main())
    """,
    "exceptions": "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    print(type(e).__name__)\nfinally:\n    print('done')",
    "future": "from __future__ import annotations\ndef f(x: Undefined) -> None: print('ok')\nf(1)",
}


def output_of(source: str) -> str:
    captured = io.StringIO()
    with modules_as_before(source), contextlib.redirect_stdout(captured):
        exec(compile(source, "script", "exec"), {"__name__": "__main__"})
    return captured.getvalue()


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_minified_scripts_print_the_same(name: str) -> None:
    lines = BEHAVIOURS[name].split("\n")
    text = "\n".join(line[8:] for line in lines) if not lines[0].strip() else BEHAVIOURS[name]
    minified = minify(parse(text.encode(), name))
    assert output_of(minified) == output_of(text) != ""


def test_docstrings_comments_and_annotations_go() -> None:
    minified = minify(
        parse(
            b'"""Doc."""\n# note\ndef f(long: int) -> int:\n    "doc"\n    value: int = long\n    return value\n',
            "s",
        )
    )
    assert "oc" not in minified
    assert ":int" not in minified.replace(" ", "")


def test_scripts_that_could_not_be_read_back_are_refused_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, f"values = [{'1, ' * 200_000}]\n")
    with pytest.raises(InputError, match=r"script\.py is too large to pack, since nobody could read it back: it has more than"):
        read_script(path)


def test_inlined_import_keeps_its_place_and_name(tmp_path: Path) -> None:
    text = (
        "from __future__ import annotations\nimport sys\n"
        "def f():\n    from runtime_stub import load_state_dict as weights\n    return weights()\n"
    )
    script = read_script(write(tmp_path, text))
    payload = Payload.read(encode_state_dict({"w": torch.ones(3)}))
    rendered = Emitter(script, Options(shrinking=Shrinking(keep_names=frozenset({"f"})))).program(payload)
    scope = {rendered.names[0]: payload.data, "__name__": "__main__"}
    exec(compile(rendered.text, "packed", "exec"), scope)
    assert scope["f"]()["w"].tolist() == [1, 1, 1]
    assert len(set(rendered.names)) == 3
    assert not set(rendered.names) & identifiers(parse(text.encode(), "s"))
    restored, loader = restore_import(ast.parse(rendered.text), rendered.names[0])
    assert loader is not None
    assert "from runtime_stub import load_state_dict as" in ast.unparse(restored)


def test_the_packers_names_avoid_the_scripts(tmp_path: Path) -> None:
    used = [chr(c) for c in range(ord("A"), ord("Z") + 1)]
    script = read_script(
        write(tmp_path, "from runtime_stub import load_state_dict\n" + "".join(f"{name} = 1\n" for name in used))
    )
    options = Options(shrinking=Shrinking(skip=frozenset({"globals"})))
    assert not set(Emitter(script, options).program(Payload.read(encode_state_dict({"w": torch.ones(3)}))).names) & set(used)


def test_script_and_weights_must_fit_together(golfpack, tmp_path: Path, checkpoint: Path, script: Path) -> None:
    plain = tmp_path / "plain.py"
    plain.write_text("print('hello')\n")
    result = golfpack("build", plain, "-w", checkpoint, "-o", tmp_path / "out.py")
    assert (result.status, "never loads its weights" in result.err) == (2, True)
    result = golfpack("wrap", script, "-o", tmp_path / "out.py")
    assert (result.status, "loads weights; pack it with golfpack build" in result.err) == (2, True)
    assert not (tmp_path / "out.py").exists()


def test_every_decoder_can_be_inlined_alone() -> None:
    for codec in DECODERS:
        for dequantizer in DEQUANTIZERS:
            loader = render_loader({codec}, {dequantizer}, "PAYLOAD")
            compile(ast.Module([loader], []), "loader", "exec")
            free = {node.id for node in ast.walk(loader) if isinstance(node, ast.Name)}
            assert "PAYLOAD" in free


def test_only_what_is_used_is_inlined() -> None:
    lean = ast.unparse(render_loader({"lzma"}, {"scale"}, "P"))
    assert "unpackbits" not in lean
    assert "-15" not in lean
    assert "unpackbits" in ast.unparse(render_loader({"store"}, {"scale"}, "P"))


def test_stub_functions_have_unique_names_and_lean_imports() -> None:
    allowed = set(sys.stdlib_module_names) | {"numpy", "runtime_stub"}
    seen: dict[str, str] = {}
    for module in pkgutil.iter_modules(runtime_stub.__path__):
        source = Path(str(importlib.import_module(f"runtime_stub.{module.name}").__file__)).read_text()
        for node in ast.parse(source).body:
            if isinstance(node, ast.FunctionDef):
                assert seen.setdefault(node.name, module.name) == module.name
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [str(node.module)]
                roots = {name.split(".")[0] for name in names}
                assert roots <= allowed | ({"torch"} if module.name == "tensors" else set()), module.name
