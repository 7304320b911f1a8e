"""Programs made at random: valid, terminating, and full of names that play several roles.

They end by construction: a function calls only functions of a lower level, loops run over three items at most, and
every expression holds at most one variable, so that values grow no faster than the program runs. They print plain values
and the types of exceptions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from hypothesis import strategies as st

T = TypeVar("T")

# The same few names for globals, locals, parameters, attributes, keywords and strings; among them those that renaming hands
# out, and names of builtins.
LETTERS = ("A", "B", "C", "D", "E")  # what renaming hands out first
NAMES = ("a", "b", "A", "B", "value", "len", "self", "key")
FUNCTIONS = (("f", "sum"), ("g", "max", "C1"), ("h", "B2"))  # by level
CLASSES = ("K", "L", "A", "Base")
ATTRIBUTES = ("a", "A", "value", "__p", "len", "_K__p")
METHODS = ("m", "a2", "get", "__q", "sum")
CONSTANTS = ("0", "1", "2", '"a"', '"A"', '"value"', "None", "(1, 2)", "[3]", "True")
ERRORS = ("ValueError", "KeyError", "TypeError", "Exception", "LookupError")


CHOICES = 600  # bytes; few programs need more


@dataclass(frozen=True)
class Parameters:
    """What a callable takes: text for the definition, and the names that calls may use."""

    text: str
    names: tuple[str, ...]
    any_keyword: bool = False


@dataclass
class Scope:
    """Where code is written: the names that are likely bound, and what it may call."""

    bound: list[str]
    level: int  # functions of lower levels may be called
    in_function: bool = False
    instance: str = ""  # the name of `self`, in methods
    in_class: bool = False
    loops: int = 0


@dataclass
class Writer:
    """Writes one program; every choice takes a byte, and after the last one the first option."""

    choices: Iterator[int]
    functions: dict[str, tuple[int, Parameters]] = field(default_factory=dict)
    classes: dict[str, Parameters] = field(default_factory=dict)
    objects: dict[str, str] = field(default_factory=dict)
    methods: dict[str, dict[str, Parameters]] = field(default_factory=dict)
    cached: set[str] = field(default_factory=set)

    def one(self, options: tuple[T, ...] | list[T]) -> T:
        return options[next(self.choices, 0) % len(options)]

    def number(self, low: int, high: int) -> int:
        return low + next(self.choices, 0) % (high - low + 1)

    def chance(self, percent: int) -> bool:
        return self.number(1, 100) > 100 - percent

    # Expressions.

    def variable(self, scope: Scope) -> str:
        if scope.bound and self.chance(92):
            return self.one(scope.bound)
        return self.one(NAMES)

    def simple(self, scope: Scope) -> str:
        """A variable, or a constant."""
        return self.variable(scope) if self.chance(65) else self.one(CONSTANTS)

    def expression(self, scope: Scope) -> str:
        """An expression with at most one variable."""
        kinds = [self.simple, self.simple, self.arithmetic, self.composite, self.comprehension, self.lambda_call, self.reading]
        if self.callable_functions(scope):
            kinds += [self.function_call] * 4
        if self.classes and scope.level == len(FUNCTIONS):
            kinds += [self.attribute_of_new, self.attribute_of_new]
        if self.objects and scope.level == len(FUNCTIONS):
            kinds += [self.object_use] * 3
        if scope.instance:
            kinds += [self.own_attribute] * 4
        return self.one(kinds)(scope)

    def arithmetic(self, scope: Scope) -> str:
        operator = self.one(("+ 1", "* 2 if False else 3", "== 1", "is None", "and 2", "or 5", "if 1 else 0", "in (1, 'a')"))
        return f"({self.variable(scope)} {operator})"

    def composite(self, scope: Scope) -> str:
        value = self.variable(scope)
        name = self.one(NAMES)
        forms = (
            f"({value}, 1)",
            f'{{"{name}": {value}}}',
            f"[*(1, 2), {value}]",
            f'f"{{{value}}}|{name}"',
            f'f"{{{value}!r:>4}}{name}"' if value not in ("len", "sum") else f"({value},)",
            f'dict({name}={value}).get("{self.one(NAMES)}")',
            f"str({value})[:9]",
            f"sorted(dict({name}=1, **{{'z': 2}}))",
        )
        return self.one(forms)

    def comprehension(self, scope: Scope) -> str:
        item, outer, value = self.one(NAMES), self.one(NAMES), self.variable(scope)
        forms = [
            f"[{item} for {item} in (1, 2)]",
            f"[({item}, {value}) for {item} in (1,)]",
            f"{{{item}: 1 for {item} in 'ab' if {item} != 'a'}}",
            f"sorted({item} for {outer} in ((1, 2), (3,)) for {item} in {outer})",
            f"[{item} for {item} in [{value}]]",
            f"[[{item} for {item} in ({outer},)] for {outer} in (1, 2)]",
            f"[(lambda {item}={item}: {item})() for {item} in (1, 2)]",
        ]
        if not scope.in_class and item != outer:
            forms.append(f"[({outer} := {item}) for {item} in (1, 2)]")
            forms.append(f"any(({outer} := {item}) for {item} in (0, 2))")
        return self.one(forms)

    def lambda_call(self, scope: Scope) -> str:
        parameter, other = self.one(NAMES), self.one(NAMES)
        value = self.variable(scope)
        forms = [
            f"(lambda {parameter}: {parameter})({value})",
            f"(lambda {parameter}=1: ({parameter}, 2))({parameter}={value})",
            f"(lambda *{parameter}: len({parameter}))(1, 2)",
            f"(lambda **{parameter}: sorted({parameter}))({other}=1)",
        ]
        if parameter != other:
            forms.append(f"(lambda {parameter}, *, {other}=0: {other})(1, {other}={value})")
            forms.append(f"(lambda {parameter}, **{other}: ({parameter}, sorted({other})))(1, {self.one(NAMES)}={value})")
        return self.one(forms)

    def reading(self, scope: Scope) -> str:
        name = self.one(NAMES)
        return self.one(
            (f'{{"{name}": 1, "B": 2}}.get("{self.one(NAMES)}", {self.variable(scope)})', f"({self.variable(scope)})")
        )

    def own_attribute(self, scope: Scope) -> str:
        own = scope.instance
        attribute = self.one(ATTRIBUTES)
        return self.one(
            (f"{own}.{attribute}", f'getattr({own}, "{attribute}", 7)', f"sorted(vars({own}))", f"{own}.{attribute}")
        )

    def attribute_of_new(self, scope: Scope) -> str:
        name = self.one(sorted(self.classes))
        call = f"{name}({self.arguments(scope, self.classes[name])})"
        return f"{call}.{self.one(ATTRIBUTES)}" if self.chance(70) else f"sorted({call}.__dict__.items(), key=str)"

    def object_use(self, scope: Scope) -> str:
        name = self.one(sorted(self.objects))
        attribute = self.one(ATTRIBUTES)
        methods = self.methods.get(self.objects[name], {})
        method = self.one(sorted(methods) or list(METHODS))
        call = self.arguments(scope, methods.get(method, Parameters("", NAMES[:2])))
        by_keyword = f"self={name}, {call}" if "=" in call.split(",")[0] else f"self={name}"
        return self.one(
            (
                f"{name}.{attribute}",
                f"{name}.{method}({call})",
                f"{name}.{method}({call})",
                f"{self.objects[name]}.{method}({by_keyword})",
                f"type({name}).{method}({name}{', ' if call else ''}{call})",
                f'getattr({name}, "{attribute}", 8)',
                f"sorted(vars({name}))",
            )
        )

    def callable_functions(self, scope: Scope) -> list[str]:
        return sorted(name for name, (level, _) in self.functions.items() if level < scope.level)

    def function_call(self, scope: Scope) -> str:
        name = self.one(self.callable_functions(scope))
        if name in self.cached and self.chance(30):
            return f"{name}.cache_info()[:2]"
        return f"{name}({self.arguments(scope, self.functions[name][1])})"

    def arguments(self, scope: Scope, parameters: Parameters) -> str:
        """Arguments of a call: mostly those that fit, in any order, by position and by keyword."""
        names = list(parameters.names)
        positional = self.number(0, len(names)) if self.chance(90) else self.number(0, 3)
        given = [self.simple(scope) for _ in range(positional)]
        if given and self.chance(10):
            given[-1] = f"*({given[-1]},)"
        rest = names[positional:]
        if rest and self.chance(40):
            rest.reverse()
        if rest and self.chance(15):
            rest.pop()
        if self.chance(12):
            rest.append(self.one(NAMES))
        rest = list(dict.fromkeys(rest))
        if parameters.any_keyword and self.chance(50):
            more = [letter for letter in LETTERS if letter not in rest]
            return ", ".join([*given, *(f"{name}={self.simple(scope)}" for name in rest), *(f"{letter}=1" for letter in more)])
        if rest and self.chance(12):
            return ", ".join([*given, "**{" + ", ".join(f'"{name}": {self.simple(scope)}' for name in rest) + "}"])
        return ", ".join([*given, *(f"{name}={self.simple(scope)}" for name in rest)])

    # Definitions.

    def parameters(self, scope: Scope, first: str = "") -> Parameters:
        count = self.number(0, 3)
        chosen = [first] if first else []
        for _ in range(count):
            name = self.one(NAMES)
            if name not in chosen:
                chosen.append(name)
        own = chosen[1:] if first else chosen
        defaults = self.number(0, len(own))
        texts = [first] if first else []
        for index, name in enumerate(own):
            has_default = index >= len(own) - defaults
            texts.append(f"{name}={self.simple(scope)}" if has_default else name)
        named = list(own)
        if texts and self.chance(12):
            at = self.number(1, len(texts))
            named = [name for name in own if name not in chosen[:at]]
            texts.insert(at, "/")
        elif own and self.chance(15):
            texts.insert(len(texts) - 1, "*")
        elif self.chance(10) and "args" not in chosen:
            texts.append("*args")
        any_keyword = self.chance(25)
        if any_keyword:
            texts.append(f"**{self.one([name for name in ('rest', *NAMES) if name not in chosen])}")
        return Parameters(", ".join(texts), tuple(named), any_keyword)

    def parameter_names(self, parameters: Parameters) -> list[str]:
        pieces = [piece.strip().lstrip("*").split("=")[0] for piece in self._split(parameters.text)]
        return [piece for piece in pieces if piece.isidentifier()]

    @staticmethod
    def _split(text: str) -> list[str]:
        """At commas outside brackets."""
        pieces, depth, start = [], 0, 0
        for index, character in enumerate(text):
            depth += (character in "([{") - (character in ")]}")
            if character == "," and not depth:
                pieces.append(text[start:index])
                start = index + 1
        return [*pieces, text[start:]]

    def function(self, scope: Scope, name: str, level: int, method: str = "") -> tuple[list[str], Parameters]:
        """A function's lines, and what it takes. `method` is "" or the kind of method."""
        own = (
            "" if method in ("", "static") else self.one(("self", "self", "self", "this", "a")) if method == "plain" else "cls"
        )
        parameters = self.parameters(scope, own)
        names = self.parameter_names(parameters)
        inner = Scope(names, level, True, own if method == "plain" else "")
        body = self.declarations(inner, names, bool(method))
        if name == "__init__":
            for attribute in {self.one(ATTRIBUTES) for _ in range(self.number(1, 3))}:
                body.append(f"{own}.{attribute} = {self.simple(inner)}")
            if method and self.chance(50):
                body.insert(
                    0, f"super().__init__({self.arguments(inner, Parameters('', NAMES[:2])) if self.chance(40) else ''})"
                )
        for _ in range(self.number(1, 3)):
            body += self.statement(inner)
        if name != "__init__":
            body.append(f"{'yield' if self.chance(0) else 'return'} {self.expression(inner)}")
        decorators = {"static": ["@staticmethod"], "class": ["@classmethod"]}.get(method, [])
        annotation = self.one(("", "", " -> int", " -> 'Base'"))
        return [*decorators, f"def {name}({parameters.text}){annotation}:", *indented(body)], parameters

    def declarations(self, scope: Scope, names: list[str], method: bool) -> list[str]:
        if not self.chance(20):
            return []
        free = [name for name in NAMES if name not in names]
        name = self.one(free)
        scope.bound.append(name)
        return [f"global {name}"]

    def definition(self, scope: Scope) -> list[str]:
        level = self.number(0, len(FUNCTIONS) - 1)
        name = self.one(FUNCTIONS[level])
        lines, parameters = self.function(scope, name, level)
        self.functions[name] = (level, parameters)
        decorator = self.one(("", "", "", "@passing", "@functools.lru_cache(maxsize=None)", "@functools.cache", "@renaming(1)"))
        self.cached.discard(name)
        if "cache" in decorator:
            self.cached.add(name)
        return [*([decorator] if decorator else []), *lines]

    def class_definition(self, scope: Scope) -> list[str]:
        name = self.one(CLASSES)
        base = self.one(["", "", "object", *self.classes, *self.classes])
        inner = Scope([], 1, False, "", True)
        lines: list[str] = []
        if self.chance(12) and not base:
            fields = [attribute for attribute in ("a", "A", "value", "len") if self.chance(60)] or ["a"]
            lines += [f"{attribute}: int = {self.number(0, 3)}" for attribute in fields]
            self.classes[name] = Parameters("", tuple(fields))
            return ["@dataclasses.dataclass", f"class {name}:", *indented(lines)]
        if base == name or (base and self.chance(8)):
            base = ""
        for _ in range(self.number(0, 2)):
            attribute = self.one(ATTRIBUTES)
            lines.append(f"{attribute} = {self.expression(inner)}")
            inner.bound.append(attribute)
        if self.chance(10):
            lines += ["for a in (1, 2):", f"    value = [a, {self.simple(inner)}]"]
        taken = self.classes.get(base, Parameters("", ()))
        if self.chance(75):
            made, taken = self.function(inner, "__init__", 1, "plain")
            lines += made
        known = dict(self.methods.get(base, {}))
        for _ in range(self.number(0, 2)):
            method = self.one(METHODS)
            made, known[method] = self.function(inner, method, 1, self.one(("plain", "plain", "plain", "static", "class")))
            lines += made
        self.methods[name] = known
        if self.chance(15):
            lines += ["@property", "def key(self):", f"    return self.{self.one(ATTRIBUTES)}"]
        if self.chance(10):
            lines += ["def copy(self, **changes):", "    return type(self)(**changes)"]
        self.classes[name] = taken
        definition = [f"class {name}{f'({base})' if base else ''}:", *indented(lines or ["pass"])]
        if self.chance(25):  # made in a function, as closures' classes are
            maker = f"make_{self.one('ab')}"
            outer = base or "object"
            definition[0] = f"class {name}({self.one(('Base', 'a')) if base else 'object'}):"
            parameter = definition[0].split("(")[1].split(")")[0]
            head = f"def {maker}({parameter if base else 'a'}):"
            return [head, *indented(definition), f"    return {name}", f"{name} = {maker}({outer})"]
        return definition

    # Statements.

    def statement(self, scope: Scope) -> list[str]:
        kinds = [self.assignment, self.assignment, self.printing, self.condition, self.attempt]
        if not scope.loops:
            kinds += [self.loop, self.matching]
        if scope.in_function:
            kinds += [self.closure, self.closure]
        if scope.instance:
            kinds.append(self.attribute_assignment)
        return self.one(kinds)(scope)

    def assignment(self, scope: Scope) -> list[str]:
        name = self.one(NAMES)
        value = self.expression(scope)
        forms = [f"{name} = {value}", f"{name}: int = {value}", f"{name}, *_ = [1, {self.simple(scope)}]"]
        if name in scope.bound:
            forms.append(f"{name} = [{name}, 1][1:]")
        scope.bound.append(name)
        return [self.one(forms)]

    def attribute_assignment(self, scope: Scope) -> list[str]:
        attribute, own = self.one(ATTRIBUTES), scope.instance
        return [self.one((f"{own}.{attribute} = {self.simple(scope)}", f'setattr({own}, "{attribute}", {self.simple(scope)})'))]

    def printing(self, scope: Scope) -> list[str]:
        ending = self.one(("", "", ', sep="/"', ', end="\\n"', f', sep="{self.one(NAMES)}"'))
        return [f"print({self.expression(scope)}, {self.expression(scope)}{ending})"]

    def block(self, scope: Scope) -> list[str]:
        return self.one((self.assignment, self.printing))(scope)

    def condition(self, scope: Scope) -> list[str]:
        name = self.one(NAMES)
        test = self.one((self.simple(scope), f"({name} := {self.simple(scope)})" if not scope.in_class else "True", "False"))
        return [f"if {test}:", *indented(self.block(scope)), "else:", *indented(self.block(scope))]

    def loop(self, scope: Scope) -> list[str]:
        name = self.one(NAMES)
        scope.bound.append(name)
        scope.loops += 1
        body = self.block(scope)
        scope.loops -= 1
        head = self.one((f"for {name} in range(2):", f"for {name}, _ in ((1, 2), ('a', 'b')):", f"for {name} in ['A', 1]:"))
        return [head, *indented(body), *(["else:", "    pass"] if self.chance(10) else [])]

    def attempt(self, scope: Scope) -> list[str]:
        error, name = self.one(ERRORS), self.one(NAMES)
        body = self.block(scope)
        raising = [f"raise {self.one(ERRORS)}({self.simple(scope)})"] if self.chance(40) else []
        handler = self.one(
            (
                [f"except {error} as {name}:", f"    print(type({name}).__name__)"],
                [f"except ({error}, NameError):", f"    print({self.one(CONSTANTS)})"],
            )
        )
        final = ["finally:", *indented(self.printing(scope))] if self.chance(20) else []
        return ["try:", *indented([*body, *raising]), *handler, *final]

    def matching(self, scope: Scope) -> list[str]:
        first, second = self.one(NAMES), self.one(NAMES)
        patterns = [
            f"[{first}, *_]",
            f'{{"{first}": {second}}}',
            f"({first}, {second})",
            f"(1 | 2) as {first}",
            f"str({first})",
        ]
        if first == second:
            patterns[2] = f"({first}, _)"
        pattern = self.one(patterns)
        body = [f"match {self.expression(scope)}:", f"    case {pattern}:", f"        print({first}, 'matched')"]
        scope.bound.append(first)
        return [*body, "    case _:", *indented(indented(self.block(scope)))]

    def closure(self, scope: Scope) -> list[str]:
        """An inner function, defined and called; it may rebind a variable of the outer one."""
        name = self.one(("inner", "f", "len", "step"))
        parameters = self.parameters(scope)
        names = self.parameter_names(parameters)
        inner = Scope([*scope.bound, *names], scope.level, True, "", False, 1)
        head = []
        assigned = [bound for bound in scope.bound if bound not in names]
        if assigned and self.chance(40) and not scope.instance:
            rebound = self.one(assigned)
            head = [f"nonlocal {rebound}", f"{rebound} = {self.simple(inner)}"]
        body = [*head, *self.block(inner), f"return {self.simple(inner)}"]
        call = f"{name}({self.arguments(scope, parameters)})"
        return [f"def {name}({parameters.text}):", *indented(body), self.one((f"print({call})", f"value = {call}", call))]


