"""Print the content of trees, one line for each entry: mode, owner, links, size, device, time, attributes, checksum.

Usage: python3 manifest.py TREE... Entries that a running container changes (log) and mounted filesystems are left out.
"""

import hashlib
import os
import stat
import sys


def line(path: str, name: str) -> str:
    found = os.lstat(path)
    attributes = {
        key: os.getxattr(path, key, follow_symlinks=False).hex() for key in os.listxattr(path, follow_symlinks=False)
    }
    content = ""
    if stat.S_ISREG(found.st_mode):
        with open(path, "rb") as file:
            content = hashlib.sha256(file.read()).hexdigest()
        # A sparse file must stay sparse. The exact number of blocks depends on the filesystem.
        content += " sparse" if found.st_blocks * 512 < found.st_size // 2 else ""
    elif stat.S_ISLNK(found.st_mode):
        content = os.readlink(path)
    links = found.st_nlink if not stat.S_ISDIR(found.st_mode) else "-"
    size = found.st_size if stat.S_ISREG(found.st_mode) else "-"
    numbers = (f"{found.st_mode:o}", found.st_uid, found.st_gid, links, size, found.st_rdev, found.st_mtime_ns)
    return f"{name} {' '.join(map(str, numbers))} {sorted(attributes.items())} {content}"


def entries(tree: str):
    device = os.lstat(tree).st_dev
    for directory, names, files in os.walk(tree):
        names[:] = sorted(
            n for n in names if os.lstat(os.path.join(directory, n)).st_dev == device and n not in ("work", "merged")
        )
        for name in [*names, *files]:
            if name != "log":
                path = os.path.join(directory, name)
                yield line(path, os.path.relpath(path, tree))


for root in filter(os.path.isdir, sys.argv[1:]):
    print(*sorted(entries(root)), sep="\n")
