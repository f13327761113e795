"""The fact about storage: block devices, LVM, filesystems, mounts and fstab."""

from __future__ import annotations

import base64
import json
import posixpath
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pyinfra.api import FactBase, FactProcessError

from pyinfra_lvm.fstab import parse_fstab
from pyinfra_lvm.model import (
    METADATA,
    BlockDevice,
    Directory,
    DiskImage,
    Filesystem,
    LogicalVolume,
    LoopDevice,
    LvmConfig,
    Mount,
    PhysicalVolume,
    Storage,
    VolumeGroup,
)
from pyinfra_lvm.script import script

WHOLE_DISKS = "disks"  # among the devices to probe: every disk, RAID array and multipath device of the host
XFS_NEW_INODES = 3  # in use on an xfs that mkfs has just made: the root directory, and two for the realtime part

# What a parser raises for the output of another command, or of a program that was killed. A fact makes a FactProcessError of it:
# any other exception would end the run for every host.
UNREADABLE = (AttributeError, LookupError, TypeError, ValueError)

_SECTION = "##STORAGE## "

# Volumes that LVM makes a RAID volume of (lvmraid(7), SubLVs). Nobody else may use such names.
_PART_OF_RAID = re.compile(r"_r(image|meta)_\d+")

_HERE = Path(__file__).parent
ZEROS = script(_HERE / "zeros.sh")
_SCRIPT = ZEROS + script(_HERE / "storage.sh")


class StorageLayout(FactBase[Storage]):
    """Return block devices, LVM, filesystems, mounts and fstab as a ``pyinfra_lvm.model.Storage``.

    It is one command, so that everything is from one moment. It changes nothing, and needs root.

    + paths: directories to inspect beneath the mounts on them
    + probe: devices that are read at their ends and in between: ``zeroed`` tells a blank device from one with unknown
      content. Shell patterns match the names that a device has, and ``WHOLE_DISKS`` stands for every disk
    + images: files that are disks, or are going to be

    .. code:: python

        storage = host.get_fact(StorageLayout, paths=["/var/lib/docker"], probe=["/dev/vdb"])
        storage.volume_group("ubuntu-vg").free
    """

    def command(
        self, paths: list[str] | None = None, probe: list[str] | None = None, images: list[str] | None = None
    ) -> str:
        lists = (" ".join(names or []) for names in (probe, paths, images))
        return shlex.join(["sh", "-c", _SCRIPT, "storage", *lists])

    def process(self, output: list[str]) -> Storage:
        try:
            return parse_storage(output)
        except UNREADABLE as error:
            raise FactProcessError(f"the storage of this host cannot be read: {error!r}") from error

    @staticmethod
    def default() -> Storage:
        return Storage()


def parse_storage(output: list[str]) -> Storage:
    """Parse the output of the fact's command.

    Raises:
        UNREADABLE: another command printed this, or a program that it runs was killed.
    """
    sections = split_sections(output, _SECTION)
    # Bytes that are not UTF-8 survive decoding and encoding (PEP 383).
    fstab_text = base64.b64decode("".join(sections.get("fstab", []))).decode(errors="surrogateescape")
    nodes = {node["kname"]: node for node in _nodes(_json(sections.get("lsblk", [])).get("blockdevices", []))}
    aliases = _aliases(sections)
    parts: dict[tuple[str, str], set[str]] = {}
    for r in _lvm_rows(sections, "parts", "pvseg"):
        if r["lv_name"]:
            parts.setdefault((r["vg_name"], r["pv_name"]), set()).add(r["lv_name"].strip("[]"))
    return Storage(
        devices=tuple(_device(node, sections, aliases) for node in nodes.values()),
        physical_volumes=tuple(
            PhysicalVolume(
                r["pv_name"],
                r["vg_name"],
                int(r["pv_size"]),
                int(r["pv_free"]),
                r["pv_missing"] == "missing",
                int(r.get("pe_start") or METADATA),
                tuple(sorted(parts.get((r["vg_name"], r["pv_name"]), ()))),
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
                r.get("vg_uuid", ""),
                # LVM's words for what a group is: "exported", "clustered", "shared"; empty where it is not.
                tuple(filter(None, (r.get(f"vg_{name}", "") for name in ("exported", "clustered", "shared")))),
                r.get("vg_permissions") == "read-only",
                "" if (lock_type := r.get("vg_lock_type", "")) == "none" else lock_type,
                r.get("vg_autoactivation", "enabled") == "enabled",
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
                merging=bool(r["origin"]) and r["lv_name"].startswith("["),  # LVM hides it from then on
                health=r.get("lv_health_status", ""),
            )
            for r in _lvm_rows(sections, "lvs", "lv")
            if not _PART_OF_RAID.search(r["lv_name"])
        ),
        filesystems=tuple(_filesystems(sections)),
        mounts=tuple(_mounts(sections, nodes)),
        fstab=parse_fstab(fstab_text),
        fstab_text=fstab_text,
        directories=tuple(_directories(sections.get("directories", []))),
        images=tuple(_images(sections)),
        kernel=_kernel(sections.get("kernel", [])),
        lvm_installed="pvs" in sections,
        lvm_config=_lvm_config(sections.get("lvm-config", [])),
        tools=tuple(sections.get("tools", [])),
    )


