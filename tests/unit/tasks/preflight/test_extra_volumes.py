"""The extra volumes: what they get, and which directories move onto them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from bulkhead.names import move_journal
from pyinfra_lvm.model import Mount, Storage
from pyinfra_lvm.operations import UNFINISHED_TAG
from tasks.preflight.examine import examine
from tasks.preflight.finding import Finding
from tasks.preflight.host import DirectoryToMove, HostState
from tasks.preflight.plan import Plan, PlannedExtraVolume
from tasks.support.paths import TAG

from ..example_hosts import (
    EXTENT,
    GIB,
    SPARE,
    bare_host,
    converged,
    settings,
    shared_vg,
    spare_disk,
    with_directory,
    with_filesystem,
    with_fstab,
    with_mount,
    with_volume,
)

HOME = {"home-lv": {"mount": "/home", "size": "5G"}}
WANTED = settings(volume_size="40G", extra_volumes=HOME)
DEVICE = "/dev/mapper/ubuntu--vg-home--lv"
JOURNAL = move_journal("/home")


def full_home(users: tuple[str, ...] = (), size: int = GIB, inodes: int = 1000) -> tuple[HostState, Storage]:
    """A host with files in /home, on the root filesystem."""
    return bare_host(places=(DirectoryToMove("/home", size, inodes, users),)), with_directory(
        shared_vg(), "/home", empty=False
    )


def home(state: HostState, storage: Storage) -> PlannedExtraVolume:
    result = examine(WANTED, state, storage)
    assert result.findings == ()
    assert result.plan
    (only,) = result.plan.extra_volumes
    return only


def finding(state: HostState, storage: Storage) -> Finding:
    result = examine(WANTED, state, storage)
    assert result.plan is None
    (only,) = result.findings
    return only


def test_empty_directory_gets_its_volume_and_is_immutable_beneath() -> None:
    empty = with_directory(shared_vg(), "/home")
    assert home(bare_host(), empty) == PlannedExtraVolume(
        "home-lv", 5 * GIB, "ext4", "/home", DEVICE, relocates=False, old_tree=False, immutable=True
    )


def test_directory_with_files_moves() -> None:
    found = home(*full_home())
    assert (found.relocates, found.old_tree, found.immutable) == (True, True, False)
    plan = examine(WANTED, *full_home()).plan
    assert plan
    assert plan.directories_to_move == ["/home"]
    assert plan.keeps_old_trees


@pytest.mark.parametrize(
    ("phase", "old_tree"), [("done", True), ("finalizing", True), ("finalized", False)], ids=lambda value: str(value)
)
def test_directory_that_has_moved_does_not_move_again(phase: str, old_tree: bool) -> None:
    state, storage = full_home()
    for after in (_listed(storage), _mounted(storage)):
        found = home(replace(state, moves={JOURNAL: phase}), after)
        assert (found.relocates, found.old_tree, found.immutable) == (False, old_tree, False)


@pytest.mark.parametrize("phase", ["", "done", "finalized"])
def test_volume_is_not_mounted_over_files_because_a_journal_says_that_they_moved(phase: str) -> None:
    state, storage = full_home()
    found = finding(replace(state, moves={JOURNAL: phase}), _with_home_volume(storage, used=True))
    assert "its volume home-lv has been used too" in found.found
    assert "only its line of fstab was lost, put that line back" in found.action
    # A new volume under the old name.
    assert home(replace(state, moves={JOURNAL: phase}), _with_home_volume(storage, used=False)).relocates


@pytest.mark.parametrize("phase", ["copying", "switching", "failed", "returning", "rolled-back"])
def test_move_that_was_cut_or_taken_back_goes_on(phase: str) -> None:
    state, storage = full_home()
    state = replace(state, moves={JOURNAL: phase})
    for after in (_with_home_volume(storage, used=True), _listed(storage)):
        plan = examine(WANTED, state, after).plan
        assert plan
        assert plan.directories_to_move == ["/home"]


def _listed(storage: Storage) -> Storage:
    return with_fstab(_with_home_volume(storage, used=True), DEVICE, "/home")


def _with_home_volume(storage: Storage, *, used: bool) -> Storage:
    storage = with_volume(storage, "ubuntu-vg", "home-lv", 5 * GIB, tags=(TAG,))
    storage = with_filesystem(storage, DEVICE, "ext4")
    *others, last = storage.filesystems
    return replace(storage, filesystems=(*others, replace(last, used=used)))


def _mounted(storage: Storage) -> Storage:
    return with_mount(_listed(storage), "/home", DEVICE, "/")


def test_every_interrupted_run_goes_on_with_the_same_plan() -> None:
    fresh = examine(WANTED, bare_host(), with_directory(shared_vg(), "/home")).plan
    assert fresh
    for step, storage in _on_the_way(with_directory(shared_vg(), "/home"), fresh):
        assert examine(WANTED, bare_host(), storage).plan == fresh, step


def _on_the_way(storage: Storage, plan: Plan) -> Iterator[tuple[str, Storage]]:
    storage = converged(storage, plan)
    yield "Docker's volume made", storage
    yield "made", with_volume(storage, "ubuntu-vg", "home-lv", 5 * GIB, tags=(UNFINISHED_TAG, TAG))
    yield "filesystem complete", _with_home_volume(storage, used=False)
    yield "mounted", with_directory(_mounted(storage), "/home", immutable=True)


def test_volume_of_a_group_of_its_own_leaves_them_their_space() -> None:
    wanted = settings(volume_disks=[SPARE], extra_volumes=HOME)
    fresh = examine(wanted, bare_host(), with_directory(spare_disk(), "/home")).plan
    assert fresh
    assert fresh.size + 5 * GIB < 0.95 * 20 * GIB < fresh.size + 5.1 * GIB
    made = with_directory(converged(spare_disk(), fresh), "/home")
    made = with_volume(made, "docker-vg", "home-lv", 5 * GIB, tags=(UNFINISHED_TAG, TAG))
    again = examine(wanted, bare_host(), made).plan
    assert again
    assert (again.size, again.extra_volumes) == (fresh.size, fresh.extra_volumes)


def test_layout_of_the_incident_fits_to_the_last_extent() -> None:
    """LVM's metadata takes the first extent of a disk of 100 GiB."""
    storage = shared_vg(free=70 * GIB - EXTENT)
    groups = tuple(replace(group, size=100 * GIB - EXTENT) for group in storage.volume_groups)
    wanted = settings(extra_volumes={"home-lv": {"mount": "/home", "size": "10G"}})
    plan = examine(wanted, bare_host(), replace(storage, volume_groups=groups)).plan
    assert plan
    assert (plan.size, plan.extra_volumes[0].size) == (60 * GIB - EXTENT, 10 * GIB)


