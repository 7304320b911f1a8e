"""How a script is packed: the keyword arguments that `build`, `wrap` and `fit` share, and what the emitter makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from typing_extensions import TypedDict

from generator import carriers, compressors
from generator.carriers import AUTO, DEFAULT_ALLOW, DEFAULT_CARRIER
from generator.errors import InputError
from generator.source.collecting import Bundle, collect_bundle
from generator.source.options import NOTICEABLE
from generator.source.script import Script
from generator.source.shrink import Shrinking


@dataclass(frozen=True)
class Options:
    """How a script and a payload become an artifact.

    Attributes:
        carrier: name in `generator.carriers.REGISTRY`, or "auto" for the smallest of `allow`.
        allow: carriers that "auto" may choose from.
        header: whether the file begins with a comment that says what it is.
        compressor: what compresses the program, a name in `generator.compressors.REGISTRY`; "auto" for the smallest.
        shrinking: steps of shrinking.
        bundle: modules and files that the artifact carries.
        broadcast: whether one process of each node decodes for all; None to do so where the script makes a process group.
    """

    carrier: str = DEFAULT_CARRIER
    allow: tuple[str, ...] = DEFAULT_ALLOW
    header: bool = True
    compressor: str = compressors.AUTO
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
        if self.compressor != compressors.AUTO and self.compressor not in compressors.REGISTRY:
            known = ", ".join(compressors.REGISTRY)
            raise InputError(f"unknown compressor {self.compressor!r}; known: {known}, {compressors.AUTO}")


class PackingOptions(TypedDict, total=False):
    """Each may be left out.

    Attributes:
        carrier: name in `generator.carriers.REGISTRY`, or "auto" for the smallest; "base85" by default.
        allow: carriers that "auto" may choose; by default those that write one file.
        header: whether the file begins with a comment that says what it is; it does by default.
        compressor: what compresses the program, a name in `generator.compressors.REGISTRY`, or "auto", the default.
        include: modules, packages and data files to carry.
        local_modules: whether modules that the script imports from its own folder are carried; they are by default.
        safe: whether only names of local variables are shortened; see `generator.source.options.NOTICEABLE`.
        skip_steps: steps of `generator.source.options.STEPS` to leave out.
        extra_steps: steps of `generator.source.options.OPTIONAL` to do.
        keep_names: global names to leave as they are.
        broadcast: whether one process of each node decodes and sends; None, the default, to do so where the script makes a
            process group.
    """

    carrier: str
    allow: Sequence[str]
    header: bool
    compressor: str
    include: Sequence[str | Path]
    local_modules: bool
    safe: bool
    skip_steps: Sequence[str]
    extra_steps: Sequence[str]
    keep_names: Sequence[str]
    broadcast: bool | None


def packing_options(script: Script, packing: PackingOptions, carried: Bundle | None = None) -> Options:
    """What the emitter goes by; `carried` is what a script brings along that was packed before.

    Raises:
        InputError: an unknown name, or a file that can't be carried.
        TypeError: an unknown keyword argument.
    """
    unknown = packing.keys() - PackingOptions.__annotations__.keys()
    if unknown:
        raise TypeError(f"unexpected keyword argument {min(unknown)!r}")
    noticeable = NOTICEABLE if packing.get("safe") else frozenset()
    return Options(
        packing.get("carrier", DEFAULT_CARRIER),
        tuple(packing.get("allow", DEFAULT_ALLOW)),
        packing.get("header", True),
        packing.get("compressor", compressors.AUTO),
        Shrinking(
            frozenset(packing.get("skip_steps", ())) | noticeable,
            frozenset(packing.get("extra_steps", ())),
            frozenset(packing.get("keep_names", ())),
        ),
        collect_bundle(script.path, script.tree, packing.get("include", ()), packing.get("local_modules", True), carried),
        packing.get("broadcast"),
    )
