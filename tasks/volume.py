"""After this, Docker's volume exists and is mounted, and both of Docker's stores are on it.

One logical volume, mounted at a neutral place; its ``docker/`` and ``containerd/`` are bind-mounted over
/var/lib/docker and /var/lib/containerd, so that images, containers and build cache share one pool of space wherever
the engine keeps them. Beneath every mount the directory is empty and immutable: with a mount missing, not even root
writes to the root filesystem there.
"""

from __future__ import annotations

import shlex
from collections.abc import Generator

from pyinfra import host
from pyinfra.api import FactBase, StringCommand, operation
from pyinfra.api.deploy import deploy

from bulkhead.names import CONTAINERD, DOCKER, DOCKER_SOCKET, MARKER
from pyinfra_lvm import operations as lvm
from pyinfra_lvm.model import FstabEntry, mapper_path
from pyinfra_lvm.operations import refusal
from settings.model import Settings
from tasks.preflight.facts import HostFacts
from tasks.preflight.host import HostState
from tasks.preflight.plan import Plan, PlannedExtraVolume
from tasks.support import packages
from tasks.support.paths import BEFORE, STORES, TAG

# nofail: a volume that is lost must not keep the host from booting; it is the drop-ins that keep Docker down.
# The device's time to appear is systemd's own default: hosts that all boot at once, after a power cut, are slow.
FSTAB_OPTIONS = ("nofail", "x-systemd.device-timeout=90s")
TOOLS = {"ext4": "e2fsprogs", "xfs": "xfsprogs"}


@deploy("Volume")
def provision(settings: Settings, plan: Plan) -> None:
    """The logical volume with its filesystem, mounted, with a directory for each store and the marker."""
    extra_filesystems = [volume.filesystem for volume in plan.extra_volumes]
    packages.installed(
        name="LVM and the filesystem's tools are installed",
        packages=["lvm2", *dict.fromkeys(TOOLS[kind] for kind in (plan.filesystem, *extra_filesystems))],
        lock_timeout=settings.apt_lock_timeout,
    )
    for device in plan.new_physical_volumes:
        lvm.physical_volume(name=f"{device} is a physical volume", device=device)
    if plan.new_physical_volumes:
        lvm.volume_group(
            name=f"Volume group {plan.volume_group} holds the named disks",
            group=plan.volume_group,
            devices=list(settings.volume_disks),
            extend=True,
        )
    _logical_volume(plan.volume_group, plan.logical_volume, plan.size, plan.filesystem)
    lvm.mount(
        name=f"{settings.volume_mount} is mounted",
        path=settings.volume_mount,
        device=plan.device,
        fstype=plan.filesystem,
        # Private, or every overlay mount of a container shows twice, through the bind mount too, and umount is busy.
        options=["defaults", "private", *FSTAB_OPTIONS],
        immutable_mount_point=True,
    )
    stores(name="The volume has a directory for each store, and its marker", volume=settings.volume_mount)
    for volume in plan.extra_volumes:
        _provision_extra(plan.volume_group, volume)


def _logical_volume(group: str, name: str, size: int, filesystem: str) -> None:
    lvm.logical_volume(name=f"Logical volume {group}/{name}", volume=name, group=group, size=size, tags=[TAG])
    lvm.filesystem(
        name=f"Filesystem {filesystem} on {mapper_path(group, name)}",
        volume=name,
        group=group,
        fstype=filesystem,
        size=size,
    )


def _provision_extra(group: str, volume: PlannedExtraVolume) -> None:
    _logical_volume(group, volume.name, volume.size, volume.filesystem)
    if not volume.relocates:
        entry = extra_entry(volume.mount, volume.device, volume.filesystem)
        lvm.mount(
            name=f"{volume.mount} is mounted",
            path=entry.target,
            device=entry.source,
            fstype=entry.fstype,
            options=list(entry.options),
            immutable_mount_point=volume.immutable,
        )


@deploy("Volume")
def clear_stores(plan: Plan) -> None:
    """Nothing where the stores will be mounted. Before the drop-ins: a Docker that is in use after all starts again."""
    if plan.skeletons:
        set_aside(name="The unused stores on the root filesystem are set aside", paths=list(plan.skeletons))


