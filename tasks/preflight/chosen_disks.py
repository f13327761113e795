"""Choose the disks that a rule in volume_disks stands for: "blank", or a pattern of names. Pure.

A rule takes one disk in a run: which of several disks Docker gets is never guessed. Docker's volume group shows later what
was chosen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from bulkhead.sizes import human
from pyinfra_lvm.model import BlockDevice, Storage
from settings.fields import BLANK, is_pattern
from settings.model import Settings
from tasks.preflight.disks import is_ephemeral, is_whole, stable_name, unsuitable, why_not_blank
from tasks.preflight.finding import Finding, Refused
from tasks.support.paths import TAG, VOLUME_FILE_DEVICE

# Kernel names of disks, RAID arrays and multipath devices. Other devices that lsblk calls disks (a ZFS volume, DRBD, Ceph's
# rbd) belong to somebody even while they are blank.
_PLAIN = re.compile(r"/dev/(sd|vd|xvd|nvme|dasd|md|dm-)")


def with_chosen_disks(settings: Settings, storage: Storage, group: str) -> Settings:
    """Return settings that name a disk in the place of each rule.

    Args:
        group: name of the volume group that volume_disks make or extend.

    Raises:
        Refused: a rule stands for more than one disk, or for none.
    """
    if not any(map(_is_rule, settings.volume_disks)):
        return settings
    names: list[str] = []
    findings = []
    named = {device.path for device in map(storage.device, settings.volume_disks) if device}
    for rule in settings.volume_disks:
        if not _is_rule(rule):
            names.append(rule)
            continue
        present = _disks_of(storage, group, rule)
        reasons = {device: _why_not(settings, storage, device, rule) for device in filter(is_whole, storage.devices)}
        fitting = [device for device, reason in reasons.items() if not reason]
        new = [device for device in fitting if device.path not in named]
        if rule == BLANK and present:
            new = []  # it has chosen
        if len(new) > 1:
            findings.append(_several(rule, new))
        elif fitting or present:  # what another name stands for is in the list already
            names += [_name(device, rule) for device in (*present, *new) if device.path not in named]
        elif storage.physical_volumes_of(group) and rule != BLANK:
            names.append(rule)  # its disks have other names now; the group is known by its own
        else:
            findings.append(_none(settings, rule, reasons))
        named |= {device.path for device in (*present, *new)}
    if findings:
        raise Refused(*findings)
    return settings.model_copy(update={"volume_disks": names})


def choice_notices(settings: Settings, storage: Storage, new_disks: tuple[str, ...]) -> Iterator[str]:
    """Yield which disks a run takes because of a rule.

    Args:
        settings: with the rules.
        new_disks: names of all the disks that it takes.
    """
    if any(map(_is_rule, settings.volume_disks)):
        for name in new_disks:
            device = storage.device(name)
            if device and name not in settings.volume_disks:
                yield f"volume_disks chooses {_described(device, name)}"


def names_disk(device: BlockDevice, entry: str) -> bool:
    """Return whether an entry of volume_disks leads to a disk: it is one of its names, or a pattern of one."""
    return bool(_matching(device, entry)) if is_pattern(entry) else entry in (device.path, *device.aliases)


def _is_rule(name: str) -> bool:
    return name == BLANK or is_pattern(name)


def _disks_of(storage: Storage, group: str, rule: str) -> list[BlockDevice]:
    """Return what a rule stands for in a group: for a pattern the disks that match, for "blank" all of a group of ours."""
    volumes = [volume for volume in storage.logical_volumes if volume.volume_group == group]
    if rule == BLANK and volumes and not any(TAG in volume.tags for volume in volumes):
        return []  # somebody else's
    devices = [storage.device(volume.path) for volume in storage.physical_volumes_of(group)]
    return [
        device
        for device in devices
        if device and VOLUME_FILE_DEVICE not in device.aliases and (rule == BLANK or _matching(device, rule))
    ]


def _matching(device: BlockDevice, pattern: str) -> list[str]:
    # Like the shell, which expands the pattern on the host: a "*" matches no slash.
    return [alias for alias in device.aliases if PurePosixPath(alias).match(pattern)]


def _name(device: BlockDevice, rule: str) -> str:
    return stable_name(device) if rule == BLANK else _matching(device, rule)[0]


def _why_not(settings: Settings, storage: Storage, device: BlockDevice, rule: str) -> str:
    """Return why a rule does not choose a disk; empty for one that it chooses."""
    owner = storage.group_of(device.path)
    if rule != BLANK and not _matching(device, rule):
        return "has no name that matches"
    if owner:
        return f"is in the volume group {owner}"
    if owner == "":
        return "is a physical volume in no group: name it if it shall be Docker's"
    if kind := unsuitable(storage, device):
        return f"is {kind}"
    if reason := why_not_blank(device, owner):
        return reason
    if not _PLAIN.match(device.path):
        return "is taken only by its name"
    if is_ephemeral(storage, device) and not settings.takes_ephemeral_disks:
        return "is an ephemeral disk"
    if device.size < settings.volume_disk_minimum.bytes:
        return f"is smaller than volume_disk_minimum, {settings.volume_disk_minimum}"
    return ""


def _described(device: BlockDevice, name: str) -> str:
    facts = [*([device.path] if name != device.path else []), human(device.size), *filter(None, [device.model])]
    return f"{name} ({', '.join(facts)})"


def _several(rule: str, devices: list[BlockDevice]) -> Finding:
    names = [_name(device, rule) for device in devices]
    listed = ", ".join(f'"{name}"' for name in names)
    return Finding(
        f'{len(devices)} disks fit "{rule}" in volume_disks: '
        + ", ".join(_described(device, name) for device, name in zip(devices, names, strict=True)),
        "exactly one disk: docker-bulkhead never guesses which of several is meant",
        f"name the disk, or all disks that Docker is to have: volume_disks = [{listed}]; or set volume_disk_minimum above the size of "
        "the others",
    )


def _none(settings: Settings, rule: str, reasons: dict[BlockDevice, str]) -> Finding:
    listed = "; ".join(f"{_described(device, stable_name(device))} {reason}" for device, reason in reasons.items())
    return Finding(
        f'no disk fits "{rule}" in volume_disks; this host has {listed or "none"}',
        f"a blank disk, RAID array or multipath device{'' if rule == BLANK else ' of such a name'} with at least "
        f"{settings.volume_disk_minimum} (volume_disk_minimum)",
        "attach one, or name the disk or partition that Docker shall have in volume_disks; where a volume group has room for "
        "Docker's volume, set volume_disks = []",
    )
