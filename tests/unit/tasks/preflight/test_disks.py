"""The disks that the settings name: which ones are refused, and why."""

from __future__ import annotations

import pytest

from tasks.preflight.examine import examine

from ..example_hosts import ON_SPARE, SPARE, bare_host, in_no_group, settings, spare_disk, with_group
from .verdicts import assert_says, finding, plan_of


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"signatures": ("ext4",), "zeroed": False}, "carries a signature: ext4"),
        ({"signatures": ("gpt",), "children": ("/dev/vdb1",)}, "carries a signature: gpt"),
        ({"mount_points": ("/data",), "signatures": ("xfs",)}, "is mounted or in use: /data"),
        ({"mount_points": ("[SWAP]",), "signatures": ("swap",)}, "is mounted or in use: [SWAP]"),
        ({"children": ("/dev/dm-3",)}, "is in use by /dev/dm-3"),
        ({"zeroed": False}, "holds data"),
        ({"zeroed": None}, "could not be read"),
        ({"read_only": True}, "is read-only"),
    ],
)
def test_disk_that_is_not_blank_is_refused(changes: dict[str, object], found: str) -> None:
    result = finding(bare_host(), spare_disk(**changes), ON_SPARE)
    assert_says(result, found_has=f"{SPARE} (20.0 GiB) {found}", needed="ever overwritten", action="name another disk")


def test_absent_disk_is_refused_with_those_there_are() -> None:
    found = finding(bare_host(), spare_disk(), settings(volume_disks=["/dev/disk/by-id/virtio-gone"]))
    assert_says(
        found,
        found_has=f"there is no disk /dev/disk/by-id/virtio-gone; this host has /dev/vda (30.0 GiB), {SPARE} (20.0 GiB)",
        needed="every disk",
        action="correct volume_disks",
    )


def test_one_disk_by_two_names_is_refused() -> None:
    found = finding(bare_host(), spare_disk(), settings(volume_disks=[SPARE, "/dev/vdb"]))
    assert_says(
        found, found_has=f"{SPARE} and /dev/vdb are the same disk", needed="once", action="correct volume_disks"
    )


def test_every_bad_disk_is_reported() -> None:
    wanted = settings(volume_disks=["/dev/vdz", "/dev/vda"])
    result = examine(wanted, bare_host(), spare_disk())
    assert [f.found.split(";")[0] for f in result.findings] == [
        "there is no disk /dev/vdz",
        "/dev/vda (30.0 GiB) carries a signature: gpt",
    ]


def test_disk_of_another_group_is_refused() -> None:
    found = finding(bare_host(), with_group(spare_disk(), "data-vg", SPARE), ON_SPARE)
    assert_says(found, found_has="in the volume group data-vg", needed="a blank disk", action="volume_group to data-vg")


def test_physical_volume_that_was_never_in_a_group_is_our_own_unfinished_work() -> None:
    storage = in_no_group(zeroed_beyond_header=True)
    assert plan_of(bare_host(), storage, ON_SPARE).new_physical_volumes == (SPARE,)


@pytest.mark.parametrize("beyond", [False, None])
def test_physical_volume_of_a_removed_group_is_refused(beyond: bool | None) -> None:
    found = finding(bare_host(), in_no_group(zeroed_beyond_header=beyond), ON_SPARE)
    assert_says(found, found_has="`vgcfgrestore` may bring back", needed="a blank disk", action="name another disk")
