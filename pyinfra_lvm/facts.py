"""The fact about storage: block devices, LVM, filesystems, mounts and fstab."""

from __future__ import annotations

import base64
import json
import posixpath
import re
import shlex
from collections.abc import Iterator
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

WHOLE_DISKS = "disks"  # among the devices to probe: every disk, RAID array and multipath device of the host
XFS_NEW_INODES = 3  # in use on an xfs that mkfs has just made: the root directory, and two for the realtime part

# What a parser raises for the output of another command, or of a program that was killed. A fact makes a FactProcessError of it:
# any other exception would end the run for every host.
UNREADABLE = (AttributeError, LookupError, TypeError, ValueError)

_SECTION = "##STORAGE## "

# Volumes that LVM makes a RAID volume of (lvmraid(7), SubLVs). Nobody else may use such names.
_PART_OF_RAID = re.compile(r"_r(image|meta)_\d+")

# Shell functions that say whether a device holds only zeros. They compare, and do not count other bytes: a device that cannot
# be read must not pass. zeros DEVICE FROM BYTES. zeros_from DEVICE FROM: up to 17 MiB, and a MiB at each quarter and at the
# end. A disk whose first MiB somebody has zeroed still holds its filesystem, and must not count as blank.
ZEROS = r"""zeros() { cmp -s -n "$3" -i "$2:0" "$1" /dev/zero; }
zeros_from() {
    last=$(( $(blockdev --getsize64 "$1") - 1048576 ))
    begin=$(( last < 16777216 ? last : 16777216 ))
    zeros "$1" "$2" $(( begin + 1048576 - $2 )) &&
        zeros "$1" $(( last / 4 )) 1048576 && zeros "$1" $(( last / 2 )) 1048576 &&
        zeros "$1" $(( last / 4 * 3 )) 1048576 && zeros "$1" "$last" 1048576
}
"""

