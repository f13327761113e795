"""The fact behind preflight: the system, its Docker, and what others have set there. One command, which only reads."""

from __future__ import annotations

import base64
import json
import re
import shlex
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from pyinfra.api import FactBase, FactProcessError

from bulkhead.names import (
    CONTAINERD,
    CONTAINERD_STORE,
    DOCKER,
    DOCKER_SOCKET,
    DOCKER_STORE,
    KEEP,
    PROGRAM_CONFIGURATION,
    RELOCATION_JOURNAL,
    ROLLBACK_JOURNAL,
)
from pyinfra_lvm.facts import UNREADABLE, split_sections
from pyinfra_lvm.model import mapper_path
from pyinfra_lvm.script import script
from settings import daemon_json
from tasks.preflight.host import Container, DirectoryToMove, EngineData, HostState, MountUnit, Unit
from tasks.support.machine import MACHINE
from tasks.support.package_names import every_name
from tasks.support.paths import (
    DAEMON_JSON,
    DAEMON_JSON_APPLIED,
    DOCKER_HOST,
    DOCKER_PATIENCE,
    DOCKER_SOURCE,
    DROP_INS,
    EPHEMERAL_UNIT,
    JOURNALD_DROP_IN,
    NVIDIA_SOURCE,
    RELOCATION_JOURNALS,
    STOPPED_BY_UPGRADE,
)
from tasks.support.units import mount_unit

_SECTION = "##HOST## "


def part(name: str) -> str:
    """Return a part of the script that asks the host."""
    return script(Path(__file__).parent / f"host_script/{name}.sh")


_NOT_INSTALLED = ("not-installed", "config-files")
_DEFAULT_NETWORKS = {"bridge", "host", "none"}

# Docker's own (BuildKit has one for the history of builds), and ctr's default, whose content is counted.
_USUAL_NAMESPACES = {"moby", "moby_history", "plugins.moby", "default"}

# The layout of a store: path → kind of the entries for find, and what such an entry is. A store that an engine made
# and nobody has used has no such entries.
_DOCKER_LAYOUT = {
    r"image/[^/]+/imagedb/content/sha256": ("f", "images"),
    r"containers": ("d", "containers"),
    r"volumes": ("d", "volumes"),
    r"plugins": ("d", "plugins"),
    r"overlay2|fuse-overlayfs|aufs/diff|btrfs/subvolumes|devicemapper/mnt|vfs/dir|zfs/graph": ("d", "layers"),
}

_CONTAINERD_LAYOUT = {
    r"io\.containerd\.content\.v1\.content/blobs/sha256": ("f", "images"),
    r"io\.containerd\.snapshotter\.v1\.[^/]+/snapshots": ("d", "layers"),
    r"io\.containerd\.runtime\.v2\.task/[^/]+": ("d", "containers"),
}

# A container as JSON. Of its labels only one is read: the others may be secrets.
_CONTAINER = (
    "[{{json .Name}},{{json .State.Status}},{{json .Image}},{{json .State.StartedAt}},{{json .State.FinishedAt}},"
    "{{json .Created}},{{json .HostConfig.RestartPolicy.Name}},"
    f'{{{{range $name, $value := .Config.Labels}}}}{{{{if eq $name "{KEEP}"}}}}true,{{{{end}}}}{{{{end}}}}false]'
)

# The functions come first, and what asks comes last.
_PARTS = ("login", "bound_elsewhere", "containerd_config", "apt_sources", "host")
_SCRIPT = MACHINE + "".join(map(part, _PARTS))


class HostFacts(FactBase[HostState]):
    """Return the facts of a host as a ``HostState``. Without root most of it is empty.

    Args:
        docker_repository, nvidia_repository: addresses of apt repositories; the files under /etc/apt that name one of
            them are listed.
        places: directories that get volumes of their own.
        mount_points: whose units systemd is asked for.
        where_offered: packages that only some releases have; apt is asked for those that are not installed.
        identify: tell what tells this machine from a copy of its root disk.
    """

    def command(
        self,
        docker_repository: str = "",
        nvidia_repository: str = "",
        places: list[str] | None = None,
        mount_points: list[str] | None = None,
        where_offered: list[str] | None = None,
        identify: bool = False,
    ) -> str:
        values = {
            "docker_store": DOCKER_STORE,
            "containerd_store": CONTAINERD_STORE,
            "docker_host": DOCKER_HOST,
            "patience": str(DOCKER_PATIENCE),
            "containers": _CONTAINER,
            "daemon_json": DAEMON_JSON,
            "applied": DAEMON_JSON_APPLIED,
            "journald": JOURNALD_DROP_IN,
            "our_source": DOCKER_SOURCE,
            "repository": docker_repository,
            "nvidia_source": NVIDIA_SOURCE,
            "nvidia_repository": nvidia_repository,
            "journals": f"{RELOCATION_JOURNALS} {ROLLBACK_JOURNAL}",
            "places": " ".join(places or []),
            "stopped": STOPPED_BY_UPGRADE,
            "our_configuration": PROGRAM_CONFIGURATION,
            "drop_ins": " ".join(DROP_INS.values()),
            "mount_units": " ".join(map(mount_unit, mount_points or [])),
            "where_offered": " ".join(where_offered or []),
            "identify": "yes" if identify else "",
            "boot_unit": EPHEMERAL_UNIT,
        }
        set_values = " ".join(f"{name}={shlex.quote(value)}" for name, value in values.items())
        return shlex.join(["sh", "-c", f"{set_values}\n{_SCRIPT}", "host", *every_name()])

    def process(self, output: list[str]) -> HostState:
        try:
            return parse_host(output)
        except UNREADABLE as error:
            raise FactProcessError(f"the facts of this host cannot be read: {error!r}") from error


