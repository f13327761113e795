"""The host program as one file. `scripts/program` writes it for a machine without the deploy; this needs Python alone."""

from __future__ import annotations

import ast
import io
import sys
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

_TOP = Path(__file__).parents[2]

HOST_PYTHON = "/usr/bin/python3 -IS"  # nothing of the host's own packages: it starts in less time
_ANY_PYTHON = "/usr/bin/env python3"

MAIN = """\
import sys

if sys.version_info < (3, 10):
    sys.exit("bulkhead needs Python 3.10 or newer; this is %d.%d" % sys.version_info[:2])

from bulkhead.__main__ import main

sys.exit(main(sys.argv[1:]))
"""


def parts() -> dict[str, str]:
    """Return the program's source files by their path in the archive: the package, and what it imports of pyinfra_lvm."""
    paths = [path for path in sorted((_TOP / "bulkhead").rglob("[!.]*.py")) if path.parent.name != "__pycache__"]
    found: dict[str, str] = {}
    while paths:
        path = paths.pop(0)
        name = str(path.relative_to(_TOP))
        if name not in found and path.is_file():
            found[name] = path.read_text()
            paths += _shared(found[name])
    return found


def _shared(source: str) -> Iterator[Path]:
    """Yield the files of pyinfra_lvm that a source imports, in whatever form."""
    if "pyinfra_lvm" not in source:
        return  # to parse every file takes longer than all the rest
    for node in ast.walk(ast.parse(source)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{name}" for name in ("__init__", *names)]
        for name in names:
            if name.startswith("pyinfra_lvm"):
                first, *rest = name.split(".")
                yield from (_TOP / first / "__init__.py", _TOP / first / f"{(rest or ['__init__'])[0]}.py")


@cache
def archive(interpreter: str = HOST_PYTHON) -> bytes:
    """Return the program as one file: the same bytes from the same source, whenever and wherever it is made.

    Args:
        interpreter: with its arguments.
    """
    content = io.BytesIO()
    content.write(f"#!{interpreter}\n".encode())
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, text in {"__main__.py": MAIN, **parts()}.items():
            # The default date of an entry: no clock, no file times.
            packed.writestr(zipfile.ZipInfo(name), text, zipfile.ZIP_DEFLATED)
    return content.getvalue()


def write(path: Path) -> None:
    """Write the program for any machine with a Python that is new enough.

    Raises:
        FileExistsError: there is something else in its place.
    """
    if path.exists() and not _is_program(path):
        raise FileExistsError(f"{path} is there, and is not bulkhead; it was left alone. Name another file")
    path.write_bytes(archive(_ANY_PYTHON))
    path.chmod(0o755)


def _is_program(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as packed:
        return "bulkhead/__main__.py" in packed.namelist()


if __name__ == "__main__":
    try:
        write(Path(sys.argv[1]))
    except OSError as error:
        sys.exit(f"scripts/program: {error}")