# $1: devices that are probed for zeros, separated by spaces; the shell expands patterns, and "disks" stands for all. $2: directories that are inspected beneath mounts, likewise. $3:
# files that are disks, likewise.
#
# Processes are what it costs on the host: a program is asked for everything at once, and the shell does the rest itself.
#
# - Signatures come from the devices themselves: lsblk's FSTYPE comes from udev's database, which may be stale. wipefs ends
#   at a device that it cannot open, and prints nothing: then each device is asked for alone.
# - lsblk prints a tree: in a list each device has only one parent, and the second disk beneath a volume seems unused.
# - Sizes of filesystems come from lsblk: findmnt asks every mount, and hangs on a dead NFS server.
# - A physical volume that pvcreate has just made has its label in the first 4 KiB, an empty metadata header of 512
#   bytes after it, and nothing else. One whose group was removed still has the group's text (lvm2, format_text).
# - An ext4 counts its mounts. A new xfs has used 3 inodes (root, and two for its realtime part).
# - The superblock of a mounted xfs, read from the device, still has the size from when it was mounted: xfs writes past
#   the page cache. xfs_info asks the kernel; without xfsprogs nothing can have grown.
# - fstab is encoded, so that it comes back byte for byte, with or without a newline at its end.
# - Which disks the copies of a mirror are on, is asked only where there is one.
# - A directory is seen beneath the mounts on it where its parent is bound without them. `cd -P` resolves symbolic links.
_SCRIPT = (
    r"""
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"
section() { echo "##STORAGE## $*"; }
"""
    + ZEROS
    + r"""section lsblk
lsblk --json --bytes --paths --output NAME,KNAME,TYPE,SIZE,RO,RM,MODEL,TRAN,MAJ:MIN,FSSIZE,FSAVAIL,MOUNTPOINTS
section links; find /dev -xdev -path /dev/char -prune -o -type l -printf '%p %l\n' 2>/dev/null
devices= volumes= ext= xfs= disks=
while read -r device type; do
    case "$type $devices " in rom*|loop*|*" $device "*) continue ;; esac
    devices="$devices $device"
    case $type in lvm) volumes="$volumes $device " ;; disk|mpath|raid*) disks="$disks $device" ;; esac
done <<EOF
$(lsblk --noheadings --list --paths --output KNAME,TYPE)
EOF
signatures() { wipefs --no-act --noheadings --output DEVICE,TYPE,UUID "$@" 2>/dev/null; }
found=$(signatures $devices) || found=$(for device in $devices; do signatures "$device"; done)
section signatures; echo "$found"
while read -r name type _; do
    case "$volumes$type" in *"/$name "*ext*) ext="$ext /dev/$name" ;; *"/$name "*xfs) xfs="$xfs /dev/$name" ;; esac
done <<EOF
$found
EOF
[ -z "$ext" ] || for device in $ext; do section "device $device"; dumpe2fs -h "$device" 2>/dev/null; done |
    sed -n 's/^Block count: */ext-blocks /p; s/^Block size: */ext-block-size /p; s/^Mount count: */ext-mounts /p
        s/^Inode count: */ext-inodes /p; /^##/p'
for device in $xfs; do
    section "device $device"; printf 'xfs-superblock '; od -An -v -w140 -j4 -N140 -tu1 "$device" || echo
    xfs_info "$device" 2>/dev/null | sed -n 's/^data .*bsize=\([0-9]*\) *blocks=\([0-9]*\),.*/xfs-blocks \1 \2/p'
done
case " $1 " in *" disks "*) set -- "$1$disks" "$2" "$3" ;; esac
probed=
for device in $1; do
    [ -b "$device" ] && device=$(readlink -f "$device") || continue
    case "$probed " in *" $device "*) continue ;; esac # by another name
    probed="$probed $device"
    section "ends $device"
    if zeros_from "$device" 0; then echo zeros
    elif zeros "$device" 0 512 && zeros_from "$device" 4608; then echo beyond-header
    fi
done
section findmnt
findmnt --kernel --list --json --output TARGET,SOURCE,FSROOT,FSTYPE,OPTIONS,PROPAGATION,MAJ:MIN
section fstab; [ ! -f /etc/fstab ] || base64 /etc/fstab
section directories
[ -z "$2" ] || unshare --mount --propagation private sh -c '
    is_empty() { set -- "$1"/* "$1"/.[!.]* "$1"/..?*; for entry; do [ ! -e "$entry" ] && [ ! -L "$entry" ] || return; done; }
    bound=
    for path in $1; do
        parent=${path%/*}; parent=${parent:-/}
        if [ "$parent" != "$bound" ]; then
            cd /; [ -z "$bound" ] || umount /mnt; bound=
            [ ! -d "$parent" ] || ! mount --bind "$parent" /mnt 2>/dev/null || bound=$parent
        fi
        if [ -z "$bound" ]; then echo "absent - - $path"; continue; fi
        beneath=/mnt/${path##*/}
        kind=other; [ -e "$beneath" ] || kind=absent
        [ ! -d "$beneath" ] || kind=directory
        [ ! -L "$beneath" ] && cd -P "$parent" && [ "$PWD" = "$parent" ] || kind=symlink
        empty=-; flags=-
        if [ "$kind" = directory ]; then
            ! is_empty "$beneath" || empty=empty
            flags=$(lsattr -d "$beneath" 2>/dev/null); flags=${flags%% *}
        fi
        echo "$kind $empty ${flags:--} $path"
    done' sh "$2" 2>/dev/null
[ -z "$3" ] || { section kernel; uname -r; }
for image in $3; do
    section "image $image"
    [ -e "$image" ] || [ -L "$image" ] || continue
    stat -c 'stat %U:%a %h %s %b %F' "$image"
    [ -f "$image" ] && [ ! -L "$image" ] || continue
    # Of ext4 and xfs only xfs can share extents between files.
    [ "$(stat -f -c %T "$image")" != xfs ] || ! filefrag -v "$image" 2>/dev/null | grep -qw shared || echo shared
    loops=$(losetup --noheadings --output NAME --associated "$image")
    for loop in $loops; do
        echo "loop $loop $(blockdev --getsize64 "$loop") $(cat "/sys/class/block/${loop##*/}/queue/discard_max_bytes")"
    done
    [ "$loops" ] || signatures "$image" | sed 's/^[^ ]* */signature /'
done
section tools
for tool in mkfs.ext4 mkfs.xfs resize2fs xfs_growfs lvcreate; do command -v "$tool" >/dev/null && echo "$tool"; done
read -r release </proc/sys/kernel/osrelease
for name in dm-raid dm-mirror; do
    for module in "/sys/module/dm_${name#dm-}" "/lib/modules/$release"/*/drivers/md/"$name".ko*; do [ ! -e "$module" ] || echo "$name"; done
done
if command -v lvs >/dev/null; then
    report() { "$@" --reportformat json --units b --nosuffix 2>/dev/null; }
    section pvs; report pvs -o pv_name,vg_name,pv_size,pv_free,pv_missing,pe_start
    groups() {
        report vgs -o "vg_name,vg_size,vg_free,vg_extent_size,vg_missing_pv_count,vg_tags,vg_uuid,vg_permissions,vg_exported,vg_clustered,vg_shared,vg_lock_type$1"
    }
    # LVM before 2.03.12 knows no autoactivation of groups, and refuses a column that it does not know.
    section vgs; found=$(groups ,vg_autoactivation) || found=$(groups); echo "$found"
    volumes=$(report lvs -a -o lv_name,vg_name,lv_size,lv_active,segtype,origin,lv_tags,lv_health_status)
    section lvs; printf '%s\n' "$volumes"
    case $volumes in *raid1*) section parts; report pvs --segments -o pv_name,vg_name,lv_name ;; esac
    # What is not set is not printed.
    section lvm-config; lvmconfig activation/auto_activation_volume_list activation/volume_list global/event_activation \
        devices/filter devices/global_filter 2>/dev/null
fi
true
"""
)


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
