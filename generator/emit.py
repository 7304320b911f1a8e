"""From script and payload to the artifact's bytes: inline the loader, shrink, compress, carry."""

from __future__ import annotations

import ast
import copy
import pickle
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from python_minifier import unparse

from generator import carriers
from generator.carriers import AUTO, Parts, Written
from generator.carriers.header import header_text
from generator.errors import InputError
from generator.payload import Payload
from generator.source.bundle import add_bundle, read_whole
from generator.source.collecting import Bundle
from generator.source.compress import AUTOMATIC, CODERS, compress_code, compress_lzma
from generator.source.effects import Effect
from generator.source.loader import render_loader
from generator.source.positional import binding_counts
from generator.source.readings import Program
from generator.source.script import (
    IMPORT_LINE,
    Script,
    free_names,
    identifiers,
    parse,
    replace_imports,
    substitute,
    unused_name,
)
from generator.source.selfreading import reads_own_text, wants_source
from generator.source.shrink import Shrinking, minify, shrink, shrinking_notes


@dataclass(frozen=True)
class Options:
    """How a script and a payload become an artifact.

    Attributes:
        carrier: name in `generator.carriers.REGISTRY`, or "auto" for the smallest of `allow`.
        allow: carriers that "auto" may choose from.
        header: whether the file begins with a comment that says what it is.
        coder: compression of the code, a name in CODERS; "auto" for the smaller of lzma and zlib.
        shrinking: steps of code shrinking.
        bundle: modules and files that the artifact carries.
        broadcast: whether one process of each node decodes for all; None to do so where the script makes a process group.
    """

    carrier: str = carriers.DEFAULT_CARRIER
    allow: tuple[str, ...] = carriers.DEFAULT_ALLOW
    header: bool = True
    coder: str = AUTO
    shrinking: Shrinking = field(default_factory=Shrinking)
    bundle: Bundle = field(default_factory=Bundle)
    broadcast: bool | None = None

    def __post_init__(self) -> None:
        known = ", ".join(carriers.REGISTRY)
        if self.carrier != AUTO and self.carrier not in carriers.REGISTRY:
            raise InputError(f"unknown carrier {self.carrier!r}; known: {known}, {AUTO}")
        for name in self.allow:
            if name not in carriers.REGISTRY:
                raise InputError(f"unknown carrier {name!r} in the list of those allowed; known: {known}")
        if self.coder != AUTO and self.coder not in CODERS:
            raise InputError(f"unknown code compression {self.coder!r}; known: {', '.join(CODERS)}, {AUTO}")


@dataclass(frozen=True)
class Emitted:
    """The artifact, and what its author should know.

    Attributes:
        written: the bytes.
        carrier: name of the carrier that wrote them.
        coder: name of the code's compression.
        variant: the way of naming that compressed best.
        notes: sentences: what keeps the code from being smaller, what may not work in this carrier.
    """

    written: Written
    carrier: str
    coder: str
    variant: str
    notes: list[str]


def emit(script: Script, payload: Payload | None, options: Options | None = None, stem: str = "train_gpt") -> Emitted:
    """Make the artifact.

    Args:
        script: the user's script.
        payload: what `load_state_dict()` is to decode; None for a script without weights.
        options: carrier and the like.
        stem: file name of the artifact without extension.

    Raises:
        InputError: the script asks for weights and there are none, or the other way round; no allowed carrier fits.
    """
    options = options or Options()
    if payload is not None and not script.loads_weights:
        raise InputError(f"script {script.path} never loads its weights; add `{IMPORT_LINE}`, or use golfpack wrap")
    if payload is None and script.loads_weights:
        raise InputError(f"script {script.path} loads weights; pack it with golfpack build --weights CHECKPOINT")
    notes = shrinking_notes(script.tree, options.shrinking, read_whole(script.tree, options.bundle))
    notes += options.bundle.notes
    own_text = reads_own_text(script.tree)
    if own_text:
        notes.append(f"line {own_text}: the script reads its own file, and will find the packed file there, not its source")
    results = []
    for name in _carriers_for(options, payload, own_text):
        emitted = _emit(script, payload, options, name, stem, notes)
        if own_text and not carriers.REGISTRY[name].ascii:
            emitted.notes.append(f"carrier {name} is not UTF-8 text, so reading the file as text may fail; base85 is safe")
        results.append(emitted)
    return min(results, key=lambda emitted: emitted.written.size)


