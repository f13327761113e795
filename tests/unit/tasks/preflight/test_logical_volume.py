"""The logical volume: which one is kept, grown, taken over or refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bulkhead.move.directory_volume import STAGING
from bulkhead.names import BALLAST, SNAPSHOT_TAG
from bulkhead.sizes import Size
from pyinfra_lvm.operations import UNFINISHED_TAG
from settings.model import Settings
from tasks.preflight.examine import examine
from tasks.preflight.logical_volume import to_be_adopted
from tasks.support.paths import TAG

from ..example_hosts import (
    DEVICE,
    GIB,
    VOLUME_MOUNT,
    bare_host,
    converged,
    our_docker_ce_host,
    settings,
    shared_vg,
    with_docker_volume,
    with_filesystem,
    with_fstab,
    with_mount,
    with_tags,
    with_volume,
)
from .verdicts import all_found, assert_says, finding, plan_of


def test_half_made_filesystem_of_another_type_is_made_anew() -> None:
    storage = with_filesystem(with_docker_volume(tags=(UNFINISHED_TAG, TAG)), DEVICE, "xfs")
    assert plan_of(bare_host(), storage) == plan_of(bare_host(), shared_vg())


def test_larger_size_grows_the_volume() -> None:
    fresh = plan_of(bare_host(), shared_vg(), settings(volume_size="40G"))
    grown = plan_of(our_docker_ce_host(), converged(shared_vg(), fresh), settings(volume_size="50G"))
    assert grown == replace(fresh, size=50 * GIB)


def test_smaller_size_is_reported_and_never_shrinks() -> None:
    fresh = plan_of(bare_host(), shared_vg(), settings(volume_size="50G"))
    warning = "the volume has 50.0 GiB, more than the 40.0 GiB of its setting: it is never shrunk"
    kept = plan_of(
        our_docker_ce_host(), converged(shared_vg(), fresh), settings(volume_size="40G"), warnings=(warning,)
    )
    assert kept == fresh


@pytest.mark.parametrize(
    ("inodes", "wanted", "warns"),
    [
        (3_932_160, "auto", False),  # 60 GiB by 16384
        (3_932_160, 16384, False),
        (3_932_160, 17500, False),  # what mke2fs rounds
        (3_932_160, 20000, True),
        (3_932_160, 8192, True),
        (7_864_320, 16384, True),
        (0, 8192, False),  # an xfs
    ],
)
def test_other_bytes_per_inode_are_a_warning_and_never_a_new_filesystem(
    inodes: int, wanted: object, warns: bool
) -> None:
    known = converged(shared_vg(), plan_of(bare_host(), shared_vg()))
    known = replace(known, filesystems=tuple(replace(one, inodes=inodes) for one in known.filesystems))
    result = examine(settings(volume_bytes_per_inode=wanted), our_docker_ce_host(), known)
    assert result.plan == examine(settings(), our_docker_ce_host(), known).plan
    assert bool(result.warnings) == warns
    if warns:
        ratio = known.filesystems[0].size // inodes
        assert f"has an inode for each {ratio} bytes, and volume_bytes_per_inode is {wanted}" in result.warnings[0]


def test_half_made_filesystem_gets_the_inodes_of_the_settings() -> None:
    half = with_filesystem(with_docker_volume(tags=(UNFINISHED_TAG, TAG)), DEVICE)
    half = replace(half, filesystems=(replace(half.filesystems[0], inodes=3_932_160),))
    plan_of(bare_host(), half, settings(volume_bytes_per_inode=8192))


def test_volume_is_adopted_when_asked_for() -> None:
    storage = with_filesystem(with_volume(shared_vg(), "ubuntu-vg", "docker-lv", 60 * GIB), DEVICE)
    assert plan_of(bare_host(), storage, settings(adopt_volume=True)).size == 60 * GIB


def test_volume_that_is_mounted_in_a_further_place_stays_ours() -> None:
    fresh = plan_of(bare_host(), shared_vg())
    storage = with_mount(converged(shared_vg(), fresh), "/data/models", DEVICE, "/models")
    assert plan_of(our_docker_ce_host(), storage) == fresh


@pytest.mark.parametrize("use", ["mounted", "in fstab", "mounted, and in fstab for Docker's"])
def test_volume_of_ours_that_has_another_use_is_refused(use: str) -> None:
    """An extra volume that left the settings, renamed to Docker's."""
    storage = with_filesystem(with_docker_volume(tags=(TAG,)), DEVICE)
    if use == "in fstab":
        storage = with_fstab(storage, "/dev/ubuntu-vg/docker-lv", "/data")
    else:
        storage = with_mount(storage, "/data", DEVICE)
    if use.endswith("Docker's"):
        storage = with_fstab(storage, DEVICE, VOLUME_MOUNT)
    assert_says(
        finding(bare_host(), storage),
        found_has=f"ubuntu-vg/docker-lv is {'in fstab for a mount' if use == 'in fstab' else 'mounted'} on /data",
        needed="the volume for /srv/docker-volume",
        action="set logical_volume to a name that is free; or, if it is the volume for /srv/docker-volume, unmount it",
    )


