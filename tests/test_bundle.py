"""Bundling: local modules are importable and data files readable in the packed script, without writing to disk."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest
from helpers import run_python

import generator
from generator.audit.carried import carried_files
from generator.carriers import REGISTRY, Cargo
from generator.compressors import compress
from generator.errors import InputError
from generator.source.bundle import add_bundle
from generator.source.collecting import collect_bundle
from generator.source.script import free_names, read_script
from generator.source.shrink import STEPS, Shrinking, shrink
from generator.templating import render

MAIN = '''
"""Uses everything that can be carried."""
from __future__ import annotations
import sys
import helper
from package.inner import double, shout as loud
from package import NAME
from runtime_stub import read_file
print(helper.add(1, amount=2), double(4), loud("x"), NAME, helper.__name__, double.__module__)
print(len(read_file("model.bin")), sum(read_file("model.bin")), read_file("kernels/add.cu").decode().split()[0])
try:
    read_file("other" + ".bin")
except FileNotFoundError as error:
    print("missing", error)
import inspect
print("return" in inspect.getsource(helper.add))
'''


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "package" / "deep").mkdir(parents=True)
    (folder / "kernels").mkdir()
    (folder / "train.py").write_text(MAIN)
    (folder / "helper.py").write_text("import other\ndef add(value, amount=other.ONE):\n    return value + amount\n")
    (folder / "other.py").write_text("ONE = 1\n")
    (folder / "unused.py").write_text("raise SystemExit('never imported')\n")
    (folder / "package" / "__init__.py").write_text("NAME = 'carried'\n")
    (folder / "package" / "inner.py").write_text(
        "from .deep.most import factor\ndef double(value): return value * factor\ndef shout(text): return text.upper() + '!'\n"
    )
    (folder / "package" / "deep" / "__init__.py").write_text("")
    (folder / "package" / "deep" / "most.py").write_text("factor = 2\n")
    (folder / "model.bin").write_bytes(bytes(range(256)) * 8)
    (folder / "kernels" / "add.cu").write_text("__global__ void add(float *x) { x[0] += 1; }\n")
    return folder


def test_packed_and_unpacked_print_the_same(project: Path, tmp_path: Path) -> None:
    files = [project / "model.bin", project / "kernels" / "add.cu"]
    expected = run_python(sys.executable, project / "train.py", cwd=tmp_path, environment={"PYTHONPATH": str(Path.cwd())})
    for place in ("model.bin", "kernels/add.cu"):
        assert (project / place).exists()
    assert "carried helper package.inner" in expected
    for carrier in ("base85", "zip"):
        packed = tmp_path / carrier / "train.py"
        generator.wrap(project / "train.py", packed, carrier=carrier, include=files)
        before = sorted(packed.parent.iterdir())
        output = run_python(sys.executable, packed, cwd=Path("/"), environment={"PYTHONDONTWRITEBYTECODE": "1"})
        assert output.replace("other.bin", "").splitlines()[:2] == expected.splitlines()[:2]
        assert output.splitlines()[-1] == "True"
        assert sorted(packed.parent.iterdir()) == before
        assert "never imported" not in generator.unpack(packed).source


def test_missing_files_are_noticed_while_packing(project: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"train\.py, line 10: reads 'model\.bin', which is not carried; add --include"):
        generator.wrap(project / "train.py", tmp_path / "x.py")
    with pytest.raises(InputError, match=r"nowhere\.bin does not exist"):
        generator.wrap(project / "train.py", tmp_path / "x.py", include=[project / "nowhere.bin"])
    with pytest.raises(InputError, match=r"kernels is not a package"):
        generator.wrap(project / "train.py", tmp_path / "x.py", include=[project / "kernels"])


def test_bundling_can_be_left_out(golfpack, tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("VALUE = 'SECRET'\n")
    (tmp_path / "main.py").write_text("import beside\nprint(beside.VALUE)\n")
    assert golfpack("wrap", tmp_path / "main.py", "-o", tmp_path / "a.py").status == 0
    assert "SECRET" in generator.unpack(tmp_path / "a.py").source
    assert golfpack("wrap", tmp_path / "main.py", "-o", tmp_path / "b.py", "--no-bundle").status == 0
    assert "SECRET" not in generator.unpack(tmp_path / "b.py").source


def test_modules_that_load_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.py").write_text("from runtime_stub import load_state_dict\n")
    (tmp_path / "main.py").write_text("import weights\n")
    with pytest.raises(InputError, match=r"weights\.py imports runtime_stub; only the script itself can"):
        generator.wrap(tmp_path / "main.py", tmp_path / "out.py")


def test_included_modules_need_not_be_imported_by_name(golfpack, tmp_path: Path) -> None:
    (tmp_path / "plugin.py").write_text("print('plugin runs')\n")
    (tmp_path / "main.py").write_text("import importlib\nimportlib.import_module('plug' + 'in')\n")
    result = golfpack("wrap", tmp_path / "main.py", "-o", tmp_path / "dist" / "out.py", "--include", tmp_path / "plugin.py")
    assert result.status == 0
    assert run_python(sys.executable, tmp_path / "dist" / "out.py", cwd=Path("/")) == "plugin runs\n"


MODULES = [
    "helper.py",
    "other.py",
    "package/__init__.py",
    "package/deep/__init__.py",
    "package/deep/most.py",
    "package/inner.py",
]


def test_unpack_restores_what_is_carried(project: Path, golfpack, tmp_path: Path) -> None:
    """Data files as they were, modules such that the project runs from the folder."""
    files = [project / "model.bin", project / "kernels" / "add.cu"]
    for number, more in enumerate(([], [argument for step in STEPS for argument in ("--skip-step", step)])):
        packed, folder = tmp_path / "packed.py", tmp_path / f"unpacked{number}"
        included = [argument for file in files for argument in ("--include", file)]
        assert golfpack("wrap", project / "train.py", "-o", packed, *included, *more).status == 0
        result = golfpack("unpack", packed, "-o", folder)
        assert result.status == 0
        assert f"{folder}/bundle/kernels/add.cu (" in result.out
        found = sorted(path.relative_to(folder / "bundle").as_posix() for path in folder.rglob("bundle/**/*") if path.is_file())
        assert found == sorted([*MODULES, "kernels/add.cu", "model.bin"])
        for file in files:
            assert (folder / "bundle" / file.relative_to(project)).read_bytes() == file.read_bytes()
        (folder / "bundle" / "train.py").write_text(MAIN)
        environment = {"PYTHONPATH": str(Path.cwd())}
        outputs = []
        for place in (project, folder / "bundle"):
            output = run_python(sys.executable, place / "train.py", cwd=tmp_path, environment=environment)
            outputs.append(output.replace(str(place), ""))
        assert outputs[0] == outputs[1]


def test_hoisted_literals_are_followed(tmp_path: Path) -> None:
    """In whichever way the code was minified, what is carried is found in it."""
    text = "a long line of text, " * 8
    (tmp_path / "helper.py").write_text(f"TEXT = {text!r}\n")
    (tmp_path / "notes.txt").write_text(text)
    (tmp_path / "main.py").write_text(
        "from runtime_stub import read_file\nimport helper\n"
        f"print({text!r}, {text!r}, read_file('notes.txt'), 'notes.txt', 'helper')\n"
    )
    script = read_script(tmp_path / "main.py")
    bundle = collect_bundle(tmp_path / "main.py", script.tree, [tmp_path / "notes.txt"])
    variants = shrink(add_bundle(script.tree, bundle, Shrinking()), Shrinking()).variants
    assert len({variant.text.count(text) for variant in variants}) > 1  # as often as it is used, or once
    for variant in variants:
        found = carried_files(ast.parse(variant.text))
        assert found["notes.txt"] == text.encode()
        assert text.encode() in found["helper.py"]


UNSAFE = [
    "../x.py",
    "/etc/x",
    "a/../../x",
    "a//b",
    "",
    ".",
    "..",
    "a/.",
    "a\\b",
    "C:x",
    "a\0b",
    "a\nb",
    "x" * 300,
    "a/" * 600 + "a",
    "\ud800",
]


def carrying(folder: Path, files: list[str], modules: list[str]) -> Path:
    """An artifact with these names, which golfpack itself would not write."""
    function = render("read_file.py.j2", name="read", files={str(n): "b'x'" for n in range(len(files))})
    for number, name in enumerate(files):
        function = function.replace(f"name == '{number}'", f"name == {name!r}")
    items = ", ".join(f"{name!r}: (False, 'y = 1')" for name in modules)
    return write_artifact(folder, f"{render('bundle.py.j2', modules='{' + items + '}', replaced=())}\n{function}\nprint(1)\n")


def write_artifact(folder: Path, text: str) -> Path:
    """An artifact that executes a text."""
    path = folder / "hostile.py"
    _, program_name, scratch_name = free_names(ast.parse(text))
    cargo = Cargo(compress(text.encode(), "lzma")[1], None, "", program_name, scratch_name, "")
    path.write_bytes(REGISTRY["base85"].write(cargo, "x").main)
    return path


@pytest.mark.parametrize("name", UNSAFE)
def test_names_that_lead_elsewhere_are_refused(golfpack, tmp_path: Path, name: str) -> None:
    for files, modules in (([name], []), ([], [name.replace("/", ".") if "/" in name else f"/{name}"])):
        path = carrying(tmp_path, files, modules)
        result = golfpack("unpack", path, "-o", tmp_path / "out")
        assert (result.status, "no path below its folder" in result.err) == (2, True), result.err
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("files", "modules", "message"),
    [
        (["a", "a"], [], "'a' twice"),
        (["a", "A"], [], "'A' twice"),
        (["m.py"], ["m"], "'m.py' twice"),
        (["a", "a/b"], [], "as a file and as a folder"),
        (["m.py/x"], ["m"], "as a file and as a folder"),
    ],
)
def test_names_that_clash_are_refused(tmp_path: Path, files: list[str], modules: list[str], message: str) -> None:
    assert generator.unpack(carrying(tmp_path, ["ok/file", "ok.txt"], ["ok.module"]), tmp_path / "good").files[1:] == [
        tmp_path / "good" / "bundle" / name for name in ("ok/module.py", "ok/file", "ok.txt")
    ]
    with pytest.raises(InputError, match=message):
        generator.unpack(carrying(tmp_path, files, modules), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_values_that_would_have_to_be_run_are_refused(tmp_path: Path) -> None:
    text = render("read_file.py.j2", name="read", files={"a": "open('/etc/passwd').read()"})
    with pytest.raises(InputError, match="could run code"):
        generator.unpack(write_artifact(tmp_path, text))


def test_links_in_the_output_folder_are_not_followed(tmp_path: Path) -> None:
    path = carrying(tmp_path, ["sub/file"], [])
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for link in ("bundle", "bundle/sub"):
        folder = tmp_path / link.replace("/", "-")
        (folder / link).parent.mkdir(parents=True)
        (folder / link).symlink_to(elsewhere)
        with pytest.raises(InputError, match="no folder of its own"):
            generator.unpack(path, folder)
        assert not (folder / "source.py").exists()
        assert not list(elsewhere.iterdir())


ODD = {
    "a standard name": (
        {"statistics.py": "def mean(values): return 'own'\n", "random.py": "VALUE = 'own'\n"},
        "import random, statistics\nprint(statistics.mean([1]), random.VALUE)\n",
        "takes the place of the standard module random",
    ),
    "a standard name that Python has imported before": (
        {"os.py": "name = 'own'\n", "io.py": ""},
        "import io, os\nprint(os.name, io.StringIO('x').read())\n",
        None,
    ),
    "a standard module that the bootstrap imports": (
        {"zlib.py": "crc32 = 'own'\n", "base64.py": "import zlib\nb85decode = zlib.crc32\n"},
        "import base64\nprint(base64.b85decode)\n",
        "takes the place of the standard module base64",
    ),
    "a folder without __init__": (
        {"tools/deep/er.py": "VALUE = 1\n", "tools/flat.py": "from tools.deep.er import VALUE\n"},
        "import tools.flat\nfrom tools.deep import er\nprint(tools.flat.VALUE, er.VALUE)\n",
        None,
    ),
    "a name in a call": (
        {"helper.py": "VALUE = 2\n", "more.py": "VALUE = 3\n"},
        "import importlib\nprint(importlib.import_module('helper').VALUE, __import__('more').VALUE)\n",
        None,
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_modules_are_found_as_python_finds_them(golfpack, tmp_path: Path, name: str) -> None:
    files, text, note = ODD[name]
    project = tmp_path / "project"
    for file, contents in {**files, "train.py": text}.items():
        (project / file).parent.mkdir(parents=True, exist_ok=True)
        (project / file).write_text(contents)
    result = golfpack("wrap", project / "train.py", "-o", tmp_path / "out" / "packed.py")
    assert result.status == 0, result.err
    assert note is None or note in result.err
    expected = run_python(sys.executable, project / "train.py", cwd=tmp_path)
    assert run_python(sys.executable, tmp_path / "out" / "packed.py", cwd=tmp_path / "out") == expected != ""


@pytest.mark.parametrize(
    ("line", "note"),
    [
        ("sys.path.insert(0, 'lib')", "line 2: sys.path is used; modules that are found through it are not carried"),
        ("importlib.import_module(sys.argv[0])", "line 2: import_module() of a name that is not known beforehand"),
        ("importlib.import_module('.x', 'y')", "line 2: import_module() of a name that is not known beforehand"),
        ("data = open(os.path.join(os.path.dirname(__file__), 'd'))", "line 2: files are looked for beside the script"),
        ("data = Path(__file__).resolve().parent / 'd'", "line 2: files are looked for beside the script"),
        ("data = sys.argv + [importlib.import_module('json'), Path('.').parent]", None),
    ],
)
def test_what_is_not_carried_is_said(tmp_path: Path, line: str, note: str | None) -> None:
    tree = ast.parse(f"import sys, os, importlib; from pathlib import Path\n{line}\n")
    notes = collect_bundle(tmp_path / "script.py", tree).notes
    assert [found for found in notes if note and found.startswith(note)] == notes
    assert bool(notes) == bool(note)
