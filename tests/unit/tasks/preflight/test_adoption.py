"""Which filesystems on /var/lib/docker qualify to become Docker's volume in place, and what a run then plans."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pyinfra_lvm.model import FstabEntry, LogicalVolume, Mount, Storage
from settings.model import Settings
from tasks.preflight.adoption import FilesystemRoot, is_wanted
from tasks.preflight.examine import Examination, examine
from tasks.preflight.finding import Finding
from tasks.preflight.host import Container, EngineData, HostState
from tasks.preflight.plan import Plan
from tasks.volume import volume_entry

from ..example_hosts import (
    ADOPTED,
    GIB,
    OWN_DISK,
    VOLUME_MOUNT,
    adopted_disk,
    bare_host,
    converged,
    docker_host,
    own_disk,
    settings,
    shared_vg,
    with_directory,
    with_mount,
)
from .verdicts import all_found, assert_says, finding, plan_of

WANTED = settings(adopt_filesystem=True)
DATA = EngineData(images=3, containers=1, volumes=2, layers=9)
LIVING = docker_host(
    docker_data=DATA,
    containers_running=1,
    containers=(Container("web", "running", "sha256:1", 0, has_restart_policy=True, is_kept=False),),
)
ROOT = FilesystemRoot(("overlay2", "containers", "image", "volumes", "lost+found", "engine-id", "buildkit"))


def examined(state: HostState = LIVING, storage: Storage | None = None, root: FilesystemRoot = ROOT) -> Examination:
    return examine(WANTED, state, storage or own_disk(), root=root)


def planned(*args: Any, **kwargs: Any) -> Plan:
    result = examined(*args, **kwargs)
    assert result.findings == ()
    assert result.plan
    return result.plan


def refused(*args: Any, **kwargs: Any) -> Finding:
    (found,) = examined(*args, **kwargs).findings
    return found


def with_store(**changes: Any) -> Storage:
    """The host with another mount on /var/lib/docker."""
    storage = own_disk()
    *others, store = storage.mounts
    return replace(storage, mounts=(*others, replace(store, **changes)))


def with_line(*lines: FstabEntry) -> Storage:
    """The host with other lines of fstab for /var/lib/docker."""
    storage = own_disk()
    return replace(storage, fstab=(*storage.fstab[:-1], *lines))


LINE = FstabEntry(OWN_DISK, "/var/lib/docker", "ext4", ("defaults", "noatime"))


def test_filesystem_on_the_store_becomes_the_volume() -> None:
    plan = planned()
    assert plan.adopts
    assert (plan.adopted, plan.device) == (
        FstabEntry(OWN_DISK, VOLUME_MOUNT, "ext4", ("defaults", "noatime")),
        OWN_DISK,
    )
    assert (plan.volume_group, plan.size, plan.reserve) == ("", 99 * GIB, 0)
    assert plan.directories_to_move == ["/var/lib/docker"]
    assert not plan.relocates
    assert not plan.old_trees
    assert plan.unused_stores == ()


def test_line_of_fstab_keeps_what_its_owner_has_set() -> None:
    entry = volume_entry(WANTED, planned())
    assert entry == FstabEntry(
        OWN_DISK,
        VOLUME_MOUNT,
        "ext4",
        ("defaults", "private", "noatime", "nofail", "x-systemd.device-timeout=90s"),
        passno=2,
    )
    again = replace(planned(), adopted=entry)
    assert volume_entry(WANTED, again) == entry


def test_dry_run_says_which_containers_stop_and_for_how_long() -> None:
    (notice, *_) = examined().notices
    assert notice.startswith(
        f"the filesystem on /var/lib/docker ({OWN_DISK}, 99.0 GiB) becomes Docker's volume in place"
    )
    assert "For that Docker stops, and with it 1 container (web)." in notice
    assert "The outage takes seconds, whatever the size" in notice
    assert "copied onto it" not in notice


def test_images_of_containerd_are_copied_onto_it() -> None:
    state = replace(LIVING, containerd_data=EngineData(images=2, containers=1), store_bytes=3 * GIB, store_inodes=7)
    plan = planned(state)
    assert plan.adopts
    assert plan.relocates
    assert plan.old_trees
    assert "containerd's images are copied onto it: 3.0 GiB in 7 files" in examined(state).notices[0]
    assert_says(
        refused(replace(state, store_bytes=40 * GIB)),
        found_has="containerd's images take 40.0 GiB, and the filesystem on /var/lib/docker has 40.0 GiB free",
        needed="44.0 GiB",
        action="free space",
    )


def test_directories_of_running_containers_are_no_images() -> None:
    assert not planned(replace(LIVING, containerd_data=EngineData(containers=4))).relocates


def test_filesystem_is_adopted_before_docker_is_installed() -> None:
    plan = planned(bare_host(), root=FilesystemRoot(("lost+found",)))
    assert plan.adopts
    assert plan.engine == "docker-ce"


BY_ID = "/dev/disk/by-id/scsi-0DO_Volume_docker-part1"
MAPPER = "/dev/mapper/data-docker"


def test_name_that_no_clone_has_stays_in_fstab() -> None:
    storage = own_disk(aliases=(ADOPTED, BY_ID))
    assert planned(storage=storage).device == OWN_DISK, "their line has the UUID"
    *others, theirs = storage.fstab
    by_id = replace(storage, fstab=(*others, theirs._replace(source=BY_ID)))
    assert planned(storage=by_id).device == BY_ID
    kernel = replace(storage, fstab=(*others, theirs._replace(source="/dev/vdb1")))
    assert planned(storage=kernel).device == OWN_DISK
    assert planned(storage=as_logical_volume(own_disk())).device == MAPPER


def named(source: str, storage: Storage) -> Storage:
    """The adopted filesystem under another name in fstab."""
    lines = (line._replace(source=source) if line.source == OWN_DISK else line for line in storage.fstab)
    devices = (replace(d, aliases=(*d.aliases, BY_ID)) if ADOPTED in d.aliases else d for d in storage.devices)
    return replace(storage, fstab=tuple(lines), devices=tuple(devices))


@pytest.mark.parametrize("source", [BY_ID, MAPPER])
@pytest.mark.parametrize("lost", ["", VOLUME_MOUNT, "/var/lib/docker"])
def test_adopted_filesystem_is_known_by_its_other_names_too(source: str, lost: str) -> None:
    storage = named(source, as_logical_volume(adopted_disk()) if source == MAPPER else adopted_disk())
    state = replace(adopted_host(configured_options=("defaults",)), configured_volume=source)
    (line,) = (line for line in storage.fstab if line.target == VOLUME_MOUNT)
    cut = replace(storage, fstab=tuple(line for line in storage.fstab if line.target != lost))
    plan = planned(state, cut)
    assert (plan.adopts, plan.device) == (False, source)
    if not lost:
        assert volume_entry(WANTED, plan) == line
        undeployed = replace(LIVING, relocation="finalized")
        assert planned(undeployed, storage).device == source
        found = finding(state, storage, settings())
        assert f"the filesystem {source} is this host's Docker volume, and adopt_filesystem is not set" in found.found


@pytest.mark.parametrize("source", [BY_ID, MAPPER])
def test_adopted_filesystem_with_another_name_that_is_lost_is_refused(source: str) -> None:
    storage = named(source, adopted_disk())
    gone = replace(storage, devices=storage.devices[:1], mounts=storage.mounts[:1])
    state = replace(adopted_host(configured_options=("defaults",)), configured_volume=source, relocation="done")
    (found, *_) = examine(WANTED, state, gone).findings
    assert f"the volume {'data/docker' if source == MAPPER else source} for {VOLUME_MOUNT} is not there" in found.found
    assert "bulkhead rollback" not in found.action


def with_clone(storage: Storage) -> Storage:
    uuid = OWN_DISK.removeprefix("UUID=")
    *others, store = storage.devices
    clone = replace(store, path="/dev/vdc1", aliases=(), children=(), mount_points=(), uuids=(uuid,))
    return replace(storage, devices=(*others, replace(store, uuids=(uuid,)), clone))


def test_clone_of_the_filesystem_is_refused() -> None:
    assert_says(
        refused(storage=with_clone(own_disk())),
        found_has="/dev/vdc1 has the same UUID as the filesystem on /var/lib/docker",
        needed="one device with that UUID",
        action="detach the copy",
    )
    (warning,) = examined(adopted_host(), with_clone(adopted_disk())).warnings
    assert "/dev/vdc1 has the same UUID as Docker's volume" in warning


def test_parts_of_its_own_device_are_no_clones() -> None:
    storage = with_clone(own_disk())
    *others, store, clone = storage.devices
    mirror = replace(clone, path="/dev/vdb", children=(store.path,), type="disk")
    disks = [device for device in others if device.path != "/dev/vdb"]
    assert planned(storage=replace(storage, devices=(*disks, mirror, store))).adopts


def test_advised_line_does_not_stop_a_boot() -> None:
    assert f"`{OWN_DISK} /var/lib/docker ext4 defaults,nofail 0 2`" in refused(storage=with_line()).action


def test_xfs_and_a_logical_volume_are_adopted_too() -> None:
    assert planned(storage=with_store(fstype="xfs")).filesystem == "xfs"
    storage = own_disk(type="lvm", path="/dev/dm-7")
    assert planned(storage=storage).device == OWN_DISK


def test_thin_volume_and_ephemeral_disk_get_a_warning() -> None:
    storage = own_disk(aliases=(ADOPTED, "/dev/mapper/pool-docker", "/dev/disk/azure/local/by-index/1"), type="lvm")
    volume = LogicalVolume("docker", "pool", 99 * GIB, True, "thin", "")
    warnings = " ".join(examined(storage=replace(storage, logical_volumes=(volume,))).warnings)
    assert "on a thin volume: when its pool is full, Docker gets errors" in warnings
    assert "on an ephemeral disk: Docker's data is lost" in warnings


@pytest.mark.parametrize(
    ("changes", "found", "action"),
    [
        ({"root": "/docker"}, "a directory of a larger filesystem is mounted on /var/lib/docker: /dev/vdb1[/docker]", "unmount it"),
        ({"fstype": "btrfs"}, "the filesystem on /var/lib/docker is btrfs", "unmount it"),
        ({"fstype": "nfs4", "device": "", "source": "nas:/docker"}, "the filesystem on /var/lib/docker is nfs4: nas:/docker", "unmount it"),
        ({"fstype": "tmpfs", "device": ""}, "the filesystem on /var/lib/docker is tmpfs", "unmount it"),
        ({"options": ("ro", "relatime")}, "the filesystem on /var/lib/docker is read-only", "dmesg"),
    ],
)  # fmt: skip
def test_filesystem_of_another_kind_is_refused(changes: dict[str, Any], found: str, action: str) -> None:
    result = refused(storage=with_store(**changes))
    assert result.found.startswith(found)
    assert action in result.action


def test_loop_device_is_refused() -> None:
    storage = own_disk(type="loop", path="/dev/loop3")
    assert "is on a loop device" in refused(storage=storage).found


@pytest.mark.parametrize(
    ("storage", "found"),
    [
        (with_line(), "/etc/fstab mounts nothing on /var/lib/docker, where /dev/vdb1 is mounted"),
        (with_line(LINE._replace(source="/dev/sdz1")), "/etc/fstab mounts /dev/sdz1 on /var/lib/docker"),
        (with_line(LINE, LINE), f"/etc/fstab mounts {OWN_DISK}, {OWN_DISK} on /var/lib/docker"),
        (with_line(LINE._replace(options=("noauto", "x-systemd.automount"))), "/etc/fstab mounts /var/lib/docker with noauto, x-systemd.automount"),
        (with_line(LINE, LINE._replace(target="/backup")), "/etc/fstab mounts /dev/vdb1 on /backup too"),
    ],
)  # fmt: skip
def test_fstab_that_does_not_mount_it_plainly_is_refused(storage: Storage, found: str) -> None:
    assert refused(storage=storage).found.startswith(found)


def test_filesystem_without_a_uuid_is_refused() -> None:
    assert "has no name under /dev/disk/by-uuid" in " ".join(all_found(WANTED, own_disk(aliases=()), LIVING))


def test_filesystem_that_is_mounted_elsewhere_too_is_refused() -> None:
    storage = with_mount(own_disk(), "/data", "/dev/vdb1")
    assert_says(
        refused(storage=storage),
        found_has="/dev/vdb1 is mounted on /data too",
        needed="one mount of it",
        action="unmount /data",
    )
    assert (
        "/dev/vdb1 is mounted on /srv/www too"
        in refused(storage=with_mount(own_disk(), "/srv/www", "/dev/vdb1", "/volumes/www")).found
    )


def test_mounts_of_others_within_it_are_refused() -> None:
    mount = Mount("/var/lib/docker/volumes/a/_data", "nas:/a", "", "/", "nfs4", (), "shared")
    storage = own_disk()
    storage = replace(storage, mounts=(*storage.mounts, mount))
    assert "nas:/a is mounted on /var/lib/docker/volumes/a/_data" in refused(storage=storage).found
    assert "nas:/a is mounted on /var/lib/docker/volumes/a/_data" in refused(bare_host(), storage).found
    assert planned(replace(LIVING, device_volumes=(mount.target,)), storage).adopts, "Docker mounts it"


def test_files_of_others_are_refused() -> None:
    names = ("overlay2", "lost+found", "backup.tar", "www", "a", "b", "c", "d")
    assert_says(
        refused(root=FilesystemRoot(names)),
        found_has="holds what is not Docker's: a, b, backup.tar, c, d and 1 more",
        needed="Docker's data and nothing else",
        action="move it to another filesystem",
    )


def test_what_an_adoption_that_went_back_has_left_is_no_obstacle() -> None:
    names = ("overlay2", "containerd", "containerd.moving", "containerd.left-2", "tmp-old", "100000.100000")
    assert planned(root=FilesystemRoot(names)).adopts


def test_xfs_without_types_in_its_directories_is_refused() -> None:
    assert "was made with ftype=0" in refused(root=FilesystemRoot(("lost+found",), has_types=False)).found


def test_files_beneath_the_mount_are_refused() -> None:
    storage = with_directory(own_disk(), "/var/lib/docker", empty=False)
    assert "/var/lib/docker is not empty beneath the mount" in refused(storage=storage).found


def test_snapshot_of_its_volume_is_refused() -> None:
    storage = own_disk(aliases=(ADOPTED, "/dev/mapper/data-docker"), type="lvm")
    volumes = (
        LogicalVolume("docker", "data", 99 * GIB, True, "linear", ""),
        LogicalVolume("backup", "data", GIB, True, "linear", "docker"),
    )
    assert (
        "/dev/vdb1 has a snapshot: /dev/data/backup" in refused(storage=replace(storage, logical_volumes=volumes)).found
    )


def test_docker_that_does_not_run_is_refused() -> None:
    assert "Docker does not run, and holds 3 images" in refused(replace(LIVING, storage_driver="")).found


def test_store_that_is_no_mount_is_refused_with_the_way_to_go() -> None:
    storage = own_disk()
    storage = replace(storage, mounts=storage.mounts[:-1])
    assert_says(
        refused(storage=storage),
        found_has=f"fstab mounts {OWN_DISK} on /var/lib/docker, and nothing is mounted there",
        needed="mounted",
        action="`mount /var/lib/docker`",
    )
    storage = replace(storage, fstab=storage.fstab[:-1])
    assert_says(
        refused(storage=storage),
        found_has="adopt_filesystem is set, and /var/lib/docker is a directory of the filesystem on /",
        needed="a filesystem of Docker's own",
        action="take adopt_filesystem out of the settings",
    )
    link = with_directory(storage, "/var/lib/docker", "symlink")
    assert_says(
        refused(storage=link),
        found_has="/var/lib/docker is a symbolic link",
        needed="a filesystem of Docker's own",
        action="remove the link",
    )
    var = Mount("/var", "/dev/vda2", "/dev/vda2", "/", "ext4", ("rw",), "shared")
    assert (
        "is a directory of the filesystem on /var"
        in refused(storage=replace(storage, mounts=(*storage.mounts, var))).found
    )


def test_refusal_without_the_setting_names_it() -> None:
    messages = [str(found) for found in examine(settings(), LIVING, own_disk()).findings]
    assert any(
        "/var/lib/docker is on a filesystem of its own already: /dev/vdb1" in each and "adopt_filesystem = True" in each
        for each in messages
    )
    bound = [str(found) for found in examine(settings(), LIVING, with_store(root="/docker")).findings]
    assert not any("adopt_filesystem = True" in each for each in bound)


def test_relocation_that_is_refused_refuses_the_adoption() -> None:
    wanted = settings(adopt_filesystem=True, relocation="refuse")
    (found,) = examine(wanted, LIVING, own_disk(), root=ROOT).findings
    assert "Its containers stop for the move: 1 container (web)" in found.needed


# -- afterwards


def adopted_host(**changes: Any) -> HostState:
    return replace(LIVING, fails_closed=True, configured_volume=OWN_DISK, relocation="finalized", **changes)


def test_adopted_host_is_planned_as_it_is() -> None:
    plan = planned(adopted_host(), adopted_disk())
    assert not plan.adopts
    assert plan.directories_to_move == []
    assert plan.size == 99 * GIB
    assert not is_wanted(WANTED, adopted_host(), adopted_disk())
    # The line in fstab is the one that a run writes.
    assert volume_entry(WANTED, plan) in adopted_disk().fstab


@pytest.mark.parametrize("lost", [VOLUME_MOUNT, "/var/lib/docker", "/var/lib/containerd"])
def test_line_of_fstab_that_is_lost_comes_back_from_the_configuration(lost: str) -> None:
    storage = adopted_disk()
    storage = replace(storage, fstab=tuple(entry for entry in storage.fstab if entry.target != lost))
    plan = planned(adopted_host(), storage)
    assert (plan.adopts, plan.device, plan.filesystem) == (False, OWN_DISK, "ext4")


def test_lost_line_of_the_volume_comes_back_with_its_owners_options() -> None:
    (line,) = (entry for entry in adopted_disk().fstab if entry.target == VOLUME_MOUNT)
    written = line._replace(options=(*line.options, "discard"))
    storage = replace(adopted_disk(), fstab=tuple(entry for entry in adopted_disk().fstab if entry != line))
    plan = planned(adopted_host(configured_options=written.options), storage)
    assert "discard" in volume_entry(WANTED, plan).options


@pytest.mark.parametrize("wanted", [WANTED, settings(), settings(volume_disks="blank")])
@pytest.mark.parametrize("is_mounted", [True, False])
def test_fstab_without_any_of_our_lines_makes_no_new_volume(wanted: Settings, is_mounted: bool) -> None:
    mounts = adopted_disk().mounts
    storage = replace(adopted_disk(), fstab=own_disk().fstab[:1], mounts=mounts if is_mounted else mounts[:1])
    result = examine(wanted, adopted_host(), storage)
    if wanted is WANTED and is_mounted:
        assert result.plan
        assert result.plan.device == OWN_DISK
        return
    found = f"nothing is mounted on {VOLUME_MOUNT}, and {OWN_DISK} belongs there"
    assert (found if wanted is WANTED else "adopt_filesystem is not set") in " ".join(f.found for f in result.findings)
    assert "leave adopt_filesystem unset" not in " ".join(f.action for f in result.findings)


def as_logical_volume(storage: Storage) -> Storage:
    """The same filesystem on somebody's logical volume."""
    volume = LogicalVolume("docker", "data", 100 * GIB, True, "linear", "", ())
    *others, disk = storage.devices
    on_lvm = replace(disk, path="/dev/dm-7", type="lvm", aliases=(ADOPTED, volume.mapper_path))
    mounts = tuple(replace(m, device="/dev/dm-7") if m.device == disk.path else m for m in storage.mounts)
    return replace(storage, devices=(*others, on_lvm), mounts=mounts, logical_volumes=(volume,), lvm_installed=True)