@deploy("Volume")
def mount_stores(settings: Settings, plan: Plan) -> None:
    """Both stores on the volume."""
    for directory in STORES:
        entry = store_entry(settings, directory)
        lvm.mount(
            name=f"{entry.target} is on the volume",
            path=entry.target,
            device=entry.source,
            fstype=entry.fstype,
            options=list(entry.options),
            # An old tree stays beneath until it is finalized.
            immutable_mount_point=not plan.old_trees,
        )


def store_entry(settings: Settings, directory: str) -> FstabEntry:
    """The line of fstab that puts a store on the volume.

    Args:
        directory: of the store, on the volume.
    """
    # The drop-ins order Docker after its stores as well; these do so too where the drop-ins have been taken off.
    before = [f"x-systemd.before={unit}" for unit in (DOCKER, CONTAINERD)]
    options = ("bind", "private", *FSTAB_OPTIONS, *before)
    return FstabEntry(f"{settings.volume_mount}/{directory}", STORES[directory], "none", options)


def extra_entry(path: str, device: str, filesystem: str) -> FstabEntry:
    """The line of fstab that mounts an extra volume."""
    # Without /home nobody but root can log in while the boot waits for it (systemd-user-sessions.service): not for long.
    return FstabEntry.of(device, path, filesystem, ("defaults", "nofail", "x-systemd.device-timeout=30s"))


class VolumeContents(FactBase[set[str]]):
    """Which of the stores and the marker are on the volume.

    Args:
        volume: where the volume is mounted.
    """

    def command(self, volume: str) -> str:
        names = shlex.join([*STORES, MARKER])
        return f"cd {shlex.quote(volume)} 2>/dev/null && ls -d {names} 2>/dev/null; true"

    def process(self, output: list[str]) -> set[str]:
        return set(output)

    @staticmethod
    def default() -> set[str]:
        return set()


@operation()
def stores(volume: str) -> Generator[StringCommand, None, None]:
    """Make a directory for each store, then the marker that says the volume is complete and ours.

    Args:
        volume: where the volume is mounted.
    """
    if host.get_fact(VolumeContents, volume=volume) == {*STORES, MARKER}:
        host.noop(f"{volume} has its stores and its marker")
        return
    at = shlex.quote(volume)
    yield StringCommand(
        f"mountpoint -q {at} || {{ echo '{volume} is not mounted; nothing was made there' >&2; exit 1; }}; cd {at} && mkdir -p -m 0711 {shlex.join(STORES)} && sync -f . && "
        f"echo 'The volume of docker-bulkhead: Docker starts only where this file is.' >{MARKER} && sync -f ."
    )


@operation()
def set_aside(paths: list[str]) -> Generator[StringCommand, None, None]:
    """Rename stores that an engine made and nobody used, leaving empty directories to mount over.

    Docker is stopped for it, and looked at again once it stands still: what was pulled in the meantime is not ours to
    rename.

    Args:
        paths: the stores, as preflight found them.
    """
    yield _each_unit("stop", DOCKER_SOCKET, DOCKER, CONTAINERD)
    state: HostState | None = host.get_fact(HostFacts)
    if state is None or state.docker_data.any or state.containerd_data.any:
        yield _each_unit("start", CONTAINERD, DOCKER_SOCKET, DOCKER)
        yield refusal(
            "Docker has been used since this run began: its data was not touched and it runs again."
            if state
            else "what Docker holds could not be counted: its stores were not touched and it runs again."
        )
        return
    for path in paths:
        target = shlex.quote(path)
        yield StringCommand(
            f"! mountpoint -q {target} && aside={shlex.quote(path + BEFORE)} && n=1 && "
            f'while [ -e "$aside" ]; do n=$((n + 1)); aside={shlex.quote(path + BEFORE)}.$n; done && '
            f'mv -T {target} "$aside" && mkdir -m 0711 {target} && sync -f {target}'
        )


def _each_unit(verb: str, *units: str) -> StringCommand:
    """Start or stop those units that there are: systemctl fails on any other."""
    return StringCommand(
        f"for unit in {shlex.join(units)}; do "
        '[ "$(systemctl show --property LoadState --value "$unit")" != loaded ] || '
        f'systemctl {verb} "$unit" || exit 1; done'
    )
