"""What the verification asks a host: all in one command, with the system's own tools.

A question is a name and a shell command. The commands find the volume in ``$volume``, its device in ``$device``, its volume
group in ``$group``, and in ``$loop`` the loop device that the group is on; each is empty where there is none.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from bulkhead.names import (
    BALLAST,
    CONTAINERD,
    DOCKER,
    GUARD_SERVICE,
    MARKER,
    PROGRAM,
    PRUNE_TIMER,
    RECEIVERS,
    VOLUME_FILE,
    VOLUME_FILE_SERVICE,
)
from settings.model import Settings
from tasks.nvidia import REFRESH
from tasks.support.machine import MACHINE
from tasks.support.package_names import TOOLKIT
from tasks.support.paths import (
    CHECK_CRON,
    DAEMON_JSON,
    DAEMON_JSON_APPLIED,
    DOCKER_HOST,
    DROP_INS,
    EPHEMERAL_SCRIPT,
    EPHEMERAL_SERVICE,
    JOURNALD_DROP_IN,
    MIRROR_SERVICE,
    NVIDIA_BROUGHT,
    NVIDIA_KEY,
    NVIDIA_PIN,
    NVIDIA_SOURCE,
    STORES,
    UNITS,
)

LIMIT = 100  # seconds for one question: Docker on a full volume may never answer
TIMED_OUT = 124  # the exit code of timeout(1)

# What a finalized move of homes leaves beneath their mount: without the volume nobody else could log in.
LOGIN_KEYS = "*/.ssh/authorized_keys*"

# A GPU with the driver vfio-pci belongs to a virtual machine.
GPUS = (
    "for device in /sys/bus/pci/devices/*; do case $(cat $device/vendor $device/class) in 0x10de*0x03????) "
    "readlink $device/driver | grep -q /vfio-pci$ || echo ${device##*/};; esac; done"
)

_PROLOGUE = r"""
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin" DOCKER_HOST volume device group loop
device=$(findmnt --kernel --noheadings --output SOURCE --mountpoint "$volume" | tail -n 1)
group=$(timeout 60 lvs --noheadings -o vg_name "$device" 2>/dev/null | tr -d ' ')
loop=$([ -z "$group" ] || timeout 60 pvs --noheadings -o pv_name -S "vg_name=$group" |
    xargs -r -n 1 readlink -f | grep '^/dev/loop' | head -n 1)
exec 3>&1 </dev/null
ask() {
    echo "$mark $1"
    found=$(timeout "$limit" sh -c "$2" 2>&1 >&3 3>&-; echo " $?")
    printf '\n%s %s\n%s\n' "$mark" "${found##* }" "${found% *}"
}
"""


@dataclass(frozen=True)
class Output:
    """What a question's command has printed, and its exit code."""

    code: int
    stdout: str
    stderr: str


def script(questions: Mapping[str, str], volume: str, mark: str, limit: int = LIMIT) -> str:
    """Return the shell script that asks all questions.

    Args:
        questions: name → command.
        volume: the mount point of Docker's volume.
        mark: a word that nothing on the host prints.
        limit: seconds for each question.
    """
    values = f"DOCKER_HOST={DOCKER_HOST} volume={shlex.quote(volume)} mark={shlex.quote(mark)} limit={limit}\n"
    asked = [f"ask {shlex.quote(name)} {shlex.quote(command)}\n" for name, command in questions.items()]
    return f"{values}{_PROLOGUE}{''.join(asked)}"


def outputs(text: str, mark: str) -> dict[str, Output]:
    """Return what the script has printed, by the names of the questions."""
    parts = [part.partition("\n") for part in f"\n{text}\n".split(f"\n{mark} ")[1:]]
    return {
        name: Output(int(code), stdout.strip(), stderr.strip())
        for (name, _, stdout), (code, _, stderr) in zip(parts[::2], parts[1::2], strict=False)
    }


def beneath(paths: list[str]) -> str:
    """Return the command that shows the directory beneath each mount: its flags, and the first files of it.

    A bind mount of the parent directory shows them: there the mount does not appear.
    """
    # Of directories only the empty ones: the others show by what they hold.
    find = f'find . -xdev -mindepth 1 ! \\( -type d ! -empty \\) ! -path "{LOGIN_KEYS}" -printf "%P\\n"'
    listing = "; ".join(
        f'mount --bind "$(dirname {path})" /mnt; cd "/mnt/$(basename {path})"; flags=$(lsattr -d .); echo "= $flags"; '
        f"{find} | head -n 5; cd /; umount /mnt"
        for path in paths
    )
    return f"unshare --mount --propagation private sh -ec '{listing}'"


