"""From script and payload to the artifact's bytes: inline the loader, minify, compress, carry."""

from __future__ import annotations

import ast
import copy

import python_minifier

from generator import carriers
from generator.carriers import Parts
from generator.errors import InputError
from generator.payload import read_manifest
from generator.source.compress import compress_code
from generator.source.loader import render_loader
from generator.source.minify import minify
from generator.source.script import IMPORT_LINE, Script, fill_placeholders, identifiers, parse, replace_imports
from generator.version import __version__

_PLACEHOLDER = "golfpack_loader_goes_here"


def emit(script: Script, payload: bytes | None, carrier: str = "base85", header: bool = True) -> bytes:
    """The artifact.

    Args:
        script: the user's script.
        payload: what `load_state_dict()` is to decode; None for a script without weights.
        carrier: name in `generator.carriers.REGISTRY`.
        header: whether the file begins with a comment that says what it is.

    Raises:
        InputError: the script asks for weights and there are none, or the other way round.
    """
    if carrier not in carriers.REGISTRY:
        raise InputError(f"unknown carrier {carrier!r}; known: {', '.join(carriers.REGISTRY)}")
    if payload is not None and not script.loads_weights:
        raise InputError(f"script {script.path} never loads its weights; add `{IMPORT_LINE}`, or use golfpack wrap")
    if payload is None and script.loads_weights:
        raise InputError(f"script {script.path} loads weights; pack it with golfpack build --weights CHECKPOINT")
    text, payload_name, code_name = render_code(script, payload)
    code = compress_code(text.encode())
    comment = ""
    if header:
        sizes = f"{len(payload):,} B of weights, " if payload is not None else ""
        comment = f"golfpack {__version__}: {sizes}{len(code):,} B of code; to read, not run: golfpack unpack FILE -o DIR"
    return carriers.REGISTRY[carrier].write(Parts(code, payload, payload_name, code_name, comment))


def render_code(script: Script, payload: bytes | None) -> tuple[str, str, str]:
    """The minified code with the loader inlined, and two global names for the carrier: of payload and of code."""
    tree = copy.deepcopy(script.tree)
    if payload is None:
        text = minify(tree)
        return (text, *_free_names(ast.parse(text)))
    text = minify(replace_imports(tree, _PLACEHOLDER))
    minified = parse(text.encode(), str(script.path))
    payload_name, code_name = _free_names(minified)
    manifest = read_manifest(payload)
    loader = render_loader(
        {stream.codec for stream in manifest.streams},
        {tensor.dequantizer for tensor in manifest.tensors},
        payload_name,
    )
    return python_minifier.unparse(fill_placeholders(minified, _PLACEHOLDER, loader)), payload_name, code_name


def _free_names(tree: ast.Module) -> tuple[str, str]:
    """Two short names that occur nowhere in the script, upper case first since locals are shortened to those last."""
    taken = identifiers(tree)
    single = [chr(code) for code in range(ord("Z"), ord("A") - 1, -1)]
    candidates = [*single, *(f"{first}{second}" for first in single for second in single)]
    free = [name for name in candidates if name not in taken]
    return free[0], free[1]
