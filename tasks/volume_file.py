"""After this, a host whose root has taken the whole disk has a file that is Docker's disk, attached now and at every boot.

The file is allocated as a whole. A loop device makes a disk of it, which refuses discards: the space stays the file's.
"""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Generator

from pyinfra import host
from pyinfra.api import FunctionCommand, Host, State, StringCommand

from bulkhead.names import VOLUME_FILE, VOLUME_FILE_SERVICE
from pyinfra_lvm.collection import fact, operation
from pyinfra_lvm.facts import StorageLayout
from pyinfra_lvm.model import DiskImage, Storage
from settings.model import Settings
from tasks.preflight.plan import Plan
from tasks.support import connection, units
from tasks.support.files import render, replace_file
from tasks.support.paths import VOLUME_FILE_DEVICE, VOLUME_FILE_RULES, VOLUME_FILE_SCRIPT, VOLUME_FILE_UNIT
from tasks.support.units import SystemdFiles, mount_unit

Commands = Generator[StringCommand, None, None]
_DIRECTORY = posixpath.dirname(VOLUME_FILE)

# Backup programs that know the tag leave such a directory out (https://bford.info/cachedir/): tar --exclude-caches, borg,
# restic and others. The first line is the tag.
_CACHE_TAG = """Signature: 8a477f597d28d172789f06886806bc55
# The file "disk" is the disk of Docker's volume (docker-bulkhead). Back up what is in the volume, not this file.
"""


def provision(settings: Settings, plan: Plan) -> None:
    """Make or grow the file, and attach it."""
    disk_file(name=f"{VOLUME_FILE} is allocated", size=plan.disk_file_bytes)
    # After the file has grown: a script that expects more than there is would attach nothing at the next boot.
    units.unit_files(
        name=f"{VOLUME_FILE_SERVICE} attaches {VOLUME_FILE}",
        contents=unit_files(settings, plan),
        units=[VOLUME_FILE_SERVICE],
    )
    attached(name=f"{VOLUME_FILE} is attached, now and at every boot", size=plan.disk_file_bytes)


def leave(plan: Plan) -> None:
    """Have the group's other disks take over what is on the file, and remove the file."""
    emptied(
        name=f"Volume group {plan.volume_group} moves from {VOLUME_FILE} to the named disks", group=plan.volume_group
    )
    removed(name=f"{VOLUME_FILE} is removed", group=plan.volume_group)


def unit_files(settings: Settings, plan: Plan) -> dict[str, str]:
    """Return the unit, its script and the udev rule: path → content."""
    mounts = [mount_unit(path) for path in (settings.volume_mount, *(extra.mount for extra in plan.extra_volumes))]
    return {
        VOLUME_FILE_RULES: render(
            "docker-disk.rules.j2", file=VOLUME_FILE, link=VOLUME_FILE_DEVICE.removeprefix("/dev/")
        ),
        VOLUME_FILE_SCRIPT: render(
            "docker-disk.sh.j2",
            file=VOLUME_FILE,
            size=plan.disk_file_bytes,
            group=plan.volume_group,
            device=VOLUME_FILE_DEVICE,
        ),
        VOLUME_FILE_UNIT: render(
            "docker-disk.service.j2", directory=_DIRECTORY, script=VOLUME_FILE_SCRIPT, mounts=mounts
        ),
    }


def _image(storage: Storage) -> DiskImage:
    return storage.image(VOLUME_FILE) or DiskImage(VOLUME_FILE, "absent")


@operation()
def disk_file(size: int) -> Commands:
    """Allocate the file that is Docker's disk, or grow it. It is never shrunk, and no file in its place is touched.

    Args:
        size: bytes.
    """
    image = _image(fact(StorageLayout, images=[VOLUME_FILE]))
    if image.kind != "absent" and image.size >= size:
        host.noop(f"{VOLUME_FILE} has {image.size} bytes")
        return
    yield StringCommand(f"mkdir -p {_DIRECTORY} && chmod 0700 {_DIRECTORY}")
    yield replace_file(f"{_DIRECTORY}/CACHEDIR.TAG", _CACHE_TAG)
    # fallocate(1) without an option is fallocate(2) with mode 0: it allocates what is missing, and leaves what is there.
    # A file that could not be allocated as a whole does not get its name.
    new = f"{VOLUME_FILE}.new"
    if image.kind == "absent":
        yield StringCommand(
            f"[ ! -e {VOLUME_FILE} ] && rm -f {new} && (umask 077; fallocate --length {size} {new}) && sync {new} && "
            f"mv -nT {new} {VOLUME_FILE} && sync -f {_DIRECTORY} || {{ rm -f {new}; exit 1; }}"
        )
    else:
        yield StringCommand(
            f"[ $(stat --format %s {VOLUME_FILE}) -le {size} ] && fallocate --length {size} {VOLUME_FILE} && "
            f"sync {VOLUME_FILE}"
        )


