"""The file that is Docker's disk, where root has taken the whole disk: whether it still has all that it was given."""

from __future__ import annotations

import glob
import os
from typing import TYPE_CHECKING

from bulkhead.names import VOLUME_FILE, VOLUME_FILE_SERVICE
from bulkhead.storage.volume import is_mounted
from bulkhead.text import short

if TYPE_CHECKING:
    from collections.abc import Iterator

SYSFS = "/sys"

# linux/fiemap.h: FS_IOC_FIEMAP with a header of 32 bytes (start, length, flags, mapped, count), then 56 bytes for each
# extent: logical, physical, length, two reserved, flags at 40.
_FIEMAP = 0xC020660B
_HEADER, _EXTENT, _COUNT = 32, 56, 1000
_LAST, _SHARED = 0x1, 0x2000


def problems(size: int, volume: str) -> list[str]:
    """Return what is wrong with the file, as sentences. Only root can see it: to others nothing is.

    Args:
        size: bytes that it should have.
        volume: the mount point of Docker's volume.
    """
    try:
        found = [*_of_the_file(size)]
        # The loop device of a file that was moved has another name for it.
        return [*found, *_of_its_device(volume)] if os.path.lexists(VOLUME_FILE) else found
    except PermissionError:
        return []


def _of_the_file(size: int) -> Iterator[str]:
    try:
        found = os.lstat(VOLUME_FILE)
    except FileNotFoundError:
        yield (
            f"{VOLUME_FILE}, the disk of Docker's volume, is not there: Docker stays down from the next boot on. Move it "
            "back; if it is removed, keep the host up, and name a blank disk in volume_disks: the deploy moves Docker's data"
        )
        return
    allocated = found.st_blocks * 512  # stat(2)
    if found.st_size < size:
        yield f"{VOLUME_FILE} has {short(found.st_size)}, and had {short(size)}: somebody truncated it"
    elif allocated < found.st_size:
        yield (
            f"{VOLUME_FILE} has holes: others can take {short(found.st_size - allocated)} of its space. "
            f"`fallocate --length {found.st_size} {VOLUME_FILE}` fills them"
        )
    if _has_shared_extents(VOLUME_FILE):
        yield f"{VOLUME_FILE} shares extents with a copy: writes take new space. Remove the copy"


def _has_shared_extents(path: str) -> bool:
    """Return whether a file has extents in common with another one, as `cp` makes them on xfs. ext4 has none."""
    import fcntl
    import struct

    with open(path, "rb") as file:
        start = 0
        while True:
            answer = bytearray(_HEADER + _COUNT * _EXTENT)
            struct.pack_into("=QQLLLL", answer, 0, start, 2**64 - 1 - start, 0, 0, _COUNT, 0)
            try:
                fcntl.ioctl(file, _FIEMAP, answer)
            except OSError:  # the filesystem does not tell: it is neither ext4 nor xfs
                return False
            (mapped,) = struct.unpack_from("=L", answer, 20)
            for at in range(_HEADER, _HEADER + mapped * _EXTENT, _EXTENT):
                logical, _, length = struct.unpack_from("=QQQ", answer, at)
                (flags,) = struct.unpack_from("=L", answer, at + 40)
                if flags & _SHARED:
                    return True
                if flags & _LAST:
                    return False
                start = logical + length
            if not mapped:
                return False


def _of_its_device(volume: str) -> Iterator[str]:
    loops = loop_devices()
    if not loops:
        yield f"{VOLUME_FILE} is not attached: `systemctl enable --now {VOLUME_FILE_SERVICE}`, and start Docker"
    elif len(loops) > 1:
        yield f"{VOLUME_FILE} has more than one loop device, which destroys its content: {', '.join(loops)}"
    queues = {f"/dev/{name}": f"{SYSFS}/block/{name}" for name in loops}
    if is_mounted(volume):
        device = os.stat(volume).st_dev
        queues[volume] = f"{SYSFS}/dev/block/{os.major(device)}:{os.minor(device)}"
    discarding = [name for name, queue in queues.items() if _read(f"{queue}/queue/discard_max_bytes") not in ("0", "")]
    if discarding:
        yield (
            f"{' and '.join(discarding)} takes discards, which punch holes into {VOLUME_FILE}: run the deploy again; if that "
            "does not help, reboot"
        )


def loop_devices() -> list[str]:
    """Return the names of the loop devices that have the file."""
    files = glob.glob(f"{SYSFS}/block/loop*/loop/backing_file")
    return sorted(path.split("/")[-3] for path in files if _read(path) == VOLUME_FILE)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read().strip()
    except FileNotFoundError:  # it was detached meanwhile
        return ""
