"""Volumes that a host names and that are not there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bulkhead.names import RELOCATION_JOURNAL, ROLLBACK_JOURNAL, move_journal
from pyinfra_lvm.model import BlockDevice, Storage
from pyinfra_lvm.operations import UNFINISHED_TAG
from tasks.preflight.examine import examine
from tasks.preflight.host import EngineData, HostState
from tasks.preflight.plan import Plan
from tasks.support.paths import STOPPED_BY_UPGRADE, STORES, TAG

from ..example_hosts import (
    DEVICE,
    GIB,
    SPARE,
    VOLUME_MOUNT,
    converged,
    on_the_way,
    our_docker_ce_host,
    settings,
    shared_vg,
    spare_disk,
    with_directory,
    with_docker_volume,
    with_filesystem,
    with_fstab,
    with_mount,
    with_volume,
)
from .verdicts import all_found, assert_says, finding, plan_of

REPLACING = settings(replace_lost_volumes=True)
GIVEN_UP = "the volume ubuntu-vg/docker-lv for /srv/docker-volume is given up, as replace_lost_volumes says: a new, empty one takes its place"
DATA = EngineData(images=2, volumes=1)

HOME = {"home-lv": {"mount": "/home", "size": "5G"}}
HOME_DEVICE = "/dev/mapper/ubuntu--vg-home--lv"


def bound(storage: Storage) -> Storage:
    """With the lines of the stores in fstab."""
    for name, path in STORES.items():
        storage = with_fstab(storage, f"{VOLUME_MOUNT}/{name}", path)
    return storage


def lost(storage: Storage) -> Storage:
    """A provisioned host after its volume is gone: its lines in fstab are left, and its immutable directories."""
    storage = bound(with_fstab(storage, DEVICE, VOLUME_MOUNT))
    for path in (VOLUME_MOUNT, *STORES.values()):
        storage = with_directory(storage, path, immutable=True)
    return storage


PROVISIONED = our_docker_ce_host(configured_volume=DEVICE, storage_driver="", fails_closed=True)


@pytest.mark.parametrize(
    ("state", "storage", "named_by"),
    [
        ({}, with_fstab(shared_vg(), DEVICE, VOLUME_MOUNT), "/etc/fstab names it"),
        ({}, with_fstab(shared_vg(), "/dev/ubuntu-vg/docker-lv", VOLUME_MOUNT), "/etc/fstab names it"),
        ({}, bound(shared_vg()), "/etc/fstab names it"),
        ({"configured_volume": DEVICE}, shared_vg(), "/etc/bulkhead/bulkhead.json names it"),
        ({"relocation": "done"}, shared_vg(), f"{RELOCATION_JOURNAL} names it"),
        ({"relocation": "finalized"}, shared_vg(), f"{RELOCATION_JOURNAL} names it"),
        (
            {"configured_volume": DEVICE, "relocation": "finalized"},
            lost(shared_vg()),
            f"/etc/fstab, /etc/bulkhead/bulkhead.json and {RELOCATION_JOURNAL} name it",
        ),
    ],
    ids="fstab fstab-by-lvms-name stores-in-fstab configuration move finalized-move all".split(),
)
def test_volume_that_the_host_names_and_that_is_not_there_is_refused(
    state: dict[str, str], storage: Storage, named_by: str
) -> None:
    found = finding(our_docker_ce_host(**state), storage)
    assert "docker-lv for /srv/docker-volume is not there" in found.found
    assert found.found.endswith(f"; {named_by}")
    assert_says(
        found,
        found_has="the volume ",
        needed="the volume with its data",
        action="only if its data is gone for good, set replace_lost_volumes = True, which makes a new, empty volume",
    )
    assert found.action.startswith("attach its disk again; ")
    assert ("`bulkhead rollback`" in found.action) == (state.get("relocation") == "done")


@pytest.mark.parametrize(("phase", "ended"), [("failed", "failed"), ("rolled-back", "was rolled back")])
def test_volume_that_a_move_has_left_is_not_called_lost_with_its_data(phase: str, ended: str) -> None:
    docker = finding(our_docker_ce_host(configured_volume=DEVICE, relocation=phase), shared_vg())
    moves = {move_journal("/home"): phase}
    state = our_docker_ce_host(configured_extra_volumes={"/home": HOME_DEVICE}, moves=moves)
    home = finding(state, shared_vg(), settings(extra_volumes=HOME))
    for found in (docker, home):
        assert_says(
            found,
            found_has="is not there",
            needed=f"the move onto it {ended}, and the data is on the root disk",
            action="only if nobody needs it, set replace_lost_volumes = True",
        )


def test_refusal_names_the_group_that_lvm_may_restore() -> None:
    assert "`vgcfgrestore --list ubuntu-vg`" in finding(PROVISIONED, lost(shared_vg())).action


def test_refusal_says_how_to_undo_that_somebody_renamed_the_volume() -> None:
    storage = with_volume(lost(shared_vg()), "ubuntu-vg", "gone-lv", 60 * GIB, tags=(TAG,))
    result = examine(settings(volume_size="5G"), PROVISIONED, storage)
    assert "; if somebody renamed it, `lvrename ubuntu-vg gone-lv docker-lv`; " in result.findings[0].action


@pytest.mark.parametrize(
    "use", ["", "mounted in its place", "mounted in all of its places", "mounted", "in fstab", "configured"]
)
def test_only_a_volume_without_another_use_may_be_the_renamed_one(use: str) -> None:
    data = "/dev/mapper/ubuntu--vg-data--lv"
    storage = with_volume(lost(shared_vg()), "ubuntu-vg", "data-lv", 2 * GIB, tags=(TAG,))
    if "mounted" in use:
        storage = with_mount(storage, "/data" if use == "mounted" else VOLUME_MOUNT, data)
    if "all" in use:
        for name, path in STORES.items():
            storage = with_mount(storage, path, data, f"/{name}")
    if use == "in fstab":
        storage = with_fstab(storage, "/dev/ubuntu-vg/data-lv", "/data")
    state = replace(PROVISIONED, configured_extra_volumes={"/data": data} if use == "configured" else {})
    way = "`lvrename ubuntu-vg data-lv docker-lv`"
    action = examine(settings(volume_size="5G"), state, storage).findings[0].action
    assert (way in action) == (not use or use.startswith("mounted in"))


def test_line_of_the_lost_volume_for_the_mount_point_of_earlier_settings_goes_first() -> None:
    assert all_found(
        settings(volume_mount="/srv/other", replace_lost_volumes=True), lost(shared_vg()), PROVISIONED
    ) == [
        f"fstab mounts {DEVICE} on {VOLUME_MOUNT}, and the logical volume ubuntu-vg/docker-lv is not there",
        *(f"fstab mounts {VOLUME_MOUNT}/{name} on {path}" for name, path in STORES.items()),
    ]


def test_volume_that_is_lost_with_its_group_and_its_disk_is_reported_beside_the_disk() -> None:
    device = "/dev/mapper/docker--vg-docker--lv"
    storage = with_fstab(replace(spare_disk(), devices=spare_disk().devices[:2]), device, VOLUME_MOUNT)
    assert all_found(settings(volume_disks=[SPARE]), storage, our_docker_ce_host(configured_volume=device)) == [
        "the volume docker-vg/docker-lv for /srv/docker-volume is not there; /etc/fstab and "
        "/etc/bulkhead/bulkhead.json name it",
        f"there is no disk {SPARE}; this host has /dev/vda (30.0 GiB)",
    ]


@pytest.mark.parametrize("phase", ["", "failed", "rolled-back"])
def test_host_that_never_had_a_volume_has_lost_none(phase: str) -> None:
    assert plan_of(our_docker_ce_host(relocation=phase), shared_vg()).lost_volumes == ()


def test_volume_that_is_there_is_not_lost() -> None:
    fresh = plan_of(our_docker_ce_host(), shared_vg())
    state = our_docker_ce_host(configured_volume=DEVICE, relocation="finalized", fails_closed=True)
    assert plan_of(state, converged(shared_vg(), fresh)) == fresh


def test_volume_that_is_not_active_is_not_lost() -> None:
    storage = with_fstab(with_docker_volume(tags=(TAG,), active=False), DEVICE, VOLUME_MOUNT)
    storage = replace(storage, devices=tuple(d for d in storage.devices if DEVICE not in d.aliases))
    assert finding(PROVISIONED, storage).found == "the logical volume ubuntu-vg/docker-lv is not active"


def test_volume_whose_group_was_renamed_is_not_lost() -> None:
    storage = converged(shared_vg(), plan_of(our_docker_ce_host(), shared_vg()))
    assert plan_of(our_docker_ce_host(configured_volume="/dev/mapper/old-docker--lv"), storage).lost_volumes == ()


@pytest.mark.parametrize("kind", ["crypt", "mpath"])
def test_device_of_another_kind_in_fstab_is_not_lost(kind: str) -> None:
    luks = BlockDevice("/dev/dm-7", kind, GIB, False, ("/dev/mapper/my-luks",), ("ext4",), (), ())
    storage = replace(shared_vg(), devices=(*shared_vg().devices, luks))
    found = finding(our_docker_ce_host(), with_fstab(storage, "/dev/mapper/my-luks", VOLUME_MOUNT))
    assert found.found == f"fstab mounts /dev/mapper/my-luks on {VOLUME_MOUNT}"


# -- its owner says that the data is gone


def replaced(state: HostState, storage: Storage) -> Plan:
    """The plan for a host whose lost volume is given up."""
    return plan_of(state, storage, REPLACING, (GIVEN_UP,))


def test_lost_volume_is_replaced_as_on_a_fresh_host() -> None:
    fresh = plan_of(our_docker_ce_host(), shared_vg())
    state = replace(PROVISIONED, relocation="finalized", rollback="stopping", stopped_by_upgrade=True)
    plan = replaced(state, lost(shared_vg()))
    assert replace(plan, lost_volumes=()) == fresh
    (volume,) = plan.lost_volumes
    assert volume.stale_lines == (
        (DEVICE, VOLUME_MOUNT),
        *((f"{VOLUME_MOUNT}/{name}", path) for name, path in STORES.items()),
    )
    assert volume.stale_files == (RELOCATION_JOURNAL, ROLLBACK_JOURNAL, STOPPED_BY_UPGRADE)


def test_volume_on_a_local_disk_that_came_back_blank_is_replaced() -> None:
    device = "/dev/mapper/docker--vg-docker--lv"
    wanted = settings(volume_disks=[SPARE], replace_lost_volumes=True)
    given_up = "the volume docker-vg/docker-lv for /srv/docker-volume is given up, as replace_lost_volumes says: a new, empty one takes its place"
    storage = with_fstab(spare_disk(), device, VOLUME_MOUNT)
    plan = plan_of(our_docker_ce_host(configured_volume=device), storage, wanted, (given_up,))
    assert plan.new_physical_volumes == (SPARE,)


def test_volume_that_was_lost_with_its_disk_is_replaced_in_another_group() -> None:
    device = "/dev/mapper/docker--vg-docker--lv"
    storage = with_fstab(shared_vg(), device, VOLUME_MOUNT)
    result = examine(REPLACING, our_docker_ce_host(configured_volume=device), storage)
    assert result.findings == ()
    assert result.plan
    assert result.plan.device == DEVICE


def test_replacement_that_is_cut_at_any_step_goes_on() -> None:
    fresh = plan_of(our_docker_ce_host(), shared_vg())
    steps = [("forgotten", shared_vg()), *on_the_way(shared_vg(), fresh)]
    for step, storage in steps:
        result = examine(REPLACING, PROVISIONED, storage)
        assert result.plan, step
        assert replace(result.plan, lost_volumes=()) == fresh, step
        is_refused_otherwise = bool(examine(settings(), PROVISIONED, storage).findings)
        assert is_refused_otherwise == (step in ("forgotten", "logical volume made")), step


def test_volume_that_an_earlier_version_made_anew_and_left_empty_is_replaced() -> None:
    storage = with_volume(lost(shared_vg()), "ubuntu-vg", "docker-lv", 60 * GIB, tags=(TAG, UNFINISHED_TAG))
    assert "is not there, but for an empty one from a run that did not end; " in finding(PROVISIONED, storage).found
    assert examine(settings(), PROVISIONED, storage).warnings == ()
    assert replaced(PROVISIONED, storage).size == 60 * GIB


def test_unfinished_volume_in_fstab_that_carries_anything_is_not_given_up() -> None:
    storage = with_volume(lost(shared_vg()), "ubuntu-vg", "docker-lv", 60 * GIB, tags=(TAG, UNFINISHED_TAG))
    result = examine(REPLACING, PROVISIONED, with_filesystem(storage, DEVICE))
    assert "carries the tag pyinfra-unfinished, and is in fstab" in result.findings[0].found


def test_line_of_others_for_the_same_mount_point_stays_and_is_refused() -> None:
    storage = with_fstab(lost(shared_vg()), "UUID=1234", VOLUME_MOUNT)
    assert all_found(REPLACING, storage, PROVISIONED) == [f"fstab mounts UUID=1234 on {VOLUME_MOUNT}"]


@pytest.mark.parametrize("is_mounted", [True, False], ids=["mounted", "unmounted"])
def test_volume_that_the_kernel_still_has_after_its_disk_was_pulled_is_refused_all_the_same(
    *, is_mounted: bool
) -> None:
    storage = with_volume(lost(shared_vg()), "ubuntu-vg", "docker-lv", 60 * GIB)
    if is_mounted:
        storage = with_mount(storage, VOLUME_MOUNT, DEVICE)
    storage = replace(storage, logical_volumes=shared_vg().logical_volumes, volume_groups=shared_vg().volume_groups)
    found = finding(PROVISIONED, storage, REPLACING)
    assert_says(
        found,
        found_has="the kernel still has the volume ubuntu-vg/docker-lv for /srv/docker-volume",
        needed="with its disk",
        action="reboot the host",
    )


def test_active_volume_of_a_host_whose_lvm_was_uninstalled_is_not_lost() -> None:
    whole = converged(shared_vg(), plan_of(our_docker_ce_host(), shared_vg()))
    bare = replace(whole, lvm_installed=False, logical_volumes=(), volume_groups=(), physical_volumes=())
    assert not any("not there" in found or "still has" in found for found in all_found(settings(), bare, PROVISIONED))


def test_data_from_before_the_move_is_gone_back_to_first() -> None:
    state = replace(PROVISIONED, relocation="done", docker_data=DATA)
    storage = with_directory(lost(shared_vg()), "/var/lib/docker", empty=False)
    for wanted in (settings(), REPLACING):
        assert "`bulkhead rollback` on the host goes back to" in finding(state, storage, wanted).action
    found = finding(state, storage, REPLACING)
    assert found.found == (
        "Docker is down without its volume, and the root disk holds its data: 2 images, 1 volume; containerd: nothing"
    )


@pytest.mark.parametrize("phase", ["", "finalizing"])
def test_data_that_somebody_put_on_the_root_disk_while_docker_is_down_is_kept_first(phase: str) -> None:
    state = replace(PROVISIONED, relocation=phase, docker_data=DATA)
    storage = with_directory(lost(shared_vg()), "/var/lib/docker", empty=False)
    expected = "`chattr -f -i /var/lib/docker; mv -T /var/lib/docker /var/lib/docker.kept`"
    assert expected in finding(state, storage, REPLACING).action


@pytest.mark.parametrize("phase", ["failed", "rolled-back"])
def test_data_of_a_docker_that_needs_no_volume_is_never_moved_away(phase: str) -> None:
    state = our_docker_ce_host(configured_volume=DEVICE, relocation=phase, docker_data=DATA, storage_driver="")
    found = finding(state, with_directory(shared_vg(), "/var/lib/docker", empty=False), REPLACING)
    assert found.found == "Docker does not run, and holds 2 images, 1 volume; containerd: nothing"
    assert found.action == "`systemctl start docker`, and run again"


def test_docker_that_runs_on_the_root_disk_again_moves_onto_the_new_volume() -> None:
    state = our_docker_ce_host(configured_volume=DEVICE, relocation="rolled-back", docker_data=DATA, store_bytes=GIB)
    storage = with_directory(with_fstab(shared_vg(), DEVICE, VOLUME_MOUNT), "/var/lib/docker", empty=False)
    plan = replaced(state, storage)
    assert plan.relocates
    assert plan.lost_volumes[0].stale_lines == ((DEVICE, VOLUME_MOUNT),)
    assert plan.lost_volumes[0].stale_files == ()


def test_rollback_to_a_snapshot_that_the_loss_has_cut_is_no_other_finding() -> None:
    state = replace(PROVISIONED, rollback="switching")
    assert "is not there" in finding(state, lost(shared_vg())).found


def test_move_that_was_cut_is_finished_first() -> None:
    state = replace(PROVISIONED, relocation="switching")
    assert [found.split(" (")[0] for found in all_found(REPLACING, lost(shared_vg()), state)] == [
        "a move of Docker's data was cut"
    ]


def test_setting_that_is_left_behind_is_warned_of() -> None:
    result = examine(REPLACING, our_docker_ce_host(), shared_vg())
    assert result.plan
    assert result.warnings == (
        "replace_lost_volumes is set, and no volume is lost: take it out of the settings, or a disk that is only detached "
        "counts as gone the next time",
    )


# -- extra volumes


@pytest.mark.parametrize(
    ("state", "storage"),
    [
        ({"configured_extra_volumes": {"/home": HOME_DEVICE}}, shared_vg()),
        ({}, with_fstab(shared_vg(), HOME_DEVICE, "/home")),
        ({"moves": {move_journal("/home"): "finalized"}}, shared_vg()),
    ],
    ids="configuration fstab move".split(),
)
def test_extra_volume_that_is_lost_is_refused(state: dict[str, dict[str, str]], storage: Storage) -> None:
    found = finding(our_docker_ce_host(**state), storage, settings(extra_volumes=HOME))
    assert "home-lv for /home is not there" in found.found
    assert "set replace_lost_volumes = True" in found.action


def test_extra_volume_that_is_no_longer_in_the_settings_is_not_looked_for() -> None:
    state = our_docker_ce_host(configured_extra_volumes={"/home": HOME_DEVICE})
    assert plan_of(state, shared_vg()).lost_volumes == ()


@pytest.mark.parametrize("phase", ["done", "finalizing", "finalized"])
def test_extra_volume_that_its_owner_gave_up_can_be_made_again(phase: str) -> None:
    """It was taken out of the settings and of fstab, and the program's configuration names it no longer."""
    whole = with_directory(converged(shared_vg(), plan_of(our_docker_ce_host(), shared_vg())), "/home")
    state = our_docker_ce_host(configured_volume=DEVICE, moves={move_journal("/home"): phase})
    plan = plan_of(state, whole, settings(extra_volumes=HOME))
    assert plan.lost_volumes == ()
    assert [volume.name for volume in plan.extra_volumes] == ["home-lv"]


