"""The fact behind preflight: the system, its Docker, and what others have set there. One command, which only reads."""

from __future__ import annotations

import base64
import json
import re
import shlex
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
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

# The processes of our own login: they descend from our sshd, or our sshd from them; or they are in our session of
# systemd's, or in the user's own systemd, which came with the session. $proc: where /proc is; $self: our own process.
# bulkhead.login.Login decides the same: tests/unit/cases.py holds the cases for both.
_LOGIN = r"""
line() { # a process and its ancestors
    process=$1
    while [ "${process:-0}" -gt 1 ]; do
        echo "$process"; parent=
        { while read -r name value; do [ "$name" != PPid: ] || { parent=$value; break; }; done <"$proc/$process/status"
        } 2>/dev/null
        process=$parent
    done
}
own=$(line "$self") group=$(cat "$proc/$self/cgroup")
for process in $own; do
    anchor=$process; read -r name <"$proc/$process/comm"; case $name in sshd*) break ;; esac
done
is_own() {
    { line "$1" | grep -qx "$anchor"; } || { echo "$own" | grep -qx "$1"; } && return
    case ${group##*/} in session-*) ;; *) return 1 ;; esac
    case $(cat "$proc/$1/cgroup" 2>/dev/null) in "$group" | "${group%/*}"/user@*) return ;; esac
    return 1
}
"""

# Where a directory, or a part of it, is bound in another place too, on the host or in a container: that goes on with the
# old files when another filesystem is mounted on the directory. So does a mount of a directory above it, where new mounts
# do not appear. Prints, for each mount namespace, a process and the mount points.
# bulkhead.storage.mounts.bound_elsewhere decides the same: tests/unit/cases.py holds the cases for both.
# Values go to awk by its environment: it would take a backslash in a variable for an escape.
_BOUND_ELSEWHERE = r"""
bound_elsewhere() {
    place=$1 awk '{ top = $5 == "/" ? "" : $5 }
        (ENVIRON["place"] == $5 || index(ENVIRON["place"], top "/") == 1) && length($5) >= length(target) {
            device = $3; root = $4; target = $5 }
        END { print device, root, target }' "$proc/$self/mountinfo" | {
        read -r device root holder
        inside=${root%/}${1#"${holder%/}"} here=$(readlink "$proc/$self/ns/mnt") visited=
        find "$proc"/[0-9]*/ns/mnt -maxdepth 0 -printf '%h %l\n' 2>/dev/null |
            sed 's,.*/\([0-9]*\)/ns ,\1 ,' | sort -n | while read -r pid namespace; do
            [ -n "$namespace" ] || continue # the process has ended
            case $visited in *" $namespace "*) continue ;; esac
            own_place=; [ "$namespace" != "$here" ] || own_place=$holder
            found=$(place=$1 device=$device inside=$inside own_place=$own_place awk '
                BEGIN { place = ENVIRON["place"]; inside = ENVIRON["inside"] }
                $3 != ENVIRON["device"] || $5 == ENVIRON["own_place"] { next }
                $4 == inside || index($4, inside "/") == 1 { if ($5 != place && index($5, place "/") != 1) print $5; next }
                $6 ~ /^rw/ && !/ (shared|master):/ && index(inside, ($4 == "/" ? "" : $4) "/") == 1 { print $5 }
                ' "$proc/$pid/mountinfo" 2>/dev/null) || continue # so has this one
            visited="$visited $namespace "
            printf '%s\n' "$found" | while read -r target; do [ -z "$target" ] || printf '%s\n' "$pid $target"; done
        done
    }
}
"""