def split_sections(output: list[str], mark: str) -> dict[str, list[str]]:
    """Return the lines of a command's output, by the title of their section.

    Args:
        mark: the beginning of a line that opens a section; the rest of the line is the title.
    """
    sections: dict[str, list[str]] = {}
    current: list[str] = []
    for line in output:
        if line.startswith(mark):
            current = sections.setdefault(line.removeprefix(mark), [])
        else:
            current.append(line)
    return sections


def _json(lines: list[str]) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads("\n".join(lines) or "{}")
    return parsed


def _lvm_rows(sections: dict[str, list[str]], name: str, key: str) -> list[dict[str, str]]:
    reports = _json(sections.get(name, [])).get("report", [])
    # A volume with several segments has a line for each of them, and these lines are the same.
    return [dict(t) for t in dict.fromkeys(tuple(row.items()) for report in reports for row in report[key])]


def _tags(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(",")))


def _nodes(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield every device of lsblk's tree. One on several others comes once for each of them."""
    for row in rows:
        yield row
        yield from _nodes(row.get("children", []))


def _aliases(sections: dict[str, list[str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in sections.get("links", []):
        alias, _, link = line.partition(" ")
        found.setdefault(posixpath.normpath(posixpath.join(posixpath.dirname(alias), link)), []).append(alias)
    return found


def _device(node: dict[str, Any], sections: dict[str, list[str]], aliases: dict[str, list[str]]) -> BlockDevice:
    path = node["kname"]
    probed = sections.get(f"ends {path}")
    signed = [*_signed(sections, path)]
    return BlockDevice(
        path=path,
        type=node["type"],
        size=int(node["size"]),
        read_only=bool(node["ro"]),
        aliases=tuple(sorted(aliases.get(path, []))),
        signatures=tuple(dict.fromkeys(signature for signature, _ in signed)),
        children=tuple(child["kname"] for child in node.get("children", [])),
        mount_points=tuple(filter(None, node["mountpoints"])),
        zeroed=None if probed is None else probed == ["zeros"],
        zeroed_beyond_header=None if probed is None else probed == ["beyond-header"],
        removable=bool(node["rm"]),
        model=(node["model"] or "").strip(),
        transport=node.get("tran") or "",
        uuids=tuple(dict.fromkeys(uuid for _, uuid in signed if uuid)),
    )


def _signed(sections: dict[str, list[str]], path: str) -> Iterator[tuple[str, str]]:
    """Yield type and UUID of each signature on a device; an empty UUID for one that has none."""
    for name, signature, *uuid in filter(None, map(str.split, sections.get("signatures", []))):
        if name == posixpath.basename(path):
            yield signature, "".join(uuid)


def _filesystems(sections: dict[str, list[str]]) -> list[Filesystem]:
    found = []
    for name, lines in sections.items():
        if not name.startswith("device "):
            continue
        device = name.removeprefix("device ")
        values = dict(line.split(" ", 1) for line in lines if " " in line)
        if "xfs-blocks" in values:
            block_size, blocks = map(int, values["xfs-blocks"].split())
            found.append(Filesystem(device, "xfs", block_size * blocks, _xfs_is_used(values)))
        elif "xfs-superblock" in values:
            size = _xfs_number(values, 4, 4) * _xfs_number(values, 8, 8)
            found.append(Filesystem(device, "xfs", size, _xfs_is_used(values)))
        elif "ext-blocks" in values:
            kind = next((one for one, _ in _signed(sections, device) if re.fullmatch("ext[234]", one)), "ext4")
            size = int(values["ext-blocks"]) * int(values["ext-block-size"])
            found.append(
                Filesystem(device, kind, size, int(values["ext-mounts"]) > 0, int(values.get("ext-inodes", 0)))
            )
    return found


def _xfs_is_used(values: dict[str, str]) -> bool:
    if not values.get("xfs-superblock", "").strip():
        return True  # it could not be read: only what is certainly unused may be made anew
    # Allocated inodes minus free ones.
    return _xfs_number(values, 128, 8) - _xfs_number(values, 136, 8) > XFS_NEW_INODES


def _xfs_number(values: dict[str, str], offset: int, length: int) -> int:
    """Return a big-endian number of the superblock, which was read from byte 4 on (xfs_sb in xfs_format.h)."""
    numbers = bytes(map(int, values["xfs-superblock"].split()))
    return int.from_bytes(numbers[offset - 4 :][:length], "big")


def _mounts(sections: dict[str, list[str]], nodes: dict[str, dict[str, Any]]) -> Iterator[Mount]:
    by_number = {node["maj:min"].strip(): node for node in nodes.values()}
    by_name = {node["name"]: node for node in nodes.values()}
    for row in _json(sections.get("findmnt", [])).get("filesystems", []):
        source = re.sub(r"\[.*\]$", "", row["source"] or "")
        # btrfs has device numbers of its own, so the name identifies it; /dev/root is no name, so the number does.
        node = by_number.get(row["maj:min"].strip()) or by_name.get(source) or {}
        yield Mount(
            target=row["target"],
            source=source,
            device=node.get("kname", ""),
            root=row["fsroot"],
            fstype=row["fstype"],
            options=tuple(row["options"].split(",")),
            propagation=row["propagation"],
            size=int(node.get("fssize") or 0),
            available=int(node.get("fsavail") or 0),
        )


def _directories(lines: list[str]) -> list[Directory]:
    found = []
    for line in lines:
        kind, empty, flags, path = line.split(" ", 3)
        found.append(Directory(path, kind, empty == "empty" or kind == "absent", "i" in flags))
    return found


def _images(sections: dict[str, list[str]]) -> Iterator[DiskImage]:
    for name, lines in sections.items():
        if not name.startswith("image "):
            continue
        path = name.removeprefix("image ")
        values: dict[str, list[list[str]]] = {}
        for line in lines:
            key, *words = line.split()
            values.setdefault(key, []).append(words)
        if "stat" not in values:
            yield DiskImage(path, "absent")
            continue
        mode, links, size, blocks, *kind = values["stat"][0]
        yield DiskImage(
            path,
            "regular" if "regular" in kind else "other",
            mode,
            int(links),
            int(size),
            int(blocks) * 512,  # the unit of stat's %b on Linux (st_blocks, stat(2))
            "shared" in values,
            tuple(signature for signature, *_ in values.get("signature", [])),
            tuple(LoopDevice(loop, int(bytes_), limit != "0") for loop, bytes_, limit in values.get("loop", [])),
        )


def _lvm_config(lines: list[str]) -> LvmConfig:
    """Return the settings that lvmconfig prints, one a line, as ``name=VALUE``: a number, a string or a list of strings."""
    values: dict[str, Any] = {}
    for name, _, value in (line.strip().partition("=") for line in lines):
        try:
            read = json.loads(value)
        except ValueError:
            continue
        values[name] = tuple(map(str, read if isinstance(read, list) else [read]))
    return LvmConfig(
        values.get("auto_activation_volume_list"),
        values.get("volume_list"),
        values.get("event_activation") != ("0",),
        tuple(values[name] for name in ("filter", "global_filter") if name in values),
    )


def _kernel(lines: list[str]) -> tuple[int, int]:
    """Return the first two numbers of the kernel's release."""
    major, minor, *_ = (int(number) for number in re.findall(r"\d+", "".join(lines) or "0.0"))
    return major, minor