@pytest.mark.parametrize("path", ["/home", "/var/opt"])
def test_files_from_before_the_move_go_onto_the_new_extra_volume(path: str) -> None:
    journal, extra = move_journal(path), {"home-lv": {"mount": path, "size": "5G"}}
    state = our_docker_ce_host(moves={journal: "done"}, configured_extra_volumes={path: HOME_DEVICE})
    storage = with_directory(with_fstab(shared_vg(), HOME_DEVICE, path), path, empty=False)
    refused = finding(state, storage, settings(extra_volumes=extra))
    assert f"the files from before the move are still in {path}, and a new volume gets them" in refused.action
    result = examine(settings(extra_volumes=extra, replace_lost_volumes=True), state, storage)
    assert result.findings == ()
    assert result.plan
    assert result.plan.directories_to_move == [path]
    (volume,) = result.plan.lost_volumes
    assert (volume.stale_lines, volume.stale_files) == (((HOME_DEVICE, path),), (journal,))


def test_lost_extra_volume_leaves_dockers_volume_as_it_is() -> None:
    whole = converged(shared_vg(), plan_of(our_docker_ce_host(), shared_vg()))
    state = our_docker_ce_host(configured_volume=DEVICE, configured_extra_volumes={"/home": HOME_DEVICE})
    result = examine(settings(extra_volumes=HOME, replace_lost_volumes=True), state, with_directory(whole, "/home"))
    assert result.plan
    assert [volume.name for volume in result.plan.lost_volumes] == ["home-lv"]