def questions(settings: Settings) -> dict[str, str]:
    """Return what needs no build and no container, by name."""
    mounts = [settings.volume_mount, *STORES.values()]
    mounts_of_all = [*mounts, *(volume.mount for volume in settings.extra_volumes.values())]
    return {
        **_of_the_volume(mounts, mounts_of_all),
        **_of_its_file(),
        **_of_the_daemons(),
        **_of_the_watch(f"{settings.volume_mount}/{BALLAST}"),
        **_of_nvidia(),
    }


def _of_the_volume(mounts: list[str], mounts_of_all: list[str]) -> dict[str, str]:
    return {
        "mounts": "findmnt --kernel --list --json -o TARGET,SOURCE,FSTYPE,PROPAGATION",
        "logical volume": "lvs --reportformat json --units b --nosuffix "
        '-o lv_name,vg_name,lv_dm_path,lv_size,segtype,lv_tags,lv_health_status,vg_size,vg_extent_size "$device"',
        "parts of the volumes": 'lvs -a --noheadings -o lv_name,devices "$group"',
        "the mirror's unit is enabled": f"systemctl is-enabled {MIRROR_SERVICE}",
        "the unit of ephemeral disks": "systemctl show --property=ActiveState,UnitFileState,NeedDaemonReload "
        f"{EPHEMERAL_SERVICE}",
        "script of ephemeral disks": f"sh -n {EPHEMERAL_SCRIPT}",
        "machine": f"{MACHINE}\nmachine | grep .",
        "volumes of the group": 'lvs --noheadings -o lv_name,lv_dm_path "$group"',
        "UUID of the filesystem": 'findmnt --noheadings --output UUID "$volume"',
        "top of the volume": 'ls -A "$volume"',
        "lost+found is in the store": f"test -e {STORES['docker']}/lost+found",
        # Of the filesystem itself: the size that the kernel shows leaves out journal, log and inode tables.
        "blocks of the filesystem": 'case $(findmnt --kernel --noheadings --output FSTYPE --mountpoint "$volume") in '
        r"""xfs) xfs_info "$volume" | sed -n 's/^data .*bsize=\([0-9]*\) *blocks=\([0-9]*\),.*/\1 \2/p' ;; """
        r"""*) dumpe2fs -h "$device" 2>/dev/null | sed -n 's/^Block \(count\|size\): *//p' ;; esac""",
        "markers": "; ".join(["set -e", *(f"test -s {path}/{MARKER}" for path in mounts)]),
        "devices of root and the stores": f"stat --format %d / {' '.join(STORES.values())}",
        "fstab": "cat /etc/fstab",
        "fstab is valid": "findmnt --verify",
        "mount units": "systemctl show --property=Id,FragmentPath,SourcePath -- "
        f"$(systemd-escape --path --suffix=mount {' '.join(mounts_of_all)})",
        "beneath the mounts": beneath(mounts_of_all),
    }


def _of_its_file() -> dict[str, str]:
    directory = VOLUME_FILE.rpartition("/")[0]
    known = '"/sys/block/${loop#/dev/}"'
    return {
        "disks": 'pvs --noheadings -o pv_name -S "vg_name=$group" | xargs -r -n 1 readlink -f',
        "volume file": f"stat --format '%U:%a %h %s %b' {VOLUME_FILE}",
        "size of the loop device": 'blockdev --getsize64 "$loop"',
        "directory of the volume file": f"stat --format %U:%a {directory}",
        "cache tag": f"grep -q '^Signature: 8a477f597d28d172789f06886806bc55' {directory}/CACHEDIR.TAG",
        "filesystem of the volume file": f"stat --file-system --format %T {VOLUME_FILE}",
        "extents of the volume file": f'test -n "$loop" && filefrag -v {VOLUME_FILE}',
        "loop device": f"cat {known}/loop/backing_file {known}/loop/dio",
        "loop devices of the file": f"losetup --noheadings --output NAME --associated {VOLUME_FILE}",
        "discard limits": f'name=$(readlink -f "$device") && '
        f'cat {known}/queue/discard_max_bytes "/sys/block/${{name#/dev/}}/queue/discard_max_bytes"',
        "service of the file": f"systemctl show --property=ActiveState,UnitFileState,NeedDaemonReload {VOLUME_FILE_SERVICE}",
        "needs of the mount": "systemctl show --property=Requires,After -- "
        '"$(systemd-escape --path --suffix=mount "$volume")"',
    }