def test_volume_that_a_killed_move_has_left_mounted_stays_ours() -> None:
    fresh = plan_of(bare_host(), shared_vg())
    storage = with_filesystem(with_docker_volume(tags=(TAG,)), DEVICE)
    assert plan_of(bare_host(), with_mount(storage, STAGING, DEVICE)) == fresh


@pytest.mark.parametrize("source", [DEVICE, "/dev/ubuntu-vg/docker-lv"])
@pytest.mark.parametrize("is_begun", [False, True], ids=["absent", "without filesystem"])
def test_line_that_mounts_an_older_volume_of_the_name_elsewhere_is_refused(source: str, *, is_begun: bool) -> None:
    storage = with_docker_volume(tags=(UNFINISHED_TAG, TAG)) if is_begun else shared_vg()
    lacks = "has no filesystem yet" if is_begun else "is not there"
    assert_says(
        finding(bare_host(), with_fstab(storage, source, "/data/docker")),
        found_has=f"fstab mounts {source} on /data/docker, and the logical volume ubuntu-vg/docker-lv {lacks}",
        needed="no line for it but that for /srv/docker-volume",
        action="take that line out of /etc/fstab; or set logical_volume to a name that is free",
    )


def test_volume_with_a_snapshot_does_not_grow() -> None:
    fresh = plan_of(bare_host(), shared_vg())
    storage = with_volume(converged(shared_vg(), fresh), "ubuntu-vg", "before", GIB, origin="docker-lv")
    assert plan_of(our_docker_ce_host(), storage, settings(volume_size="60G"), warnings=()).size == fresh.size
    found = finding(our_docker_ce_host(), storage, settings(volume_size="62G"))
    assert_says(
        found, found_has="it has a snapshot: before", needed="no snapshot", action="ask whoever made ubuntu-vg/before"
    )
    storage = with_volume(
        converged(shared_vg(), fresh), "ubuntu-vg", "docker-lv-snapshot", GIB, origin="docker-lv", tags=(SNAPSHOT_TAG,)
    )
    found = finding(our_docker_ce_host(), storage, settings(volume_size="62G"))
    assert_says(found, found_has="docker-lv-snapshot", needed="no snapshot", action="`bulkhead snapshot drop`")
    merging = replace(
        storage, logical_volumes=tuple(replace(v, merging=bool(v.origin)) for v in storage.logical_volumes)
    )
    found = finding(our_docker_ce_host(), merging, settings(volume_size="62G"))
    assert_says(found, found_has="docker-lv-snapshot", needed="no snapshot", action="wait until LVM has merged it")


def test_snapshots_of_other_volumes_do_not_keep_it_from_growing() -> None:
    storage = converged(shared_vg(), plan_of(bare_host(), shared_vg()))
    for origin in ("a-lv", "ubuntu-lv"):
        storage = with_volume(storage, "ubuntu-vg", f"{origin}-before", GIB, origin=origin)
    assert plan_of(our_docker_ce_host(), storage, settings(volume_size="62G")).size == 62 * GIB


ADOPTING = settings(adopt_volume=True)


def test_only_the_volume_of_the_settings_is_taken_over() -> None:
    storage = with_volume(with_volume(with_docker_volume(), "ubuntu-vg", "a-lv", GIB), "ubuntu-vg", "z-lv", GIB)
    assert [volume.name for volume in to_be_adopted(ADOPTING, storage)] == ["docker-lv"]
    assert to_be_adopted(settings(), storage) == []
    assert to_be_adopted(ADOPTING, with_tags(storage, "docker-lv", TAG)) == []


def test_volume_of_that_name_that_is_not_ours_is_refused() -> None:
    found = finding(bare_host(), with_filesystem(with_docker_volume(), DEVICE, "xfs"))
    assert_says(
        found,
        found_has="the logical volume ubuntu-vg/docker-lv exists, with xfs on it, and this project did not make it",
        needed="free",
        action="adopt_volume = True",
    )


