"""The fact behind preflight: the system, its Docker, and what others have set there. One command, which changes nothing."""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

from pyinfra.api import FactBase

from tasks.host import EngineData, HostState, Unit
from tasks.paths import (
    CONTAINERD,
    CONTAINERD_STORE,
    DAEMON_JSON,
    DOCKER,
    DOCKER_SOCKET,
    DOCKER_STORE,
)

_SECTION = "##HOST## "
PACKAGES = ("docker.io", "docker-ce", "containerd", "containerd.io", "podman-docker")

# `docker info` is asked only of a daemon that runs: asking through the socket would start one.
# What the stores hold is counted from their directories, so that a stopped engine is counted too. A store that an
# engine made and nobody used has none of these.
_SCRIPT = r"""
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"
docker_store=$1 containerd_store=$2 daemon_json=$3 docker_sources=$4; shift 4
section() { echo "##HOST## $*"; }
count() { find "$@" 2>/dev/null | wc -l; }
section system; id -u; dpkg --print-architecture 2>/dev/null || uname -m; [ -d /run/systemd/system ] && echo systemd || echo no
section os; cat /etc/os-release
section packages; dpkg-query -W -f '${Package} ${db:Status-Status} ${Version}\n' "$@" 2>/dev/null
section snap; [ ! -d /snap/docker ] && [ ! -d /var/snap/docker ] || echo docker
section rootless
for socket in /run/user/*/docker.sock; do [ ! -S "$socket" ] || stat -c %U "$socket"; done
pgrep -x dockerd | while read -r pid; do [ "$(stat -c %u "/proc/$pid")" = 0 ] || stat -c %U "/proc/$pid"; done
section kubernetes
for path in /etc/kubernetes/manifests /var/lib/kubelet /etc/rancher/k3s /var/lib/k0s /var/snap/microk8s; do
    [ ! -e "$path" ] || echo "$path"
done
section units
systemctl show --property=Id,LoadState,ActiveState,UnitFileState,ExecStart docker.service docker.socket containerd.service 2>/dev/null
section options; [ ! -f /etc/default/docker ] || sed -n 's/^[[:space:]]*DOCKER_OPTS=//p' /etc/default/docker
section daemon-json; [ ! -f "$daemon_json" ] || sed 's/^/=/' "$daemon_json"
section containerd-root; [ ! -f /etc/containerd/config.toml ] || sed -n '/^[[:space:]]*\[/q; s/^root[[:space:]]*=[[:space:]]*//p' /etc/containerd/config.toml
section info
if systemctl is-active --quiet docker.service 2>/dev/null; then timeout 20 docker info --format '{{json .}}' 2>/dev/null; fi
section namespaces
if systemctl is-active --quiet containerd.service 2>/dev/null; then timeout 20 ctr namespaces ls -q 2>/dev/null; fi
section docker-data
cd "$docker_store" 2>/dev/null && {
    echo "images $(count image/*/imagedb/content/sha256 -type f)"
    echo "containers $(count containers -mindepth 1 -maxdepth 1 -type d)"
    echo "volumes $(count volumes -mindepth 1 -maxdepth 1 -type d)"
    echo "layers $(count overlay2 aufs devicemapper/mnt btrfs/subvolumes vfs/dir zfs/graph fuse-overlayfs -mindepth 1 -maxdepth 1 -type d ! -name l)"
    echo "plugins $(count plugins -mindepth 1 -maxdepth 1 -type d ! -name storage ! -name tmp)"
    echo "networks $(grep -aoE 'docker/network/v1.0/network/[0-9a-f]{64}' network/files/local-kv.db 2>/dev/null | sort -u | wc -l)"
    [ ! -s swarm/docker-state.json ] || echo "swarm 1"
}
section containerd-data
cd "$containerd_store" 2>/dev/null && {
    echo "images $(count io.containerd.content.v1.content/blobs -type f)"
    echo "layers $(count io.containerd.snapshotter.v1.*/snapshots -mindepth 1 -maxdepth 1 -type d)"
    echo "containers $(count io.containerd.runtime.v2.task -mindepth 2 -maxdepth 2 -type d)"
}
section sources; grep -slF "$docker_sources" /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources
true
"""