def _of_the_daemons() -> dict[str, str]:
    # systemd is asked over D-Bus for the unit as it has loaded it: another drop-in may undo a line of a file, and systemctl
    # does not show assertions.
    paths = {unit: f"/org/freedesktop/systemd1/unit/{unit.replace('.', '_2e')}" for unit in DROP_INS}
    loaded = {
        f"{unit} as loaded": f"busctl --json=short get-property org.freedesktop.systemd1 {path} "
        "org.freedesktop.systemd1.Unit DropInPaths RequiresMountsFor NeedDaemonReload Asserts"
        for unit, path in paths.items()
    }
    # The files that the process itself has open: neither a flag nor a file of the configuration can hide another root.
    opened = {
        f"databases of {unit}": f"find /proc/$(systemctl show --property=MainPID --value {unit})/fd "
        "-lname '*.db' -printf '%l\\n'"
        for unit in DROP_INS
    }
    return {
        **loaded,
        **opened,
        "daemons are active": f"systemctl is-active {DOCKER} {CONTAINERD}",
        "daemons are enabled": f"systemctl is-enabled {DOCKER} {CONTAINERD}",
        # A request to docker.socket would start a Docker that somebody has stopped.
        "docker info": f"systemctl is-active --quiet {DOCKER} && docker info --format '{{{{json .}}}}'",
        "daemon.json": f"cat {DAEMON_JSON}",
        "daemon.json for everyone": f"find -L {DAEMON_JSON} {DAEMON_JSON_APPLIED} -maxdepth 0 -perm -o+r",
    }


def _of_the_watch(ballast: str) -> dict[str, str]:
    started = f'date -d "$(systemctl show --property=ExecMainStartTimestamp --value {GUARD_SERVICE})" +%s'
    signed = f'date -d "$(systemctl show --property=WatchdogTimestamp --value {GUARD_SERVICE})" +%s'
    journald = 'date -d "$(systemctl show --property=ExecMainStartTimestamp --value systemd-journald)" +%s'
    return {
        "cron is active": "systemctl is-active cron",
        "cron's line": f"cat {CHECK_CRON}",
        "check-disk": "check-disk --no-alert || [ $? -le 2 ]",
        "check-disk in full": "check-disk --verbose --no-alert || [ $? -le 2 ]",
        "receivers": f"stat --format '%a %U' {RECEIVERS}",
        "apprise": "apprise --version",
        "prune timer": f"systemctl show --property=ActiveState,UnitFileState,TimersCalendar {PRUNE_TIMER}",
        "prune": "bulkhead prune --dry-run",
        # Only for what the system has no word for.
        "status": f"{PROGRAM} status --json",
        "guard": f"systemctl show --property=ActiveState,UnitFileState,NeedDaemonReload {GUARD_SERVICE}",
        "guard has the unit": f"test $(stat --format %Y {UNITS[GUARD_SERVICE]}) -le $({started})",
        "guard's sign": f"{signed}; date +%s",
        "space": 'df --block-size=1 --output=size,avail "$volume" | tail -n 1',
        "inodes": 'df --output=itotal "$volume" | tail -n 1',
        "ballast": f"stat --format '%U:%a %s %b' {ballast}",
        "limits of the journal": "systemd-analyze cat-config systemd/journald.conf | "
        "grep -E '^[[:space:]]*System(MaxUse|KeepFree)[[:space:]]*=[[:space:]]*[^[:space:]]'",
        "journald's drop-in": f"test -e {JOURNALD_DROP_IN}",
        "journald has the drop-in": f"test $(stat --format %Y {JOURNALD_DROP_IN}) -le $({journald})",
    }


def _of_nvidia() -> dict[str, str]:
    ours = f"{NVIDIA_SOURCE} {NVIDIA_KEY} {NVIDIA_PIN} {NVIDIA_BROUGHT}"
    return {
        "GPUs": GPUS,
        "driver": "command -v nvidia-smi || test -e /proc/driver/nvidia/version",
        "first GPU": "test -c /dev/nvidia0",
        "toolkit": "command -v nvidia-container-runtime",
        "toolkit of others": f"test ! -e {NVIDIA_SOURCE} && command -v nvidia-container-runtime",
        "versions of the toolkit": f"dpkg-query -W -f '${{Version}}\\n' {' '.join(TOOLKIT)}",
        "plan of apt": f"test -e {NVIDIA_SOURCE} && apt-get --quiet=2 --simulate dist-upgrade",
        **{f"{unit} is enabled": f"systemctl is-enabled {unit}" for unit in REFRESH},
        "CDI devices": "nvidia-ctk --quiet cdi list",
        "files of the toolkit": f"ls -d {ours} | grep .",
    }
