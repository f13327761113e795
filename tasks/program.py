"""After this, the host has its program, /usr/local/bin/bulkhead, with its configuration.

The program is the package bulkhead with the modules of pyinfra_lvm that it imports, in one executable file (zipapp).
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import shlex
import zipfile
from collections.abc import Generator, Iterable
from dataclasses import asdict
from functools import cache

from pyinfra import host
from pyinfra.api import FactBase, StringCommand
from pyinfra.api.deploy import deploy
from pyinfra.facts.files import FileContents

from bulkhead.names import (
    GUARD_SERVICE,
    PROGRAM,
    PROGRAM_CONFIGURATION,
    PROGRAM_STATE,
    PRUNE_TIMER,
    VOLUME_FILE_SERVICE,
)
from pyinfra_lvm.collection import fact, operation
from pyinfra_lvm.model import FstabEntry
from settings.model import Settings
from tasks import fail_closed
from tasks.preflight.packages import program_needs
from tasks.preflight.plan import Plan
from tasks.support import packages
from tasks.support.archive import archive
from tasks.support.files import replace_file, verbatim
from tasks.support.paths import EPHEMERAL_SERVICE, STORES
from tasks.volume import extra_entry, store_entry, volume_entry

# $1: the program. Print the digest of its sources, and whether its bytecode is of this host's Python.
_DIGEST_SCRIPT = """
import hashlib, importlib.util, sys, zipfile
packed = zipfile.ZipFile(sys.argv[1])
sources = sorted(name for name in packed.namelist() if name.endswith(".py"))
digest = hashlib.sha256(b"".join(name.encode() + packed.read(name) for name in sources)).hexdigest()
print(digest, all(packed.read(name + "c").startswith(importlib.util.MAGIC_NUMBER) for name in sources))
"""


def configuration(settings: Settings, plan: Plan) -> str:
    """Return the content of the program's configuration file."""
    extra = [extra_entry(settings, volume) for volume in plan.extra_volumes]
    values = {
        "volume_mount": settings.volume_mount,
        "stores": STORES,
        "store_fstab": _lines(store_entry(settings, directory) for directory in STORES),
        "extra_fstab": _lines(extra),
        "volume_fstab": _lines([volume_entry(settings, plan)] if plan.adopted else []),
        "ordering_drop_ins": fail_closed.ordering(),
        "closed_drop_ins": fail_closed.drop_ins(settings) if plan.adopted else {},
        "relocation_patience": settings.relocation_patience,
        "docker_start_limit": settings.docker_start_limit,
        "vg_name": plan.volume_group,
        "logical_volume": plan.logical_volume,
        "reserve_bytes": plan.reserve,
        "disk_file_bytes": plan.disk_file_bytes,
        "check_threshold": settings.check_threshold,
        "check_critical": settings.check_critical,
        "check_hours_left": settings.check_hours_left,
        "metrics_directory": settings.metrics_directory,
        "receiver_names": list(settings.alert_receivers),
        "alert_reminder": settings.alert_reminder,
        "watched_units": [
            *([PRUNE_TIMER] if settings.prune_time else []),
            *([GUARD_SERVICE] if settings.guard else []),
            *([VOLUME_FILE_SERVICE] if plan.disk_file_bytes else []),
            *([EPHEMERAL_SERVICE] if plan.boot_disks else []),
        ],
        "prune_hours": settings.prune_hours,
        "prune_images_after_days": settings.prune_images_after_days,
        "prune_anonymous_volumes": settings.prune_anonymous_volumes,
        "prune_keep": settings.prune_keep,
        "check_interval": settings.check_interval,
        "guard_floor": asdict(settings.guard_floor) if settings.guard_floor else None,
        "guard_ballast": settings.guard_ballast.bytes if settings.guard and settings.guard_ballast else 0,
        "guard_stop_pulls": settings.guard_stop_pulls,
        "guard_rescue": settings.guard_rescue,
        "snapshot_max_hours": settings.snapshot_max_hours,
    }
    return json.dumps(values, indent=4) + "\n"


def _lines(entries: Iterable[FstabEntry]) -> list[list[str | list[str]]]:
    return [[entry.source, entry.target, entry.fstype, list(entry.options)] for entry in entries]


@cache
def digest(content: bytes) -> str:
    """Return the digest of the sources in an archive. Every host of a fleet has the same."""
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        sources = sorted(name for name in packed.namelist() if name.endswith(".py"))
        return hashlib.sha256(b"".join(name.encode() + packed.read(name) for name in sources)).hexdigest()


class InstalledProgram(FactBase[str]):
    """Return the digest of the program's sources; empty where it is missing or has bytecode for another Python."""

    def command(self) -> str:
        return f"python3 -c {shlex.quote(_DIGEST_SCRIPT)} {PROGRAM} 2>/dev/null; true"

    def process(self, output: list[str]) -> str:
        return next((line.split()[0] for line in output if line.endswith(" True")), "")

    @staticmethod
    def default() -> str:
        return ""


@operation()
def program(content: bytes, configuration: str) -> Generator[StringCommand, None, None]:
    """Install the program and its configuration.

    Args:
        content: of the program's file.
        configuration: content of its configuration file.
    """
    written = "\n".join(fact(FileContents, path=PROGRAM_CONFIGURATION) or []) + "\n"
    same = fact(InstalledProgram) == digest(content)
    if not same:
        # An upload of pyinfra's would go through a file in /tmp. The checksum: a lost connection ends standard input too.
        # The directory is made here, not by cron's first call some time later: a run after that would find the host changed.
        new, checksum = f"{PROGRAM}.new", hashlib.sha256(content).hexdigest()
        yield StringCommand(
            f"rm -f {new} && base64 --decode >{new} && echo '{checksum}  {new}' | sha256sum --check --status || "
            f"{{ echo 'the program did not arrive whole; it was not installed. Run again.' >&2; exit 1; }}; "
            f"python3 -c {shlex.quote(verbatim('add-bytecode.py'))} {new} {PROGRAM} && "
            f"chmod 0755 {new} && sync {new} && mkdir -p {PROGRAM_STATE}",
            _stdin=base64.encodebytes(content).decode(),
        )
        # Both in one command: a program reads no configuration of another version.
        yield replace_file(PROGRAM_CONFIGURATION, configuration, before=f"mv -fT {PROGRAM}.new {PROGRAM}")
    elif written != configuration:
        yield replace_file(PROGRAM_CONFIGURATION, configuration)
    else:
        host.noop("the program and its configuration are up to date")


@deploy("Host program")
def install(settings: Settings, plan: Plan) -> None:
    """Install the program, its configuration, and the packages that it needs."""
    packages.installed(
        name="The packages that the program needs are installed",
        packages=program_needs(settings, plan),
        lock_timeout=settings.apt_lock_timeout,
    )
    program(name=f"{PROGRAM} and its configuration", content=archive(), configuration=configuration(settings, plan))
