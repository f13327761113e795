"""After this, Docker's volume exists and is mounted, and both of Docker's stores are on it.

One logical volume, mounted in a place of its own; its ``docker/`` and ``containerd/`` are bind-mounted over
/var/lib/docker and /var/lib/containerd, so that images, containers and build cache share one pool of space wherever the
engine keeps them. The directory beneath every mount is empty and immutable: where a mount is missing, not even root can
write to the root filesystem there.
"""

from __future__ import annotations

import shlex
from collections.abc import Generator, Sequence

from pyinfra import host
from pyinfra.api import FactBase, StringCommand
from pyinfra.api.deploy import deploy

from bulkhead.names import (
    BEFORE,
    CONTAINERD,
    DOCKER,
    DOCKER_SOCKET,
    DOCKER_START_LIMIT,
    MARKER,
    MARKER_TEXT,
    MIRROR_RECORD,
)
from pyinfra_lvm import operations as lvm
from pyinfra_lvm.collection import fact, operation
from pyinfra_lvm.model import FstabEntry, mapper_path
from pyinfra_lvm.operations import refusal
from settings.fields import knows_mount_option
from settings.model import Settings
from tasks import volume_file
from tasks.preflight.facts import HostFacts
from tasks.preflight.host import HostState
from tasks.preflight.packages import volume_tools
from tasks.preflight.plan import Plan, PlannedExtraVolume
from tasks.support import packages, units
from tasks.support.files import render
from tasks.support.paths import MIRROR_SCRIPT, MIRROR_SERVICE, MIRROR_UNIT, STORES, TAG

# nofail: a lost volume must not keep the host from booting; the drop-ins keep Docker down. The device has the time of
# systemd's own default to appear: hosts that all boot at once after a power cut are slow.
FSTAB_OPTIONS = ("nofail", "x-systemd.device-timeout=90s")

# Seconds for the second disk of a mirror at boot, before it goes on without it; and in all, within the device's time.
MIRROR_PATIENCE = 45
MIRROR_PATIENCE_IN_ALL = 80

# What a line of somebody else's says of it, and ours says itself.
_DEVICE_TIMEOUT = "x-systemd.device-timeout="
_OWN_OPTIONS = {"defaults", "auto", "nofail", "private", "shared", "slave", "rprivate", "rshared", "rslave"}

# On the volume. Its own marker is made last: it shows that the volume is complete.
MARKERS = (*(f"{directory}/{MARKER}" for directory in STORES), MARKER)


@deploy("Volume")
def provision(settings: Settings, plan: Plan) -> None:
    """Make the logical volume with its filesystem, mount it, and make the stores' directories and the marker in it.

    A filesystem that was adopted is there, and only mounted. One that is going to be is left to the move.
    """
    if plan.adopts:
        return
    if tools := volume_tools(plan):
        packages.installed(
            name="LVM and the filesystem's tools are installed",
            packages=tools,
            lock_timeout=settings.apt_lock_timeout,
        )
    if plan.disk_file_bytes:
        volume_file.provision(settings, plan)
    for device in plan.new_physical_volumes:
        lvm.physical_volume(name=f"{device} is a physical volume", device=device)
    if plan.new_physical_volumes:
        lvm.volume_group(
            name=f"Volume group {plan.volume_group} holds the named disks",
            group=plan.volume_group,
            devices=list(plan.new_physical_volumes),
            extend=True,
            mixed_sectors=plan.leaves_file,
        )
    for device in plan.grown_disks:
        lvm.grown_physical_volume(name=f"{device} is used over its whole size", device=device)
    if plan.leaves_file:
        volume_file.leave(plan)
    if not plan.adopted:
        _logical_volume(
            plan.volume_group,
            plan.logical_volume,
            plan.size,
            plan.filesystem,
            filesystem_options(settings),
            mirrored=plan.mirrored,
            disks=plan.mirror_disks,
            stripes=plan.stripes,
        )
    if plan.mirrored:
        units.unit_files(
            name=f"{MIRROR_SERVICE} activates the mirror at boot without a missing disk",
            contents=mirror_files(plan),
            units=[MIRROR_SERVICE],
            services=[MIRROR_SERVICE],
        )
    _mount(volume_entry(settings, plan), f"{settings.volume_mount} is mounted")
    stores(name="The volume has a directory for each store, with its marker", volume=settings.volume_mount)
    for volume in plan.extra_volumes:
        _provision_extra(settings, plan.volume_group, volume)


