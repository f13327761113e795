"""A made-up /proc, for the readers in Python and in shell."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path


class FakeProc:
    """A directory that looks like /proc. PID 1 is there from the start.

    Args:
        path: where to make it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.path.mkdir(parents=True)
        self.add(1, "systemd", parent=0, cgroup="/init.scope")

    def add(
        self,
        pid: int,
        command_line: str,
        *,
        name: str = "",
        parent: int = 1,
        cgroup: str = "/system.slice/x",
        written: int = 0,
        started: int | None = None,
        namespace: str = "host",
        mounts: Sequence[str] = (),
        environment: str = "",
        sockets: Sequence[int] = (),
        root: str = "/",
        program: str = "",
    ) -> None:
        """Add a process.

        Args:
            name: as in comm; by default the command line's first word.
            written: bytes.
            started: clock ticks after the boot; by default a hundred times the PID.
            namespace: that it is in, of mounts, of the network and of PIDs.
            mounts: lines of its mountinfo.
            environment: words like NAME=VALUE.
            sockets: inodes of those that it has open.
            root: its root directory. It works there.
            program: the file that it runs.
        """
        process = self.path / str(pid)
        (process / "task" / str(pid)).mkdir(parents=True)
        (process / "task" / str(pid) / "children").write_text("")
        name = name or command_line.split()[0]
        ticks = pid * 100 if started is None else started
        (process / "comm").write_text(f"{name}\n")
        (process / "cmdline").write_text("\0".join(command_line.split(" ")) + "\0")
        (process / "cgroup").write_text(f"0::{cgroup}\n")
        (process / "io").write_text(f"rchar: 1\nwchar: 2\nread_bytes: 3\nwrite_bytes: {written}\n")
        (process / "stat").write_text(f"{pid} ({name}) b) S {parent} {' '.join(['0'] * 17)} {ticks} 0 0\n")
        (process / "status").write_text(f"Name:\t{name}\nPid:\t{pid}\nPPid:\t{parent}\n")
        (process / "mountinfo").write_text("".join(f"{line}\n" for line in mounts))
        (process / "ns").mkdir()
        for kind in ("mnt", "net", "pid"):
            (process / "ns" / kind).symlink_to(f"{kind}:[{namespace}]")
        (process / "environ").write_text("".join(f"{word}\0" for word in environment.split()))
        (process / "fd").mkdir()
        for descriptor, inode in enumerate(sockets, 3):
            (process / "fd" / str(descriptor)).symlink_to(f"socket:[{inode}]")
        (process / "root").symlink_to(root)
        (process / "cwd").symlink_to("/")
        (process / "exe").symlink_to(program or command_line.split()[0])
        siblings = self.path / str(parent) / "task" / str(parent) / "children"
        if siblings.exists():
            siblings.write_text(f"{siblings.read_text()}{pid} ")

    def hide(self, *pids: int) -> None:
        """Hide processes, as the mount option hidepid does from those who may not see them."""
        for pid in pids:
            shutil.rmtree(self.path / str(pid))

    def become(self, pid: int) -> None:
        """Make a process the reader's own."""
        (self.path / "self").unlink(missing_ok=True)
        (self.path / "self").symlink_to(str(pid))