_ROOT_SCRIPT = r"""
target=$(findmnt --noheadings --raw --output TARGET --source "$1" | head -n 1)
if [ -z "$target" ]; then
    # Neither journal nor log is replayed: nothing is written.
    mount -o ro,noload "$1" /mnt 2>/dev/null || mount -o ro,norecovery "$1" /mnt 2>/dev/null || exit 1
    target=/mnt
fi
cd "$target" && ls -A && ls -A docker 2>/dev/null | sed 's,^,docker/,'
"""


class VolumeRoot(FactBase[list[str]]):
    """Return the names of the entries at the root of a filesystem, mounted or not, and in its ``docker/``.

    Args:
        device: of the filesystem.
    """

    def command(self, device: str) -> str:
        listing = shlex.join(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", _ROOT_SCRIPT, "root", device]
        )
        return f"{listing} || echo unreadable"

    def process(self, output: list[str]) -> list[str]:
        return output

    @staticmethod
    def default() -> list[str]:
        return []


def parse_host(output: list[str]) -> HostState:
    """Parse the output of the fact's command.

    Raises:
        UNREADABLE: another command printed this, or a program that it runs was killed.
    """
    sections = split_sections(output, _SECTION)
    uid, architecture, systemd = sections["system"]
    release = {name: value.strip("\"'") for name, _, value in (line.partition("=") for line in sections["os"])}
    packages = [line.split() for line in sections["packages"]]
    info: dict[str, Any] = json.loads("\n".join(sections["info"]) or "{}")
    docker_data = sections["docker-data"]
    phases = dict(line.split(" ", 1) for line in sections["relocation"] if line.startswith("/"))
    networks = {match[1] for line in docker_data if (match := re.match(r'"name":"([^"]+)"', line))}
    return HostState(
        uid=int(uid),
        os_id=release.get("ID", ""),
        os_version=release.get("VERSION_ID", ""),
        os_codename=release.get("VERSION_CODENAME", ""),
        architecture=architecture,
        systemd=systemd == "systemd",
        packages={words[0]: words[2] for words in packages if len(words) == 3 and words[1] not in _NOT_INSTALLED},
        unfinished_packages=tuple(
            words[0] for words in packages if len(words) == 3 and words[1] not in ("installed", *_NOT_INSTALLED)
        ),
        offered=tuple(sections.get("offered", ())),
        dockerd="".join(sections["dockerd"]),
        snap_docker=bool(sections["snap"]),
        rootless_docker=tuple(sorted({*sections["rootless"]} - {"root"})),
        swarm="swarm" in docker_data or (info.get("Swarm") or {}).get("LocalNodeState", "inactive") != "inactive",
        kubernetes=tuple(sections["kubernetes"]),
        containerd_namespaces=tuple(sorted({*sections["namespaces"]} - _USUAL_NAMESPACES)),
        storage_driver=info.get("Driver", ""),
        containerd_store="io.containerd.snapshotter.v1" in str(info.get("DriverStatus")),
        data_root=info.get("DockerRootDir", ""),
        docker_hangs="docker-hangs" in sections,
        containers_running=info.get("ContainersRunning", 0),
        containers=tuple(_containers(sections.get("containers", []))),
        dangling_images=tuple(sections.get("dangling-images", ())),
        units=tuple(_units(sections["units"])),
        mount_units=tuple(_mount_units(sections["units"])),
        fails_closed=bool(sections.get("fails-closed")),
        **_configured(sections.get("configuration", [])),
        docker_options="".join(sections["options"][-1:]).strip().strip("\"'"),
        docker_data=EngineData(**_counts(docker_data, _DOCKER_LAYOUT), networks=len(networks - _DEFAULT_NETWORKS)),
        containerd_data=EngineData(**_counts(sections["containerd-data"], _CONTAINERD_LAYOUT)),
        containerd_root=([root for line in sections["containerd-config"] if (root := _toml_root(line))] or [""])[-1],
        store_bytes=sum(int(line.split()[0]) for line in sections["sizes"] if not line.startswith("inodes ")),
        store_inodes=sum(int(line.split()[1]) for line in sections["sizes"] if line.startswith("inodes ")),
        device_volumes=tuple(path.replace("opts.json", "_data") for path in sections["device-volumes"]),
        places=tuple(_places(sections["places"])),
        relocation=phases.pop(RELOCATION_JOURNAL, ""),
        rollback=phases.pop(ROLLBACK_JOURNAL, ""),
        moves=phases,
        relocation_under_way="under-way" in sections["relocation"],
        daemon_json=_decoded(sections["daemon-json"]),
        daemon_json_applied=_decoded(sections.get("daemon-json-applied", [])),
        daemon_json_obstacle="".join(sections.get("daemon-json-obstacle", ())),
        journal_bytes=sum(int(line.split()[0]) for line in sections.get("journal", [])),
        docker_sources=tuple(dict.fromkeys(sections["sources"])),
        stopped_by_upgrade=bool(sections["stopped-by-upgrade"]),
        machine="".join(sections.get("machine", ())),
        has_boot_unit="boot-unit" in sections,
        gpus=tuple(sections["gpus"]),
        gpu_driver="".join(sections["gpu-driver"]),
        toolkit="".join(sections.get("toolkit", ())),
        toolkit_is_ours=bool(sections["toolkit-is-ours"]),
        toolkit_sources=tuple(sorted({*sections["toolkit-sources"]})),
        nvidia_containers=tuple(sections.get("nvidia-containers", ())),
    )


