"""Hosts as facts: whole ones, and every state that a cut of our own run leaves behind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from bulkhead.names import CONTAINERD, DOCKER, DOCKER_SOCKET, VOLUME_FILE
from pyinfra_lvm.model import (
    BlockDevice,
    Directory,
    DiskImage,
    Filesystem,
    FstabEntry,
    LogicalVolume,
    LoopDevice,
    Mount,
    PhysicalVolume,
    Storage,
    VolumeGroup,
    mapper_path,
)
from pyinfra_lvm.operations import UNFINISHED_TAG
from settings.check import check
from settings.model import Settings
from tasks.preflight.host import HostState, Unit
from tasks.preflight.plan import Plan
from tasks.support.paths import DOCKER_SOURCE, STORES, TAG, VOLUME_FILE_DEVICE

MIB = 2**20
GIB = 2**30
EXTENT = 4 * MIB
SPARE = "/dev/disk/by-id/virtio-spare"
VOLUME_MOUNT = "/srv/docker-volume"
MOUNT_POINTS = (VOLUME_MOUNT, *STORES.values())

OWN_DISK = "UUID=5d1f9a52-7c1e-4b7e-9b0f-2f0c8a6d3e11"
ADOPTED = OWN_DISK.replace("UUID=", "/dev/disk/by-uuid/")

DEVICE = "/dev/mapper/ubuntu--vg-docker--lv"

DEBIAN_UNIT = "/usr/sbin/dockerd -H fd:// --containerd=/run/containerd/containerd.sock $DOCKER_OPTS"
DOCKER_CE_UNIT = "/usr/bin/dockerd -H fd:// --containerd=/run/containerd/containerd.sock"


def settings(**changes: object) -> Settings:
    """The defaults, and what differs from them."""
    result = check(changes)
    assert isinstance(result, Settings), result
    return result


ON_SPARE = settings(volume_disks=[SPARE])


# -- the system and its Docker


def bare_host(**changes: Any) -> HostState:
    """Debian 12 without Docker."""
    return replace(HostState(0, "debian", "12", "bookworm", "amd64", systemd=True), **changes)


def docker_host(exec_start: str = DEBIAN_UNIT, **changes: Any) -> HostState:
    """Debian 12 with its own Docker, running and never used."""
    engine = {
        "packages": {"docker.io": "20.10.24+dfsg1-1+deb12u1"},
        "dockerd": "/usr/sbin/dockerd",
        "storage_driver": "overlay2",
        "data_root": "/var/lib/docker",
        "units": (
            Unit(DOCKER, "loaded", exec_start),
            Unit(DOCKER_SOCKET, "loaded"),
            Unit(CONTAINERD, "loaded", "/usr/bin/containerd"),
        ),
    }
    return bare_host(**engine | changes)


def our_docker_ce_host(**changes: Any) -> HostState:
    """Debian 12 with Docker's packages, as this project installs them."""
    ours = {"packages": {"docker-ce": "5:29.1.3-1~debian.12~bookworm"}, "docker_sources": (DOCKER_SOURCE,)}
    return docker_host(DOCKER_CE_UNIT, **ours | changes)


# -- storage


def absent_mount_points() -> tuple[Directory, ...]:
    return tuple(Directory(path, "absent") for path in MOUNT_POINTS)


def shared_vg(free: int = 70 * GIB) -> Storage:
    """The incident's layout: one disk of 100 GiB, root of 30 GiB on its volume group, the rest free."""
    root = 100 * GIB - free
    return Storage(
        devices=(
            BlockDevice("/dev/vda", "disk", 101 * GIB, False, (), ("gpt",), ("/dev/vda1",), ()),
            BlockDevice("/dev/vda1", "part", 100 * GIB + MIB, False, (), ("LVM2_member",), ("/dev/dm-0",), ()),
            BlockDevice("/dev/dm-0", "lvm", root, False, ("/dev/mapper/ubuntu--vg-ubuntu--lv",), ("ext4",), (), ("/",)),
        ),
        physical_volumes=(PhysicalVolume("/dev/vda1", "ubuntu-vg", 100 * GIB, free),),
        volume_groups=(VolumeGroup("ubuntu-vg", 100 * GIB, free, EXTENT, 0),),
        logical_volumes=(LogicalVolume("ubuntu-lv", "ubuntu-vg", root, True, "linear", ""),),
        mounts=(
            Mount("/", "/dev/mapper/ubuntu--vg-ubuntu--lv", "/dev/dm-0", "/", "ext4", (), "shared", root, 20 * GIB),
        ),
        fstab=(FstabEntry("/dev/mapper/ubuntu--vg-ubuntu--lv", "/", "ext4", ("defaults",)),),
        directories=absent_mount_points(),
    )