def test_adopted_logical_volume_is_no_lost_one() -> None:
    assert planned(adopted_host(), as_logical_volume(adopted_disk())).device == OWN_DISK
    failed = replace(LIVING, configured_volume=OWN_DISK, relocation="failed")
    assert planned(failed, as_logical_volume(own_disk())).adopts


def test_logical_volume_of_this_project_is_not_adopted() -> None:
    storage = converged(shared_vg(), plan_of(bare_host(), shared_vg()))
    (found,) = examine(WANTED, docker_host(), storage).findings
    assert_says(
        found,
        found_has="this host has a Docker volume already: /dev/mapper/ubuntu--vg-docker--lv",
        needed="settings that say so",
        action="take adopt_filesystem out",
    )


@pytest.mark.parametrize("phase", ["", "failed", "rolled-back"])
def test_adoption_that_failed_or_went_back_is_planned_again(phase: str) -> None:
    state = replace(LIVING, configured_volume=OWN_DISK, relocation=phase)
    assert planned(state).adopts
    (found, *_) = examine(settings(), state, own_disk()).findings
    assert "adopt_filesystem is not set" not in found.found


def test_adopted_filesystem_that_is_not_mounted_is_refused() -> None:
    storage = replace(adopted_disk(), mounts=adopted_disk().mounts[:1])
    found = refused(adopted_host(), storage)
    missing = f"nothing is mounted on {VOLUME_MOUNT}, and {OWN_DISK} belongs there"
    assert_says(found, found_has=missing, needed="mounted", action=f"`mount {VOLUME_MOUNT}` on the host")
    without_line = replace(storage, fstab=tuple(entry for entry in storage.fstab if entry.target != VOLUME_MOUNT))
    found = refused(adopted_host(), without_line)
    assert_says(
        found, found_has=missing, needed="mounted", action=f"`mount -o private {OWN_DISK} {VOLUME_MOUNT}` on the host"
    )


