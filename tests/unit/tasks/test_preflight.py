"""Preflight, from facts alone: what is refused and with which words, and what passes, half-made hosts of ours included."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pyinfra_lvm.model import (
    BlockDevice,
    Directory,
    Filesystem,
    FstabEntry,
    LogicalVolume,
    Mount,
    PhysicalVolume,
    Storage,
    VolumeGroup,
)
from settings import Settings, check
from tasks.host import EngineData, HostState, Unit
from tasks.paths import DOCKER_SOURCE, TAG
from tasks.preflight import Plan, Result, examine, report

G = 2**30
DEVICE = "/dev/mapper/ubuntu--vg-docker--lv"


def settings(**changes: Any) -> Settings:
    result = check({"engine_source": "distro"} | changes)
    assert isinstance(result, Settings), result
    return result


HOST = HostState(uid=0, os_id="debian", os_version="12", os_codename="bookworm", architecture="amd64", systemd=True)


def disk(path: str, size: int = 20 * G, **changes: Any) -> BlockDevice:
    blank = BlockDevice(path, "disk", size, False, (f"/dev/disk/by-id/virtio-{path[-3:]}",), (), (), (), zeroed=True)
    return replace(blank, **changes)


def directories(**kinds: Directory) -> tuple[Directory, ...]:
    paths = {"volume": "/srv/docker-volume", "docker": "/var/lib/docker", "containerd": "/var/lib/containerd"}
    return tuple(replace(kinds.get(name, Directory("", "absent")), path=path) for name, path in paths.items())


SHARED = Storage(
    devices=(
        disk("/dev/vda", 100 * G, signatures=("LVM2_member",), children=("/dev/dm-0",)),
        BlockDevice("/dev/dm-0", "lvm", 30 * G, False, ("/dev/mapper/ubuntu--vg-ubuntu--lv",), ("ext4",), (), ("/",)),
    ),
    physical_volumes=(PhysicalVolume("/dev/vda", "ubuntu-vg", 100 * G, 70 * G),),
    volume_groups=(VolumeGroup("ubuntu-vg", 100 * G, 70 * G, 4 * 2**20, 0),),
    logical_volumes=(LogicalVolume("ubuntu-lv", "ubuntu-vg", 30 * G, True, "linear", ""),),
    mounts=(Mount("/", "/dev/mapper/ubuntu--vg-ubuntu--lv", "/dev/dm-0", "/", "ext4", (), "shared"),),
    directories=directories(),
)
PLAIN = Storage(
    devices=(disk("/dev/vda", 30 * G, signatures=("ext4",), mount_points=("/",)), disk("/dev/vdb")),
    mounts=(Mount("/", "/dev/vda", "/dev/vda", "/", "ext4", (), "shared"),),
    directories=directories(),
    lvm_installed=False,
)


def with_volume(size: int = 60 * G, tags: tuple[str, ...] = (TAG,), fstype: str = "ext4", **changes: Any) -> Storage:
    """The shared group with a docker-lv in it, mounted nowhere."""
    volume = replace(LogicalVolume("docker-lv", "ubuntu-vg", size, True, "linear", "", tags), **changes)
    return replace(
        SHARED,
        volume_groups=(replace(SHARED.volume_groups[0], free=70 * G - size),),
        logical_volumes=(*SHARED.logical_volumes, volume),
        devices=(*SHARED.devices, BlockDevice("/dev/dm-1", "lvm", size, False, (DEVICE,), (fstype,), (), ())),
        filesystems=(Filesystem("/dev/dm-1", fstype, size),) if fstype else (),
    )


def mounted(storage: Storage, *targets: str) -> Storage:
    roots = {"/srv/docker-volume": "/", "/var/lib/docker": "/docker", "/var/lib/containerd": "/containerd"}
    sources = {
        "/srv/docker-volume": DEVICE,
        "/var/lib/docker": "/srv/docker-volume/docker",
        "/var/lib/containerd": "/srv/docker-volume/containerd",
    }
    return replace(
        storage,
        mounts=(*storage.mounts, *(Mount(t, DEVICE, "/dev/dm-1", roots[t], "ext4", (), "private") for t in targets)),
        fstab=tuple(FstabEntry(sources[t], t, "none", ()) for t in targets),
        directories=directories(
            volume=Directory("", "directory", True, True),
            docker=Directory("", "directory", True, True),
            containerd=Directory("", "directory", True, True),
        ),
    )


CONVERGED = mounted(with_volume(), "/srv/docker-volume", "/var/lib/docker", "/var/lib/containerd")
SPARE = {"volume_disks": ["/dev/vdb"]}


def result(host: HostState = HOST, storage: Storage = SHARED, lock_holder: str = "", **changes: Any) -> Result:
    return examine(settings(**changes), host, storage, lock_holder)


def plan(host: HostState = HOST, storage: Storage = SHARED, **changes: Any) -> Plan:
    found = result(host, storage, **changes)
    assert found.plan, report("host", found.findings)
    return found.plan


def spare(**changes: Any) -> Storage:
    return replace(PLAIN, devices=(PLAIN.devices[0], disk("/dev/vdb", **changes)))


def group(name: str, free: int) -> VolumeGroup:
    return VolumeGroup(name, 100 * G, free, 4 * 2**20, 0)


def foreign_mount(target: str) -> Storage:
    return replace(SHARED, mounts=(*SHARED.mounts, Mount(target, "/dev/vdz", "/dev/vdz", "/", "ext4", (), "shared")))


def unit(flags: str) -> HostState:
    return replace(HOST, units=(Unit("docker.service", "loaded", True, True, f"/usr/sbin/dockerd {flags}"),))


BAD: dict[str, tuple[HostState, Storage, dict[str, Any], str, str]] = {
    # name: host, storage, settings, found, what to do
    "not_root": (replace(HOST, uid=1000), SHARED, {}, "the login is not root", "_sudo"),
    "old_release": (replace(HOST, os_version="11"), SHARED, {}, "the system is debian 11", "supported release"),
    "other_system": (
        replace(HOST, os_id="fedora", os_version="43"),
        SHARED,
        {"allow_unsupported_release": True},
        "the system is fedora 43",
        "use a supported release",
    ),
    "architecture": (replace(HOST, architecture="i386"), SHARED, {}, "the architecture is i386", "another machine"),
    "no_systemd": (replace(HOST, systemd=False), SHARED, {}, "systemd is not running", "boot the host with systemd"),
    "snap": (replace(HOST, snap_docker=True), SHARED, {}, "Docker from snap", "snap remove docker"),
    "rootless": (replace(HOST, rootless_docker=("ann",)), SHARED, {}, "rootless Docker of ann", "uninstall"),
    "podman": (replace(HOST, packages={"podman-docker": "4"}), SHARED, {}, "podman-docker", "apt-get remove"),
    "swarm": (replace(HOST, swarm=True), SHARED, {}, "Swarm is active", "docker swarm leave"),
    "kubernetes": (replace(HOST, kubernetes=("/var/lib/kubelet",)), SHARED, {}, "/var/lib/kubelet", "leave this host"),
    "namespaces": (replace(HOST, containerd_namespaces=("k8s.io",)), SHARED, {}, "k8s.io", "ctr namespaces ls"),
    "containerd_store": (
        replace(HOST, containerd_store=True, storage_driver="overlayfs"),
        SHARED,
        {},
        "keeps its images in containerd's store",
        '"storage-driver": "overlay2"',
    ),
    "driver": (replace(HOST, storage_driver="vfs"), SHARED, {}, "the storage driver is vfs", "change the driver"),
    "driver_in_file": (
        replace(HOST, daemon_json='{"storage-driver": "btrfs"}'),
        SHARED,
        {},
        "sets the storage driver btrfs",
        "change",
    ),
    "data_root": (replace(HOST, daemon_json='{"data-root": "/big"}'), SHARED, {}, "data root is /big", "move the data"),
    "data_root_running": (replace(HOST, data_root="/mnt/docker"), SHARED, {}, "data root is /mnt/docker", "move"),
    "broken_json": (replace(HOST, daemon_json='{"a": '), SHARED, {}, "is not a JSON object", "correct or remove it"),
    "containerd_root": (
        replace(HOST, containerd_root="/data/c"),
        SHARED,
        {},
        "containerd's root is /data/c",
        "remove `root`",
    ),
    "flags": (unit("-H fd:// --data-root=/x"), SHARED, {}, "flags of somebody's own: --data-root=/x", "daemon_json"),
    "options": (replace(HOST, docker_options="--dns 8.8.8.8"), SHARED, {}, "--dns 8.8.8.8", "/etc/default/docker"),
    "data": (
        replace(HOST, docker_data=EngineData(images=3, volumes=1)),
        SHARED,
        {},
        "/var/lib/docker holds data on the root filesystem: 3 images, 1 volume",
        "docker system prune",
    ),
    "containerd_data": (
        replace(HOST, containerd_data=EngineData(layers=2)),
        SHARED,
        {},
        "/var/lib/containerd holds data",
        "leave",
    ),
    "engine": (
        replace(HOST, packages={"docker-ce": "5:27"}),
        SHARED,
        {},
        "the engine docker-ce is installed",
        "engine_change",
    ),
    "no_engine": (HOST, SHARED, {"engine_source": "present"}, "no Docker from packages", "set engine_source"),
    "second_source": (
        replace(HOST, docker_sources=("/etc/apt/sources.list.d/docker.list",)),
        SHARED,
        {"engine_source": "docker-ce"},
        "/etc/apt/sources.list.d/docker.list names Docker's repository already",
        "remove that file",
    ),
    "no_group": (HOST, PLAIN, {}, "no volume group: LVM is not installed", "volume_disks"),
    "missing_group": (
        HOST,
        SHARED,
        {"volume_group": "data"},
        "no volume group data; there is: ubuntu-vg",
        "correct volume_group",
    ),
    "two_groups": (
        HOST,
        replace(SHARED, volume_groups=(group("a", 50 * G), group("b", 40 * G))),
        {},
        "2 volume groups with room: a (50.0 GiB free), b (40.0 GiB free)",
        "set volume_group",
    ),
    "full_group": (
        HOST,
        replace(SHARED, volume_groups=(group("ubuntu-vg", 0),)),
        {},
        "ubuntu-vg has 0 bytes for",
        "attach another disk",
    ),
    "too_large": (
        HOST,
        SHARED,
        {"volume_size": "90G"},
        "has 70.0 GiB for Docker's volume",
        "set a smaller volume_size",
    ),
    "group_misses_disk": (
        HOST,
        replace(SHARED, volume_groups=(replace(group("ubuntu-vg", 70 * G), missing_physical_volumes=1),)),
        {},
        "misses 1 of its physical volumes",
        "bring the disk back",
    ),
    "disk_absent": (
        HOST,
        PLAIN,
        {"volume_disks": ["/dev/vdz"]},
        "no disk /dev/vdz; there is: /dev/vda (30.0 GiB)",
        "correct",
    ),
    "disk_mounted": (
        HOST,
        spare(mount_points=("/data",)),
        SPARE,
        "/dev/vdb is mounted or in use: /data",
        "another disk",
    ),
    "disk_with_filesystem": (HOST, spare(signatures=("xfs",)), SPARE, "/dev/vdb carries a signature: xfs", "wipefs"),
    "disk_with_partitions": (HOST, spare(children=("/dev/vdb1",)), SPARE, "is in use by /dev/vdb1", "another disk"),
    "disk_with_data": (HOST, spare(zeroed=False), SPARE, "holds data: its first or last MiB", "another disk"),
    "disk_read_only": (HOST, spare(read_only=True), SPARE, "/dev/vdb is read-only", "another disk"),
    "disk_of_other_group": (
        HOST,
        replace(spare(signatures=("LVM2_member",)), physical_volumes=(PhysicalVolume("/dev/vdb", "data", G, G),)),
        SPARE,
        "/dev/vdb is in the volume group data",
        "name another disk",
    ),
    "disks_for_a_group_of_others": (
        HOST,
        replace(SHARED, devices=(*SHARED.devices, disk("/dev/vdb"))),
        SPARE | {"volume_group": "ubuntu-vg"},
        "volume group ubuntu-vg exists without /dev/vdb",
        "the host does not boot",
    ),
    "disk_too_small": (HOST, spare(size=G), SPARE, "docker-vg has", "smaller volume_size"),
    "name_taken": (
        HOST,
        with_volume(tags=()),
        {},
        "a logical volume ubuntu-vg/docker-lv that is not ours, with ext4",
        "adopt_volume",
    ),
    "name_taken_and_mounted": (
        HOST,
        replace(with_volume(), mounts=(*SHARED.mounts, Mount("/data", DEVICE, "/dev/dm-1", "/", "ext4", (), "shared"))),
        {},
        "is mounted on /data",
        "another name",
    ),
    "thin_volume": (HOST, with_volume(segment_type="thin"), {}, "is of the type thin", "another name"),
    "other_filesystem": (HOST, with_volume(fstype="xfs"), {}, "docker-lv holds xfs", "set filesystem to what is there"),
    "shrunk_under_its_filesystem": (
        HOST,
        replace(with_volume(), filesystems=(Filesystem("/dev/dm-1", "ext4", 80 * G),)),
        {},
        "has 60.0 GiB, its filesystem 80.0 GiB",
        "lvextend",
    ),
    "store_on_other_filesystem": (
        HOST,
        foreign_mount("/var/lib/docker"),
        {},
        "is on a filesystem of its own already",
        "adopt",
    ),
    "volume_mount_taken": (
        HOST,
        foreign_mount("/srv/docker-volume"),
        {},
        "/dev/vdz is mounted on /srv/docker-volume",
        "unmount",
    ),
    "store_is_a_link": (
        HOST,
        replace(SHARED, directories=directories(docker=Directory("", "symlink"))),
        {},
        "/var/lib/docker is a symbolic link",
        "make it a directory",
    ),
    "store_in_fstab": (
        HOST,
        replace(SHARED, fstab=(FstabEntry("/dev/vdz", "/var/lib/docker", "ext4", ()),)),
        {},
        "fstab mounts /dev/vdz on /var/lib/docker",
        "remove that line",
    ),
    "volume_mount_not_empty": (
        HOST,
        replace(SHARED, directories=directories(volume=Directory("", "directory", empty=False))),
        {},
        "/srv/docker-volume is not empty",
        "empty it",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_host_is_refused_and_told_what_to_do(name: str) -> None:
    host, storage, changes, found, action = BAD[name]
    refused = result(host, storage, **changes)
    assert refused.plan is None
    (finding,) = refused.findings
    assert found in finding.found
    assert action in finding.action
    assert finding.needed


def test_second_run_is_told_who_holds_the_lock() -> None:
    (finding,) = result(lock_holder="ann on desk (process 7), since 10:00").findings
    assert "another run is under way: ann on desk (process 7), since 10:00" in finding.found


def test_all_findings_come_at_once() -> None:
    refused = result(replace(HOST, swarm=True, systemd=False), volume_size="90G")
    text = report("web-1", refused.findings)
    assert text.startswith("web-1 was left untouched: 3 findings")
    assert all(word in text for word in ("Swarm is active", "systemd is not running", "70.0 GiB"))


def test_fresh_host_with_a_shared_group() -> None:
    made = plan()
    assert (made.volume_group, made.logical_volume, made.size) == ("ubuntu-vg", "docker-lv", 60 * G)
    assert made.device == DEVICE
    assert made.skeletons == ()


def test_fresh_host_with_a_spare_disk() -> None:
    made = plan(storage=PLAIN, **SPARE)
    assert (made.volume_group, made.new_physical_volumes) == ("docker-vg", ("/dev/vdb",))
    assert 18 * G < made.size < 19.1 * G


def test_unused_engine_is_set_aside() -> None:
    skeleton = Directory("", "directory", empty=False)
    storage = replace(SHARED, directories=directories(docker=skeleton, containerd=skeleton))
    made = plan(replace(HOST, packages={"docker.io": "26.1.5"}), storage)
    assert made.skeletons == ("/var/lib/docker", "/var/lib/containerd")


def test_engine_that_is_installed_stays() -> None:
    installed = replace(HOST, packages={"docker-ce": "5:27"}, docker_sources=("/etc/apt/sources.list.d/docker.list",))
    assert plan(installed, engine_source="auto").engine == "present"


def test_nothing_installed_gets_docker_ce() -> None:
    assert plan(engine_source="auto").engine == "docker-ce"


def test_engine_that_we_installed_is_kept_up_with() -> None:
    ours = replace(HOST, packages={"docker-ce": "5:27"}, docker_sources=(DOCKER_SOURCE,))
    assert plan(ours, engine_source="auto").engine == "docker-ce"


def test_unsupported_release_passes_with_a_warning_where_it_is_allowed() -> None:
    allowed = result(replace(HOST, os_version="", os_codename="sid"), allow_unsupported_release=True)
    assert allowed.plan
    assert "debian sid is not a release" in allowed.warnings[0]


def test_usual_flags_of_the_unit_pass() -> None:
    plan(unit("-H fd:// --containerd=/run/containerd/containerd.sock $DOCKER_OPTS"))


def test_data_on_the_volume_is_no_finding() -> None:
    plan(replace(HOST, docker_data=EngineData(images=9), storage_driver="overlay2"), CONVERGED)


INTERRUPTED = {
    "volume_made": with_volume(tags=("unfinished", TAG), fstype=""),
    "filesystem_half_made": with_volume(tags=("unfinished", TAG)),
    "other_filesystem_half_made": with_volume(tags=("unfinished", TAG), fstype="xfs"),
    "filesystem_made": with_volume(),
    "volume_mounted": mounted(with_volume(), "/srv/docker-volume"),
    "one_store_mounted": mounted(with_volume(), "/srv/docker-volume", "/var/lib/docker"),
    "converged": CONVERGED,
    "listed_and_not_mounted": replace(CONVERGED, mounts=SHARED.mounts),
    "mounted_and_not_listed": replace(CONVERGED, fstab=()),
}


@pytest.mark.parametrize("state", INTERRUPTED)
def test_our_own_unfinished_work_gives_the_same_plan(state: str) -> None:
    assert plan(storage=INTERRUPTED[state]) == plan()


def test_interrupted_spare_disk_gives_the_same_volume() -> None:
    fresh = plan(storage=PLAIN, **SPARE)
    physical = PhysicalVolume("/dev/vdb", "", 20 * G, 20 * G)
    in_no_group = replace(spare(signatures=("LVM2_member",)), physical_volumes=(physical,), lvm_installed=True)
    assert plan(storage=in_no_group, **SPARE) == fresh
    size = (20 * G - 2**20) // (4 * 2**20) * (4 * 2**20)
    in_group = replace(
        in_no_group,
        physical_volumes=(replace(physical, volume_group="docker-vg"),),
        volume_groups=(VolumeGroup("docker-vg", size, size, 4 * 2**20, 0),),
    )
    assert plan(storage=in_group, **SPARE) == replace(fresh, new_physical_volumes=())


def test_foreign_volume_is_taken_over_where_it_is_allowed() -> None:
    assert plan(storage=with_volume(tags=()), adopt_volume=True).size == 60 * G


def test_larger_size_grows_the_volume() -> None:
    assert plan(storage=with_volume(size=40 * G)).size == 60 * G


def test_volume_larger_than_set_is_reported_and_kept() -> None:
    found = result(storage=CONVERGED, volume_size="20G")
    assert found.plan
    assert found.plan.size == 60 * G
    assert "never shrunk" in found.warnings[0]
