"""The volume group: which one is chosen or refused, and the room in it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pyinfra_lvm.facts import parse_storage
from pyinfra_lvm.model import BlockDevice, LogicalVolume, LvmConfig, PhysicalVolume, Storage
from settings.model import Settings
from tasks.preflight.examine import examine
from tasks.preflight.host import EngineData
from tasks.preflight.planned_group import Capacity, PlannedGroup
from tasks.support.paths import TAG

from ..example_hosts import (
    DEVICE,
    EXTENT,
    GIB,
    MIB,
    ON_SPARE,
    SPARE,
    bare_host,
    converged,
    docker_host,
    our_docker_ce_host,
    settings,
    shared_vg,
    single_root,
    spare_disk,
    with_disk,
    with_docker_volume,
    with_filesystem,
    with_group,
    with_volume,
)
from .verdicts import all_found, assert_says, finding, plan_of


def test_the_rest_of_the_group_may_be_used_up_after_the_volume_was_made() -> None:
    """The incident's own layout: a home-lv of 10 GiB beside root's 30 and Docker's 60."""
    fresh = plan_of(bare_host(), shared_vg())
    full = with_volume(converged(shared_vg(), fresh), "ubuntu-vg", "home-lv", 10 * GIB)
    assert examine(settings(), our_docker_ce_host(), full).plan == fresh


def test_size_in_bytes_that_takes_the_reserve_is_warned_about() -> None:
    result = examine(settings(volume_size="68G"), bare_host(), shared_vg())
    assert result.plan
    assert "less than the reserve of 5.0 GiB" in result.warnings[0]


def test_auto_takes_the_only_group_with_room_for_the_size() -> None:
    storage = with_group(spare_disk(), "data-vg", SPARE)
    both = replace(
        shared_vg(),
        devices=(*shared_vg().devices, storage.devices[-1]),
        volume_groups=(*shared_vg().volume_groups, *storage.volume_groups),
        physical_volumes=(*shared_vg().physical_volumes, *storage.physical_volumes),
    )
    assert plan_of(bare_host(), both, settings(volume_size="40G")).volume_group == "ubuntu-vg"


def test_auto_stays_with_the_group_that_has_our_volume() -> None:
    fresh = plan_of(bare_host(), shared_vg())
    storage = with_group(with_disk(converged(shared_vg(), fresh)), "data-vg", SPARE)
    storage = with_volume(storage, "data-vg", "docker-lv", 5 * GIB)
    assert plan_of(our_docker_ce_host(), storage) == fresh


def test_docker_group_takes_a_further_disk() -> None:
    fresh = plan_of(bare_host(), spare_disk(), ON_SPARE)
    storage = converged(spare_disk(), fresh)
    second = BlockDevice("/dev/vdc", "disk", 20 * GIB, False, (), (), (), (), zeroed=True)
    storage = replace(storage, devices=(*storage.devices, second))
    warning = (
        "the volume group docker-vg is on 2 disks without a mirror: if one of them is lost, all of Docker's data is lost. "
        'volume_raid = "raid1" makes one (docs/mirror.md)'
    )
    wanted = settings(volume_disks=[SPARE, "/dev/vdc"])
    grown = plan_of(our_docker_ce_host(), storage, wanted, warnings=(warning,))
    assert grown.new_physical_volumes == ("/dev/vdc",)
    assert grown.size > 1.9 * fresh.size


def test_disks_without_a_mirror_are_a_word_when_they_are_taken_and_not_afterwards() -> None:
    second = BlockDevice("/dev/vdc", "disk", 20 * GIB, False, ("/dev/disk/by-id/virtio-2",), (), (), (), zeroed=True)
    storage = replace(spare_disk(), devices=(*spare_disk().devices, second))
    wanted = settings(volume_disks=[SPARE, *second.aliases])
    (warning,) = examine(wanted, bare_host(), storage).warnings
    assert "docker-vg is on 2 disks without a mirror" in warning
    one = converged(spare_disk(), plan_of(bare_host(), spare_disk(), ON_SPARE))
    taken = PhysicalVolume("/dev/vdc", "docker-vg", 20 * GIB, 20 * GIB)
    known = replace(one, devices=(*one.devices, second), physical_volumes=(*one.physical_volumes, taken))
    assert not [warning for warning in examine(wanted, our_docker_ce_host(), known).warnings if "mirror" in warning]