def test_unfinished_volume_that_has_been_mounted_since_is_not_made_anew() -> None:
    storage = with_filesystem(with_docker_volume(tags=(UNFINISHED_TAG, TAG)), DEVICE)
    used = replace(storage, filesystems=tuple(replace(f, used=True) for f in storage.filesystems))
    found = finding(bare_host(), used)
    assert_says(found, found_has="has been mounted", needed="either unfinished or in use, not both", action="--deltag")


def test_unfinished_volume_that_fstab_names_by_its_uuid_is_not_made_anew() -> None:
    storage = with_filesystem(with_docker_volume(tags=(UNFINISHED_TAG, TAG)), DEVICE)
    named = tuple(
        replace(d, aliases=(*d.aliases, "/dev/disk/by-uuid/1234")) if DEVICE in d.aliases else d
        for d in storage.devices
    )
    found = finding(bare_host(), with_fstab(replace(storage, devices=named), "UUID=1234", "/data"))
    assert_says(found, found_has="is in fstab", needed="either unfinished or in use, not both", action="--deltag")


def test_foreign_volume_that_is_mounted_elsewhere_is_refused() -> None:
    storage = with_mount(with_filesystem(with_docker_volume(), DEVICE), "/data", DEVICE)
    found = finding(bare_host(), storage, ADOPTING)
    assert_says(found, found_has="is mounted on /data", needed="Docker's own", action="set logical_volume")


@pytest.mark.parametrize(
    ("names", "found_has"),
    [
        (["lost+found", "overlay2", "image"], "holds image, overlay2"),
        (["unreadable"], "holds unreadable"),
        (["f", "e", "d", "c", "b", "a"], "holds a, b, c, d, e"),
        (["docker", "docker/overlay2", "docker/vfs"], "another storage driver: docker/vfs"),
    ],
)
def test_adopted_volume_with_anything_else_on_it_is_refused(names: list[str], found_has: str) -> None:
    storage = with_filesystem(with_docker_volume(), DEVICE)
    (found,) = examine(ADOPTING, bare_host(), storage, adopted=names).findings
    assert found.found.endswith(found_has)
    assert examine(ADOPTING, bare_host(), storage, adopted=["docker", "docker/overlay2", "containerd", BALLAST]).plan


@pytest.mark.parametrize(
    "shape",
    [
        *({"segment_type": kind} for kind in ("cache", "striped", "thin")),
        {"segment_type": "linear", "origin": "root"},
    ],
)
def test_volume_of_the_wrong_shape_is_not_adopted(shape: dict[str, str]) -> None:
    found = finding(bare_host(), with_filesystem(with_docker_volume(**shape), DEVICE), ADOPTING)
    assert_says(found, found_has=f"of the type {shape['segment_type']}", needed="linear", action="set logical_volume")


@pytest.mark.parametrize(
    ("fstype", "action"),
    [("xfs", 'set filesystem to "xfs"'), ("ext3", "is never replaced"), (None, "check what is on it")],
)
def test_volume_with_another_filesystem_is_refused(fstype: str | None, action: str) -> None:
    storage = with_tags(with_docker_volume(), "docker-lv", TAG)
    if fstype:
        storage = with_filesystem(storage, DEVICE, fstype)
    found = finding(bare_host(), storage)
    assert_says(found, found_has=f"holds {fstype or 'no ext4 or xfs'}", needed="ext4", action=action)


def test_filesystem_that_a_cut_has_kept_from_growing_is_no_obstacle() -> None:
    plan_of(our_docker_ce_host(), with_filesystem(with_docker_volume(tags=(TAG,)), DEVICE, size=59 * GIB))


def test_volume_smaller_than_its_filesystem_is_refused() -> None:
    storage = with_filesystem(with_docker_volume(tags=(TAG,)), DEVICE, size=61 * GIB)
    found = finding(bare_host(), storage)
    assert_says(
        found,
        found_has="has 60.0 GiB, its filesystem 61.0 GiB",
        needed="at least as large",
        action="lvextend --size 65498251264b",
    )


def test_inactive_volume_is_refused() -> None:
    found = finding(bare_host(), with_docker_volume(tags=(TAG,), active=False))
    assert_says(
        found, found_has="is not active", needed="can be read", action="lvchange --activate y ubuntu-vg/docker-lv"
    )


