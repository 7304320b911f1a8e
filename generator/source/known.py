"""What the proofs of `positional` know about Python, its standard library and torch: lists of the allowed.

What looks names up at run time, or is known to read nothing, stands in effects.py, for all steps; here is what only these
proofs have to know besides.
"""

from __future__ import annotations

import types

from generator.source.effects import BUILTINS, KNOWN_MODULES, LOOKUPS, MODULES, WORDS


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Finding functions and classes without naming them

_LEADING = {
    "builtins": "print open input",
    "gc": "collect disable enable freeze unfreeze isenabled get_threshold set_threshold",
    "importlib": "abc metadata resources util.find_spec util.spec_from_loader",
    "inspect": "Parameter cleandoc getdoc getfullargspec getsource getsourcelines isclass isfunction ismodule signature",
    "sys": "argv base_prefix byteorder exc_info executable exit flags float_info getdefaultencoding getrecursionlimit "
    "getrefcount getsizeof hexversion implementation int_info maxsize meta_path path platform prefix setrecursionlimit stderr "
    "stdin stdout version version_info",
}
# Modules that lead to other modules, to frames or to all objects; and what of them does not.
LEADING_MODULES = frozenset(_LEADING)
HARMLESS = frozenset(f"{module}.{name}" for module, names in _LEADING.items() for name in names.split())
# Modules that look names up by string, or hand out the script's own.
DYNAMIC_MODULES = frozenset(module for module, effects in MODULES.items() if effects & LOOKUPS) | _words(
    "__main__ cgitb code codeop fire imp pkgutil pydoc runpy trace zipimport"
)
DYNAMIC_BUILTINS = frozenset(name for name, (_, effects) in BUILTINS.items() if effects & LOOKUPS) | _words(
    "__builtins__ __import__ __loader__ __spec__"
)
# Attributes that lead from a frame, a function or a module to variables. The string "__main__" is in most scripts.
LEADING_ATTRIBUTES = frozenset(word for word, effects in WORDS.items() if effects & LOOKUPS and word != "__main__") | _words(
    "__builtins__ __closure__ __import__ ag_frame cell_contents cr_frame f_back f_builtins f_code gi_frame tb_frame"
)
# Packages that can't be the script itself under another name.
PACKAGES = KNOWN_MODULES | {"accelerate", "pandas", "transformers"}

# Functions

# Decorators that pass arguments on as they come.
TRANSPARENT = _words(
    "contextlib.contextmanager torch.compile torch.compiler.disable torch._dynamo.disable torch.enable_grad "
    "torch.inference_mode torch.no_grad"
)
# These tell calls apart that give the same arguments in another way.
CACHES = _words("functools.cache functools.lru_cache")

# Constructors

# Neither a metaclass's __call__ nor a __new__ of these sees the arguments, and no method of theirs makes another instance by
# keyword (nn.Embedding's from_pretrained does; where it occurs, no class is touched).
_MODULES = _words(
    "Module Bilinear Conv1d Conv2d Conv3d Dropout Embedding GroupNorm Identity LayerNorm Linear ModuleDict ModuleList "
    "ParameterDict ParameterList RMSNorm Sequential"
)
PLAIN_BASES = frozenset(f"torch.nn.{name}" for name in _MODULES) | _words(
    "abc.ABC threading.Thread torch.nn.modules.Module torch.nn.modules.module.Module torch.optim.Adam torch.optim.AdamW "
    "torch.optim.Optimizer torch.optim.SGD torch.optim.lr_scheduler.LRScheduler torch.optim.optimizer.Optimizer "
    "torch.utils.data.Dataset torch.utils.data.IterableDataset torch.utils.data.Sampler"
)
# Decorators of methods that do not see the class.
METHOD_DECORATORS = _words(
    "abc.abstractmethod contextlib.contextmanager functools.cache functools.cached_property functools.lru_cache "
    "functools.wraps typing.final typing.override"
)
# Methods that are given their own class, or decide what a call of it does.
CLASS_METHODS = _words("__class_getitem__ __init_subclass__ __new__")
# Methods that are given classes, which need not be their own; and those that comparisons hand a class to.
CLASS_HOOKS = _words(
    "__get__ __instancecheck__ __mro_entries__ __prepare__ __set__ __set_name__ __subclasscheck__ __subclasshook__"
)
COMPARISONS = _words("__contains__ __eq__ __hash__ __ne__")
# Attributes that lead to classes: those of the form __x__ that Python gives its objects, without the harmless ones, and others.
_HARMLESS_DUNDERS = _words(
    "__add__ __bool__ __call__ __contains__ __dict__ __doc__ __enter__ __eq__ __exit__ __file__ __float__ __getattr__ "
    "__getitem__ __getstate__ __hash__ __int__ __iter__ __len__ __module__ __mul__ __name__ __next__ __qualname__ __repr__ "
    "__setattr__ __setitem__ __setstate__ __str__ __version__"
)
_TYPES = (type, super, property, classmethod, staticmethod, *(kind for kind in vars(types).values() if isinstance(kind, type)))
CLASS_ATTRIBUTES = frozenset(name for kind in _TYPES for name in dir(kind) if name.startswith("__")) - _HARMLESS_DUNDERS
CLASS_ATTRIBUTES |= {"from_pretrained", "mro"}
NAMES_OF_CLASSES = _words("__module__ __name__ __qualname__")