def mirror_files(plan: Plan) -> dict[str, str]:
    """Return the unit that activates the mirror at boot although a disk is missing, and its script: path → content."""
    script = render(
        "docker-mirror.sh.j2",
        group=plan.volume_group,
        volume=plan.logical_volume,
        device=plan.device,
        record=MIRROR_RECORD,
        patience=MIRROR_PATIENCE,
        at_most=MIRROR_PATIENCE_IN_ALL,
    )
    # The script first: the unit runs it.
    return {MIRROR_SCRIPT: script, MIRROR_UNIT: render("docker-mirror.service.j2", script=MIRROR_SCRIPT)}


def filesystem_options(settings: Settings) -> list[str]:
    """Return the arguments with which mkfs makes the filesystem of Docker's volume."""
    per_inode = settings.volume_bytes_per_inode
    return ["-i", str(per_inode)] if per_inode else []


def _logical_volume(
    group: str,
    name: str,
    size: int,
    filesystem: str,
    options: Sequence[str] = (),
    *,
    mirrored: bool = False,
    disks: Sequence[str] = (),
    stripes: int = 1,
) -> None:
    lvm.logical_volume(
        name=f"Logical volume {group}/{name}",
        volume=name,
        group=group,
        size=size,
        tags=[TAG],
        mirrored=mirrored,
        disks=list(disks),
        stripes=stripes,
    )
    lvm.filesystem(
        name=f"Filesystem {filesystem} on {mapper_path(group, name)}",
        volume=name,
        group=group,
        fstype=filesystem,
        options=list(options),
        size=size,
    )


def _provision_extra(settings: Settings, group: str, volume: PlannedExtraVolume) -> None:
    _logical_volume(group, volume.name, volume.size, volume.filesystem)
    if not volume.relocates:
        _mount(extra_entry(settings, volume), f"{volume.mount} is mounted", immutable=volume.immutable)


@deploy("Volume")
def clear_stores(plan: Plan) -> None:
    """Set aside the unused stores that lie where the stores will be mounted.

    This comes before the drop-ins: a Docker that is in use after all must be able to start again.
    """
    if plan.unused_stores:
        set_aside(name="The unused stores on the root filesystem are set aside", paths=list(plan.unused_stores))


@deploy("Volume")
def mount_stores(settings: Settings, plan: Plan) -> None:
    """Mount both stores."""
    for directory in STORES:
        entry = store_entry(settings, directory)
        # An old tree stays beneath the mount until it is finalized.
        _mount(entry, f"{entry.target} is on the volume", immutable=not plan.old_trees)


def _mount(entry: FstabEntry, name: str, *, immutable: bool = True) -> None:
    lvm.mount(
        name=name,
        path=entry.target,
        device=entry.source,
        fstype=entry.fstype,
        options=list(entry.options),
        immutable_mount_point=immutable,
    )


def volume_entry(settings: Settings, plan: Plan) -> FstabEntry:
    """Return the line of fstab that mounts Docker's volume. That of an adopted filesystem keeps its owner's options."""
    theirs = plan.adopted.options if plan.adopted else ()
    kept = (option for option in theirs if option not in _OWN_OPTIONS and not option.startswith(_DEVICE_TIMEOUT))
    # Private: otherwise each overlay mount of a container shows twice, through the bind mount too, and umount fails.
    options = ("defaults", "private", *kept, *FSTAB_OPTIONS, *settings.volume_mount_options)
    return FstabEntry.of(plan.device, settings.volume_mount, plan.filesystem, options)