def test_snapshot_of_the_volume_makes_dockers_own_group_no_shared_one() -> None:
    fresh = plan_of(bare_host(), spare_disk(), ON_SPARE)
    storage = with_volume(converged(spare_disk(), fresh), "docker-vg", "docker-lv-snapshot", GIB, origin="docker-lv")
    result = examine(ON_SPARE, our_docker_ce_host(), storage)
    assert result.plan == replace(fresh, new_physical_volumes=())
    (warning,) = result.warnings
    assert "less than the reserve" in warning


def test_extending_roots_group_says_what_it_costs() -> None:
    wanted = settings(volume_group="ubuntu-vg", volume_disks=[SPARE], volume_group_extend=True)
    result = examine(wanted, bare_host(), with_disk(shared_vg()))
    assert result.plan
    assert result.plan.size < 75 * GIB  # beside other volumes: 60 %, not nearly all
    assert result.warnings == (
        f"the volume group ubuntu-vg is extended by {SPARE}: when one of its disks is lost, the host does not boot",
    )


@pytest.mark.parametrize("group", ["data-vg", "xdata-vg"])
def test_extending_another_group_than_roots_costs_less_and_roots_room_is_not_told(group: str) -> None:
    second = BlockDevice("/dev/vdc", "disk", 20 * GIB, False, (), (), (), (), zeroed=True)
    storage = with_group(with_disk(shared_vg()), group, SPARE)
    storage = replace(storage, devices=(*storage.devices, second))
    wanted = {"volume_group": group, "volume_disks": [SPARE, "/dev/vdc"], "volume_group_extend": True}
    (warning,) = examine(settings(**wanted), bare_host(), storage).warnings
    assert warning.endswith("is extended by /dev/vdc: when one of its disks is lost, it is not activated")
    found = finding(bare_host(), storage, settings(volume_group=group, volume_size="30G"))
    assert found.found == f"volume group {group} has 19.9 GiB for Docker's volume"


@pytest.mark.parametrize(("more", "size"), [(MIB - 1, 20 * GIB - EXTENT), (MIB, 20 * GIB)])
def test_metadata_of_lvm_takes_the_first_mebibyte_of_a_disk(more: int, size: int) -> None:
    room = PlannedGroup(ON_SPARE, spare_disk(size=20 * GIB + more), "docker-vg", (SPARE,)).capacity
    assert room == Capacity(size, size, 4 * MIB)


@pytest.mark.parametrize("group", ["data-vg", "zdata-vg"])
def test_volumes_of_other_groups_take_no_part(group: str) -> None:
    beside = LogicalVolume("home-lv", group, 10 * GIB, True, "linear", "")
    alone = with_disk(shared_vg(free=50 * GIB))
    both = replace(alone, logical_volumes=(*alone.logical_volumes, beside))
    for changes in ({"extra_volumes": {"home-lv": {"mount": "/home", "size": "10G"}}}, {"volume_disks": [SPARE]}):
        sizes = [examine(settings(**changes), bare_host(), storage).plan for storage in (alone, both)]
        assert sizes[0]
        assert sizes[0] == sizes[1]
    own = examine(ON_SPARE, bare_host(), both).plan
    assert own
    assert own.size > 0.94 * 20 * GIB


def test_host_without_lvm_hears_of_the_blank_disk_it_has() -> None:
    found = finding(bare_host(), spare_disk())
    assert_says(
        found,
        found_has="no volume group (LVM is not installed); root has 29.0 GiB on /dev/vda1",
        needed="a volume group with room",
        action=f"volume_disks (there is {SPARE} (20.0 GiB))",
    )


def test_root_that_has_taken_the_whole_disk_leaves_another_disk_or_a_smaller_size() -> None:
    found = finding(bare_host(), shared_vg(free=3 * GIB))
    assert_says(
        found,
        found_has="volume group ubuntu-vg has 3.0 GiB for Docker's volume; root has 97.0 GiB on /dev/mapper/ubuntu--vg-ubuntu--lv",
        needed="6.0 GiB, for volume_size auto and volume_reserve 5%",
        action='set a smaller volume_size (at most "3G" fits), or name a blank disk in volume_disks (there is none: attach one)',
    )
    assert "never shrunk" in found.action
    # The way out works, with a warning.
    assert examine(settings(volume_size="3G"), bare_host(), shared_vg(free=3 * GIB)).plan


