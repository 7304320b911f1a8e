"""Jinja2 templates: from the checkout's templates/ folder, or from inside the installed package."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

_PACKAGE = Path(__file__).parent


@cache
def _environment() -> Environment:
    # A wheel carries the folder inside the package; a checkout has it beside.
    folders = [_PACKAGE / "templates", _PACKAGE.parent / "templates"]
    environment = Environment(
        loader=FileSystemLoader(folders),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters["ascii"] = ascii  # a string as Python text; JSON's differs outside the basic plane
    environment.filters["cell"] = lambda text: str(text).replace("|", "\\|")  # of a Markdown table
    return environment


def render(template: str, **values: Any) -> str:
    """The template's text with the values filled in; an undefined name is an error."""
    return _environment().get_template(template).render(**values)