def test_adopted_filesystem_that_is_lost_is_refused_by_its_name() -> None:
    storage = adopted_disk()
    gone = replace(storage, devices=storage.devices[:1], mounts=storage.mounts[:1])
    result = examine(WANTED, adopted_host(), gone)
    assert f"the volume {OWN_DISK} for {VOLUME_MOUNT} is not there" in result.findings[0].found
    assert "bulkhead rollback" not in result.findings[0].action
    given_up = examine(
        settings(adopt_filesystem=True, replace_lost_volumes=True), adopted_host(storage_driver=""), gone
    )
    assert "adopt_filesystem is set, and /var/lib/docker is a directory" in " ".join(f.found for f in given_up.findings)


def test_adopted_host_without_the_setting_is_refused() -> None:
    found = finding(adopted_host(), adopted_disk(), settings())
    assert_says(
        found,
        found_has=f"the filesystem {OWN_DISK} is this host's Docker volume, and adopt_filesystem is not set",
        needed="settings that say so",
        action="bulkhead rollback",
    )


def test_volume_of_this_project_is_not_taken_for_an_adopted_one() -> None:
    plan = plan_of(bare_host(), shared_vg())
    assert plan.adopted is None
    assert not [*examine(settings(), bare_host(), converged(shared_vg(), plan)).findings]