def test_layout_of_the_incident_uses_the_group_up_with_a_warning() -> None:
    result = examine(settings(extra_volumes={"home-lv": {"mount": "/home", "size": "9G"}}), bare_host(), shared_vg())
    assert result.plan
    assert (result.plan.size, result.plan.extra_volumes[0].size) == (60 * GIB, 9 * GIB)
    (warning,) = result.warnings
    assert warning.startswith("home-lv: ")
    assert "less than the reserve of 5.0 GiB" in warning


def test_more_than_there_is_is_refused() -> None:
    wanted = settings(volume_size="60G", extra_volumes={"home-lv": {"mount": "/home", "size": "20G"}})
    (found,) = examine(wanted, bare_host(), shared_vg()).findings
    assert "for home-lv, beside Docker's 60.0 GiB" in found.found
    assert "20.0 GiB, for its size 20G" in found.needed
    assert 'a smaller size for it in extra_volumes (at most "10G" fits) or a smaller volume_size' in found.action
    # A volume that exists is never shrunk.
    full = shared_vg(free=60 * GIB)
    plan = examine(settings(volume_size="60G"), bare_host(), full).plan
    assert plan
    (found,) = examine(wanted, bare_host(), converged(full, plan)).findings
    assert found.action == "take home-lv out of extra_volumes, or free space in the group"


@pytest.mark.parametrize(("size", "largest"), [("10G", 20), ("10%VG", 15)])
def test_largest_size_that_is_named_leaves_later_volumes_theirs(size: str, largest: int) -> None:
    later = {"data-lv": {"mount": "/data", "size": size}}
    too_large = {"home-lv": {"mount": "/home", "size": "50G"}}
    result = examine(settings(volume_size="40G", extra_volumes=too_large | later), bare_host(), shared_vg())
    assert f'at most "{largest}G" fits' in result.findings[0].action
    fits = {"home-lv": {"mount": "/home", "size": f"{largest}G"}}
    assert examine(settings(volume_size="40G", extra_volumes=fits | later), bare_host(), shared_vg()).plan


