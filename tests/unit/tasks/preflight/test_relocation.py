"""Docker's data: when it moves onto the volume, and what keeps it from moving."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pyinfra_lvm.model import Mount, Storage
from tasks.preflight.host import EngineData
from tasks.preflight.relocation import ext4_inodes, judge_move, too_little_room
from tasks.support.paths import TAG

from ..example_hosts import (
    DEVICE,
    GIB,
    ON_SPARE,
    bare_host,
    converged,
    docker_host,
    our_docker_ce_host,
    settings,
    shared_vg,
    spare_disk,
    with_directory,
    with_docker_volume,
    with_filesystem,
    with_mount,
)
from .verdicts import assert_says, finding, plan_of

USED = {"docker_data": EngineData(images=3, containers=1, volumes=2), "store_bytes": 40 * GIB, "store_inodes": 10**6}


@pytest.mark.parametrize("store", ["docker", "containerd"])
def test_data_off_the_volume_is_moved(store: str) -> None:
    data = EngineData(images=3)
    state = docker_host(docker_data=data) if store == "docker" else docker_host(containerd_data=data)
    plan = plan_of(state, with_directory(shared_vg(), f"/var/lib/{store}", empty=False))
    assert plan.relocates
    assert plan.old_trees
    assert plan.unused_stores == ()


@pytest.mark.parametrize("phase", ["copying", "stopping", "switching", "checking", "returning"])
@pytest.mark.parametrize(("which", "what"), [("relocation", "a move"), ("rollback", "a rollback")])
def test_unfinished_move_is_the_only_finding(which: str, what: str, phase: str) -> None:
    """What else such a host shows (Docker is down, files beneath the mounts) has no other cure."""
    storage = with_directory(shared_vg(), "/var/lib/docker", empty=False)
    found = finding(docker_host(**{which: phase, "storage_driver": "", **USED}), storage)
    assert_says(found, found_has=f"{what} of Docker's data was cut ({phase})", needed="whole", action="--recover")


@pytest.mark.parametrize("phase", ["done", "failed"])
def test_rollback_that_has_ended_is_no_obstacle(phase: str) -> None:
    fresh = plan_of(bare_host(), shared_vg())
    assert plan_of(our_docker_ce_host(rollback=phase), converged(shared_vg(), fresh)) == fresh


def test_old_trees_beneath_the_mounts_are_kept_until_they_are_finalized() -> None:
    fresh = plan_of(bare_host(), shared_vg())
    storage = with_directory(converged(shared_vg(), fresh), "/var/lib/docker", empty=False)
    plan = plan_of(our_docker_ce_host(relocation="done", docker_data=EngineData(images=3)), storage)
    assert (plan.relocates, plan.old_trees) == (False, True)
    found = finding(our_docker_ce_host(relocation="finalized"), storage)
    assert_says(found, found_has="/var/lib/docker is not empty beneath", needed="empty", action="check what is there")


@pytest.mark.parametrize(
    ("changes", "wanted", "found_has", "needed", "action"),
    [
        ({"storage_driver": ""}, {}, "Docker does not run", "a running Docker", "systemctl start docker"),
        (
            {"store_bytes": 55 * GIB},
            {},
            "Docker's data takes 55.0 GiB, and its volume has 60.0 GiB",
            "60.5 GiB",
            "volume_size",
        ),
        ({"store_inodes": 10**7}, {}, "Docker's data has 10000000 files", "11000000 inodes", '"xfs"'),
    ],
)
def test_data_that_cannot_be_moved_is_refused(
    changes: dict[str, object], wanted: dict[str, object], found_has: str, needed: str, action: str
) -> None:
    found = finding(docker_host(**USED | changes), shared_vg(), settings(**wanted))
    assert_says(found, found_has=found_has, needed=needed, action=action)


def test_xfs_has_inodes_for_any_number_of_files() -> None:
    assert plan_of(docker_host(**USED | {"store_inodes": 10**7}), shared_vg(), settings(filesystem="xfs")).relocates


def test_mount_of_others_in_dockers_data_is_refused() -> None:
    storage = with_mount(shared_vg(), "/var/lib/docker/volumes/big/_data", "/dev/vda1", "/")
    found = finding(docker_host(**USED), storage)
    assert_says(found, found_has="on /var/lib/docker/volumes/big/_data", needed="no mounts", action="unmount it")


def mount(target: str, root: str = "/", device: str = "/dev/vda1", fstype: str = "ext4") -> Mount:
    return Mount(target, device, device, root, fstype, (), "shared")


def in_the_way(*mounts: Mount) -> list[str]:
    """What keeps Docker's data from moving on a host with these mounts."""
    return [found.found for found in judge_move(docker_host(**USED), Storage(mounts=mounts))]