@pytest.mark.parametrize(
    ("extra", "largest"),
    [
        ({"home-lv": {"mount": "/home", "size": "20G"}}, "50G"),
        ({"home-lv": {"mount": "/home", "size": "20%VG"}}, "45G"),  # that leaves the reserve free
        ({"home-lv": {"mount": "/home", "size": "20G"}, "var-lv": {"mount": "/data", "size": "10G"}}, "40G"),
    ],
)
@pytest.mark.parametrize("size", ["80G", "90%VG"])
def test_largest_size_that_is_named_leaves_the_extra_volumes_theirs(
    size: str, extra: dict[str, Any], largest: str
) -> None:
    found = finding(bare_host(), shared_vg(), settings(volume_size=size, extra_volumes=extra))
    assert f'at most "{largest}" fits' in found.action
    assert "of which extra_volumes get" in found.found
    followed = settings(volume_size=largest, extra_volumes=extra)
    assert examine(followed, bare_host(), shared_vg()).findings == ()
    (moved,) = examine(
        followed, docker_host(docker_data=EngineData(images=1), store_bytes=60 * GIB), shared_vg()
    ).findings
    assert f"the volume group has room for {largest.removesuffix('G')}.0 GiB" in moved.action


def test_largest_size_in_a_group_of_its_own_leaves_the_extra_volumes_theirs_and_the_reserve() -> None:
    changes = {"volume_disks": [SPARE], "extra_volumes": {"home-lv": {"mount": "/home", "size": "10%VG"}}}
    found = finding(bare_host(), spare_disk(), settings(**changes, volume_size="30G"))
    assert 'at most "16.9G" fits' in found.action
    assert examine(settings(**changes, volume_size="16.9G"), bare_host(), spare_disk()).plan


@pytest.mark.parametrize("wanted", [settings(), settings(volume_size="40G"), settings(volume_size="100%FREE")], ids=str)
def test_group_with_nothing_free_is_not_told_to_set_a_smaller_size(wanted: Settings) -> None:
    found = finding(bare_host(), shared_vg(free=0), wanted)
    assert_says(found, found_has="has 0 bytes", needed="for volume_size", action="name a blank disk in volume_disks")
    assert "smaller" not in found.action


def test_installers_layout_gets_what_is_free_less_the_reserve() -> None:
    """Ubuntu Server's installer gives root half of the group, at most 100 GiB (subiquity, sizing policy "scaled")."""
    (warning,) = examine(settings(), bare_host(), shared_vg(free=50 * GIB)).warnings
    assert warning == (
        "the volume gets 45.0 GiB: all that is free less the reserve. 60 % of the group would be 60.0 GiB"
    )
    fresh = plan_of(bare_host(), shared_vg(free=50 * GIB), warnings=(warning,))
    assert (fresh.size, fresh.reserve) == (45 * GIB, 5 * GIB)
    assert plan_of(our_docker_ce_host(), converged(shared_vg(free=50 * GIB), fresh)) == fresh


@pytest.mark.parametrize(
    ("free", "size", "expected"), [(70, "10G", 60), (69, "10G", 54), (50, "10G", 35), (70, "10%VG", 55)]
)
def test_default_leaves_the_extra_volumes_their_space(free: int, size: str, expected: int) -> None:
    wanted = settings(extra_volumes={"home-lv": {"mount": "/home", "size": size}})
    plan = examine(wanted, bare_host(), shared_vg(free * GIB)).plan
    assert plan
    assert (plan.size, plan.extra_volumes[0].size) == (expected * GIB, 10 * GIB)


def test_auto_takes_the_group_with_room_for_all_of_the_default() -> None:
    storage = with_group(with_disk(shared_vg(free=50 * GIB)), "data-vg", SPARE)
    assert plan_of(bare_host(), storage).volume_group == "data-vg"


def test_size_beyond_the_free_space_says_how_much_is_free() -> None:
    found = finding(bare_host(), shared_vg(), settings(volume_size="80G"))
    assert_says(
        found, found_has="has 70.0 GiB for", needed="80.0 GiB, for volume_size 80G", action="smaller volume_size"
    )


def test_missing_group_is_refused_with_those_there_are() -> None:
    found = finding(bare_host(), shared_vg(), settings(volume_group="data-vg"))
    assert_says(
        found,
        found_has="there is no volume group data-vg; this host has ubuntu-vg",
        needed="names",
        action="correct volume_group",
    )


