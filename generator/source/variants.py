"""Ways of naming: which are allowed, and the text that each gives, compiled before it counts."""

from __future__ import annotations

import ast
import warnings
from dataclasses import dataclass

from python_minifier import UnstableMinification
from python_minifier.ast_annotation import add_parent
from python_minifier.rename import (
    add_namespace,
    allow_rename_globals,
    allow_rename_locals,
    bind_names,
    rename_literals,
    resolve_names,
)
from python_minifier.transforms.remove_exception_brackets import remove_no_arg_exception_call

from generator.source.effects import Effect
from generator.source.keeping import Kept
from generator.source.naming import Naming, Renamer
from generator.source.options import Shrinking
from generator.source.positional import restore_parameters
from generator.source.printing import print_short
from generator.source.readings import Readings, kept_scopes
from generator.source.selfreading import want_source


@dataclass(frozen=True)
class Way:
    """One way to name things.

    Attributes:
        naming: how names are handed out.
        hoist: whether literals that are used often become variables.
    """

    naming: Naming
    hoist: bool = False


WAYS = {
    "by appearance": Way(Naming()),
    "by appearance, parameters copied": Way(Naming(copy_parameters=True)),
    "by use": Way(Naming(by_appearance=False)),
    "by use, all aliased": Way(Naming(by_appearance=False, copy_parameters=True, alias_builtins=True)),
    "by appearance, literals hoisted": Way(Naming(), hoist=True),
}


@dataclass(frozen=True)
class Permission:
    """What may be renamed in a file, and how.

    Attributes:
        local_names, global_names: whether they are shortened.
        copies: whether a parameter may be copied to a variable of a short name.
        aliases: whether builtins may get a global alias, and literals a variable.
        hoists: whether literals may become variables.
    """

    local_names: bool
    global_names: bool
    copies: bool
    aliases: bool
    hoists: bool

    def allows(self, way: Way) -> bool:
        """Whether a way of naming is allowed."""
        naming = way.naming
        wanted = ((naming.copy_parameters, self.copies), (naming.alias_builtins, self.aliases), (way.hoist, self.hoists))
        return all(allowed for does, allowed in wanted if does)


def permitted(options: Shrinking, readings: Readings) -> Permission:
    """What the readings leave to rename."""
    local_names = options.does("locals") and not readings.keeps(Effect.EVERYTHING)
    global_names = options.does("globals") and not readings.keeps_globals()
    # A compiler that reads functions as text knows neither the aliases of builtins nor variables for literals.
    readers = want_source(readings.words)
    aliases = global_names and not readers and not readings.keeps(Effect.BUILTINS)
    return Permission(
        local_names, global_names, local_names and not readers, aliases, aliases and not readings.keeps(Effect.SCOPE)
    )


def print_named(
    module: ast.Module, options: Shrinking, readings: Readings, permission: Permission, way: Way, kept: Kept
) -> str:
    """Rename in place, and give the text.

    Raises:
        SyntaxError: the text would not compile, or there is none.
    """
    if permission.local_names or permission.global_names or options.does("fold"):
        _rename(module, options, readings, permission, way, kept)
    restore_parameters(module)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in the user's strings are the user's affair
        try:
            text = print_short(module)
        except UnstableMinification as error:
            raise SyntaxError(getattr(error.exception, "msg", str(error.exception))) from error  # type: ignore[attr-defined]
        except ValueError as error:
            raise SyntaxError(str(error)) from error
        compile(text, "the minified program", "exec", dont_inherit=True)
    return text


def _rename(module: ast.Module, options: Shrinking, readings: Readings, permission: Permission, way: Way, kept: Kept) -> None:
    scopes = kept_scopes(module) if readings.keeps(Effect.SCOPE) else []
    add_parent(module)
    add_namespace(module)
    bind_names(module)
    resolve_names(module)
    if options.does("fold") and not readings.looks_up() and not readings.keeps(Effect.BUILTINS):
        remove_no_arg_exception_call(module)
    preserved = module.preserved  # type: ignore[attr-defined]
    allow_rename_locals(module, permission.local_names, kept.everywhere | preserved)
    allow_rename_globals(module, permission.global_names, [*sorted(kept.everywhere | kept.as_globals), *sorted(preserved)])
    if way.hoist:
        rename_literals(module)
    Renamer(way.naming, readings.keywords, readings.strings, readings.keeps(Effect.SIGNATURES), scopes).rename(
        module, [*sorted(kept.everywhere | kept.as_globals), *sorted(preserved)]
    )