@operation()
def attached(size: int) -> Commands:
    """Attach the file now and at every boot, and have loop device and physical volume as large as it is.

    Nothing here restarts the unit: the volume's mounts require it, and Docker requires them.

    Args:
        size: bytes of the file.
    """
    storage = fact(StorageLayout, images=[VOLUME_FILE], probe=[VOLUME_FILE_DEVICE])
    found = fact(SystemdFiles, paths=[VOLUME_FILE_UNIT], units=[VOLUME_FILE_SERVICE])
    loops = _image(storage).loops
    commands = []
    device = storage.device(VOLUME_FILE_DEVICE)
    if VOLUME_FILE_SERVICE not in found.up or not loops or device is None:
        commands.append(
            # Enabled for good before anything is on the file: after a cut, the boot must attach it.
            f"udevadm control --reload && systemctl enable --quiet {VOLUME_FILE_SERVICE} && sync -f /etc/systemd && "
            f"systemctl start {VOLUME_FILE_SERVICE} && test -b {VOLUME_FILE_DEVICE}"
        )
    if any(loop.discards for loop in loops):
        commands.append(f"sh {VOLUME_FILE_SCRIPT} attach")  # which attaches nothing that is attached
    if any(loop.size < size for loop in loops):
        commands.append(f"losetup --set-capacity $(readlink -f {VOLUME_FILE_DEVICE})")
    volume = storage.physical_volume(VOLUME_FILE_DEVICE)
    group = storage.volume_group(volume.volume_group) if volume else None
    # What is left of a disk is less than an extent and LVM's metadata.
    if volume and group and size - volume.size >= 2 * group.extent_size:
        commands.append(f"pvresize --quiet {shlex.quote(VOLUME_FILE_DEVICE)} </dev/null")
    for command in commands:
        yield StringCommand(command)
    if not commands:
        host.noop(f"{VOLUME_FILE} is attached")


@operation()
def emptied(group: str) -> Generator[FunctionCommand, None, None]:
    """Move every extent from the file to the group's other disks, while all that is on them goes on, and show the progress.

    Args:
        group: name of the volume group.
    """
    volume = fact(StorageLayout).physical_volume(VOLUME_FILE_DEVICE)
    if volume and volume.volume_group == group and volume.free < volume.size:
        yield FunctionCommand(_move, [], {})
    else:
        host.noop(f"nothing of {group} is on {VOLUME_FILE}")


def _move(state: State, host: Host) -> bool:
    del state  # pyinfra passes state and host to a function with parameters of these names
    # pvmove goes on with a move that was cut: lvmpolld, or the next activation of the group, polls it too (pvmove(8)).
    return connection.follow(host, f"pvmove --interval 10 {VOLUME_FILE_DEVICE} </dev/null")


@operation()
def removed(group: str) -> Commands:
    """Take the file out of the group once nothing is on it, detach it, and remove it with its unit and its rule.

    The volume's mounts require the unit: that ends first, or stopping it would stop them, and Docker.

    Args:
        group: name of the volume group.
    """
    storage = fact(StorageLayout, images=[VOLUME_FILE])
    if _image(storage).kind == "absent" and storage.device(VOLUME_FILE_DEVICE) is None:
        host.noop(f"there is no {VOLUME_FILE}")
        return
    quoted, device = shlex.quote(group), VOLUME_FILE_DEVICE
    yield StringCommand(
        # vgreduce refuses a physical volume that extents are on.
        f"owner=$(pvs --noheadings --options vg_name {device} 2>/dev/null | tr -d ' '); "
        f'[ "$owner" != {quoted} ] || vgreduce --quiet {quoted} {device} </dev/null || exit 1; '
        f"[ ! -b {device} ] || ! pvs {device} >/dev/null 2>&1 || pvremove --quiet {device} </dev/null"
    )
    yield StringCommand(
        f"systemctl disable --quiet {VOLUME_FILE_SERVICE} 2>/dev/null; systemctl daemon-reload && "
        f'[ -z "$(systemctl show --property=RequiredBy --value {VOLUME_FILE_SERVICE})" ] && '
        f"{{ ! systemctl is-active --quiet {VOLUME_FILE_SERVICE} || systemctl stop {VOLUME_FILE_SERVICE}; }} && "
        # The unit knows no file that is removed already.
        f"{{ [ ! -b {device} ] || losetup --detach $(readlink -f {device}); }} && "
        f'[ -z "$(losetup --associated {VOLUME_FILE})" ]'
    )
    yield StringCommand(
        f"rm -f {shlex.join([VOLUME_FILE_UNIT, VOLUME_FILE_SCRIPT, VOLUME_FILE_RULES])} && systemctl daemon-reload && "
        f"rm -rf {_DIRECTORY} && sync -f /var/lib"
    )
