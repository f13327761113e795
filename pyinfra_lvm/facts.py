"""The fact: block devices, LVM, filesystems, mounts and fstab."""

from __future__ import annotations

import json
import posixpath
import re
import shlex
from typing import Any

from pyinfra.api import FactBase

from pyinfra_lvm.fstab import parse_fstab
from pyinfra_lvm.model import (
    BlockDevice,
    Directory,
    Filesystem,
    LogicalVolume,
    Mount,
    PhysicalVolume,
    Storage,
    VolumeGroup,
)

_SECTION = "##STORAGE## "

# $1: devices to read the ends of, a space between them. $2: directories to look at beneath mounts, likewise.
# Signatures come from the devices themselves: udev's database, which lsblk's FSTYPE is read from, may be stale.
_SCRIPT = r"""
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"
section() { echo "##STORAGE## $*"; }
section lsblk; lsblk --json --bytes --list --paths --output KNAME,TYPE,SIZE,RO,PKNAME,MOUNTPOINTS
section links; find /dev/disk /dev/mapper /dev/[!d]* -maxdepth 2 -type l -printf '%p %l\n' 2>/dev/null
lsblk --noheadings --list --paths --output KNAME,TYPE | sort -u | while read -r device type; do
    case $type in rom|loop) continue ;; esac
    section "device $device"
    wipefs --no-act --noheadings --output TYPE "$device" 2>/dev/null
    if [ "$type" = lvm ] && magic=$(od -An -N4 -tx1 "$device" 2>/dev/null); then
        [ "$magic" = ' 58 46 53 42' ] && echo "xfs-size $(od -An -j4 -N12 -tu1 "$device" | tr -s '\n ' ' ')"
        dumpe2fs -h "$device" 2>/dev/null | sed -n 's/^Block count: */ext-blocks /p; s/^Block size: */ext-block-size /p'
    fi
done
for device in $1; do
    [ -b "$device" ] || continue
    section "ends $(readlink -f "$device")"
    last=$(( $(blockdev --getsize64 "$device") / 1048576 - 1 ))
    { dd if="$device" bs=1M count=1; dd if="$device" bs=1M count=2 skip="$last"; } 2>/dev/null | tr -d '\0' | head -c 1 | wc -c
done
section findmnt
findmnt --kernel --list --json --bytes --output TARGET,SOURCE,FSROOT,FSTYPE,OPTIONS,PROPAGATION,SIZE,AVAIL,MAJ:MIN
section numbers; lsblk --noheadings --list --paths --output KNAME,MAJ:MIN
# awk, not sed: a last line without its newline must not swallow the next section's.
section fstab; [ ! -f /etc/fstab ] || awk '{ print "=" $0 }' /etc/fstab
section directories
unshare --mount --propagation private sh -c '
    for path in $1; do
        parent=$(dirname "$path")
        if [ ! -d "$parent" ] || ! mount --bind "$parent" /mnt 2>/dev/null; then echo "absent - - $path"; continue; fi
        beneath=/mnt/$(basename "$path")
        kind=other; [ -e "$beneath" ] || kind=absent
        [ ! -d "$beneath" ] || kind=directory
        [ ! -L "$beneath" ] || kind=symlink
        empty=-; flags=-
        if [ "$kind" = directory ]; then
            [ -z "$(ls -A "$beneath")" ] && empty=empty
            flags=$(lsattr -d "$beneath" 2>/dev/null | cut -d" " -f1)
        fi
        echo "$kind $empty ${flags:--} $path"
        umount /mnt
    done' sh "$2" 2>/dev/null
section tools
for tool in mkfs.ext4 mkfs.xfs resize2fs xfs_growfs lvcreate; do command -v "$tool" >/dev/null && echo "$tool"; done
if command -v lvs >/dev/null; then
    report() { "$@" --reportformat json --units b --nosuffix 2>/dev/null; }
    section pvs; report pvs -o pv_name,vg_name,pv_size,pv_free,pv_missing
    section vgs; report vgs -o vg_name,vg_size,vg_free,vg_extent_size,vg_missing_pv_count,vg_tags
    section lvs; report lvs -a -o lv_name,vg_name,lv_size,lv_active,segtype,origin,lv_tags
fi
true
"""


class StorageLayout(FactBase[Storage]):
    """Returns block devices, LVM, filesystems, mounts and fstab as a ``pyinfra_lvm.model.Storage``.

    One command, so that what it says belongs together, and that changes nothing. Needs root.

    + paths: directories to look at as they are beneath whatever is mounted on them
    + probe: devices whose first and last MiB are read: ``zeroed`` tells a blank device from one with unknown content

    .. code:: python

        storage = host.get_fact(StorageLayout, paths=["/var/lib/docker"], probe=["/dev/vdb"])
        storage.volume_group("ubuntu-vg").free
    """

    def command(self, paths: list[str] | None = None, probe: list[str] | None = None) -> str:
        return shlex.join(["sh", "-c", _SCRIPT, "storage", " ".join(probe or []), " ".join(paths or [])])

    def process(self, output: list[str]) -> Storage:
        return parse_storage(output)

    @staticmethod
    def default() -> Storage:
        return Storage()


