"""The disks that the settings name."""

from __future__ import annotations

from bulkhead.sizes import MINIMUM, human
from pyinfra_lvm.model import BlockDevice, Storage
from pyinfra_lvm.operations import not_blank
from settings.model import Settings
from tasks.preflight.finding import Finding, Refused


def another_disk(settings: Settings, storage: Storage) -> str:
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


# -- disks


def new_disks(settings: Settings, storage: Storage, group: str) -> tuple[str, ...]:
    """The named disks that are not in the group yet.

    Raises:
        Refused: any of them cannot be had, for each the reason.
    """
    new = []
    findings = []
    seen: dict[str, str] = {}
    for path in settings.volume_disks:
        device = storage.device(path)
        other = seen.setdefault(device.path, path) if device else path
        owner = storage.group_of(path)
        if device is None:
            disks = (f"{_stable_name(d)} ({human(d.size)})" for d in storage.devices if d.type == "disk")
            findings.append(
                Finding(
                    f"no disk {path}; there is: {', '.join(disks)}",
                    "every disk that volume_disks names",
                    "attach it, or correct volume_disks",
                )
            )
        elif other != path:
            findings.append(Finding(f"{other} and {path} are the same disk", "each disk once", "correct volume_disks"))
        elif owner == group:
            continue
        elif owner:
            findings.append(
                Finding(
                    f"{path} is in the volume group {owner}",
                    "a blank disk",
                    f"name another disk; if the free space of that group is meant, set volume_group to {owner} and "
                    "volume_disks to []",
                )
            )
        elif reason := _not_ours_to_take(device, owner):
            findings.append(
                Finding(
                    f"{path} ({human(device.size)}) {reason}",
                    "a blank disk: nothing that carries anything is ever overwritten",
                    "name another disk; only if you are sure that nobody needs what is on it, blank it yourself: "
                    f"`wipefs --all {path}`, and zeros over its first and last MiB",
                )
            )
        else:
            new.append(path)
    if findings:
        raise Refused(*findings)
    return tuple(new)


def _not_ours_to_take(device: BlockDevice, owner: str | None) -> str:
    """Why a disk that is in no group is not taken, in words; empty for a blank one."""
    if owner == "":
        # As a cut between pvcreate and vgcreate leaves it.
        made = "is a physical volume of no group, with traces of one, which `vgcfgrestore` may bring back"
        return "" if device.zeroed_beyond_header else made
    return not_blank(device) or ("could not be read" if device.zeroed is None else "")
