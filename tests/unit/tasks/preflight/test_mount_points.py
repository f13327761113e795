"""The mount points: what may stand there, and what may not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tasks.preflight.host import MountUnit
from tasks.support.paths import TAG

from ..example_hosts import (
    DEVICE,
    VOLUME_MOUNT,
    bare_host,
    converged,
    docker_host,
    our_docker_ce_host,
    settings,
    shared_vg,
    with_directory,
    with_docker_volume,
    with_filesystem,
    with_foreign_mount,
    with_fstab,
    with_mount,
)
from .verdicts import assert_says, finding, plan_of


def test_volume_unmounted_under_its_stores_is_mounted_again() -> None:
    fresh = plan_of(bare_host(), shared_vg())
    storage = converged(shared_vg(), fresh)
    storage = replace(storage, mounts=tuple(m for m in storage.mounts if m.target != VOLUME_MOUNT))
    assert plan_of(our_docker_ce_host(), storage) == fresh


@pytest.mark.parametrize("path", ["/var/lib/docker", "/var/lib/containerd"])
def test_store_on_a_filesystem_of_others_is_refused(path: str) -> None:
    found = finding(docker_host(), with_foreign_mount(path))
    assert_says(
        found,
        found_has=f"{path} is on a filesystem of its own already: /dev/mapper/ubuntu--vg-data--lv",
        needed=f"/srv/docker-volume/{path.rsplit('/')[-1]}, or nothing",
        action="adopt_volume = True",
    )


def test_store_on_the_root_of_our_volume_is_refused() -> None:
    storage = with_filesystem(with_docker_volume(tags=(TAG,)), DEVICE)
    found = finding(docker_host(), with_mount(storage, "/var/lib/docker", DEVICE))
    assert "/var/lib/docker is on a filesystem of its own already" in found.found


@pytest.mark.parametrize("root", ["/containerd", "/docker2"])
def test_other_directory_of_our_volume_in_the_place_of_a_store_is_refused(root: str) -> None:
    storage = with_filesystem(with_docker_volume(tags=(TAG,)), DEVICE)
    found = finding(docker_host(), with_mount(storage, "/var/lib/docker", DEVICE, root))
    assert found.found == f"/var/lib/docker is on a filesystem of its own already: {DEVICE}[{root}]"


def test_lines_of_others_for_other_places_are_no_obstacle() -> None:
    plan_of(bare_host(), with_fstab(with_fstab(shared_vg(), "UUID=1", "/a"), "UUID=2", "/zz"))


def test_foreign_mount_in_the_volumes_place_is_refused() -> None:
    found = finding(bare_host(), with_foreign_mount(VOLUME_MOUNT))
    assert_says(found, found_has=f"is mounted on {VOLUME_MOUNT}", needed=DEVICE, action="set volume_mount")


@pytest.mark.parametrize("path", [VOLUME_MOUNT, "/var/lib/docker", "/var/lib/containerd"])
def test_line_of_others_in_fstab_is_refused(path: str) -> None:
    found = finding(bare_host(), with_fstab(shared_vg(), "UUID=1234", path))
    assert_says(found, found_has=f"fstab mounts UUID=1234 on {path}", needed="or no line", action="take that line out")


@pytest.mark.parametrize("path", [VOLUME_MOUNT, "/var/lib/docker"])
@pytest.mark.parametrize(("kind", "words"), [("symlink", "a symbolic link"), ("other", "no directory")])
def test_place_that_is_no_directory_is_refused(path: str, kind: str, words: str) -> None:
    found = finding(bare_host(), with_directory(shared_vg(), path, kind, empty=False))
    assert_says(found, found_has=f"{path} is {words}", needed="a directory to mount on", action="or")


def test_volume_mount_that_is_not_empty_is_refused() -> None:
    found = finding(bare_host(), with_directory(shared_vg(), VOLUME_MOUNT, empty=False))
    assert_says(found, found_has="is not empty", needed="empty directory", action="set volume_mount to another")


def test_old_tree_beneath_a_mounted_store_is_refused() -> None:
    fresh = plan_of(bare_host(), shared_vg())
    storage = with_directory(converged(shared_vg(), fresh), "/var/lib/docker", empty=False)
    found = finding(our_docker_ce_host(), storage)
    assert_says(found, found_has="is not empty beneath the mount", needed="empty", action="mount --bind / /mnt")


def test_old_tree_before_the_first_mount_is_moved() -> None:
    storage = with_directory(shared_vg(), "/var/lib/docker", empty=False)
    assert plan_of(docker_host(), storage, settings(relocation="move"))


def unit(file: str = "", source: str = "", load_state: str = "loaded") -> MountUnit:
    return MountUnit("var-lib-docker.mount", load_state, file, source)


@pytest.mark.parametrize(
    "foreign",
    [
        unit("/etc/systemd/system/var-lib-docker.mount"),
        unit("/etc/systemd/system/var-lib-docker.mount", "/proc/self/mountinfo"),
        unit("/etc/systemd/system/var-lib-docker.mount", "/etc/fstab"),
    ],
    ids=["not mounted", "mounted", "copied from the generator's"],
)
def test_unit_of_others_that_wins_over_fstab_is_refused(foreign: MountUnit) -> None:
    assert_says(
        finding(docker_host(mount_units=(foreign,)), shared_vg()),
        found_has="/etc/systemd/system/var-lib-docker.mount takes the place of fstab's line",
        needed="fstab alone",
        action="`systemctl stop var-lib-docker.mount`, move the file away and run `systemctl daemon-reload`",
    )


@pytest.mark.parametrize("source", ["/etc/crypttab", "/etc/zfs/zfs-list.cache/rpool"])
def test_unit_of_another_generator_is_refused(source: str) -> None:
    other = unit("/run/systemd/generator/var-lib-docker.mount", source)
    assert "takes the place of fstab's line" in finding(docker_host(mount_units=(other,)), shared_vg()).found


@pytest.mark.parametrize("load_state", ["loaded", "not-found"])
def test_drop_in_that_wins_over_fstab_is_refused(load_state: str) -> None:
    drop_in = "/etc/systemd/system/var-lib-docker.mount.d/other.conf"
    file, source = ("/run/systemd/generator/var-lib-docker.mount", "/etc/fstab") if load_state == "loaded" else ("", "")
    changed = replace(unit(file, source, load_state), drop_ins=(drop_in,))
    assert_says(
        finding(docker_host(mount_units=(changed,)), shared_vg()),
        found_has=f"{drop_in} takes the place of fstab's line",
        needed="fstab alone",
        action="`systemctl stop var-lib-docker.mount`, move the file away and run `systemctl daemon-reload`",
    )


def test_masked_unit_of_a_mount_point_is_refused() -> None:
    found = finding(docker_host(mount_units=(unit("/dev/null", load_state="masked"),)), shared_vg())
    assert_says(found, found_has="is masked", needed="from fstab", action="`systemctl unmask var-lib-docker.mount`")


@pytest.mark.parametrize(
    "ours",
    [
        unit("/run/systemd/generator/var-lib-docker.mount", "/etc/fstab"),
        unit(source="/proc/self/mountinfo"),
        unit(load_state="not-found"),
    ],
    ids=["from fstab", "mounted by hand", "none"],
)
def test_unit_from_fstab_or_none_is_right(ours: MountUnit) -> None:
    assert plan_of(docker_host(mount_units=(ours,)), shared_vg())