def indented(lines: list[str]) -> list[str]:
    return ["    " + line for line in lines]


PREAMBLE = """\
import dataclasses
import functools
def passing(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs): return function(*args, **kwargs)
    return wrapper
def renaming(times):
    def decorate(function):
        def wrapper(*a, **b): return (len(a), sorted(b), function(*a, **b))[times + 1]
        return wrapper
    return decorate
"""


def is_valid(text: str) -> bool:
    """Whether Python compiles it: `nonlocal` and `global` have rules that are easier asked than kept."""
    try:
        compile(text, "program.py", "exec", dont_inherit=True)
    except SyntaxError:
        return False
    return True


def program_of(choices: bytes) -> str:
    """The program that these choices stand for."""
    writer = Writer(iter(choices))
    scope = Scope([], len(FUNCTIONS))
    text = PREAMBLE
    for name in NAMES:
        if name != "len" and writer.chance(75):
            text += f"{name} = {writer.one(CONSTANTS)}\n"
            scope.bound.append(name)
    for _ in range(writer.number(4, 11)):
        kind = writer.one(("use", "use", "define", "define", "class", "object", "object", "use", "use", "statement"))
        name = writer.one(("o", "p", "b"))
        if kind == "define":
            lines = writer.definition(scope)
        elif kind == "class":
            lines = writer.class_definition(scope)
        elif kind == "object" and writer.classes:
            made = writer.one(sorted(writer.classes))
            lines = [f"{name} = {made}({writer.arguments(scope, writer.classes[made])})"]
            writer.objects[name] = made
        elif kind == "use":
            lines = [f"print({writer.expression(scope)})"]
        else:
            lines = writer.statement(scope)
        error = writer.one(("error", "a", "value"))
        if kind != "define" or writer.chance(15):
            lines = ["try:", *indented(lines), f"except Exception as {error}:", f"    print(type({error}).__name__)"]
        added = "\n".join(lines) + "\n"
        if is_valid(added):
            text += added
    return text


def programs() -> st.SearchStrategy[str]:
    """Programs' texts."""
    return st.binary(min_size=CHOICES, max_size=CHOICES).map(program_of)