def store_entry(settings: Settings, directory: str) -> FstabEntry:
    """Return the line of fstab that bind-mounts a store.

    Args:
        directory: of the store, on the volume.
    """
    # The drop-ins order Docker after its stores too. These options do so on a host where somebody has removed them.
    before = [f"x-systemd.before={unit}" for unit in (DOCKER, CONTAINERD)]
    options = ("bind", "private", *FSTAB_OPTIONS, *before)
    return FstabEntry(f"{settings.volume_mount}/{directory}", STORES[directory], "none", options)


def extra_entry(settings: Settings, volume: PlannedExtraVolume) -> FstabEntry:
    """Return the line of fstab that mounts an extra volume."""
    # Its filesystem may be another than that of Docker's volume. It is on the same disks.
    of_the_disk = [option for option in settings.volume_mount_options if knows_mount_option("", option)]
    # While the boot waits for /home only root can log in (systemd-user-sessions.service), so it waits 30 s at most.
    options = ("defaults", "nofail", "x-systemd.device-timeout=30s", *of_the_disk)
    return FstabEntry.of(volume.device, volume.mount, volume.filesystem, options)


class VolumeContents(FactBase[set[str]]):
    """Return which of the stores' directories and the markers are on the volume.

    Args:
        volume: its mount point.
    """

    def command(self, volume: str) -> str:
        names = shlex.join([*STORES, *MARKERS])
        return f"cd {shlex.quote(volume)} 2>/dev/null && ls -d {names} 2>/dev/null; true"

    def process(self, output: list[str]) -> set[str]:
        return set(output)

    @staticmethod
    def default() -> set[str]:
        return set()


@operation()
def stores(volume: str) -> Generator[StringCommand, None, None]:
    """Make a directory for each store with a marker in it, then the marker of the volume.

    Args:
        volume: its mount point.
    """
    if fact(VolumeContents, volume=volume) == {*STORES, *MARKERS}:
        host.noop(f"{volume} has its stores and its markers")
        return
    yield StringCommand(make_stores(volume))


def make_stores(volume: str) -> str:
    """Return the command that makes the stores' directories and the markers where the volume is mounted."""
    at = shlex.quote(volume)
    return (
        f"mountpoint -q {at} || {{ echo '{volume} is not mounted; nothing was made in it' >&2; exit 1; }}; cd {at} && mkdir -p -m 0711 {shlex.join(STORES)} && sync -f . && "
        f"for marker in {shlex.join(MARKERS)}; do printf %s {shlex.quote(MARKER_TEXT)} >$marker.new && "
        "sync $marker.new && mv -f $marker.new $marker && sync -f . || exit 1; done"
    )


@operation()
def set_aside(paths: list[str]) -> Generator[StringCommand, None, None]:
    """Rename stores that an engine made and nobody used, and make empty directories in their place to mount on.

    Docker stops for it. Its stores are counted once more then: an image that was pulled meanwhile must not be renamed.

    Args:
        paths: of the stores that preflight has found unused.
    """
    yield _each_unit("stop", DOCKER_SOCKET, DOCKER, CONTAINERD)
    state: HostState | None = fact(HostFacts)
    if state is None or state.docker_data.any or state.containerd_data.any:
        yield _each_unit("start", CONTAINERD, DOCKER_SOCKET, DOCKER)
        yield refusal(
            "Docker has been used since this run began: its data was not touched and it runs again."
            if state
            else "the content of Docker's stores could not be counted: they were not touched and Docker runs again."
        )
        return
    for path in paths:
        target = shlex.quote(path)
        yield StringCommand(
            f"! mountpoint -q {target} && kept={shlex.quote(path + BEFORE)} && n=1 && "
            f'while [ -e "$kept" ]; do n=$((n + 1)); kept={shlex.quote(path + BEFORE)}.$n; done && '
            f'mv -T {target} "$kept" && mkdir -m 0711 {target} && sync -f {target}'
        )


def _each_unit(verb: str, *units: str) -> StringCommand:
    """Return the command that starts or stops those units that exist: systemctl fails on any other."""
    return StringCommand(
        f"for unit in {shlex.join(units)}; do "
        '[ "$(systemctl show --property LoadState --value "$unit")" != loaded ] || '
        f'timeout {DOCKER_START_LIMIT} systemctl {verb} "$unit" || exit 1; done'
    )
