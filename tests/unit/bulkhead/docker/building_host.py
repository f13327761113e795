"""A host that builds, made up of a /proc and control groups."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...fake_proc import FakeProc

RUNC = "runc --log /l --log-format json run --bundle {1}/executor/{0} {0}"
BUILDKIT = "/var/lib/docker/buildkit"  # of dockerd; buildkitd's is /var/lib/buildkit/runc-overlayfs
ID, OTHER_ID = "3f" * 32, "ab" * 32


class BuildingHost:
    """A host's processes and control groups."""

    def __init__(self, path: Path) -> None:
        self.processes = FakeProc(path / "proc")
        self.processes.become(1)
        self.proc, self.cgroups = path / "proc", path / "cgroup"

    def process(
        self, pid: int, words: str, parent: int = 1, cgroup: str = "/system.slice/x", written: int = 0, **others: Any
    ) -> None:
        self.processes.add(pid, words, parent=parent, cgroup=cgroup, written=written, **others)
        directory = self.cgroups / cgroup[1:]
        directory.mkdir(parents=True, exist_ok=True)
        with (directory / "cgroup.procs").open("a") as procs:
            procs.write(f"{pid}\n")

    def step(self, name: str = "k7x", pid: int = 20, written: int = 0, cgroup: str = "") -> None:
        """Add a step of the host's dockerd."""
        self.process(pid, RUNC.format(name, BUILDKIT), 10, "/system.slice/docker.service")
        self.process(
            pid + 1, "/bin/sh -c make", pid, f"/system.slice/system.slice:docker:{name}{cgroup}", written=written
        )


def classic_container(**changed: Any) -> dict[str, Any]:
    """Return a step of the classic builder as Docker inspects it."""
    values: dict[str, Any] = {
        "Id": ID,
        "Name": "/nervous_mendeleev",
        "State": {"Running": True, "Pid": 60},
        "Config": {
            "Image": "sha256:1",
            "Env": ["PATH=/bin", "LANG=C"],
            "Healthcheck": {"Test": ["NONE"]},
            "AttachStdout": False,
        },
        "HostConfig": {
            "LogConfig": {"Type": "none"},
            "RestartPolicy": {"Name": ""},
            "PortBindings": None,
            "Dns": None,
            "AutoRemove": False,
            "Privileged": False,
            "Binds": None,
            "VolumesFrom": None,
        },
        "Mounts": [],
    }
    for path, value in changed.items():
        *inside, name = path.split("__")
        part = values
        for key in inside:
            part = part[key]
        if value is ...:
            part.pop(name)
        else:
            part[name] = value
    return values
