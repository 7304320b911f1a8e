"""How a script is packed, as callers say it: the keyword arguments that `build`, `wrap` and `fit` share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from typing_extensions import TypedDict

from generator.carriers import AUTO, DEFAULT_ALLOW, DEFAULT_CARRIER
from generator.emit import Options
from generator.source.collecting import collect_bundle
from generator.source.options import NOTICEABLE
from generator.source.script import Script
from generator.source.shrink import Shrinking


class PackingOptions(TypedDict, total=False):
    """Each may be left out.

    Attributes:
        carrier: name in `generator.carriers.REGISTRY`, or "auto" for the smallest; "base85" by default.
        allow: carriers that "auto" may choose; by default base85, latin1 and zip.
        header: whether the file begins with a comment that says what it is; it does by default.
        coder: compression of the code, a name in `generator.source.compress.CODERS`, or "auto", the default.
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
    coder: str
    include: Sequence[str | Path]
    local_modules: bool
    safe: bool
    skip_steps: Sequence[str]
    extra_steps: Sequence[str]
    keep_names: Sequence[str]
    broadcast: bool | None


def packing_options(script: Script, packing: PackingOptions) -> Options:
    """What the emitter goes by.

    Raises:
        InputError: an unknown name, or a file that can't be carried.
    """
    noticeable = NOTICEABLE if packing.get("safe") else frozenset()
    return Options(
        packing.get("carrier", DEFAULT_CARRIER),
        tuple(packing.get("allow", DEFAULT_ALLOW)),
        packing.get("header", True),
        packing.get("coder", AUTO),
        Shrinking(
            frozenset(packing.get("skip_steps", ())) | noticeable,
            frozenset(packing.get("extra_steps", ())),
            frozenset(packing.get("keep_names", ())),
        ),
        collect_bundle(script.path, script.tree, packing.get("include", ()), packing.get("local_modules", True)),
        packing.get("broadcast"),
    )
