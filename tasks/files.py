"""How this project writes a file on a host: whole, synced, renamed. A power cut leaves the old file or the new one."""

from __future__ import annotations

import shlex
from functools import cache
from pathlib import Path, PurePosixPath

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pyinfra.api import StringCommand


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent.parent / "templates"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - configuration files, not HTML
    )
    environment.filters["quote"] = shlex.quote
    return environment


def render(template: str, **values: object) -> str:
    """A template of ``templates/`` with these values; an undefined name in it is an error."""
    return _templates().get_template(template).render(**values)


def replace_file(path: str, content: str, mode: str = "0644") -> StringCommand:
    """The command that replaces ``path`` as a whole, making its directory where there is none.

    pyinfra's files.put copies over the file in place: a cut in the middle leaves half of it.
    """
    directory = shlex.quote(str(PurePosixPath(path).parent))
    target, aside = shlex.quote(path), shlex.quote(f"{path}.new")
    return StringCommand(
        f"mkdir -p {directory} && printf %s {shlex.quote(content)} >{aside} && chmod {mode} {aside} && "
        f"sync {aside} && mv -fT {aside} {target} && sync {directory}"
    )