def test_two_groups_with_room_are_ambiguous() -> None:
    storage = with_group(with_disk(shared_vg()), "data-vg", SPARE)
    found = finding(bare_host(), storage, settings(volume_size="10G"))
    assert_says(
        found,
        found_has="2 volume groups with room for the volume: ubuntu-vg (70.0 GiB free), data-vg (",
        needed="one",
        action="set volume_group",
    )


def test_two_groups_without_room_are_both_shown() -> None:
    storage = with_group(with_disk(shared_vg()), "data-vg", SPARE)
    found = finding(bare_host(), storage, settings(volume_size="90G"))
    assert_says(found, found_has="no volume groups with room", needed="one", action="smaller volume_size")


def test_group_that_misses_a_disk_is_refused() -> None:
    groups = tuple(replace(group, missing_physical_volumes=1) for group in shared_vg().volume_groups)
    found = finding(bare_host(), replace(shared_vg(), volume_groups=groups))
    assert_says(found, found_has="lacks 1 of its physical volumes", needed="complete", action="bring the disk back")


# As lvm prints it, with a warning for each command on standard error.
TWO_GROUPS = """\
##STORAGE## vgs
  {
      "report": [
          {
              "vg": [
                  {"vg_name":"docker-vg", "vg_size":"21470642176", "vg_free":"1073741824", "vg_extent_size":"4194304", "vg_missing_pv_count":"0", "vg_tags":"", "vg_uuid":"BRrkhF-EV4S-2NdU-nXRK-mQGm-aJvG-8WJbPb"},
                  {"vg_name":"docker-vg", "vg_size":"21470642176", "vg_free":"1073741824", "vg_extent_size":"4194304", "vg_missing_pv_count":"0", "vg_tags":"", "vg_uuid":"tzMPmb-29Yx-5cvz-KWyW-iS0B-L9tA-rPUU8e"}
              ]
          }
      ]
  }
##STORAGE## lvs
  {
      "report": [
          {
              "lv": [
                  {"lv_name":"docker-lv", "vg_name":"docker-vg", "lv_size":"20396900352", "lv_active":"active", "segtype":"linear", "origin":"", "lv_tags":"docker-bulkhead"},
                  {"lv_name":"docker-lv", "vg_name":"docker-vg", "lv_size":"20396900352", "lv_active":"", "segtype":"linear", "origin":"", "lv_tags":"docker-bulkhead"}
              ]
          }
      ]
  }
"""


@pytest.mark.parametrize("changed", [{}, {"volume_group": "docker-vg"}], ids=["auto", "named"])
def test_two_groups_of_one_name_are_refused_with_the_way_out(changed: dict[str, Any]) -> None:
    read = parse_storage(TWO_GROUPS.splitlines())
    storage = replace(spare_disk(), volume_groups=read.volume_groups, logical_volumes=read.logical_volumes)
    found = finding(bare_host(), storage, settings(**changed))
    assert found.found == (
        "2 volume groups are named docker-vg: BRrkhF-EV4S-2NdU-nXRK-mQGm-aJvG-8WJbPb (19.9 GiB), "
        "tzMPmb-29Yx-5cvz-KWyW-iS0B-L9tA-rPUU8e (19.9 GiB)"
    )
    assert "LVM refuses every command that names it" in found.needed
    assert "rename the one that this host does not use (`vgrename UUID NEW_NAME`)" in found.action


@pytest.mark.parametrize("name", ["data", "zdata"])
def test_two_groups_of_a_name_that_docker_does_not_use_are_no_matter(name: str) -> None:
    others = tuple(replace(group, name=name) for group in parse_storage(TWO_GROUPS.splitlines()).volume_groups)
    storage = replace(shared_vg(), volume_groups=(*shared_vg().volume_groups, *others))
    assert plan_of(bare_host(), storage, settings(volume_group="ubuntu-vg")).volume_group == "ubuntu-vg"


def test_disk_that_is_too_small_is_refused() -> None:
    found = finding(bare_host(), spare_disk(size=500 * MIB), ON_SPARE)
    assert_says(
        found,
        found_has=f"volume group docker-vg, made of {SPARE}, has 468.0 MiB for Docker's volume",
        needed="1.0 GiB",
        action="name a blank disk in volume_disks (there is none: attach one)",
    )
    assert "extra_volumes" not in found.found


