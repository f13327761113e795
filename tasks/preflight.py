"""Before this has passed, nothing is changed on a host; a host that it refuses is left exactly as it was.

``examine`` decides from facts alone. It is asked twice: while pyinfra prepares, which a dry run shows, and again under
the run lock, right before the first change.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from dataclasses import dataclass

from pyinfra import host, logger
from pyinfra.api import StringCommand, operation

from pyinfra_lvm.facts import StorageLayout
from pyinfra_lvm.model import LogicalVolume, Storage, VolumeGroup, mapper_path
from pyinfra_lvm.operations import UNFINISHED, not_blank
from settings import Settings
from sizes import DoesNotFit, human, plan_size
from tasks.facts import HostFacts
from tasks.files import refusal
from tasks.host import HostState
from tasks.paths import CONTAINERD_STORE, DAEMON_JSON, DOCKER, DOCKER_SOURCE, DOCKER_STORE, STORES, TAG
from tasks.run_lock import RunLockHolder

SUPPORTED = {"debian": ("12", "13"), "ubuntu": ("22.04", "24.04", "26.04")}
ARCHITECTURES = ("amd64", "arm64")
OWN_GROUP = "docker-vg"

# What the units of Debian, Ubuntu and Docker start dockerd with. Anything more is somebody's.
_USUAL_FLAGS = ("-H", "fd://", "--containerd=/run/containerd/containerd.sock", "$DOCKER_OPTS")


@dataclass(frozen=True)
class Finding:
    """Why a host is refused: what was found, what is needed, what to do."""

    found: str
    needed: str
    action: str

    def __str__(self) -> str:
        return f"  found:  {self.found}\n  needed: {self.needed}\n  do:     {self.action}"


@dataclass(frozen=True)
class Plan:
    """What is going to be made of a host. The same twice, or the run ends before its first change."""

    volume_group: str
    new_physical_volumes: tuple[str, ...]  # named disks that are not in the group yet
    logical_volume: str
    size: int  # bytes
    filesystem: str
    engine: str  # docker-ce, distro or present
    os_id: str
    os_codename: str
    skeletons: tuple[str, ...]  # stores on the root filesystem that an engine made and nobody used

    @property
    def device(self) -> str:
        return mapper_path(self.volume_group, self.logical_volume)


@dataclass(frozen=True)
class Result:
    findings: tuple[Finding, ...]
    warnings: tuple[str, ...]
    plan: Plan | None  # None where there are findings


class _Refused(Exception):
    def __init__(self, found: str, needed: str, action: str) -> None:
        self.finding = Finding(found, needed, action)


def examine(settings: Settings, state: HostState, storage: Storage, lock_holder: str = "") -> Result:
    """Whether a host can be provisioned, and as what.

    Args:
        state, storage: the host's facts.
        lock_holder: who holds the run lock, in words; empty for nobody.
    """
    if state.uid != 0:
        # Nothing else that was seen without root can be trusted.
        return Result((_not_root(),), (), None)
    findings = [*_run(lock_holder), *_system(settings, state), *_engine(settings, state), *_mounts(settings, storage)]
    warnings = list(_unsupported_release(settings, state))
    findings += _data_on_root(state, storage)
    plan = None
    try:
        group, disks, size, said = _volume(settings, storage)
    except _Refused as refused:
        findings.append(refused.finding)
    else:
        warnings += said
        plan = Plan(
            volume_group=group,
            new_physical_volumes=disks,
            logical_volume=settings.logical_volume,
            size=size,
            filesystem=settings.filesystem,
            engine=_engine_to_install(settings, state),
            os_id=state.os_id,
            os_codename=state.os_codename,
            skeletons=tuple(path for path in STORES.values() if _holds_skeleton(storage, path)),
        )
    return Result(tuple(findings), tuple(warnings), None if findings else plan)


def report(name: str, findings: tuple[Finding, ...]) -> str:
    """What is said of a host that is refused."""
    count = "1 finding" if len(findings) == 1 else f"{len(findings)} findings"
    return "\n\n".join([f"{name} was left untouched: {count}", *map(str, findings)])


# -- the run and the system


def _not_root() -> Finding:
    return Finding(
        "the login is not root",
        "root, directly or through sudo",
        'set "_sudo": True for this host (and _sudo_password where sudo asks), or ssh_user to root',
    )


def _run(lock_holder: str) -> Iterator[Finding]:
    if lock_holder:
        yield Finding(
            f"another run is under way: {lock_holder}",
            "one run at a time on a host",
            "wait until it has ended and run again; if its connection is dead, end that process on the host",
        )


def _is_supported(state: HostState) -> bool:
    return state.os_version in SUPPORTED.get(state.os_id, ())


def _system(settings: Settings, state: HostState) -> Iterator[Finding]:
    supported = "; ".join(f"{name.capitalize()} {', '.join(versions)}" for name, versions in SUPPORTED.items())
    release = f"{state.os_id} {state.os_version or state.os_codename}".strip() or "an unknown system"
    if not _is_supported(state) and not (settings.allow_unsupported_release and state.os_id in SUPPORTED):
        yield Finding(
            f"the system is {release}",
            supported,
            "use a supported release; on another one of Debian or Ubuntu, allow_unsupported_release = True goes on",
        )
    if state.architecture not in ARCHITECTURES:
        yield Finding(f"the architecture is {state.architecture}", " or ".join(ARCHITECTURES), "use another machine")
    if not state.systemd:
        yield Finding("systemd is not running", "systemd as PID 1", "boot the host with systemd")


def _unsupported_release(settings: Settings, state: HostState) -> Iterator[str]:
    if not _is_supported(state) and settings.allow_unsupported_release:
        release = f"{state.os_id} {state.os_version or state.os_codename}"
        yield f"{release} is not a release that this project is tested on (allow_unsupported_release)"


# -- the engine


def _engine(settings: Settings, state: HostState) -> Iterator[Finding]:
    if state.snap_docker:
        yield Finding(
            "Docker from snap",
            "Docker from packages: a snap keeps its data and its configuration in places of its own",
            "save what you need, `snap remove docker`, and run again",
        )
    if state.rootless_docker:
        yield Finding(
            f"rootless Docker of {', '.join(state.rootless_docker)}",
            "the system's Docker: rootless data lies in a home directory, out of the volume's reach",
            "stop it with `dockerd-rootless-setuptool.sh uninstall` as that user, or leave this host out",
        )
    if "podman-docker" in state.packages:
        yield Finding(
            "podman-docker, which takes the place of the docker command",
            "Docker itself",
            "`apt-get remove podman-docker`, or leave this host out",
        )
    if state.swarm:
        yield Finding(
            "Swarm is active",
            "no Swarm: its state and live-restore exclude each other",
            "`docker swarm leave` where that is right, or leave this host out",
        )
    if state.kubernetes:
        yield Finding(
            f"Kubernetes ({', '.join(state.kubernetes)})",
            "a host of Docker alone: what the kubelet keeps in containerd would be moved from under it",
            "leave this host out",
        )
    if state.containerd_namespaces:
        yield Finding(
            f"containerd namespaces of others: {', '.join(state.containerd_namespaces)}",
            "Docker's own alone",
            "remove what uses them (`ctr namespaces ls`), or leave this host out",
        )
    if state.containerd_store:
        yield Finding(
            "the engine keeps its images in containerd's store",
            "the overlay2 store: the change would hide every image",
            f'on a host without data, set "storage-driver": "overlay2" in {DAEMON_JSON}, restart Docker and run again',
        )
    elif state.storage_driver not in ("", "overlay2"):
        yield Finding(
            f"the storage driver is {state.storage_driver}",
            "overlay2: the change would hide every image",
            "change the driver as Docker's documentation says, then run again",
        )
    yield from _others_settings(state)
    yield from _engine_change(settings, state)


def _others_settings(state: HostState) -> Iterator[Finding]:
    """Data root, driver and flags that somebody else set."""
    try:
        configuration = json.loads(state.daemon_json or "{}")
        if not isinstance(configuration, dict):
            raise ValueError
    except ValueError:
        yield Finding(
            f"{DAEMON_JSON} is not a JSON object", "a file that can be merged with ours", "correct or remove it"
        )
        configuration = {}
    root = state.data_root or configuration.get("data-root") or configuration.get("graph") or DOCKER_STORE
    flags = _foreign_flags(state)
    if root.rstrip("/") != DOCKER_STORE:
        yield Finding(
            f"Docker's data root is {root}",
            f"the default, {DOCKER_STORE}: the volume is mounted there",
            "move the data back to the default place and remove data-root, or leave this host out",
        )
    driver = configuration.get("storage-driver", "overlay2")
    if driver != "overlay2" and not state.storage_driver:
        yield Finding(
            f"{DAEMON_JSON} sets the storage driver {driver}",
            "overlay2: the change would hide every image",
            "change the driver as Docker's documentation says, then run again",
        )
    if state.containerd_root.rstrip("/") not in ("", CONTAINERD_STORE):
        yield Finding(
            f"containerd's root is {state.containerd_root}",
            f"the default, {CONTAINERD_STORE}: the volume is mounted there",
            "remove `root` from /etc/containerd/config.toml once its data is moved, or leave this host out",
        )
    if flags:
        yield Finding(
            f"dockerd is started with flags of somebody's own: {' '.join(flags)}",
            f"settings in {DAEMON_JSON} alone: Docker does not start when a flag repeats one",
            "take them out of the unit or its drop-in or /etc/default/docker, and put them into the setting daemon_json",
        )


def _foreign_flags(state: HostState) -> list[str]:
    words = state.unit(DOCKER).exec_start.split()[1:]
    return [word for word in words if word not in _USUAL_FLAGS] + state.docker_options.split()


def _engine_change(settings: Settings, state: HostState) -> Iterator[Finding]:
    wanted = settings.engine_source
    if wanted == "present" and not state.engine:
        yield Finding(
            "no Docker from packages is installed",
            'one, for engine_source = "present"',
            'install it, or set engine_source to "docker-ce" or "distro"',
        )
    if wanted in ("docker-ce", "distro") and state.engine not in ("", wanted):
        if not settings.engine_change:
            yield Finding(
                f"the engine {state.engine} is installed",
                f'{wanted}, as engine_source asks, or engine_source = "auto", which keeps what is installed',
                "set engine_change = True to let one take the other's place on a host without data",
            )
        elif state.docker_data.any or state.containerd_data.any:
            yield Finding(
                f"the engine {state.engine} holds data: {state.docker_data}",
                "a host without Docker data to change the engine",
                "remove the data, or set engine_change = False",
            )
    foreign = [path for path in state.docker_sources if path != DOCKER_SOURCE]
    if _engine_to_install(settings, state) == "docker-ce" and foreign:
        yield Finding(
            f"{', '.join(foreign)} names Docker's repository already",
            f"one entry for it, {DOCKER_SOURCE}: apt refuses two with different keys",
            'remove that file, or set engine_source to "present"',
        )


def _engine_to_install(settings: Settings, state: HostState) -> str:
    if settings.engine_source != "auto":
        return settings.engine_source
    return "present" if _is_installed(state) else "docker-ce"


def _is_installed(state: HostState) -> bool:
    """Whether there is an engine that is not our own: the source that we wrote tells an installation of ours."""
    return bool(state.engine) and DOCKER_SOURCE not in state.docker_sources


def _data_on_root(state: HostState, storage: Storage) -> Iterator[Finding]:
    for path, data in ((DOCKER_STORE, state.docker_data), (CONTAINERD_STORE, state.containerd_data)):
        if data.any and storage.mount(path) is None:
            yield Finding(
                f"{path} holds data on the root filesystem: {data}",
                "no data there: moving it is not supported yet",
                "save what you need and remove it (`docker system prune -a`, `docker volume rm`), or leave this host out",
            )


# -- mounts


def _mounts(settings: Settings, storage: Storage) -> Iterator[Finding]:
    volume = storage.mount(settings.volume_mount)
    expected = storage.device(mapper_path(_named_group(settings, storage), settings.logical_volume))
    if volume and not (expected and volume.device == expected.path):
        yield Finding(
            f"{volume.source} is mounted on {settings.volume_mount}",
            f"the logical volume {settings.logical_volume} or nothing",
            "unmount it, or set volume_mount to another directory",
        )
    for directory, path in {"": settings.volume_mount, **STORES}.items():
        beneath, found, listed = storage.directory(path), storage.mount(path), storage.fstab_entry(path)
        source = f"{settings.volume_mount}/{directory}" if directory else ""
        if beneath and beneath.kind in ("symlink", "other"):
            yield Finding(
                f"{path} is {'a symbolic link' if beneath.kind == 'symlink' else 'no directory'}",
                "a directory to mount on",
                "move the data to where the path says and make it a directory, or leave this host out",
            )
        if directory and found and not (volume and found.device == volume.device):
            yield Finding(
                f"{path} is on a filesystem of its own already: {found.source}",
                "the root filesystem or our volume",
                "leave this host out; a logical volume mounted nowhere can be taken over with adopt_volume = True",
            )
        elif directory and listed and listed.source != source:
            yield Finding(
                f"fstab mounts {listed.source} on {path}",
                f"{source}, or no line for it",
                "remove that line of /etc/fstab, or leave this host out",
            )
        if not directory and beneath and beneath.kind == "directory" and not beneath.empty:
            yield Finding(
                f"{path} is not empty",
                "an empty directory to mount on, or none",
                "empty it, or set volume_mount to another directory",
            )


def _holds_skeleton(storage: Storage, path: str) -> bool:
    beneath = storage.directory(path)
    return storage.mount(path) is None and beneath is not None and beneath.kind == "directory" and not beneath.empty


# -- the volume


def _named_group(settings: Settings, storage: Storage) -> str:
    """The group by the settings; with "auto" the one where the volume is already, or the only one."""
    if settings.volume_group != "auto":
        return settings.volume_group
    if settings.volume_disks:
        return OWN_GROUP
    holders = [v.volume_group for v in storage.logical_volumes if v.name == settings.logical_volume]
    groups = holders or [group.name for group in storage.volume_groups]
    return groups[0] if len(groups) == 1 else ""


def _volume(settings: Settings, storage: Storage) -> tuple[str, tuple[str, ...], int, tuple[str, ...]]:
    """Group, disks to add to it, bytes, warnings.

    Raises:
        _Refused: there is no such volume to be had.
    """
    new = _new_disks(settings, storage)
    name = _named_group(settings, storage) or _only_group_with_room(storage)
    group = storage.volume_group(name)
    if group is None and not settings.volume_disks:
        names = ", ".join(g.name for g in storage.volume_groups) or "none"
        raise _Refused(
            f"no volume group {name}; there is: {names}",
            "the group that volume_group names",
            "correct volume_group, or name a blank disk in volume_disks",
        )
    if group and group.missing_physical_volumes:
        raise _Refused(
            f"volume group {name} misses {group.missing_physical_volumes} of its physical volumes",
            "a complete group",
            f"bring the disk back, or repair the group (`vgs`, `pvs`, vgreduce(8)); nothing in {name} was touched",
        )
    if group and new and not _may_extend(settings, storage, group):
        raise _Refused(
            f"volume group {name} exists without {', '.join(new)}",
            "a group of Docker's own for volume_disks",
            "set volume_group to a new name; volume_group_extend = True adds the disks to this one, but a group that "
            "spans disks does not come up when one is missing: if it is root's, the host does not boot",
        )
    own = bool(settings.volume_disks) and not settings.volume_group_extend
    extent = group.extent_size if group else 4 * 2**20
    # Of a disk, LVM's metadata takes the first MiB (pvcreate(8), --dataalignment), and extents are whole.
    added = sum((device.size - 2**20) // extent * extent for path in new if (device := storage.device(path)))
    existing = _existing(settings, storage, name)
    try:
        planned = plan_size(
            settings.volume_size,
            group_size=(group.size if group else 0) + added,
            group_free=(group.free if group else 0) + added,
            extent_size=extent,
            reserve=settings.volume_reserve,
            own_group=own,
            existing=existing.size if existing else 0,
        )
    except DoesNotFit as error:
        raise _no_room(settings, name, error) from None
    if existing:
        _check_existing(settings, storage, existing)
    return name, new, planned.bytes, planned.warnings


def _new_disks(settings: Settings, storage: Storage) -> tuple[str, ...]:
    """The named disks that are in no group of ours yet, each looked at."""
    new = []
    wanted = settings.volume_group if settings.volume_group != "auto" else OWN_GROUP
    for path in settings.volume_disks:
        device = storage.device(path)
        if device is None:
            disks = ", ".join(f"{d.path} ({human(d.size)})" for d in storage.devices if d.type == "disk")
            raise _Refused(
                f"no disk {path}; there is: {disks}", "the disk that volume_disks names", "correct volume_disks"
            )
        holder = next((p for p in storage.physical_volumes if p.path in (device.path, *device.aliases)), None)
        if holder and holder.volume_group == wanted:
            continue
        if holder and holder.volume_group:
            raise _Refused(
                f"{path} is in the volume group {holder.volume_group}",
                "a blank disk",
                "name another disk; if that group's free space is meant, set volume_group instead of volume_disks",
            )
        if not holder and (reason := not_blank(device)):
            raise _Refused(
                f"{path} {reason}",
                "a blank disk: what carries anything is never overwritten",
                f"name another disk; if its content is not needed, look at it once more and `wipefs --all {path}` and "
                "overwrite its first and last MiB yourself",
            )
        new.append(path)
    return tuple(new)


def _only_group_with_room(storage: Storage) -> str:
    with_room = [group for group in storage.volume_groups if group.free >= 2**30]
    if len(with_room) == 1:
        return with_room[0].name
    free = ", ".join(f"{group.name} ({human(group.free)} free)" for group in storage.volume_groups)
    if not storage.volume_groups:
        raise _Refused(
            "no volume group" + ("" if storage.lvm_installed else ": LVM is not installed"),
            "room for a logical volume",
            "name a blank disk in volume_disks",
        )
    raise _Refused(
        f"{len(with_room) or 'no'} volume groups with room: {free}",
        "one group to choose",
        "set volume_group" if with_room else "name a blank disk in volume_disks, or make room in a group",
    )


def _may_extend(settings: Settings, storage: Storage, group: VolumeGroup) -> bool:
    """Named disks may join a group that is asked for by name, or one that holds nothing but our volume."""
    names = {v.name for v in storage.logical_volumes if v.volume_group == group.name}
    return settings.volume_group_extend or names <= {settings.logical_volume}


def _no_room(settings: Settings, group: str, error: DoesNotFit) -> _Refused:
    asked = settings.volume_size or ("all but the reserve" if settings.volume_disks else "60%VG, the default,")
    return _Refused(
        f"volume group {group} has {human(max(error.available, 0))} for Docker's volume",
        f"{human(error.needed)} for volume_size {asked} and the reserve of {settings.volume_reserve}",
        "set a smaller volume_size, or name a blank disk in volume_disks; if root's filesystem has taken the whole disk, "
        "attach another disk: a filesystem is never shrunk here",
    )


def _existing(settings: Settings, storage: Storage, group: str) -> LogicalVolume | None:
    return storage.logical_volume(group, settings.logical_volume)


def _check_existing(settings: Settings, storage: Storage, volume: LogicalVolume) -> None:
    """Refuse a volume of that name that is somebody else's, or not of the right shape."""
    device, filesystem = volume.mapper_path, storage.filesystem(volume.mapper_path)
    name = f"{volume.volume_group}/{volume.name}"
    mounted = [m.target for m in storage.mounts_of(device)]
    elsewhere = [target for target in mounted if target not in (settings.volume_mount, *STORES.values())]
    ours = TAG in volume.tags or settings.volume_mount in mounted
    if elsewhere:
        raise _Refused(
            f"the logical volume {name} is mounted on {', '.join(elsewhere)}",
            "a volume of Docker's own",
            "set logical_volume to another name",
        )
    if not ours and not settings.adopt_volume:
        raise _Refused(
            f"there is a logical volume {name} that is not ours"
            + (f", with {filesystem.type} on it" if filesystem else ""),
            "a free name",
            "set logical_volume to another name, or adopt_volume = True to take it over with what is on it",
        )
    if volume.segment_type not in ("linear", "striped") or volume.origin:
        raise _Refused(
            f"the logical volume {name} is of the type {volume.segment_type}",
            "a linear volume: a thin pool that runs full damages filesystems",
            "set logical_volume to another name",
        )
    if UNFINISHED in volume.tags:
        return
    if filesystem is None or filesystem.type != settings.filesystem:
        raise _Refused(
            f"the logical volume {name} holds {filesystem.type if filesystem else 'no ext4 or xfs'}",
            f"{settings.filesystem}, as the setting filesystem says",
            "set filesystem to what is there: a filesystem is never replaced",
        )
    if filesystem.size > volume.size:
        raise _Refused(
            f"the logical volume {name} has {human(volume.size)}, its filesystem {human(filesystem.size)}",
            "a volume at least as large as its filesystem",
            f"it was shrunk by somebody: `lvextend -L {filesystem.size}b {name}` before anything is written there",
        )