def _counts(lines: list[str], layout: dict[str, tuple[str, str]]) -> Counter[str]:
    """Return how many entries of each kind ``count`` found, by the layout of the store."""
    counts: Counter[str] = Counter()
    for line in lines:
        if match := re.fullmatch(r" *(\d+) (\w) (.*)", line):
            number, kind, directory = match.groups()
            for pattern, (wanted, name) in layout.items():
                if kind == wanted and re.fullmatch(pattern, directory):
                    counts[name] += int(number)
    return counts


def _places(lines: list[str]) -> Iterator[DirectoryToMove]:
    users: dict[str, list[str]] = {}
    for kind, path, who in (line.split(" ", 2) for line in lines):
        if kind == "user":
            users.setdefault(path, []).append(who)
    for kind, path, numbers in (line.split(" ", 2) for line in lines):
        if kind == "size":
            size, inodes = map(int, numbers.split())
            yield DirectoryToMove(path, size, inodes, tuple(users.get(path, ())))


def _decoded(lines: list[str]) -> str:
    return daemon_json.decode(base64.b64decode("".join(lines)))


def _containers(lines: list[str]) -> Iterator[Container]:
    now = int(lines[0]) if lines else 0
    for line in (line for line in lines if line.startswith("[")):
        name, status, image, started, finished, made, policy, is_kept, *_ = json.loads(line)
        # After a power cut, the end that Docker knows may be before the start.
        idle_since = max(_moment(started), _moment(finished)) or _moment(made)
        yield Container(name.lstrip("/"), status, image, (now - idle_since) / 3600, policy not in ("", "no"), is_kept)


def _moment(text: str) -> float:
    """Return a time of Docker's in seconds since the epoch; 0 for never, which is the year 1."""
    # Python before 3.11 reads neither nanoseconds nor a Z.
    return max(datetime.fromisoformat(re.sub(r"\.\d+", "", text).replace("Z", "+00:00")).timestamp(), 0)


def _toml_root(line: str) -> str:
    match = re.match(r"""\s*root\s*=\s*["']([^"']*)""", line)
    return match[1] if match else ""


def _configured(lines: list[str]) -> dict[str, Any]:
    """Return what the program's configuration says of Docker's volume and of extra volumes, by the names of HostState.

    It is empty where there is no configuration, or one that cannot be read: the deploy writes it anew.
    """
    try:
        values = json.loads("\n".join(line[1:] for line in lines))
        volume, options = mapper_path(values["vg_name"], values["logical_volume"]), list[str]()
        for adopted in values.get("volume_fstab", []):  # earlier versions write neither this nor disk_file_bytes
            volume, _, _, options = adopted
        return {
            "configured_volume": volume,
            "configured_options": tuple(options),
            "configured_file": bool(values.get("disk_file_bytes")),
            "configured_extra_volumes": {target: source for source, target, *_ in values["extra_fstab"]},
        }
    except (AttributeError, KeyError, TypeError, ValueError):
        return {}


def _shown(lines: list[str]) -> Iterator[dict[str, str]]:
    """Yield the properties of each unit that ``systemctl show`` prints."""
    # An empty line stands between two units, and a unit that does not exist is shown too.
    for block in "\n".join(line[1:] for line in lines).split("\n\n"):
        yield dict(line.split("=", 1) for line in block.splitlines() if "=" in line)


def _mount_units(lines: list[str]) -> Iterator[MountUnit]:
    for values in _shown(lines):
        if not values.get("Id", "").endswith(".mount"):
            continue
        yield MountUnit(
            values["Id"],
            values["LoadState"],
            values.get("FragmentPath", ""),
            values.get("SourcePath", ""),
            tuple(filter(None, values.get("DropIns", "").split("\t"))),
        )


def _units(lines: list[str]) -> list[Unit]:
    units = []
    for values in _shown(lines):
        if values.get("Id") in (DOCKER, DOCKER_SOCKET, CONTAINERD):
            arguments = re.search(r"argv\[\]=(.*?) ;", values.get("ExecStart", ""))
            units.append(Unit(values["Id"], values["LoadState"], arguments[1] if arguments else ""))
    return units
