"""Third-party modules that code imports, and the distributions that bring them."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Collection, Iterable, Mapping
from importlib.metadata import packages_distributions

from generator.source.script import STUB, imports_of

# What the challenge's own requirements.txt installs, and torch brings.
PROVIDED = frozenset(
    {"datasets", "huggingface_hub", "kernels", "numpy", "sentencepiece", "setuptools", "tiktoken", "torch", "tqdm"}
)
PROVIDED |= {"pkg_resources", "triton", "typing_extensions"}
# Distributions of other names than their modules, where none is installed here that tells.
_DISTRIBUTIONS = {
    "PIL": "pillow",
    "cv2": "opencv-python",
    "fla": "flash-linear-attention",
    "flash_attn_interface": "flash-attn",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
    "zstd": "zstandard",
}
_OTHER_NAMES = {"flash-attn": ("FlashAttention", "FA3")}  # what texts call it


def third_party(trees: Iterable[ast.Module], local: Collection[str] = ()) -> dict[str, bool]:
    """Modules that are neither of the standard library nor `local`, by their top-level name, sorted.

    Returns:
        For each, whether it is needed: imported somewhere outside `try … except ImportError`.
    """
    needed: dict[str, bool] = {}
    for tree in trees:
        tried = {
            inner
            for node in ast.walk(tree)
            if isinstance(node, ast.Try) and any(_catches_imports(handler) for handler in node.handlers)
            for statement in node.body
            for inner in ast.walk(statement)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom) or _imports_by_call(node):
                for name in imports_of(node):
                    top = name.split(".")[0]
                    needed[top] = needed.get(top, False) or node not in tried
    known = {*sys.stdlib_module_names, *local, STUB, "__main__", "__future__"}
    return {name: needed[name] for name in sorted(needed, key=str.lower) if name not in known}


def _imports_by_call(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and (
        getattr(node.func, "attr", getattr(node.func, "id", "")) in {"import_module", "__import__"}
    )


def _catches_imports(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    caught = {getattr(node, "id", getattr(node, "attr", "")) for node in ast.walk(handler.type)}
    return bool(caught & {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"})


def distribution_of(module: str, installed: Mapping[str, list[str]] | None = None) -> str:
    """The distribution that brings a module: what is installed here tells, or else its name, or a short list."""
    known = packages_distributions() if installed is None else installed
    found = sorted(set(known.get(module, [])), key=str.lower)
    return found[0] if found else _DISTRIBUTIONS.get(module, module.replace("_", "-"))


def requirements_text(modules: Mapping[str, bool]) -> str:
    """A requirements.txt: a line for each module, those that can be done without marked as such."""
    installed = packages_distributions()
    lines = {distribution_of(name, installed): needed for name, needed in modules.items()}
    return "".join(f"{name}\n" if needed else f"{name}  # optional: imported in a try\n" for name, needed in lines.items())


def unmentioned(modules: Iterable[str], texts: str) -> list[str]:
    """Those modules that the challenge does not install and the texts do not name, by module or distribution."""
    squeezed = _squeeze(texts)
    missing = []
    for name in modules:
        distribution = distribution_of(name, {})
        names = (name, distribution, *_OTHER_NAMES.get(distribution, ()))
        if name not in PROVIDED and not any(_squeeze(one) in squeezed for one in names):
            missing.append(name)
    return missing


def _squeeze(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())