def spare_disk(size: int = 20 * GIB, **changes: Any) -> Storage:
    """A plain root without LVM, and a second disk, blank."""
    spare = BlockDevice("/dev/vdb", "disk", size, False, (SPARE,), (), (), (), zeroed=True)
    return Storage(
        devices=(
            BlockDevice("/dev/vda", "disk", 30 * GIB, False, (), ("gpt",), ("/dev/vda1",), ()),
            BlockDevice("/dev/vda1", "part", 29 * GIB, False, (), ("ext4",), (), ("/",)),
            replace(spare, **changes),
        ),
        mounts=(Mount("/", "/dev/vda1", "/dev/vda1", "/", "ext4", (), "shared", 29 * GIB, 20 * GIB),),
        directories=absent_mount_points(),
        lvm_installed=False,
    )


def single_root(size: int = 100 * GIB, free: int = 80 * GIB, fstype: str = "ext4") -> Storage:
    """A plain root that has taken the whole disk, and no other disk."""
    disk, part, _ = spare_disk().devices
    mount = Mount("/", "/dev/vda1", "/dev/vda1", "/", fstype, ("rw",), "shared", size, free)
    return replace(
        spare_disk(), devices=(replace(disk, size=size), replace(part, size=size)), mounts=(mount,), kernel=(6, 1)
    )


def own_disk(**changes: Any) -> Storage:
    """A plain root, and a second disk with a partition that somebody mounted on /var/lib/docker."""
    root, *_ = spare_disk().mounts
    disk, part, _ = spare_disk().devices
    store = replace(
        BlockDevice("/dev/vdb1", "part", 100 * GIB, False, (ADOPTED,), ("ext4",), (), ("/var/lib/docker",)), **changes
    )
    second = replace(disk, path="/dev/vdb", size=101 * GIB, children=(store.path,))
    mount = Mount(
        "/var/lib/docker", "/dev/vdb1", store.path, "/", "ext4", ("rw", "noatime"), "shared", 99 * GIB, 40 * GIB
    )
    return replace(
        spare_disk(),
        devices=(disk, part, second, store),
        mounts=(root, mount),
        fstab=(
            FstabEntry("/dev/vda1", "/", "ext4", ("defaults",)),
            FstabEntry(OWN_DISK, "/var/lib/docker", "ext4", ("defaults", "noatime")),
        ),
        directories=(*absent_mount_points()[:1], Directory("/var/lib/docker", "directory"), *absent_mount_points()[2:]),
    )


def adopted_disk() -> Storage:
    """The same after it has become Docker's volume."""
    storage = own_disk()
    root, store = storage.mounts
    stores = tuple(replace(store, target=path, root=f"/{name}") for name, path in STORES.items())
    options = ("defaults", "private", "noatime", "nofail", "x-systemd.device-timeout=90s")
    volume = FstabEntry.of(OWN_DISK, VOLUME_MOUNT, "ext4", options)
    binds = (FstabEntry(f"{VOLUME_MOUNT}/{name}", path, "none", ("bind",)) for name, path in STORES.items())
    return replace(
        storage,
        mounts=(root, replace(store, target=VOLUME_MOUNT, propagation="private"), *stores),
        fstab=(storage.fstab[0], volume, *binds),
        directories=tuple(Directory(path, "directory", immutable=True) for path in MOUNT_POINTS),
    )


def with_volume_file(storage: Storage, size: int, **changes: Any) -> Storage:
    """The file that is Docker's disk, allocated and attached, with nothing on it."""
    loop = BlockDevice("/dev/loop0", "loop", size, False, (VOLUME_FILE_DEVICE,), (), (), (), zeroed=True)
    image = DiskImage(
        VOLUME_FILE, "regular", "root:600", size=size, allocated=size, loops=(LoopDevice("/dev/loop0", size, False),)
    )
    root = storage.mounts[0]
    return replace(
        storage,
        devices=(*storage.devices, loop),
        images=(replace(image, **changes),),
        tools=(*storage.tools, "dm-mirror"),
        mounts=(replace(root, available=root.available - size), *storage.mounts[1:]),
    )


def with_group(storage: Storage, name: str, disk: str, tags: tuple[str, ...] = ()) -> Storage:
    """A volume group made of one disk."""
    device = storage.device(disk)
    assert device
    size = (device.size - MIB) // EXTENT * EXTENT
    return replace(
        storage,
        physical_volumes=(*storage.physical_volumes, PhysicalVolume(device.path, name, size, size)),
        volume_groups=(*storage.volume_groups, VolumeGroup(name, size, size, EXTENT, 0, tags)),
        devices=tuple(replace(d, signatures=("LVM2_member",)) if d is device else d for d in storage.devices),
        lvm_installed=True,
    )