# The top-level keys of containerd's configuration, from its file and those that it imports, in the order in which containerd
# reads them: a later file overrides an earlier one. A path that is not absolute begins at the directory of the file that
# has it (containerd, cmd/containerd/server/config/config.go, LoadConfig and resolveImports). $configuration: the first file.
_CONTAINERD_CONFIG = r"""
containerd_config() (
    set -- "$configuration" && visited=
    while [ $# -gt 0 ]; do
        file=$(realpath -ms "$1") && shift
        case $visited in *" $file "*) continue ;; esac
        visited="$visited $file "
        keys=$(awk '/^[ \t]*\[/ { exit } { print }' "$file" 2>/dev/null)
        printf '%s\n' "$keys"
        case $keys in *imports*) ;; *) continue ;; esac
        while IFS= read -r path; do
            case $path in /*) ;; ?*) path=${file%/*}/$path ;; esac
            IFS= && set -- "$@" $path # a pattern becomes the files that it matches
        done <<EOF
$(printf '%s\n' "$keys" | awk '
    /^[ \t]*imports[ \t]*=/ { within = 1 }
    within {
        while (match($0, /"[^"]*"|\047[^\047]*\047/) && !index(substr($0, 1, RSTART), "#")) {
            print substr($0, RSTART + 1, RLENGTH - 2); $0 = substr($0, RSTART + RLENGTH)
        }
        if (index($0, "]")) exit
    }')
EOF
    done
)
"""

# The files of apt that name an address of a list: prints number of the address and file. An entry of deb822, which is a
# paragraph, can be disabled (sources.list(5)); the words for that are those of apt's StringToBool. A comment does not end a
# paragraph, and the end of a file does.
_SOURCES = r"""
sources() {
    addresses=$* && set --
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
        [ ! -f "$file" ] || set -- "$@" "$file"
    done
    [ $# = 0 ] || addresses=$addresses awk '
        function judge(  n, list, i) {
            n = split(ENVIRON["addresses"], list, " ")
            if (tolower(entry) !~ /(^|\n)enabled:[ \t]*(no|false|without|off|disable|0+)[ \t]*(\n|$)/)
                for (i = 1; i <= n; i++) {
                    sub(/^[^:]*:\/\//, "", list[i])
                    if (index(entry, list[i]) && !((i, file) in found)) { found[i, file]; print i, file }
                }
            entry = ""
        }
        FNR == 1 { judge(); file = FILENAME }
        /^[ \t]*#/ { next }
        /^$/ { judge(); next }
        { entry = entry (entry == "" ? "" : "\n") $0 }
        END { judge() }' "$@" 2>/dev/null
}
"""