def parse_storage(output: list[str]) -> Storage:
    """The fact's command's output as data."""
    sections: dict[str, list[str]] = {}
    current: list[str] = []
    for line in output:
        if line.startswith(_SECTION):
            current = sections.setdefault(line.removeprefix(_SECTION), [])
        else:
            current.append(line)
    fstab_text = "".join(line[1:] + "\n" for line in sections.get("fstab", []))
    mounts = _mounts(sections)
    return Storage(
        devices=_devices(sections),
        physical_volumes=tuple(
            PhysicalVolume(
                r["pv_name"], r["vg_name"], int(r["pv_size"]), int(r["pv_free"]), r["pv_missing"] == "missing"
            )
            for r in _lvm_rows(sections, "pvs", "pv")
        ),
        volume_groups=tuple(
            VolumeGroup(
                r["vg_name"],
                int(r["vg_size"]),
                int(r["vg_free"]),
                int(r["vg_extent_size"]),
                int(r["vg_missing_pv_count"]),
                _tags(r["vg_tags"]),
            )
            for r in _lvm_rows(sections, "vgs", "vg")
        ),
        logical_volumes=tuple(
            LogicalVolume(
                r["lv_name"].strip("[]"),
                r["vg_name"],
                int(r["lv_size"]),
                r["lv_active"] == "active",
                r["segtype"],
                r["origin"],
                _tags(r["lv_tags"]),
            )
            for r in _lvm_rows(sections, "lvs", "lv")
        ),
        filesystems=tuple(_filesystems(sections)),
        mounts=mounts,
        fstab=parse_fstab(fstab_text),
        fstab_text=fstab_text,
        directories=tuple(_directories(sections.get("directories", []))),
        lvm_installed="pvs" in sections,
        tools=tuple(sections.get("tools", [])),
    )


def _json(lines: list[str]) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads("\n".join(lines) or "{}")
    return parsed


def _lvm_rows(sections: dict[str, list[str]], name: str, key: str) -> list[dict[str, str]]:
    reports = _json(sections.get(name, [])).get("report", [])
    # A volume with several segments has a line for each; the rest of the line is the same.
    return [dict(t) for t in dict.fromkeys(tuple(row.items()) for report in reports for row in report[key])]


def _tags(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(",")))


def _devices(sections: dict[str, list[str]]) -> tuple[BlockDevice, ...]:
    aliases: dict[str, list[str]] = {}
    for line in sections.get("links", []):
        alias, _, link = line.partition(" ")
        aliases.setdefault(posixpath.normpath(posixpath.join(posixpath.dirname(alias), link)), []).append(alias)
    rows = _json(sections.get("lsblk", [])).get("blockdevices", [])
    children: dict[str, list[str]] = {}
    for row in rows:
        if row["pkname"]:
            children.setdefault(row["pkname"], []).append(row["kname"])
    devices = {}
    for row in rows:
        path = row["kname"]
        ends = sections.get(f"ends {path}")
        probed = sections.get(f"device {path}", [])
        devices[path] = BlockDevice(
            path=path,
            type=row["type"],
            size=int(row["size"]),
            read_only=bool(row["ro"]),
            aliases=tuple(sorted(aliases.get(path, []))),
            signatures=tuple(dict.fromkeys(line for line in probed if " " not in line)),
            children=tuple(children.get(path, [])),
            mount_points=tuple(filter(None, row["mountpoints"])),
            zeroed=None if ends is None else ends == ["0"],
        )
    return tuple(devices.values())


def _filesystems(sections: dict[str, list[str]]) -> list[Filesystem]:
    found = []
    for name, lines in sections.items():
        if not name.startswith("device "):
            continue
        device = name.removeprefix("device ")
        values = dict(line.split(" ", 1) for line in lines if " " in line)
        if "xfs-size" in values:
            # Superblock: block size at byte 4, block count at byte 8, both big-endian (xfs_sb in xfs_format.h).
            numbers = bytes(int(byte) for byte in values["xfs-size"].split())
            size = int.from_bytes(numbers[:4], "big") * int.from_bytes(numbers[4:], "big")
            found.append(Filesystem(device, "xfs", size))
        elif "ext-blocks" in values:
            kind = next((line for line in lines if re.fullmatch("ext[234]", line)), "ext4")
            found.append(Filesystem(device, kind, int(values["ext-blocks"]) * int(values["ext-block-size"])))
    return found


def _mounts(sections: dict[str, list[str]]) -> tuple[Mount, ...]:
    numbers = {number: name for name, number in map(str.split, sections.get("numbers", []))}
    return tuple(
        Mount(
            target=row["target"],
            source=re.sub(r"\[.*\]$", "", row["source"] or ""),
            device=numbers.get(row["maj:min"].strip(), ""),
            root=row["fsroot"],
            fstype=row["fstype"],
            options=tuple(row["options"].split(",")),
            propagation=row["propagation"],
            size=int(row["size"] or 0),
            available=int(row["avail"] or 0),
        )
        for row in _json(sections.get("findmnt", [])).get("filesystems", [])
    )


def _directories(lines: list[str]) -> list[Directory]:
    found = []
    for line in lines:
        kind, empty, flags, path = line.split(" ", 3)
        found.append(Directory(path, kind, empty == "empty" or kind == "absent", "i" in flags))
    return found
