"""Judge the disks that the setting volume_disks names. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from bulkhead.sizes import MINIMUM, human
from pyinfra_lvm.model import BlockDevice, Storage
from pyinfra_lvm.operations import not_blank
from settings.model import Settings
from tasks.preflight.finding import Finding


def new_disks(settings: Settings, storage: Storage, group: str) -> tuple[str, ...]:
    """Return the named disks that are not in the group yet.

    Args:
        group: name of the volume group.
    """
    return tuple(path for path in settings.volume_disks if storage.group_of(path) != group)


def judge_disks(settings: Settings, storage: Storage, group: str) -> Iterator[Finding]:
    """Yield why a named disk cannot become a part of the group.

    Args:
        group: name of the volume group.
    """
    first_names: dict[str, str] = {}
    for path in settings.volume_disks:
        device = storage.device(path)
        if device is None:
            disks = (f"{_stable_name(d)} ({human(d.size)})" for d in storage.devices if d.type == "disk")
            yield Finding(
                f"there is no disk {path}; this host has {', '.join(disks)}",
                "every disk that volume_disks names",
                "attach the disk, or correct volume_disks",
            )
        elif (other := first_names.setdefault(device.path, path)) != path:
            yield Finding(f"{other} and {path} are the same disk", "each disk once", "correct volume_disks")
        else:
            yield from _judge_disk(path, device, storage.group_of(path), group)


def _judge_disk(path: str, device: BlockDevice, owner: str | None, group: str) -> Iterator[Finding]:
    if owner == group:
        return
    if owner:
        yield Finding(
            f"{path} is in the volume group {owner}",
            "a blank disk",
            f"name another disk; or, to use the free space of that group, set volume_group to {owner} and "
            "volume_disks to []",
        )
    elif reason := _why_not_blank(device, owner):
        yield Finding(
            f"{path} ({human(device.size)}) {reason}",
            "a blank disk: a disk that carries anything is never overwritten",
            "name another disk; only if you are sure that nobody needs what is on it, blank it yourself: "
            f"`wipefs --all {path}`, and write zeros over its first and last MiB",
        )


def _why_not_blank(device: BlockDevice, owner: str | None) -> str:
    """Return why a disk that is in no group is not taken; empty for a blank one."""
    if owner == "":
        # A cut between pvcreate and vgcreate leaves a physical volume with nothing beyond its header.
        held = "is a physical volume that was in a volume group, which `vgcfgrestore` may bring back"
        return "" if device.zeroed_beyond_header else held
    return not_blank(device) or ("could not be read" if device.zeroed is None else "")


def another_disk(settings: Settings, storage: Storage) -> str:
    """Return the advice to name another disk, with the blank disks that the host has."""
    blank = (
        device
        for device in storage.devices
        if device.type == "disk"
        and device.size > MINIMUM
        and not not_blank(device)
        and not {device.path, *device.aliases} & {*settings.volume_disks}
    )
    listed = ", ".join(f"{_stable_name(device)} ({human(device.size)})" for device in blank)
    return f"name a blank disk in volume_disks ({f'there is {listed}' if listed else 'there is none: attach one'})"


def _stable_name(device: BlockDevice) -> str:
    return next((alias for alias in device.aliases if alias.startswith("/dev/disk/by-id/")), device.path)