def test_unfinished_volume_of_others_is_never_made_anew() -> None:
    storage = with_filesystem(with_docker_volume(tags=(UNFINISHED_TAG,)), DEVICE)
    found = finding(bare_host(), storage, ADOPTING)
    assert_says(
        found,
        found_has="unfinished, and was not made by this project",
        needed="filesystem anew",
        action="lvchange --deltag pyinfra-unfinished",
    )


def test_unfinished_volume_that_was_mounted_is_never_made_anew() -> None:
    storage = with_filesystem(with_docker_volume(tags=(UNFINISHED_TAG, TAG)), DEVICE)
    found = finding(bare_host(), with_mount(storage, "/mnt", DEVICE))
    assert_says(
        found, found_has="mounted on /mnt", needed="filesystem anew", action="lvchange --deltag pyinfra-unfinished"
    )


def test_unfinished_volume_that_is_in_fstab_is_never_made_anew() -> None:
    storage = with_filesystem(with_docker_volume(tags=(UNFINISHED_TAG, TAG)), DEVICE)
    found = finding(bare_host(), with_fstab(storage, DEVICE, VOLUME_MOUNT))
    assert_says(
        found,
        found_has=f"is in fstab ({DEVICE} on {VOLUME_MOUNT})",
        needed="filesystem anew",
        action="lvchange --deltag pyinfra-unfinished",
    )


# -- every finding, not only the first


def test_every_finding_on_our_own_volume_comes_at_once() -> None:
    storage = with_filesystem(with_docker_volume(tags=(TAG,)), DEVICE, "xfs", size=61 * GIB)
    storage = with_volume(storage, "ubuntu-vg", "before", GIB, origin="docker-lv")
    assert all_found(settings(volume_size="62G"), storage) == [
        "the logical volume ubuntu-vg/docker-lv holds xfs",
        "the logical volume ubuntu-vg/docker-lv has 60.0 GiB, its filesystem 61.0 GiB",
        "ubuntu-vg/docker-lv has to grow to 62.0 GiB, and it has a snapshot: before",
    ]


def test_every_finding_on_a_volume_to_be_taken_over_comes_at_once() -> None:
    storage = with_filesystem(with_docker_volume(segment_type="striped"), DEVICE, "xfs")
    assert all_found(ADOPTING, with_mount(storage, "/data", DEVICE)) == [
        "the logical volume ubuntu-vg/docker-lv is mounted on /data",
        "the logical volume ubuntu-vg/docker-lv is of the type striped",
        "the logical volume ubuntu-vg/docker-lv holds xfs",
    ]


def test_volume_that_stays_with_its_owner_is_not_judged_further() -> None:
    storage = with_mount(with_filesystem(with_docker_volume(active=False), DEVICE, "xfs"), "/data", DEVICE)
    assert all_found(settings(), storage) == [
        "the logical volume ubuntu-vg/docker-lv is mounted on /data",
        "the logical volume ubuntu-vg/docker-lv exists, with xfs on it, and this project did not make it",
    ]


def test_content_of_an_inactive_volume_is_not_judged_but_its_growth_is() -> None:
    storage = with_volume(with_docker_volume(tags=(TAG,), active=False), "ubuntu-vg", "before", GIB, origin="docker-lv")
    assert all_found(settings(volume_size="62G"), storage) == [
        "the logical volume ubuntu-vg/docker-lv is not active",
        "ubuntu-vg/docker-lv has to grow to 62.0 GiB, and it has a snapshot: before",
    ]


def test_used_volume_with_the_tag_of_an_unfinished_one_is_judged_as_it_is() -> None:
    storage = with_filesystem(with_docker_volume(tags=(UNFINISHED_TAG, TAG)), DEVICE, "xfs")
    assert all_found(settings(), with_mount(storage, "/data", DEVICE)) == [
        f"the logical volume ubuntu-vg/docker-lv carries the tag {UNFINISHED_TAG}, and is mounted on /data",
        "the logical volume ubuntu-vg/docker-lv holds xfs",
    ]


@pytest.mark.parametrize("wanted", [settings(), ADOPTING], ids=["ours", "somebody else's"])
def test_nobody_is_told_to_remove_a_volume(wanted: Settings) -> None:
    """A volume of ours whose superblock is lost shows no filesystem, and has all of its data."""
    tags = () if wanted.adopt_volume else (TAG,)
    lost = with_volume(with_docker_volume(tags=tags), "ubuntu-vg", "before", GIB, origin="docker-lv")
    findings = examine(wanted.model_copy(update={"volume_size": Size.parse("62G")}), bare_host(), lost).findings
    assert len(findings) == 2
    assert "lvremove" not in str([*map(str, findings)])