@pytest.mark.parametrize(
    ("holder", "inside"),
    [
        (mount("/"), "/var/lib/docker"),
        (mount("/", "/@"), "/@/var/lib/docker"),
        (mount("/var"), "/lib/docker"),
        (mount("/var", "/@var"), "/@var/lib/docker"),
    ],
    ids=["root", "subvolume", "var", "subvolume of var"],
)
def test_data_of_docker_that_is_bound_elsewhere_is_refused(holder: Mount, inside: str) -> None:
    for part in (inside, f"{inside}/volumes"):
        assert in_the_way(holder, mount("/mnt", part)) == ["part of /var/lib/docker is bind-mounted on /mnt"]
        for other in ("/dev/vda0", "/dev/vdb"):
            assert in_the_way(holder, mount("/mnt", part, other)) == []
    for others in (f"{inside}2", "/a", "/zone"):
        assert in_the_way(holder, mount("/mnt", others)) == []
    assert in_the_way(holder, mount("/var/lib/docker/plugins/a", f"{inside}/plugins/a", fstype="tmpfs")) == []


def test_store_that_is_a_mount_point_itself_is_bound_nowhere_else() -> None:
    assert in_the_way(mount("/"), mount("/var/lib/docker", "/data"), mount("/mnt", "/data")) == []
    assert in_the_way() == []


def test_data_that_fits_to_the_byte_moves() -> None:
    def short_of(used: int, size: int, largest: int, inodes: int = 0, filesystem: str = "xfs") -> list[str]:
        room = too_little_room("it", "volume_size", used, inodes, size, largest, filesystem)
        return [found.action for found in room]

    ratio = 16384
    assert short_of(10, 11, 11) == []
    assert "set a larger volume_size" in short_of(20, 21, 22)[0]
    assert "set a larger volume_size" not in short_of(20, 21, 21)[0]
    assert short_of(0, 11 * ratio, 11 * ratio, inodes=10, filesystem="ext4") == []
    assert "or a larger volume_size" in short_of(0, 10 * ratio, 11 * ratio, inodes=10, filesystem="ext4")[0]


@pytest.mark.parametrize(
    ("size", "inodes"),
    [
        (2**30, 65536),
        (3 * 2**40, 201326592),
        (4095 * 2**30, 268369920),
        (4 * 2**40, 134217728),
        (15 * 2**40, 503316480),
        (16383 * 2**30, 536838144),
        (16 * 2**40, 268435456),
        (100 * 2**40, 1677721600),
    ],
)
def test_inodes_are_counted_as_mke2fs_makes_them(size: int, inodes: int) -> None:
    """The numbers are what `mke2fs -n -t ext4` prints for a device of that size (e2fsprogs 1.47)."""
    assert ext4_inodes(size) == inodes


def test_inodes_are_counted_by_the_setting() -> None:
    assert ext4_inodes(2**30, 4096) == 2**18
    room = too_little_room("it", "volume_size", 0, 300_000, 2**30, 2**32, "ext4", 4096)
    (found,) = room
    assert "has 300000 files, and its volume, as ext4, 262144 inodes" in found.found
    assert "or a larger volume_size" in found.action
    assert list(too_little_room("it", "volume_size", 0, 200_000, 2**30, 2**32, "ext4", 4096)) == []


def test_room_for_a_move_counts_the_inodes_that_the_volume_has_or_will_have() -> None:
    state = docker_host(docker_data=EngineData(images=1), store_bytes=GIB, store_inodes=4_000_000)
    assert "as ext4, 3932160 inodes" in finding(state, shared_vg()).found
    assert plan_of(state, shared_vg(), settings(volume_bytes_per_inode=8192)).relocates
    # A filesystem that is there has what it has, whatever the setting says.
    made = with_filesystem(with_docker_volume(tags=(TAG,)), DEVICE)
    made = replace(made, filesystems=(replace(made.filesystems[0], inodes=3_932_160),))
    found = finding(state, made, settings(volume_bytes_per_inode=8192)).found
    assert "as ext4, 3932160 inodes" in found


def test_large_volume_has_fewer_inodes_for_its_size() -> None:
    storage = spare_disk(size=5 * 2**40)
    found = finding(docker_host(**USED | {"store_inodes": 2 * 10**8}), storage, ON_SPARE)
    assert_says(found, found_has="has 200000000 files, and its volume, as ext4, 159", needed="inodes", action='"xfs"')


@pytest.mark.parametrize(
    ("data", "action"),
    [
        (55, 'set a larger volume_size (at most "70G" fits), or free space'),
        (
            65,
            "free space (in Docker: `docker system df`, `docker image prune`): the volume group has room for 70.0 GiB",
        ),
    ],
)
def test_larger_size_is_advised_only_where_the_group_has_room_for_it(data: int, action: str) -> None:
    found = finding(docker_host(**USED | {"store_bytes": data * GIB}), shared_vg())
    assert_says(found, found_has="and its volume has 60.0 GiB", needed="a tenth more", action=action)


@pytest.mark.parametrize(("inodes", "advised"), [(4 * 10**6, True), (10**7, False)])
def test_larger_size_is_advised_only_where_it_has_the_inodes(inodes: int, advised: bool) -> None:
    found = finding(docker_host(**USED | {"store_inodes": inodes}), shared_vg())
    assert ('a larger volume_size (at most "70G" fits)' in found.action) == advised
