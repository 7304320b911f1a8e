"""Files of nobody knows whom: whatever they hold, the reader ends with one sentence; and it tells what it did not read."""

from __future__ import annotations

import base64
import contextlib
import warnings
import zlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_foreign import FORMS, SOURCE

from generator.audit.bounded_decoders import DECODERS
from generator.audit.foreign import MOST_OTHERS, read_foreign
from generator.errors import InputError

PACKED = zlib.compress(SOURCE)
IMPORTS = "import lzma,zlib,base64,binascii,bz2,gzip,brotli,os\n"
ATOMS = [
    *("b''", "'abc'", "5", "-1", "2.5", "1j", "None", "True", "...", "[]", "{}", "x", "__file__", r"'\ud800'", "'ä'"),
    *("'utf-8'", "'latin-1'", "'surrogatepass'", "'surrogateescape'", "2**70", "10**22", "-15", "31", "zlib.MAX_WBITS"),
    *("lzma.FORMAT_RAW", "lzma.FORMAT_ALONE", "{'id':lzma.FILTER_LZMA1}", "[{'id':lzma.FILTER_LZMA2,'dict_size':'x'}]", "zlib"),
    *("open(__file__)", "open(__file__,'rb').read()", "lambda: 0", "f'{x}'", repr(PACKED), repr(base64.b85encode(PACKED))),
    *(repr(base64.b64encode(PACKED).decode()), repr(PACKED.hex())),
]
FUNCTIONS = [*DECODERS, "bytes", "open", "compile", "len", "(5).encode", "b'1'.decode", "'a'.encode", "x.read"]
KEYWORDS = [
    "s",
    "data",
    "string",
    "altchars",
    "validate",
    "b",
    "adobe",
    "casefold",
    "map01",
    "format",
    "filters",
    "wbits",
    "encoding",
]


def calls(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    positional = st.lists(inner, max_size=2)
    named = st.lists(st.tuples(st.sampled_from(KEYWORDS), inner), max_size=2, unique_by=lambda pair: pair[0])
    return st.builds(
        lambda function, given, options: f"{function}({','.join([*given, *(f'{key}={value}' for key, value in options)])})",
        st.sampled_from(FUNCTIONS),
        positional,
        named,
    )


EXPRESSIONS = st.recursive(
    st.sampled_from(ATOMS),
    lambda inner: st.one_of(
        calls(inner),
        st.builds("({}+{})".format, inner, inner),
        st.builds("({}|{})".format, inner, inner),
        st.builds("({})[{}:{}]".format, inner, inner, inner),
        st.builds("({}).{}({})".format, inner, st.sampled_from(["decode", "encode", "read", "fromhex", "other"]), inner),
        st.builds("[{},{}]".format, inner, inner),
        st.builds("{{{}:{}}}".format, inner, inner),
    ),
    max_leaves=12,
)


def read(text: str | bytes) -> None:
    with warnings.catch_warnings(), contextlib.suppress(InputError):
        warnings.simplefilter("ignore")
        read_foreign(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"), "x.py")


@given(name=EXPRESSIONS, argument=EXPRESSIONS)
@example("b''", "zlib.decompress(base64.b64decode(s='abcd'))")
@example("b''", "(5).encode()")
@example("b''", "b'1'.decode(5)")
@example("b''", r"zlib.decompress(base64.b64decode('\ud800'))")
@example("b''", r"'\ud800' + zlib.decompress(x).decode()")
@example("b''", "base64.b64decode('abc', 'strict')")  # an assertion of the standard library
@example("b''", "lzma.decompress(b'', filters=5)")
@settings(max_examples=300, deadline=None)
def test_arbitrary_expressions(name: str, argument: str) -> None:
    read(f"{IMPORTS}x={name}\nexec({argument})\n")


@pytest.mark.parametrize("form", FORMS)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_mutations_of_real_files(form: str, data: st.DataObject) -> None:
    text = bytearray(FORMS[form].encode())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(text)))
        kind = data.draw(st.sampled_from(["change", "cut", "insert", "repeat"]))
        length = data.draw(st.integers(1, 20))
        if kind == "cut":
            del text[place : place + length]
        elif kind == "repeat":
            text[place:place] = text[place : place + length]
        else:
            text[place : place + length * (kind == "change")] = data.draw(st.binary(min_size=1, max_size=length))
    read(bytes(text))


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_arbitrary_bytes(data: bytes) -> None:
    read(data)
    read(b"exec(" + data + b")")