def test_extra_volumes_that_leave_docker_no_room_are_named() -> None:
    wanted = settings(extra_volumes={"home-lv": {"mount": "/home", "size": "66G"}})
    (found,) = examine(wanted, bare_host(), shared_vg()).findings
    assert "has 4.0 GiB for Docker's volume, beside the 66.0 GiB of extra_volumes" in found.found


def test_smaller_size_is_reported_and_never_shrinks() -> None:
    made = _with_home_volume(with_directory(shared_vg(), "/home"), used=False)
    wanted = settings(volume_size="40G", extra_volumes={"home-lv": {"mount": "/home", "size": "2G"}})
    result = examine(wanted, bare_host(), made)
    assert result.warnings == (
        "home-lv: the volume has 5.0 GiB, more than the 2.0 GiB of its setting: it is never shrunk",
    )
    assert result.plan
    assert result.plan.extra_volumes[0].size == 5 * GIB


# -- refused


@pytest.mark.parametrize(("count", "more"), [(1, ""), (10, ""), (11, " and 1 more"), (21, " and 11 more")])
def test_directory_in_use_is_refused_with_the_first_ten_who_use_it(count: int, more: str) -> None:
    users = tuple(f"vim (process {number})" for number in range(count))
    assert finding(*full_home(users)).found == f"/home is in use: {', '.join(users[:10])}{more}"


def test_directory_with_a_mount_in_it_is_refused() -> None:
    state, storage = full_home()
    mount = Mount("/home/me/nas", "nas:/me", "", "/", "nfs4", (), "shared")
    found = finding(state, replace(storage, mounts=(*storage.mounts, mount)))
    assert "nas:/me is mounted on /home/me/nas" in found.found


def test_directory_larger_than_its_volume_is_refused() -> None:
    assert (
        "the data in /home takes 4.7 GiB, and its volume has 5.0 GiB" in finding(*full_home(size=int(4.75 * GIB))).found
    )
    assert "the data in /home has 400000 files" in finding(*full_home(inodes=400_000)).found


def test_files_on_both_sides_are_refused() -> None:
    state, storage = full_home()
    found = finding(state, _with_home_volume(storage, used=True))
    assert "/home holds 1.0 GiB, and its volume home-lv has been used too" in found.found


def test_volume_of_somebody_elses_is_refused() -> None:
    storage = with_filesystem(
        with_volume(with_directory(shared_vg(), "/home"), "ubuntu-vg", "home-lv", 5 * GIB), DEVICE, "ext4"
    )
    found = finding(bare_host(), storage)
    assert (
        "the logical volume ubuntu-vg/home-lv exists, with ext4 on it, and this project did not make it" in found.found
    )
    assert "give it a name that is free in extra_volumes" in found.action


def test_line_that_mounts_an_older_volume_of_the_name_elsewhere_is_refused() -> None:
    found = finding(bare_host(), with_fstab(with_directory(shared_vg(), "/home"), DEVICE, "/data"))
    assert found.found == f"fstab mounts {DEVICE} on /data, and the logical volume ubuntu-vg/home-lv is not there"
    assert "take that line out of /etc/fstab; or give it a name that is free in extra_volumes" in found.action


def test_volume_of_ours_that_is_mounted_elsewhere_is_refused() -> None:
    storage = _with_home_volume(with_directory(shared_vg(), "/home"), used=True)
    found = finding(bare_host(), with_mount(storage, "/data", DEVICE))
    assert found.found == "the logical volume ubuntu-vg/home-lv is mounted on /data"
    assert "if it is the volume for /home, unmount it and take its line out of /etc/fstab" in found.action


def test_mount_of_somebody_elses_is_refused() -> None:
    storage = with_mount(with_directory(shared_vg(), "/home"), "/home", "/dev/mapper/ubuntu--vg-ubuntu--lv", "/srv")
    assert "is mounted on /home" in finding(bare_host(), storage).found


def test_link_in_its_place_is_refused() -> None:
    found = finding(bare_host(), with_directory(shared_vg(), "/home", kind="symlink"))
    assert found.found == "/home is a symbolic link"
    assert "or set another mount for home-lv in extra_volumes" in found.action