# docker and ctr run only while their daemons do: a request to docker.socket would start Docker. They ask this host's
# daemon, whichever one root's Docker context names.
# A daemon with userns-remap keeps its store one level down, in a directory such as 100000.100000.
# Processes of other PID namespaces are a dockerd inside a container, which is no rootless Docker.
# awk, where sed would do: awk ends every line. A file without a newline at its end would swallow the next section's
# mark. Processes are what it costs on the host: what the shell can do itself starts none, and what is asked of a program
# is asked at once.
_SCRIPT = (
    r"""
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"
docker_store=$1 containerd_store=$2 daemon_json=$3 our_source=$4 repository=$5 nvidia_source=$6 nvidia_repository=$7
journals=$8 places=$9; shift 9; stopped=$1 applied=$2 journald=$3; shift 3
our_configuration=$1 drop_ins=$2 mount_units=$3; shift 3
proc=/proc self=$$ configuration=/etc/containerd/config.toml newline='
'
present() { for path; do [ ! -e "$path" ] || echo "$path"; done; }
section() { echo "##HOST## $*"; }
"""
    + _CONTAINERD_CONFIG
    + r"""count() {
    find "$@" -mindepth 1 -maxdepth 1 -printf '%y %H\n' 2>/dev/null |
        awk '{ counts[$0]++ } END { for (kind in counts) print counts[kind], kind }'
}
section system; id -u; dpkg --print-architecture 2>/dev/null || uname -m
[ -d /run/systemd/system ] && echo systemd || echo other
section os; cat /etc/os-release
section packages; packages=$(dpkg-query -W -f '${Package} ${db:Status-Status} ${Version}\n' "$@" 2>/dev/null)
echo "$packages"
section offered; missing=
for name in $where_offered; do
    case $newline$packages in *"$newline$name installed "*) ;; *) missing="$missing $name" ;; esac
done
[ -z "$missing" ] || apt-cache policy $missing 2>/dev/null |
    awk '/^[^ ]/ { sub(":$", ""); name = $1 } $1 == "Candidate:" && $2 != "(none)" { print name }'
section dockerd; command -v dockerd
section snap; present /snap/docker /var/snap/docker
section rootless
for socket in /run/user/*/docker.sock; do [ -L "$socket" ] || [ ! -S "$socket" ] || stat -c %U "$socket"; done
set -- $(pgrep --ns $$ --nslist pid -x dockerd 2>/dev/null)
for pid; do stat -c %U "/proc/$pid" 2>/dev/null; done
section kubernetes
present /etc/kubernetes/manifests /var/lib/kubelet /var/lib/rancher /var/lib/k0s /var/snap/microk8s
section units
systemctl show -p Id -p LoadState -p ExecStart -p FragmentPath -p SourcePath -p DropInPaths -- \
    docker.service docker.socket containerd.service $mount_units 2>/dev/null | awk '
    # Of the drop-ins of a mount those that say what is mounted. `systemctl show` lists their paths, and they may have blanks.
    function flush(  command, line, file, files) {
        if (drop_ins && id ~ /\.mount$/) {
            # The name is quoted: systemd escapes every character of it that is not harmless.
            command = "systemctl cat -- \047" id "\047 2>/dev/null </dev/null"
            while ((command | getline line) > 0) {
                if (line ~ /^# \//) file = line ~ /\.d\/[^\/]*\.conf$/ ? substr(line, 3) : ""
                else if (line ~ /^[ \t]*What[ \t]*=/ && file) { files = files "\t" file; file = "" }
            }
            close(command)
            print "=DropIns=" substr(files, 2)
        }
        id = drop_ins = ""
    }
    /^$/ { flush() }
    /^Id=/ { id = substr($0, 4) }
    sub(/^DropInPaths=/, "") { drop_ins = $0; next }
    { print "=" $0 }
    END { flush() }'
section fails-closed; grep -ls ^Assert $drop_ins
section configuration; [ ! -e "$our_configuration" ] || awk '{ print "=" $0 }' "$our_configuration" 2>/dev/null
section options; [ ! -e /etc/default/docker ] || awk 'sub(/^[ \t]*DOCKER_OPTS=/, "")' /etc/default/docker 2>/dev/null
section daemon-json; [ ! -e "$daemon_json" ] || base64 "$daemon_json" 2>/dev/null
directory=${daemon_json%/*}; [ ! -L "$daemon_json" ] || { directory=$(readlink -f "$daemon_json"); directory=${directory%/*}; }
obstacle=; [ ! -f "$applied" ] || { section daemon-json-applied; base64 "$applied"; }
if [ -L "$daemon_json" ] && [ ! -e "$daemon_json" ]; then obstacle="a symbolic link to $(readlink "$daemon_json"), which does not exist"
elif [ -e "$daemon_json" ] && [ ! -f "$daemon_json" ]; then obstacle='no regular file'
elif [ -e "$daemon_json" ] && mountpoint -q "$daemon_json"; then obstacle='a mount point'
elif [ -e "$daemon_json" ] && ! { [ -w "$daemon_json" ] && [ -w "$directory/" ]; }; then
    obstacle='immutable, in an immutable directory, or on a read-only filesystem'; fi
[ ! "$obstacle" ] || { section daemon-json-obstacle; echo "$obstacle"; }
section containerd-config; [ ! -e "$configuration" ] || containerd_config
set -- $(systemctl is-active docker.service containerd.service bulkhead-relocate.service bulkhead-recover.service 2>/dev/null)
docker_is=$1 containerd_is=$2 moves=" $3 $4 " docker="timeout $patience docker --host $docker_host"
section info
[ "$docker_is" != active ] || $docker info --format '{{json .}}' 2>/dev/null
[ $? != 124 ] || { section docker-hangs; docker_is=hanging; } # the exit code of timeout
section namespaces
[ "$containerd_is" != active ] || timeout "$patience" ctr namespaces ls -q 2>/dev/null
[ ! -d "$containerd_store/io.containerd.runtime.v2.task" ] || ls "$containerd_store/io.containerd.runtime.v2.task" 2>/dev/null
section containerd-data
cd "$containerd_store" 2>/dev/null && count io.containerd.content.v1.content/blobs/sha256 \
    io.containerd.snapshotter.v1.*/snapshots io.containerd.runtime.v2.task/*
section docker-data
for store in "$docker_store" "$docker_store"/[0-9]*.[0-9]*; do
    cd "$store" 2>/dev/null || continue
    count image/*/imagedb/content/sha256 containers volumes plugins overlay2 fuse-overlayfs aufs/diff btrfs/subvolumes \
        devicemapper/mnt vfs/dir zfs/graph ! -name l ! -name storage ! -name tmp
    [ ! -s swarm/docker-state.json ] || echo swarm
    # The names in the values: identifiers in the keys outlive their networks in the free pages of the database, and the
    # default bridge gets a new one at every start of Docker.
    [ ! -f network/files/local-kv.db ] || grep -aoE '"name":"[^"]+","networkType"' network/files/local-kv.db 2>/dev/null
done
section sizes; are_mounted=yes
for store in "$docker_store" "$containerd_store"; do
    ! mountpoint -q "$store" || continue
    are_mounted=; [ ! -d "$store" ] || {
        du -sx --block-size=1 "$store"; echo "inodes $(du -sx --inodes "$store" | cut -f1)"; } 2>/dev/null
done
[ "$docker_is" != active ] || [ "$are_mounted" ] || {
    section containers; date +%s
    $docker ps --all --quiet | xargs --no-run-if-empty $docker inspect --format "$containers" 2>/dev/null
    section dangling-images; $docker images --quiet --no-trunc --filter dangling=true 2>/dev/null; }
[ -e "$journald" ] || [ -e "$applied" ] || { section journal; du -s --block-size=1 /var/log/journal 2>/dev/null; }
section device-volumes; present "$docker_store"/volumes/*/opts.json
section places
[ -z "$places" ] || {
"""
    + _LOGIN
    + _BOUND_ELSEWHERE
    + r"""for place in $places; do
    [ -d "$place" ] && ! mountpoint -q "$place" || continue
    echo "size $place $(du -sx --block-size=1 "$place" | cut -f1) $(du -sx --inodes "$place" | cut -f1)"
    device=$(findmnt -no MAJ:MIN --target "$place")
    maps=$(printf ' %02x:%02x ' "${device%:*}" "${device#*:}")
    { find "$proc"/[0-9]*/cwd "$proc"/[0-9]*/root "$proc"/[0-9]*/exe "$proc"/[0-9]*/fd -type l \
        \( -lname "$place" -o -lname "$place/*" \); grep -l "$maps.* $place/" "$proc"/[0-9]*/maps; } 2>/dev/null |
        sed "s,^$proc/,," | cut -d/ -f1 | sort -un | while read -r pid; do
            # In a container a path is named from another root.
            [ "$(readlink "$proc/$pid/root")" != / ] || [ "$proc/$pid/root" -ef / ] || continue
            is_own "$pid" || ! read -r name <"$proc/$pid/comm" || echo "user $place $name (process $pid)"
        done
    bound_elsewhere "$place" | while read -r pid target; do
        read -r name <"$proc/$pid/comm" && echo "user $place $name (process $pid), which has it bound to $target"
    done
    # What the kernel itself uses shows in no process.
    { awk 'NR > 1 { print $1, "swap" }' "$proc/swaps"
      for file in /sys/block/loop*/loop/backing_file; do [ ! -e "$file" ] || echo "$(cat "$file") a loop device"; done
      grep -v v4root "$proc/fs/nfsd/exports" | awk '/^\// { print $1, "exported by NFS" }'; } 2>/dev/null |
        while read -r path use; do
            case $path in "$place" | "$place"/*) echo "user $place $path, which is $use" ;; esac
        done
done 2>/dev/null; }
section relocation
for journal in $journals; do
    [ ! -f "$journal" ] || sed -n "s,^ *\"phase\": \"\(.*\)\"\,*\$,$journal \1,p" "$journal" 2>/dev/null
done
case $moves in *" active "*|*activating\ *) echo under-way ;; esac
"""
    + _SOURCES
    + MACHINE
    + r"""section sources
[ ! -f "$our_source" ] || echo "$our_source"
# named NUMBER [EXCEPT]
named() {
    while read -r number file; do [ "$number" != "$1" ] || [ "$file" = "$2" ] || echo "$file"; done <<EOF
$named
EOF
}
named=$(sources "${repository:--}" "${nvidia_repository:--}" nvidia.github.io/libnvidia-container/stable/deb)
[ -z "$repository" ] || named 1
section gpus
for device in /sys/bus/pci/devices/*; do
    # Vendor NVIDIA, class display controller. With vfio-pci it is handed to a virtual machine.
    { read -r vendor <"$device/vendor" && read -r class <"$device/class"; } 2>/dev/null || continue
    case "$vendor $class" in
        0x10de\ 0x03????) [ "$(basename "$(readlink "$device/driver")")" = vfio-pci ] || basename "$device" ;;
    esac
done
section gpu-driver
if [ -e /proc/driver/nvidia/version ]; then echo loaded; elif command -v nvidia-smi >/dev/null; then echo installed; fi
section stopped-by-upgrade; present "$stopped"
[ -z "$identify" ] || { section machine; machine; }
[ ! -e "$boot_unit" ] || { section boot-unit; echo yes; }
section toolkit; command -v nvidia-container-runtime
section toolkit-is-ours
[ ! -f "$nvidia_source" ] || { echo yes; section nvidia-containers
    [ "$docker_is" != active ] || $docker ps --all --quiet | xargs --no-run-if-empty \
        $docker inspect --format '{{.HostConfig.Runtime}} {{json .HostConfig.DeviceRequests}} {{.Name}}' 2>/dev/null |
        awk '{ name = substr($NF, 2); $NF = "" } /^nvidia|"gpu"|nvidia\.com\// { print name }'; }
section toolkit-sources
[ -z "$nvidia_repository" ] || named 2 "$nvidia_source"
named 3 "$nvidia_source"
true
"""
)


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
        paths = (DOCKER_STORE, CONTAINERD_STORE, DAEMON_JSON)
        repositories = (DOCKER_SOURCE, docker_repository, NVIDIA_SOURCE, nvidia_repository)
        journals = f"{RELOCATION_JOURNALS} {ROLLBACK_JOURNAL}"
        files = (STOPPED_BY_UPGRADE, DAEMON_JSON_APPLIED, JOURNALD_DROP_IN)
        units = " ".join(map(mount_unit, mount_points or []))
        volumes = (PROGRAM_CONFIGURATION, " ".join(DROP_INS.values()), units)
        words = (*paths, *repositories, journals, " ".join(places or []), *files, *volumes, *every_name())
        values = f"docker_host={DOCKER_HOST} patience={DOCKER_PATIENCE} containers={shlex.quote(_CONTAINER)} "
        values += f"where_offered={shlex.quote(' '.join(where_offered or []))} identify={'yes' if identify else ''} "
        values += f"boot_unit={EPHEMERAL_UNIT}"
        return shlex.join(["sh", "-c", f"{values}\n{_SCRIPT}", "host", *words])

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