@pytest.mark.parametrize("depth", [90, 150, 300, 900, 3000])
@pytest.mark.parametrize("shape", ["({}+b'')", "base64.b64decode({})", "[{}]", "({}).decode()", "-{}"])
def test_nested_expressions(depth: int, shape: str) -> None:
    text = "b'a'"
    for _ in range(depth):
        text = shape.format(text)
    with pytest.raises(InputError) as refused:
        read_foreign(f"{IMPORTS}exec({text})\n".encode(), "x.py")
    assert "\n" not in str(refused.value)


def test_names_in_a_chain() -> None:
    text = "a0=b''\n" + "".join(f"a{n + 1}=a{n}\n" for n in range(3000))
    with pytest.raises(InputError, match="nested too deeply"):
        read_foreign(f"{IMPORTS}{text}exec(zlib.decompress(a3000))\n".encode(), "x.py")


@pytest.mark.parametrize("text", ["x = 1\0", "\0", "x = '\\ud800", "é" * 10 + "'", "\x0c\t if"])
def test_syntax_errors_name_a_line_or_none(text: str) -> None:
    with pytest.raises(InputError) as refused:
        read_foreign(text.encode(), "x.py")
    assert "None" not in str(refused.value)
    assert "<unknown>" not in str(refused.value)


EXEC = f"exec(zlib.decompress({PACKED!r}))"
OTHERS: dict[str, tuple[str, list[str]]] = {
    "nothing": (f"'''text'''\nimport zlib\nx=5\ny=x,-1\npass\n{EXEC}\n", []),
    "a call before": (f"import zlib,os\nos.system('true')\n{EXEC}", ["line 2: a call of os.system is not read"]),
    "a call after": (f"import zlib\n{EXEC}\nprint(1)", ["line 3: a call of print is not read"]),
    "a call of what was called": (f"import zlib\nf()()\n{EXEC}", ["line 2: a call is not read"]),
    "a call of what is deep": (f"import zlib\nf{'.x' * 600}()\n{EXEC}", ["line 2: a call is not read"]),
    "a call that is assigned": (f"import zlib,os\nx=os.system('true')\n{EXEC}", ["line 2: a call of os.system is not read"]),
    "a value that is used": (f"import zlib\nx=zlib.decompress({PACKED!r})\nexec(x)", []),
    "a name assigned twice": (
        f"import zlib\nx=f()\nx={PACKED!r}\nexec(zlib.decompress(x))",
        ["line 2: a call of f is not read"],
    ),
    "a second exec": (f"import zlib\n{EXEC}\n{EXEC}", ["line 3: a call of exec is not read"]),
    "an argument": (f"import zlib\nexec(zlib.decompress({PACKED!r}),f())", ["line 2: a call of f is not read"]),
    "its own names": (f"import zlib\nexec(zlib.decompress({PACKED!r}),globals(),{{}})", []),
    "a condition": (f"import zlib\nif 1:\n pass\n{EXEC}", ["line 2: a statement (If) is not read"]),
    "a definition": (f"import zlib\ndef exec_(x): pass\n{EXEC}", ["line 2: the definition of exec_ is not read"]),
    "attributes": (f"import zlib\nzlib.decompress=f\n{EXEC}", ["line 2: an assignment is not read"]),
    "two names": (f"import zlib\na=b=c.d\n{EXEC}", ["line 2: an assignment is not read"]),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_not_read_is_told(name: str) -> None:
    text, expected = OTHERS[name]
    found = read_foreign(text.encode(), "x.py")
    assert (found.source, found.others) == (SOURCE, expected)


def test_layers_tell_too_and_not_without_end() -> None:
    inner = "import zlib\n" + "f()\n" * 30 + EXEC
    found = read_foreign(f"import zlib\ng()\nexec(zlib.decompress({zlib.compress(inner.encode())!r}))".encode(), "x.py")
    assert found.others[:2] == ["line 2: a call of g is not read", "in layer 2, line 2: a call of f is not read"]
    assert found.others[-1] == "in layer 2, 10 more statements are not read"
    assert len(found.others) == 1 + MOST_OTHERS + 1


@pytest.mark.parametrize("name", ["exec", "compile"])
def test_builtins_that_mean_something_else(name: str) -> None:
    with pytest.raises(InputError):
        read_foreign(f"import zlib\n{name}=print\nexec(compile(zlib.decompress({PACKED!r}),'x','exec'))".encode(), "x.py")