def _carriers_for(options: Options, payload: Payload | None, own_text: int) -> Iterator[str]:
    names: Collection[str] = options.allow if options.carrier == AUTO else [options.carrier]
    fitting = [name for name in names if payload is not None or not carriers.REGISTRY[name].needs_payload]
    if not fitting:
        raise InputError(f"carrier {', '.join(names) or 'none'} needs weights; a script alone goes into base85, latin1 or zip")
    if options.carrier == AUTO and own_text:
        # A script that logs the size of its own text would stop with a UnicodeDecodeError.
        fitting = [name for name in fitting if carriers.REGISTRY[name].ascii] or fitting
    yield from fitting


def _emit(script: Script, payload: Payload | None, options: Options, name: str, stem: str, notes: list[str]) -> Emitted:
    carrier = carriers.REGISTRY[name]
    data = payload.data if payload is not None else None
    header_size = len(header_text(data, 0)) if options.header else 0
    source = carrier.source(data, header_size) if data is not None else None
    rendered = render_code(script, payload, options, source)
    coder, code = min(
        ((coder, compress_code(rendered.text.encode(), coder)) for coder in _coders(options)), key=lambda pair: len(pair[1])
    )
    parts = Parts(
        code,
        data,
        rendered.names[0] if payload is not None else "",
        rendered.names[1],
        rendered.names[2],
        header_text(data, len(code)) if options.header else "",
        coder,
        wants_source(script.tree),
    )
    return Emitted(carrier.write(parts, stem), name, coder, rendered.variant, [*notes, *rendered.notes])


def _coders(options: Options) -> tuple[str, ...]:
    return AUTOMATIC if options.coder == AUTO else (options.coder,)


@dataclass(frozen=True)
class Rendered:
    """The code that the artifact executes, and three global names that it leaves free: for payload, code and scratch.

    The code refers to the payload by the first of them.
    """

    text: str
    names: tuple[str, str, str]
    variant: str
    notes: tuple[str, ...] = ()


def render_code(
    script: Script,
    payload: Payload | None,
    options: Options | None = None,
    source: tuple[str, tuple[int, ...]] | None = None,
) -> Rendered:
    """The smallest minified code, with the loader inlined where the script loads weights."""
    options = options or Options()
    program = read_whole(script.tree, options.bundle)
    tree = add_bundle(copy.deepcopy(script.tree), options.bundle, options.shrinking, program)
    if payload is None:
        best = _minified(pickle.dumps(tree), options.shrinking, program)
        return Rendered(best.text, free_names(best.tree()), best.name, best.notes)
    reader, arguments = source or ("read_span", (0, len(payload.data)))
    taken = identifiers(tree)
    # Names stand for what is known later: the payload's name until it is known which are free; its sizes, so that code for
    # payloads that differ in size alone, as a search makes, is minified once.
    name = unused_name("golfpack_payload", taken)
    numbers = {unused_name(f"golfpack_number_{index}", taken): number for index, number in enumerate(arguments)}
    loader = render_loader(
        payload.decoders,
        payload.dequantizers,
        name,
        (reader, [*numbers]),
        makes_process_group(script.tree) if options.broadcast is None else options.broadcast,
        binding_counts(tree).keys(),
    )
    if program.keeps(Effect.EVERYTHING):
        loader = _shrink_alone(loader, name)
    best = _minified(pickle.dumps(replace_imports(tree, loader)), options.shrinking, program)
    names = free_names(best.tree())
    values: dict[str, ast.expr] = {placeholder: ast.Constant(number) for placeholder, number in numbers.items()}
    text = unparse(substitute(best.tree(), {**values, name: ast.Name(names[0], ast.Load())}), prefer_single_line=True)
    return Rendered(text, names, best.name, best.notes)


@dataclass(frozen=True)
class _Minified:
    """The way of naming that compresses best, and what it gives."""

    name: str
    text: str
    notes: tuple[str, ...]

    def tree(self) -> ast.Module:
        """Its syntax tree, made anew."""
        return parse(self.text.encode(), "minified code")


@lru_cache(maxsize=8)
def _minified(pickled: bytes, shrinking: Shrinking, program: Program) -> _Minified:
    """The smallest variant of a pickled syntax tree."""
    shrunk = shrink(pickle.loads(pickled), shrinking, program=program)
    best = min(shrunk.variants, key=lambda variant: len(compress_lzma(variant.text.encode(), quick=True)))
    return _Minified(best.name, best.text, tuple(shrunk.notes))


def makes_process_group(tree: ast.Module) -> bool:
    """Whether the script uses torch.distributed's process groups."""
    return "init_process_group" in identifiers(tree)


def _shrink_alone(loader: ast.FunctionDef, payload_name: str) -> ast.FunctionDef:
    """The loader with short names, for a script in which nothing can be renamed."""
    text = minify(ast.Module([loader], []), Shrinking(keep_names=frozenset({loader.name, payload_name})))
    definition = ast.parse(text).body[0]
    assert isinstance(definition, ast.FunctionDef)
    return definition