def test_group_of_others_is_not_extended_without_its_setting() -> None:
    wanted = settings(volume_group="ubuntu-vg", volume_disks=[SPARE])
    found = finding(bare_host(), with_disk(shared_vg()), wanted)
    assert_says(
        found,
        found_has=f"ubuntu-vg is on /dev/vda1 already, and not on {SPARE}",
        needed="of Docker's own",
        action="the host does not boot",
    )


def test_group_without_volumes_is_not_ours_for_that() -> None:
    storage = with_disk(shared_vg())
    empty = replace(storage, logical_volumes=())
    found = finding(bare_host(), empty, settings(volume_group="ubuntu-vg", volume_disks=[SPARE]))
    assert_says(found, found_has="is on /dev/vda1 already", needed="of Docker's own", action="volume_group_extend")


def test_misspelled_group_is_not_made_where_one_was_to_be_extended() -> None:
    wanted = settings(volume_group="ubuntu_vg", volume_disks=[SPARE], volume_group_extend=True)
    found = finding(bare_host(), with_disk(shared_vg()), wanted)
    assert_says(found, found_has="no volume group ubuntu_vg", needed="volume_group", action="correct volume_group")


def test_group_that_lost_a_disk_does_not_make_our_own_mounts_a_finding() -> None:
    fresh = plan_of(bare_host(), shared_vg())
    storage = converged(shared_vg(), fresh)
    broken = tuple(replace(group, missing_physical_volumes=1) for group in storage.volume_groups)
    assert "lacks 1" in finding(our_docker_ce_host(), replace(storage, volume_groups=broken)).found


# -- every finding, not only the first


def test_findings_on_disks_and_volume_come_at_once() -> None:
    storage = with_filesystem(with_docker_volume(), DEVICE)
    assert all_found(settings(volume_group="ubuntu-vg", volume_disks=["/dev/vdz"]), storage) == [
        "there is no disk /dev/vdz; this host has /dev/vda (101.0 GiB)",
        "the logical volume ubuntu-vg/docker-lv exists, with ext4 on it, and this project did not make it",
    ]


def test_disk_that_cannot_be_used_says_nothing_about_the_group() -> None:
    storage = with_group(spare_disk(), "docker-vg", SPARE)
    assert all_found(settings(volume_disks=["/dev/vdz"]), storage) == [
        f"there is no disk /dev/vdz; this host has /dev/vda (30.0 GiB), {SPARE} (20.0 GiB)"
    ]


def test_volume_in_a_group_that_lacks_a_disk_is_not_judged_by_what_cannot_be_read() -> None:
    """Its filesystem may be on the disk that is missing: nobody is told to remove it."""
    storage = with_docker_volume(tags=(TAG,))
    storage = replace(
        storage, volume_groups=tuple(replace(g, missing_physical_volumes=1) for g in storage.volume_groups)
    )
    unreadable = replace(storage, logical_volumes=tuple(replace(v, active=False) for v in storage.logical_volumes))
    for broken in (storage, unreadable):
        assert all_found(settings(), broken) == ["the volume group ubuntu-vg lacks 1 of its physical volumes"]


def test_group_and_disk_that_do_not_exist_are_both_reported() -> None:
    wanted = settings(volume_group="ubuntu_vg", volume_disks=["/dev/vdz"], volume_group_extend=True)
    assert all_found(wanted, shared_vg()) == [
        "there is no disk /dev/vdz; this host has /dev/vda (101.0 GiB)",
        "there is no volume group ubuntu_vg; this host has ubuntu-vg",
    ]


def test_volume_is_judged_where_the_group_has_no_room_for_its_size() -> None:
    found = all_found(settings(volume_size="120G"), with_filesystem(with_docker_volume(tags=(TAG,)), DEVICE, "xfs"))
    assert found[0].startswith("volume group ubuntu-vg has 70.0 GiB for Docker's volume")
    assert found[1:] == ["the logical volume ubuntu-vg/docker-lv holds xfs"]


# -- groups that other hosts may use


def with_group_of(**changes: Any) -> Storage:
    (group,) = shared_vg().volume_groups
    return replace(shared_vg(), volume_groups=(replace(group, **changes),))