# -- in the deploy


def _look(settings: Settings, take_lock: bool) -> Result | None:
    """What the facts say; None where they could not be had, which has failed the host already."""
    holder = host.get_fact(RunLockHolder, take=take_lock)
    state: HostState | None = host.get_fact(HostFacts, docker_repository=settings.docker_repository)
    storage = host.get_fact(
        StorageLayout, paths=[settings.volume_mount, *STORES.values()], probe=list(settings.volume_disks)
    )
    return None if state is None else examine(settings, state, storage, holder)


def look(settings: Settings) -> Plan | None:
    """The plan for this host, while pyinfra prepares; None fails the host, with its findings printed."""
    result = _look(settings, take_lock=False)
    if result is None:
        return None
    for warning in result.warnings:
        host.log_styled(f"Warning: {warning}", fg="yellow", log_func=logger.warning)
    if result.plan is None:
        host.log_styled(report(host.name, result.findings), fg="red", log_func=logger.error)
        host.state.fail_hosts({host})
    return result.plan


@operation()
def hold_the_lock(settings: Settings, plan: Plan) -> Generator[StringCommand, None, None]:
    """Take the run lock and look again: from here to the end of the run nobody else changes the host.

    Args:
        settings: of this host.
        plan: what was seen while preparing.
    """
    if not host.state.is_executing:
        host.noop("a dry run takes no lock")
        return
    result = _look(settings, take_lock=True)
    if result is None:
        yield refusal(f"{host.name} was left untouched: its facts could not be taken")
    elif result.plan is None:
        yield refusal(report(host.name, result.findings))
    elif result.plan != plan:
        yield refusal(f"{host.name} was left untouched: it has changed since this run looked at it. Run again.")
    else:
        host.noop("this run holds the lock, and the host is as it was seen")
