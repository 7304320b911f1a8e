"""Which names, docstrings and annotations a script and its carried modules read at run time, found in their syntax trees.

They are looked at together: a registry in one file may read the names of another's functions. What is found keeps what it
reads from being changed, and is reported with its line.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from generator.source.contexts import (
    SCOPES,
    evaluated_outside,
    is_about_main,
    is_bound,
    names_a_logger,
    names_an_environment_variable,
    only_compared,
    takes_another_module,
)
from generator.source.effects import (
    ANYTHING,
    BUILTINS,
    GIVEN,
    HARMLESS_INSPECT,
    LOOKUPS,
    MODULES,
    READS_ONE_OBJECT,
    WORDS,
    Effect,
)
from generator.source.foreign_calls import given_to_foreign, imported_names, root_name
from generator.source.saving import objects_saved

_LOOKS_UP = "{}() looks names up"
_LOOKS_LIKE_A_NAME = re.compile(r"[\w.:]+")
_FORMAT_FIELD = re.compile(r"%\((\w+)\)|\{(\w+)")
_WORD = re.compile(r"[^\W\d]\w*")


@dataclass(frozen=True)
class Finding:
    """A place that reads something, and what stays for it."""

    where: str  # the carried module, "" for the script
    line: int
    what: str
    effect: Effect | None  # None where nothing stays: the author is told

    def __str__(self) -> str:
        place = f"module {self.where}, line" if self.where else "line"
        return f"{place} {self.line}: {self.what}" + (f", {self.effect.value}" if self.effect else "")


@dataclass(frozen=True)
class Readings:
    """What a script and its carried modules read at run time, together.

    Attributes:
        findings: in order of file and line.
        strings: words in strings that look like names.
        shown: variables that are printed as they are, or serve as a type of argparse; `x()` where a call's result is printed.
        keywords: names that calls pass by keyword.
        words: identifiers.
    """

    findings: tuple[Finding, ...]
    strings: frozenset[str]
    shown: frozenset[str]
    keywords: frozenset[str]
    words: frozenset[str]

    def keeps(self, effect: Effect) -> bool:
        """Whether something, anywhere, has this effect."""
        return any(finding.effect is effect for finding in self.findings)

    def looks_up(self) -> bool:
        """Whether any name may be looked up by string."""
        return any(finding.effect in LOOKUPS for finding in self.findings)

    def keeps_globals(self) -> bool:
        """Whether global names stay."""
        return self.keeps(Effect.GLOBALS) or self.keeps(Effect.EVERYTHING)

    def notes(self, effects: Collection[Effect] = tuple(Effect)) -> list[str]:
        """One sentence for each kind of reading that has one of the effects, with its first line."""
        told, notes = set(), []
        for finding in self.findings:
            if finding.effect not in effects and finding.effect is not None:
                continue
            if (finding.where, finding.what, finding.effect) not in told:
                told.add((finding.where, finding.what, finding.effect))
                notes.append(str(finding))
        return notes


def find_readings(script: ast.Module, modules: Mapping[str, ast.Module] | None = None) -> Readings:
    """Find out what a script and its carried modules, by dotted name, read at run time. The trees are left as they are."""
    files = {"": script, **(modules or {})}
    own = frozenset(name.split(".")[0] for name in files)
    readers = [_Reader(where, tree, own) for where, tree in files.items()]
    return Readings(
        tuple(sorted({finding for reader in readers for finding in reader.findings}, key=_place)),
        frozenset().union(*(reader.strings for reader in readers)),
        frozenset().union(*(reader.shown for reader in readers)),
        frozenset().union(*(reader.keywords for reader in readers)),
        frozenset().union(*(reader.words for reader in readers)),
    )


def _place(finding: Finding) -> tuple[str, int, str, str]:
    return finding.where, finding.line, finding.what, finding.effect.name if finding.effect else ""


def kept_scopes(tree: ast.Module) -> list[ast.AST]:
    """The outermost functions in which local names are looked up by string."""
    return _Reader("", ast.fix_missing_locations(tree)).kept_scopes


class _Reader:
    """Reads one file."""

    def __init__(self, where: str, tree: ast.Module, own_modules: frozenset[str] = frozenset()):
        self.where = where
        self.findings: set[Finding] = set()
        self.strings: set[str] = set()
        self.shown: set[str] = set()
        self.keywords: set[str] = set()
        self.words: set[str] = set()
        self.kept_scopes: list[ast.AST] = []
        self._imports = imported_names(tree)
        self._walk(tree)
        for line, name, module in given_to_foreign(tree, own_modules):
            self._find(line, f"{module} is given {name} and may read its name, docstring and annotations", GIVEN)
        for line, certain in objects_saved(tree):
            if certain:
                self._find(line, "torch.save writes objects of classes", {Effect.DEFINITIONS})
            else:
                self._tell(line, "torch.save may write objects of classes; their names would be short in the file")

    def _find(self, line: int, what: str, effects: Iterable[Effect]) -> None:
        self.findings.update(Finding(self.where, line, what, effect) for effect in effects)

    def _tell(self, line: int, what: str) -> None:
        self.findings.add(Finding(self.where, line, what, None))

    def _walk(self, tree: ast.Module) -> None:
        # Without recursion: (node, its parent, the scopes around it).
        stack: list[tuple[ast.AST, ast.AST, tuple[ast.AST, ...]]] = [(tree, tree, (tree,))]
        while stack:
            node, parent, scopes = stack.pop()
            self._visit(node, parent, scopes)
            inner = (*scopes, node) if isinstance(node, (*SCOPES, ast.ClassDef)) else scopes
            outside = {id(child) for child in evaluated_outside(node)}
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.arguments | ast.comprehension):  # they have no place of their own
                    self._visit(child, node, inner)
                    stack.extend((x, child, scopes if id(x) in outside else inner) for x in ast.iter_child_nodes(child))
                else:
                    stack.append((child, node, scopes if id(child) in outside else inner))

    def _visit(self, node: ast.AST, parent: ast.AST, scopes: tuple[ast.AST, ...]) -> None:
        if isinstance(node, ast.Name):
            self._name(node, parent, scopes)
        elif isinstance(node, ast.Attribute):
            self._word(node.attr, node.lineno)
            self._attribute(node, parent)
        elif isinstance(node, ast.Constant):
            if isinstance(node.value, str) and not (isinstance(parent, ast.Expr) and parent.value is node):
                self._string(node, parent)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            self._word(node.name, node.lineno)
        elif isinstance(node, ast.keyword):
            if node.arg:
                self._word(node.arg, node.value.lineno)
                self.keywords.add(node.arg)
        elif isinstance(node, ast.arg):
            self._word(node.arg, node.lineno)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            self._import(node)
        elif isinstance(node, ast.Call):
            self._call(node, parent)
        elif isinstance(node, ast.FormattedValue):
            self._shows(node.value)
        if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None:
            self._annotation(node.annotation)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.returns is not None:
            self._annotation(node.returns)
        elif isinstance(node, ast.MatchClass):
            self.keywords.update(node.kwd_attrs)

    def _word(self, word: str, line: int) -> None:
        self.words.add(word)
        if word in WORDS:
            self._find(line, f"{word} reads what the program defines", WORDS[word])

    def _name(self, node: ast.Name, parent: ast.AST, scopes: tuple[ast.AST, ...]) -> None:
        if node.id == "__name__":
            if not is_about_main(parent) and not names_a_logger(parent):
                self._find(node.lineno, "the module's __name__ may serve to look it up", {Effect.GLOBALS})
            return
        self._word(node.id, node.lineno)
        if node.id not in BUILTINS or not isinstance(node.ctx, ast.Load) or is_bound(node.id, scopes):
            return
        call = parent if isinstance(parent, ast.Call) and parent.func is node else None
        if call and node.id in READS_ONE_OBJECT and call.args and not isinstance(call.args[0], ast.Starred):
            return
        functions = [scope for scope in scopes if isinstance(scope, SCOPES)]
        in_function, at_module_level = BUILTINS[node.id]
        effects = in_function if functions else at_module_level
        if not any(isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) for scope in scopes):
            effects |= at_module_level  # since Python 3.12, comprehensions are part of what is around them
        if not call and effects & LOOKUPS:
            effects = frozenset({Effect.EVERYTHING})  # it may be called anywhere
        if Effect.SCOPE in effects:
            self.kept_scopes.append(functions[0])
        self._find(node.lineno, f"{node.id}() reads docstrings" if node.id == "help" else _LOOKS_UP.format(node.id), effects)

    def _attribute(self, node: ast.Attribute, parent: ast.AST) -> None:
        root = self._imports.get(node.value.id, "") if isinstance(node.value, ast.Name) else ""
        if root == "inspect":
            self._inspect(node.attr, node.lineno)
        if node.attr in BUILTINS and root == "builtins":
            self._find(node.lineno, _LOOKS_UP.format(node.attr), {Effect.EVERYTHING})
        called = isinstance(parent, ast.Call) and parent.func is node  # network.modules() is another thing
        if node.attr == "modules" and (root == "sys" or not called) and not takes_another_module(node, parent):
            self._find(node.lineno, "sys.modules may give the program itself", {Effect.GLOBALS})
        if node.attr == "__class__" and not only_compared(node, parent):
            self._find(node.lineno, "a class may be printed", {Effect.DEFINITIONS})

    def _call(self, node: ast.Call, parent: ast.AST) -> None:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name == "type" and len(node.args) == 1 and not only_compared(node, parent):
            self._find(node.lineno, "a class may be printed", {Effect.DEFINITIONS})
        if name in {"print", "str", "repr", "format"}:
            for argument in node.args:
                self._shows(argument)
        for keyword in node.keywords:
            if keyword.arg == "type" and isinstance(keyword.value, ast.Name):
                self.shown.add(keyword.value.id)  # argparse names it in messages

    def _shows(self, printed: ast.expr) -> None:
        """What is printed may be a class or a function, a method of a class, or an instance that is made there."""
        if isinstance(printed, ast.Call) and isinstance(printed.func, ast.Name):
            self.shown.add(f"{printed.func.id}()")
        elif isinstance(printed, ast.Name | ast.Attribute):
            self.shown.add(root_name(printed))

    def _string(self, node: ast.Constant, parent: ast.AST) -> None:
        text = str(node.value)
        if (text == "__main__" and is_about_main(parent)) or names_an_environment_variable(node, parent):
            return
        if _LOOKS_LIKE_A_NAME.fullmatch(text):
            found = _WORD.findall(text)
            self.strings.update(found)
            for word in found:
                self._word(word, node.lineno)
            if text in MODULES and isinstance(parent, ast.Call):
                self._module(text, node.lineno)
        elif "%(" in text or "{" in text:
            for fields in _FORMAT_FIELD.findall(text):
                self._word(fields[0] or fields[1], node.lineno)
        if "builtins" in self._imports.values() and text in BUILTINS:
            self._find(node.lineno, _LOOKS_UP.format(text), {Effect.EVERYTHING})

    def _annotation(self, annotation: ast.expr) -> None:
        """Strings in annotations are evaluated, or searched for ClassVar, so their names stay."""
        for node in ast.walk(annotation):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                self.strings.update(_WORD.findall(node.value))

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        for alias in node.names:
            for word in alias.name.split("."):
                self._word(word, node.lineno)
            if alias.asname:
                self._word(alias.asname, node.lineno)
        if isinstance(node, ast.Import):
            for alias in node.names:
                self._module(alias.name, node.lineno)
        elif not node.level and node.module:
            for word in node.module.split("."):
                self._word(word, node.lineno)
            self._module(node.module, node.lineno)
            if node.names[0].name == "*":
                self._find(node.lineno, f"from {node.module} import * brings unknown names", {Effect.GLOBALS})
            for alias in node.names:
                if node.module == "inspect":
                    self._inspect(alias.name, node.lineno)
                elif node.module == "sys" and alias.name == "modules":
                    self._find(node.lineno, "sys.modules may give the program itself", {Effect.GLOBALS})
                elif node.module == "builtins" and alias.name in BUILTINS:
                    self._find(node.lineno, _LOOKS_UP.format(alias.name), {Effect.EVERYTHING})
        elif node.names[0].name == "*":
            self._find(node.lineno, "from . import * brings unknown names", {Effect.GLOBALS})

    def _module(self, name: str, line: int) -> None:
        top = name.split(".")[0]
        if top in MODULES:
            self._find(line, f"{top} reads what the program defines", MODULES[top])

    def _inspect(self, function: str, line: int) -> None:
        if function not in HARMLESS_INSPECT and function not in WORDS:
            self._find(line, f"inspect.{function} may read anything", ANYTHING)
