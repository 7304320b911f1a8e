"""What Python code can read at run time of what shrinking changes, and the words that tell of it.

Each entry of these tables keeps something that shrinking would otherwise take away. tests/test_readings.py has, for every
one, a program whose output changes without it.
"""

from __future__ import annotations

from enum import Enum


class Effect(Enum):
    """What stays as it is where something reads it; the value says so in a note."""

    EVERYTHING = "so no name is shortened"
    GLOBALS = "so global names stay"
    SCOPE = "so the names in this function stay"
    DEFINITIONS = "so names of functions and classes stay"
    SIGNATURES = "so names of parameters stay"
    ANNOTATIONS = "so annotations stay"
    DOCSTRINGS = "so docstrings stay"
    BUILTINS = "so builtins get no aliases"


_E = Effect

# Words: identifiers of any kind, and words in strings that look like one ("__main__.Class").
WORDS: dict[str, frozenset[Effect]] = {
    "__annotations__": frozenset({_E.ANNOTATIONS, _E.SIGNATURES}),
    "__builtins__": frozenset({_E.BUILTINS}),
    "__doc__": frozenset({_E.DOCSTRINGS}),
    "__globals__": frozenset({_E.GLOBALS}),
    "__main__": frozenset({_E.GLOBALS}),
    "__name__": frozenset({_E.DEFINITIONS}),
    "__qualname__": frozenset({_E.DEFINITIONS}),
    "_get_name": frozenset({_E.DEFINITIONS}),
    "builtins": frozenset({_E.BUILTINS}),
    "co_cellvars": frozenset({_E.EVERYTHING}),
    "co_freevars": frozenset({_E.EVERYTHING}),
    "co_name": frozenset({_E.DEFINITIONS}),
    "co_names": frozenset({_E.EVERYTHING}),
    "co_qualname": frozenset({_E.DEFINITIONS}),
    "co_varnames": frozenset({_E.EVERYTHING}),
    "current_thread": frozenset({_E.DEFINITIONS}),
    "custom_op": frozenset({_E.ANNOTATIONS}),
    "f_globals": frozenset({_E.GLOBALS}),
    "f_locals": frozenset({_E.EVERYTHING}),
    "funcName": frozenset({_E.DEFINITIONS}),
    "get_annotations": frozenset({_E.ANNOTATIONS, _E.SIGNATURES}),
    "get_type_hints": frozenset({_E.ANNOTATIONS, _E.SIGNATURES}),
    "getdoc": frozenset({_E.DOCSTRINGS}),
    "getfullargspec": frozenset({_E.ANNOTATIONS, _E.SIGNATURES}),
    "infer_schema": frozenset({_E.ANNOTATIONS}),
    "jit": frozenset({_E.ANNOTATIONS}),
    "signature": frozenset({_E.ANNOTATIONS, _E.SIGNATURES}),
    "singledispatch": frozenset({_E.ANNOTATIONS}),
    "singledispatchmethod": frozenset({_E.ANNOTATIONS}),
    "threadName": frozenset({_E.DEFINITIONS}),
    "triton_op": frozenset({_E.ANNOTATIONS}),
}

# Modules that are imported.
MODULES: dict[str, frozenset[Effect]] = {
    "cProfile": frozenset({_E.GLOBALS}),
    "cloudpickle": frozenset({_E.DEFINITIONS}),
    "cmd": frozenset({_E.DOCSTRINGS}),
    "dill": frozenset({_E.DEFINITIONS}),
    "doctest": frozenset({_E.GLOBALS, _E.DOCSTRINGS}),
    "joblib": frozenset({_E.DEFINITIONS}),
    "numexpr": frozenset({_E.EVERYTHING}),
    "pdb": frozenset({_E.EVERYTHING}),
    "pickle": frozenset({_E.DEFINITIONS}),
    "profile": frozenset({_E.GLOBALS}),
    "pydoc": frozenset({_E.DOCSTRINGS}),
    "pytest": frozenset({_E.GLOBALS}),
    "shelve": frozenset({_E.DEFINITIONS}),
    "timeit": frozenset({_E.GLOBALS}),
    "traceback": frozenset({_E.DEFINITIONS}),
    "unittest": frozenset({_E.GLOBALS, _E.DOCSTRINGS}),
}

# Builtins that look names up: what they read in a function, and what at module level. vars(x) and dir(x) read x alone.
BUILTINS: dict[str, tuple[frozenset[Effect], frozenset[Effect]]] = {
    "breakpoint": (frozenset({_E.EVERYTHING}), frozenset({_E.EVERYTHING})),
    "dir": (frozenset({_E.SCOPE}), frozenset({_E.GLOBALS})),
    "eval": (frozenset({_E.SCOPE, _E.GLOBALS}), frozenset({_E.GLOBALS})),
    "exec": (frozenset({_E.SCOPE, _E.GLOBALS}), frozenset({_E.GLOBALS})),
    "globals": (frozenset({_E.GLOBALS}), frozenset({_E.GLOBALS})),
    "help": (frozenset({_E.DOCSTRINGS}), frozenset({_E.DOCSTRINGS})),
    "locals": (frozenset({_E.SCOPE}), frozenset({_E.GLOBALS})),
    "vars": (frozenset({_E.SCOPE}), frozenset({_E.GLOBALS})),
}
READS_ONE_OBJECT = frozenset({"dir", "vars"})  # when given an argument
LOOKUPS = frozenset({Effect.EVERYTHING, Effect.GLOBALS, Effect.SCOPE})  # names looked up by string

# Functions of inspect that read nothing which shrinking changes; what is neither here nor in WORDS may read anything.
HARMLESS_INSPECT = frozenset(
    {
        "cleandoc",
        "currentframe",
        "findsource",
        "getfile",
        "getsource",
        "getsourcefile",
        "getsourcelines",
        "isabstract",
        "isasyncgen",
        "isasyncgenfunction",
        "isawaitable",
        "isbuiltin",
        "isclass",
        "iscoroutine",
        "iscoroutinefunction",
        "isfunction",
        "isgenerator",
        "isgeneratorfunction",
        "ismethod",
        "ismodule",
        "isroutine",
    }
)
ANYTHING = frozenset({Effect.EVERYTHING, Effect.ANNOTATIONS, Effect.DOCSTRINGS})
# What a module may read of functions and classes that it is given, where it is not known what it does with them.
GIVEN = frozenset({Effect.DEFINITIONS, Effect.ANNOTATIONS, Effect.DOCSTRINGS})
# Modules beside the standard library's that call what they are given, and read nothing else of it.
KNOWN_MODULES = frozenset(
    {
        "PIL",
        "brotli",
        "datasets",
        "einops",
        "fla",
        "flash_attn",
        "flash_attn_interface",
        "huggingface_hub",
        "lz4",
        "mamba_ssm",
        "matplotlib",
        "mlx",
        "numpy",
        "psutil",
        "requests",
        "runtime_stub",
        "safetensors",
        "scipy",
        "sentencepiece",
        "tiktoken",
        "tokenizers",
        "torch",
        "tqdm",
        "triton",
        "wandb",
        "xxhash",
        "yaml",
        "zstandard",
    }
)
