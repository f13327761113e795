"""A healthy host in a temporary directory, for benchmarks of the host program on this machine.

The program is the one that the deploy installs, for this machine's Python. `systemctl` and `lvs` of this machine run, so that
they cost what they cost; their output is replaced.
"""

from __future__ import annotations

import io
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

from bulkhead.names import MARKER
from settings.check import check
from settings.model import Settings
from tasks.preflight.plan import Plan
from tasks.program import configuration
from tasks.support.archive import HOST_PYTHON, archive
from tasks.support.paths import STORES

ADD_BYTECODE = Path(__file__).parent.parent / "files" / "add-bytecode.py"
PYTHON = "/usr/bin/python3"

_PLACES = (
    "/etc/bulkhead",
    "/etc/docker",
    "/etc/containerd",
    "/var/lib/bulkhead",
    "/run/bulkhead",
    "/run/docker.sock",
    "/sys/fs/cgroup",
)

_PLAN = Plan(
    volume_group="vg",
    new_physical_volumes=(),
    logical_volume="docker-lv",
    size=2**30,
    reserve=2**30,
    filesystem="ext4",
    engine="present",
    os_id="debian",
    os_codename="bookworm",
    unused_stores=(),
    relocates=False,
    old_trees=False,
    containerd_store=False,
)

# As long as Docker's own answer.
_INFO = json.dumps({"DockerRootDir": STORES["docker"], **{f"Key{n}": "x" * 40 for n in range(80)}}).encode()

_ANSWERS = {"systemctl": "active\nactive\nactive", "lvs": "vg|107374182400|10737418240|docker-lv|||-wi-ao----||linear"}


class HealthyHost:
    """A healthy host in a directory.

    Args:
        top: the directory.
        volume: an empty directory on another filesystem that stands for Docker's volume; None: a directory of ``top``.
    """

    def __init__(self, top: Path, volume: Path | None = None) -> None:
        self.top = top
        self.program = top / "bulkhead"
        self.command: tuple[str | Path, ...] = (*HOST_PYTHON.split(), self.program)  # as its first line has it
        self.environment = {**os.environ, "PATH": f"{top}/bin:/usr/bin:/bin"}
        for name in (
            "bin",
            "etc/bulkhead",
            "etc/containerd",
            "etc/docker",
            "proc/self",
            "run/bulkhead",
            "var/lib/bulkhead",
        ):
            (top / name).mkdir(parents=True)
        if volume:
            (top / "volume").symlink_to(volume)
        else:
            (top / "volume").mkdir()
        for name in ("", *STORES):
            (top / "volume" / name).mkdir(exist_ok=True)
            (top / "volume" / name / MARKER).touch()
        (top / "etc/docker/daemon.json").write_text('{"log-driver": "local", "live-restore": true}')
        (top / "etc/containerd/config.toml").write_text('#root = "/var/lib/containerd"\ndisabled_plugins = ["cri"]\n')
        prune = {"time": time.time(), "freed": 0, "removed": 0, "failed": []}
        (top / "var/lib/bulkhead/prune.json").write_text(json.dumps(prune))
        guard = {"uptime": time.clock_gettime(time.CLOCK_BOOTTIME), "floor": 2**31, "aborted": []}
        (top / "run/bulkhead/guard.json").write_text(json.dumps(guard))
        # The host is healthy however full this machine is.
        wanted = check({"check_threshold": 99, "check_critical": 99})
        assert isinstance(wanted, Settings), wanted
        text = configuration(wanted, _PLAN).replace(wanted.volume_mount, f"{top}/volume")
        (top / "etc/bulkhead/bulkhead.json").write_text(text)
        mounts = [("254:1 /", "/"), ("254:2 /", f"{top}/volume"), *((f"254:2 /{n}", s) for n, s in STORES.items())]
        lines = [f"22 1 {what} {target} rw - ext4 /dev/{what[:5]} rw\n" for what, target in mounts]
        (top / "proc/self/mountinfo").write_text("".join(lines))
        for name, answer in _ANSWERS.items():
            real = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
            if not real:
                sys.exit(f"needs {name}: a check runs it")
            # exec: the shell of this stand-in should cost as little as possible.
            (top / "bin" / name).write_text(f"#!/bin/sh\necho '{answer}'\nexec {real} \"$@\" >/dev/null 2>&1\n")
            (top / "bin" / name).chmod(0o755)
        self._start_containerd()
        self._install()
        threading.Thread(target=self._docker, daemon=True).start()

    def _start_containerd(self) -> None:
        """Start a process of that name, which ends with this one."""
        group = self.top / "sys/fs/cgroup/system.slice/containerd.service"
        group.mkdir(parents=True)
        shutil.copy(PYTHON, self.top / "bin/containerd")
        containerd = subprocess.Popen(
            [self.top / "bin/containerd", "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE
        )
        (group / "cgroup.procs").write_text(f"{containerd.pid}\n")

    def _install(self) -> None:
        with zipfile.ZipFile(io.BytesIO(archive())) as shipped, zipfile.ZipFile(self.program, "w") as packed:
            for entry in shipped.infolist():
                text = shipped.read(entry).decode()
                for place in _PLACES:
                    text = text.replace(f'"{place}', f'"{self.top}{place}')
                if entry.filename == "bulkhead/storage/mounts.py":  # the program reads other files of the real /proc
                    mountinfo = f'f"{self.top}/proc/{{process}}/mountinfo"'
                    assert 'procfs.path(process, "mountinfo")' in text
                    text = text.replace('procfs.path(process, "mountinfo")', mountinfo)
                if entry.filename == "bulkhead/docker/daemon.py":  # systemd did not start our containerd
                    assert "procfs.parent(pid) == 1" in text
                    text = text.replace("procfs.parent(pid) == 1", "procfs.parent(pid)")
                packed.writestr(entry, text)
        subprocess.run([PYTHON, ADD_BYTECODE, self.program, self.program], check=True)

    def _docker(self) -> None:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(f"{self.top}/run/docker.sock")
            server.listen()
            while True:
                connection, _ = server.accept()
                with connection:
                    body = _INFO if b"/info" in connection.recv(1000) else b"OK"
                    connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + body)

    def cpu(self, *command: str | Path) -> float:
        """Return the CPU time, in milliseconds, of a command that must succeed."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(command, env=self.environment, stdout=subprocess.PIPE, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            sys.exit(f"{command[-1]} ended with {done.returncode}: {done.stdout}")
        return 1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