class HostFacts(FactBase[HostState]):
    """Returns what a host is, as a ``tasks.host.HostState``.

    Args:
        docker_repository: address of Docker's apt repository: the files under /etc/apt that name it are listed.
    """

    def command(self, docker_repository: str = "") -> str:
        words = (DOCKER_STORE, CONTAINERD_STORE, DAEMON_JSON, docker_repository or "/", *PACKAGES)
        return shlex.join(["sh", "-c", _SCRIPT, "host", *words])

    def process(self, output: list[str]) -> HostState:
        return parse_host(output)


def parse_host(output: list[str]) -> HostState:
    """The fact's command's output as data."""
    sections: dict[str, list[str]] = {}
    current: list[str] = []
    for line in output:
        if line.startswith(_SECTION):
            current = sections.setdefault(line.removeprefix(_SECTION), [])
        else:
            current.append(line)
    uid, architecture, systemd = sections["system"]
    release = dict(line.split("=", 1) for line in sections["os"] if "=" in line)
    packages = {
        name: (status, version) for name, status, *rest in map(str.split, sections["packages"]) for version in rest
    }
    info: dict[str, Any] = json.loads("\n".join(sections["info"]) or "{}")
    docker_data = _counts(sections["docker-data"])
    return HostState(
        uid=int(uid),
        os_id=release.get("ID", "").strip('"'),
        os_version=release.get("VERSION_ID", "").strip('"'),
        os_codename=release.get("VERSION_CODENAME", "").strip('"'),
        architecture=architecture,
        systemd=systemd == "systemd",
        packages={name: version for name, (status, version) in packages.items() if status != "config-files"},
        snap_docker=bool(sections["snap"]),
        rootless_docker=tuple(dict.fromkeys(sections["rootless"])),
        swarm=bool(docker_data.pop("swarm", 0))
        or info.get("Swarm", {}).get("LocalNodeState", "inactive") != "inactive",
        kubernetes=tuple(sections["kubernetes"]),
        containerd_namespaces=tuple(n for n in sections["namespaces"] if n not in ("moby", "plugins.moby", "default")),
        storage_driver=info.get("Driver", ""),
        containerd_store="io.containerd.snapshotter.v1" in str(info.get("DriverStatus")),
        data_root=info.get("DockerRootDir", ""),
        units=_units(sections["units"]),
        docker_options=" ".join(sections["options"]).strip("\"' "),
        docker_data=EngineData(**docker_data | {"networks": max(0, docker_data.get("networks", 0) - 3)}),
        containerd_data=EngineData(**_counts(sections["containerd-data"])),
        containerd_root=" ".join(sections["containerd-root"]).strip("\"' "),
        daemon_json="\n".join(line[1:] for line in sections["daemon-json"]) if sections["daemon-json"] else None,
        docker_sources=tuple(sections["sources"]),
    )


def _counts(lines: list[str]) -> dict[str, int]:
    return {name: int(count) for name, count in map(str.split, lines)}


def _units(lines: list[str]) -> tuple[Unit, ...]:
    units = []
    # A blank line is between two units; a unit that does not exist is shown too.
    for block in "\n".join(lines).split("\n\n"):
        values = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if values.get("Id") not in (DOCKER, DOCKER_SOCKET, CONTAINERD):
            continue
        arguments = re.search(r"argv\[\]=(.*?) ;", values.get("ExecStart", ""))
        units.append(
            Unit(
                name=values["Id"],
                load_state=values.get("LoadState", "not-found"),
                active=values.get("ActiveState") == "active",
                enabled=values.get("UnitFileState", "") == "enabled",
                exec_start=arguments[1] if arguments else "",
            )
        )
    return tuple(units)
