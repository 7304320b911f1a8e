"""From script and payload to the artifact's bytes: render → minify → compress → carry."""

from __future__ import annotations

from dataclasses import dataclass

from generator import carriers, compressors
from generator.carriers import AUTO, Cargo, Written
from generator.carriers.header import header_text
from generator.errors import InputError
from generator.packing import Options
from generator.payload import Payload
from generator.source.bundle import add_bundle, readings_of
from generator.source.copies import copier
from generator.source.effects import Effect
from generator.source.program import LoaderKind, Minified, Program, fill_in, minify, render
from generator.source.script import IMPORT_LINE, Script, identifiers
from generator.source.selfreading import reads_own_text, wants_source
from generator.source.shrink import shrinking_notes


@dataclass(frozen=True)
class Emitted:
    """The artifact, and what its author should know.

    Attributes:
        written: the bytes.
        carrier: name of the carrier that wrote them.
        compressor: name of what compressed the program.
        variant: the way of naming that compressed best.
        notes: sentences: what keeps the program from being smaller, what may not work in this carrier.
    """

    written: Written
    carrier: str
    compressor: str
    variant: str
    notes: tuple[str, ...]


class Emitter:
    """Makes artifacts of one script with one set of options, for any number of payloads.

    The script and what it carries are read once, and a program is minified once for each kind of loader.
    """

    def __init__(self, script: Script, options: Options | None = None):
        """Read the script.

        Args:
            script: the user's script; its tree is left as it is.
            options: carrier and the like.

        Raises:
            InputError: a carried module does not compile.
        """
        self._script = script
        self._options = options = options or Options()
        self._readings = readings_of(script.tree, options.bundle)
        self._own_text = reads_own_text(script.tree)
        self._traceable = wants_source(script.tree)
        self._broadcast = makes_process_group(script) if options.broadcast is None else options.broadcast
        bundled = add_bundle(copier(script.tree)(), options.bundle, options.shrinking, self._readings)
        self._bundled = copier(bundled)
        self._minified: dict[LoaderKind | None, Minified] = {}
        self._notes = [*shrinking_notes(script.tree, options.shrinking, self._readings), *options.bundle.notes]
        if self._own_text:
            where = f"line {self._own_text}: the script reads its own file"
            self._notes.append(f"{where}, and will find the packed file there, not its source")

    def emit(self, payload: Payload | None, stem: str = "train_gpt") -> Emitted:
        """Make the artifact: the smallest of the carriers that may be taken.

        Args:
            payload: what `load_state_dict()` is to decode; None for a script without weights.
            stem: file name of the artifact without extension.

        Raises:
            InputError: the script asks for weights and there are none, or the other way round; no allowed carrier fits; the
                script does not compile.
        """
        self.check_weights(payload is not None)
        emitted = (self._emit(payload, name, stem) for name in self._carriers_for(payload))
        return min(emitted, key=lambda one: one.written.size)

    def check_weights(self, given: bool) -> None:
        """That the script asks for weights if there are any, and only then.

        Raises:
            InputError: it doesn't.
        """
        path = self._script.path
        if given and not self._script.loads_weights:
            raise InputError(f"script {path} never loads its weights; add `{IMPORT_LINE}`, or use golfpack wrap")
        if not given and self._script.loads_weights:
            raise InputError(f"script {path} loads weights; pack it with golfpack build --weights CHECKPOINT")

    def program(self, payload: Payload | None, reader: tuple[str, tuple[int, ...]] | None = None) -> Program:
        """What the artifact executes.

        Args:
            payload: as for `emit`.
            reader: how the loader gets at the payload, as `Carrier.reader` says; None for a file that is the payload.
        """
        if payload is None:
            return fill_in(self._minify(None))
        function, numbers = reader or ("read_span", (0, len(payload.data)))
        kind = LoaderKind(payload.decoders, payload.dequantizers, function, len(numbers), self._broadcast)
        return fill_in(self._minify(kind), numbers)

    def _minify(self, kind: LoaderKind | None) -> Minified:
        if kind not in self._minified:
            rendered = render(self._bundled(), kind, self._readings.keeps(Effect.EVERYTHING))
            self._minified[kind] = minify(rendered, self._options.shrinking, self._readings)
        return self._minified[kind]

    def _emit(self, payload: Payload | None, name: str, stem: str) -> Emitted:
        """The artifact in one carrier."""
        carrier = carriers.REGISTRY[name]
        data = payload.data if payload is not None else None
        header_size = len(header_text(data, 0)) if self._options.header else 0
        program = self.program(payload, carrier.reader(data, header_size) if data is not None else None)
        compressor, compressed = compressors.compress(program.text.encode(), self._options.compressor)
        cargo = Cargo(
            compressed,
            data,
            program.names[0] if data is not None else "",
            program.names[1],
            program.names[2],
            header_text(data, len(compressed)) if self._options.header else "",
            compressor,
            self._traceable,
        )
        notes = [*self._notes, *program.notes]
        if self._own_text and not carrier.ascii:
            notes.append(f"carrier {name} is not UTF-8 text, so reading the file as text may fail; base85 is safe")
        return Emitted(carrier.write(cargo, stem), name, compressor, program.variant, tuple(notes))

    def _carriers_for(self, payload: Payload | None) -> list[str]:
        automatic = self._options.carrier == AUTO
        names = [*self._options.allow] if automatic else [self._options.carrier]
        fitting = [name for name in names if payload is not None or not carriers.REGISTRY[name].needs_payload]
        if not fitting:
            *others, last = (name for name, carrier in carriers.REGISTRY.items() if not carrier.needs_payload)
            takers = f"{', '.join(others)} or {last}"
            raise InputError(f"carrier {', '.join(names) or 'none'} needs weights; a script alone goes into {takers}")
        if automatic and self._own_text:
            # A script that logs the size of its own text would stop with a UnicodeDecodeError.
            return [name for name in fitting if carriers.REGISTRY[name].ascii] or fitting
        return fitting


def makes_process_group(script: Script) -> bool:
    """Whether a script uses torch.distributed's process groups."""
    return "init_process_group" in identifiers(script.tree)
