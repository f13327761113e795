"""After this, the host has its program, /usr/local/bin/bulkhead, with its configuration.

The program is the package files/bulkhead and the modules that it shares with the deploy, in one executable file (zipapp).
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Generator, Iterable
from functools import cache
from pathlib import Path

from pyinfra import host
from pyinfra.api import FileUploadCommand, StringCommand, operation
from pyinfra.api.deploy import deploy
from pyinfra.facts.files import FileContents, Sha256File

from pyinfra_lvm.model import FstabEntry
from settings import Settings
from tasks import fail_closed, packages
from tasks.files import replace_file
from tasks.paths import PROGRAM, PROGRAM_CONFIGURATION, STORES
from tasks.preflight import Plan
from tasks.volume import extra_entry, store_entry

_TOP = Path(__file__).parent.parent
# Path in the archive → file.
_PARTS = {
    **{f"bulkhead/{path.name}": path for path in sorted((_TOP / "files" / "bulkhead").glob("*.py"))},
    **{
        name: _TOP / name
        for name in ("pyinfra_lvm/__init__.py", "pyinfra_lvm/fstab.py", "pyinfra_lvm/model.py", "sizes.py")
    },
}
_MAIN = "import sys\n\nfrom bulkhead.__main__ import main\n\nsys.exit(main())\n"

Commands = Generator[StringCommand | FileUploadCommand, None, None]


@cache
def archive() -> bytes:
    """The program as one file: the same bytes from the same source, whenever and wherever it is made."""
    content = io.BytesIO()
    content.write(b"#!/usr/bin/python3\n")
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, text in {"__main__.py": _MAIN, **{name: path.read_text() for name, path in _PARTS.items()}}.items():
            # The default date of an entry: no clock, no file times.
            packed.writestr(zipfile.ZipInfo(name), text, zipfile.ZIP_DEFLATED)
    return content.getvalue()


def configuration(settings: Settings, plan: Plan) -> str:
    """What the program is to know of the settings."""
    extra = [extra_entry(volume.mount, volume.device, volume.filesystem) for volume in plan.extra_volumes]
    values = {
        "volume": settings.volume_mount,
        "stores": STORES,
        "fstab": _lines(store_entry(settings, directory) for directory in STORES),
        "extra_volumes": _lines(extra),
        "drop_ins": fail_closed.ordering(),
        "patience": settings.relocation_patience,
    }
    return json.dumps(values, indent=4) + "\n"


def _lines(entries: Iterable[FstabEntry]) -> list[list[str | list[str]]]:
    return [[entry.source, entry.target, entry.fstype, list(entry.options)] for entry in entries]


@operation()
def program(content: bytes, configuration: str) -> Commands:
    """Have this program and this configuration on the host.

    Args:
        content: of the program.
        configuration: of its configuration file.
    """
    written = "\n".join(host.get_fact(FileContents, path=PROGRAM_CONFIGURATION) or []) + "\n"
    same = host.get_fact(Sha256File, path=PROGRAM) == hashlib.sha256(content).hexdigest()
    if not same:
        yield FileUploadCommand(io.BytesIO(content), f"{PROGRAM}.new")
        yield StringCommand(f"chmod 0755 {PROGRAM}.new && sync {PROGRAM}.new && mv -fT {PROGRAM}.new {PROGRAM}")
    if written != configuration:
        yield replace_file(PROGRAM_CONFIGURATION, configuration)
    if same and written == configuration:
        host.noop("the program and its configuration are there")


@deploy("Host program")
def install(settings: Settings, plan: Plan) -> None:
    packages.installed(
        name="What the program needs is installed",
        packages=["python3", *(["rsync"] if plan.moved else [])],
        lock_timeout=settings.apt_lock_timeout,
    )
    program(name=f"{PROGRAM} and its configuration", content=archive(), configuration=configuration(settings, plan))