def with_volume(storage: Storage, group: str, name: str, size: int, **changes: Any) -> Storage:
    """A logical volume, linear and active unless told otherwise, with nothing on it."""
    volume = replace(LogicalVolume(name, group, size, True, "linear", ""), **changes)
    aliases = (volume.mapper_path, volume.path)
    device = BlockDevice(f"/dev/dm-{len(storage.logical_volumes)}", "lvm", size, False, aliases, (), (), ())
    return replace(
        storage,
        logical_volumes=(*storage.logical_volumes, volume),
        devices=(*storage.devices, device),
        volume_groups=tuple(replace(g, free=g.free - size) if g.name == group else g for g in storage.volume_groups),
    )


def with_filesystem(storage: Storage, device: str, fstype: str = "ext4", size: int = 0) -> Storage:
    found = storage.device(device)
    assert found
    return replace(
        storage,
        filesystems=(*storage.filesystems, Filesystem(found.path, fstype, size or found.size)),
        devices=tuple(replace(d, signatures=(fstype,)) if d is found else d for d in storage.devices),
    )


def with_tags(storage: Storage, name: str, *tags: str) -> Storage:
    volumes = (replace(v, tags=tags) if v.name == name else v for v in storage.logical_volumes)
    return replace(storage, logical_volumes=tuple(volumes))


def with_mount(storage: Storage, target: str, device: str, root: str = "/") -> Storage:
    found = storage.device(device)
    assert found
    mount = Mount(target, device, found.path, root, "ext4", (), "private")
    return replace(storage, mounts=(*storage.mounts, mount))


def with_fstab(storage: Storage, source: str, target: str) -> Storage:
    return replace(storage, fstab=(*storage.fstab, FstabEntry(source, target, "ext4", ("defaults",))))


def with_directory(storage: Storage, path: str, kind: str = "directory", **changes: bool) -> Storage:
    others = (d for d in storage.directories if d.path != path)
    return replace(storage, directories=(*others, Directory(path, kind, **changes)))


def with_disk(storage: Storage) -> Storage:
    """A second disk, blank, beside what is there."""
    return replace(storage, devices=(*storage.devices, spare_disk().devices[-1]))


def with_docker_volume(**changes: object) -> Storage:
    """A volume of the name that Docker's has: somebody else's, unless it is tagged as ours."""
    return with_volume(shared_vg(), "ubuntu-vg", "docker-lv", 60 * GIB, **changes)


def with_foreign_mount(target: str) -> Storage:
    """Somebody else's volume, mounted on a path."""
    storage = with_volume(shared_vg(), "ubuntu-vg", "data-lv", 2 * GIB)
    return with_mount(storage, target, "/dev/mapper/ubuntu--vg-data--lv")


def in_no_group(**changes: object) -> Storage:
    """A second disk that is a physical volume in no group."""
    storage = spare_disk(signatures=("LVM2_member",), zeroed=False, **changes)
    return replace(storage, physical_volumes=(PhysicalVolume("/dev/vdb", "", 20 * GIB, 20 * GIB),))


def on_the_way(storage: Storage, plan: Plan) -> Iterator[tuple[str, Storage]]:
    """Every state that a run with this plan passes through, and that a cut may leave behind; the last is converged."""
    if plan.new_physical_volumes:
        (disk,) = plan.new_physical_volumes
        device = storage.device(disk)
        assert device
        header = {"signatures": ("LVM2_member",), "zeroed": False, "zeroed_beyond_header": True}
        signed = tuple(replace(d, **header) if d is device else d for d in storage.devices)
        pv = PhysicalVolume(device.path, "", device.size, device.size)
        yield (
            "physical volume made",
            replace(storage, physical_volumes=(pv,), devices=signed, lvm_installed=True),
        )
        storage = with_group(storage, plan.volume_group, disk)
        yield "volume group made", storage
    name, device_path = plan.logical_volume, mapper_path(plan.volume_group, plan.logical_volume)
    storage = with_volume(storage, plan.volume_group, name, plan.size, tags=(UNFINISHED_TAG, TAG))
    yield "logical volume made", storage
    storage = with_filesystem(storage, device_path, plan.filesystem)
    yield "filesystem made", storage
    storage = with_tags(storage, name, TAG)
    yield "filesystem complete", storage
    places = {VOLUME_MOUNT: (device_path, "/")}
    places |= {path: (f"{VOLUME_MOUNT}/{name}", f"/{name}") for name, path in STORES.items()}
    for path, (source, root) in places.items():
        storage = with_directory(storage, path, immutable=True)
        yield f"{path} made", storage
        storage = with_fstab(storage, source, path)
        yield f"{path} in fstab", storage
        storage = with_mount(storage, path, device_path, root)
        yield f"{path} mounted", storage


def converged(storage: Storage, plan: Plan) -> Storage:
    *_, (_, last) = on_the_way(storage, plan)
    return last