UNFIT: list[tuple[dict[str, Any], str]] = [
    ({"kinds": ("exported",)}, "exported"),
    ({"kinds": ("clustered",)}, "clustered"),
    ({"kinds": ("shared",), "lock_type": "sanlock"}, "shared, locked by lvmlockd (sanlock)"),
    ({"read_only": True}, "read-only"),
]


@pytest.mark.parametrize(("changes", "kind"), UNFIT)
def test_group_that_is_not_this_hosts_alone_is_refused_and_never_chosen(changes: dict[str, Any], kind: str) -> None:
    storage = with_group_of(**changes)
    assert_says(
        finding(bare_host(), storage, settings(volume_group="ubuntu-vg")),
        found_has=f"the volume group ubuntu-vg is {kind}",
        needed="this host alone",
        action="set volume_group to another one",
    )
    found = finding(bare_host(), storage)
    assert f"no volume group that is chosen by itself: ubuntu-vg ({kind}); root has" in found.found
    assert "volume_group to" not in found.action
    beside = with_group(with_disk(storage), "data-vg", SPARE)
    assert plan_of(bare_host(), beside).volume_group == "data-vg"


@pytest.mark.parametrize("transport", ["iscsi", "fc"])
def test_group_on_a_san_is_used_only_by_its_name(transport: str) -> None:
    storage = with_group(spare_disk(transport=transport), "san-vg", SPARE)
    found = finding(bare_host(), storage)
    assert f"san-vg (on a SAN: {transport})" in found.found
    assert "or set volume_group to san-vg if no other host uses it" in found.action
    fresh = plan_of(bare_host(), storage, settings(volume_group="san-vg"))
    assert fresh.volume_group == "san-vg"
    assert plan_of(our_docker_ce_host(), converged(storage, fresh)).volume_group == "san-vg", "it has our volume"


def test_host_that_boots_from_a_san_uses_roots_group() -> None:
    disk, *others = shared_vg().devices
    storage = replace(shared_vg(), devices=(replace(disk, transport="fc"), *others))
    assert plan_of(bare_host(), storage).volume_group == "ubuntu-vg"


def test_file_is_made_beside_a_group_on_a_san() -> None:
    storage = replace(single_root(), volume_groups=with_group_of(kinds=("shared",)).volume_groups)
    assert plan_of(bare_host(), storage, settings(volume_file="60G")).volume_group == "docker-vg"


# -- what LVM activates


def activating(**lists: Any) -> Storage:
    return replace(shared_vg(), lvm_config=LvmConfig(**lists))


@pytest.mark.parametrize("setting", ["volume_list", "auto_activation_volume_list"])
def test_group_that_lvm_would_not_activate_is_refused(setting: str) -> None:
    assert_says(
        finding(bare_host(), activating(**{setting: ("root-vg", "ubuntu-vg/ubuntu-lv")})),
        found_has=f'activation/{setting} in lvm.conf is ["root-vg", "ubuntu-vg/ubuntu-lv"], and leaves out ubuntu-vg/docker-lv',
        needed="at every boot",
        action=f'add "ubuntu-vg" to {setting} in /etc/lvm/lvm.conf',
    )
    assert "is [], and leaves out" in finding(bare_host(), activating(**{setting: ()})).found
    for entry in ("ubuntu-vg", "ubuntu-vg/docker-lv", f"@{TAG}", "@*"):
        assert plan_of(bare_host(), activating(**{setting: (entry,)})).size


def test_list_for_the_boot_does_not_concern_the_group_on_a_file() -> None:
    on_file = settings(volume_file="60G")
    boot = replace(single_root(), lvm_config=LvmConfig(auto_activation_volume_list=(), event_activation=False))
    assert plan_of(bare_host(), boot, on_file).disk_file_bytes
    every = replace(single_root(), lvm_config=LvmConfig(volume_list=()))
    assert "leaves out docker-vg/docker-lv" in finding(bare_host(), every, on_file).found


def test_group_without_autoactivation_is_refused() -> None:
    found = finding(bare_host(), with_group_of(autoactivated=False))
    assert_says(
        found,
        found_has="ubuntu-vg is not activated at boot",
        needed="every boot",
        action="vgchange --setautoactivation y",
    )


def test_lvm_without_its_udev_rule_is_warned_about() -> None:
    (warning,) = examine(settings(), bare_host(), activating(event_activation=False)).warnings
    assert "global/event_activation is 0" in warning
