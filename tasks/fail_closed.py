"""After this, docker.service and containerd.service cannot start without the volume, its marker and both stores.

The drop-ins may be there before the packages: systemd applies them when the units come.
"""

from __future__ import annotations

import shlex
from collections.abc import Generator
from dataclasses import dataclass

from pyinfra import host
from pyinfra.api import FactBase, StringCommand, operation
from pyinfra.api.deploy import deploy

from settings import Settings
from tasks.files import render, replace_file
from tasks.paths import DROP_INS, MARKER, STORES


@dataclass(frozen=True)
class DropIns:
    """What is on disk, and whether systemd has read it."""

    contents: dict[str, str]
    needs_reload: bool


class SystemdDropIns(FactBase[DropIns]):
    """Contents of drop-ins by path, and whether systemd has yet to read a change of one of these units.

    Args:
        drop_ins: unit name → path of its drop-in.
    """

    def command(self, drop_ins: dict[str, str]) -> str:
        units, paths = shlex.join(drop_ins), shlex.join(drop_ins.values())
        return (
            f"systemctl show --property=NeedDaemonReload {units}; "
            f"for path in {paths}; do "
            'if [ -f "$path" ]; then echo "file $path"; sed "s/^/=/" "$path"; fi; done'
        )

    def process(self, output: list[str]) -> DropIns:
        contents: dict[str, str] = {}
        path = ""
        for line in output:
            if line.startswith("file "):
                path = line.removeprefix("file ")
                contents[path] = ""
            elif line.startswith("="):
                contents[path] += line[1:] + "\n"
        return DropIns(contents, needs_reload="NeedDaemonReload=yes" in output)

    @staticmethod
    def default() -> DropIns:
        return DropIns({}, needs_reload=False)


@operation()
def drop_ins(files: dict[str, str], contents: dict[str, str]) -> Generator[StringCommand, None, None]:
    """Write drop-ins and have systemd read them, also when an earlier run was cut between the two.

    Args:
        files: unit name → path of its drop-in.
        contents: path → content.
    """
    found = host.get_fact(SystemdDropIns, drop_ins=files)
    changed = [path for path, content in contents.items() if found.contents.get(path) != content]
    for path in changed:
        yield replace_file(path, contents[path])
    if changed or found.needs_reload:
        yield StringCommand("systemctl daemon-reload")
    else:
        host.noop(f"{', '.join(files)}: drop-ins are in force")


@operation()
def released() -> Generator[StringCommand, None, None]:
    """Have no drop-in of ours any more, and systemd know of it."""
    found = host.get_fact(SystemdDropIns, drop_ins=DROP_INS)
    if not found.contents and not found.needs_reload:
        host.noop("there is no drop-in of ours")
        return
    paths = shlex.join(DROP_INS.values())
    directories = shlex.join(path.rpartition("/")[0] for path in DROP_INS.values())
    yield StringCommand(f"rm -f {paths} && rmdir --ignore-fail-on-non-empty {directories} && systemctl daemon-reload")


def ordering() -> dict[str, str]:
    """Drop-ins that order Docker after its stores where fstab mounts them, and ask for nothing where it does not.

    They are in force while data is moved: one rename of fstab then decides what Docker starts on. Path → content.
    """
    content = render("ordering.conf.j2", stores=STORES.values())
    return dict.fromkeys(DROP_INS.values(), content)


@deploy("Fail closed")
def refuse_to_start_without_the_volume(settings: Settings) -> None:
    mount_points = [settings.volume_mount, *STORES.values()]
    drop_ins(
        name="docker.service and containerd.service need the volume",
        files=DROP_INS,
        contents={
            path: render(
                "drop-in.conf.j2",
                unit=unit,
                mount_points=mount_points,
                marker=f"{settings.volume_mount}/{MARKER}",
            )
            for unit, path in DROP_INS.items()
        },
    )
