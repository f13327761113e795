"""Which hosts are provisioned, as what, and what is said to the others."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from bulkhead.names import BALLAST, CONTAINERD, DOCKER, SNAPSHOT_TAG
from pyinfra_lvm.model import BlockDevice, PhysicalVolume, Storage
from pyinfra_lvm.operations import UNFINISHED
from settings.model import Settings
from tasks.preflight import system
from tasks.preflight.examine import examine, report
from tasks.preflight.finding import Finding
from tasks.preflight.host import EngineData, HostState, Unit
from tasks.preflight.plan import Plan
from tasks.support.paths import DOCKER_SOURCE, TAG

from ..example_hosts import (
    DOCKER_CE_UNIT,
    GIB,
    MIB,
    SPARE,
    VOLUME_MOUNT,
    bare_host,
    converged,
    docker_host,
    on_the_way,
    our_docker_ce_host,
    settings,
    shared_vg,
    spare_disk,
    with_directory,
    with_filesystem,
    with_fstab,
    with_group,
    with_mount,
    with_tags,
    with_volume,
)

DEVICE = "/dev/mapper/ubuntu--vg-docker--lv"
ON_SPARE = settings(volume_disks=[SPARE])


def plan_of(state: HostState, storage: Storage, wanted: Settings | None = None, warnings: tuple[str, ...] = ()) -> Plan:
    result = examine(wanted or settings(), state, storage)
    assert result.findings == ()
    assert result.warnings == warnings
    assert result.plan
    return result.plan


def finding(state: HostState, storage: Storage, wanted: Settings | None = None) -> Finding:
    """The one finding on a host."""
    result = examine(wanted or settings(), state, storage)
    assert result.plan is None
    (only,) = result.findings
    return only


def assert_says(found: Finding, *, found_has: str, needed: str, action: str) -> None:
    assert found_has in found.found
    assert needed in found.needed
    assert action in found.action


# -- good hosts


def test_fresh_host_with_room_in_its_group_gets_60_percent_of_it() -> None:
    assert plan_of(bare_host(), shared_vg()) == Plan(
        volume_group="ubuntu-vg",
        new_physical_volumes=(),
        logical_volume="docker-lv",
        size=60 * GIB,
        reserve=5 * GIB,
        filesystem="ext4",
        engine="docker-ce",
        os_id="debian",
        os_codename="bookworm",
        skeletons=(),
        relocates=False,
        old_trees=False,
        containerd_store=False,
    )


def test_fresh_host_with_a_blank_disk_gets_all_of_it_but_the_reserve() -> None:
    plan = plan_of(bare_host(), spare_disk(), ON_SPARE)
    assert (plan.volume_group, plan.new_physical_volumes) == ("docker-vg", (SPARE,))
    assert 0.94 < plan.size / (20 * GIB) < 0.95


def test_unused_docker_is_set_aside_and_kept() -> None:
    storage = with_directory(shared_vg(), "/var/lib/docker", empty=False)
    storage = with_directory(storage, "/var/lib/containerd", empty=False)
    plan = plan_of(docker_host(), storage)
    assert plan.skeletons == ("/var/lib/docker", "/var/lib/containerd")
    assert plan.engine == "present"


def test_unused_engine_on_the_containerd_store_hides_nothing_and_passes() -> None:
    plan_of(docker_host(containerd_store=True, storage_driver="overlayfs"), shared_vg())


def test_data_on_the_mounted_volume_is_where_it_belongs() -> None:
    fresh = plan_of(bare_host(), shared_vg())
    state = our_docker_ce_host(docker_data=EngineData(images=9), containerd_data=EngineData(images=1))
    assert plan_of(state, converged(shared_vg(), fresh)) == fresh


@pytest.mark.parametrize("wanted", [settings(), settings(volume_size="50G"), settings(volume_size="80%FREE")], ids=str)
@pytest.mark.parametrize("state", [bare_host(), our_docker_ce_host()], ids=["engine absent", "engine installed"])
def test_every_interrupted_run_in_a_shared_group_goes_on_with_the_same_plan(state: HostState, wanted: Settings) -> None:
    fresh = plan_of(bare_host(), shared_vg(), wanted)
    for step, storage in on_the_way(shared_vg(), fresh):
        assert plan_of(state, storage, wanted) == fresh, step


@pytest.mark.parametrize("lost", ["mounts", "fstab"])
def test_volume_that_lost_its_mounts_or_its_lines_is_ours_all_the_same(lost: str) -> None:
    fresh = plan_of(bare_host(), shared_vg())
    whole = converged(shared_vg(), fresh)
    assert plan_of(our_docker_ce_host(), replace(whole, **{lost: getattr(shared_vg(), lost)})) == fresh


def test_half_made_filesystem_of_another_type_is_made_anew() -> None:
    storage = with_filesystem(_with_foreign_volume(tags=(UNFINISHED, TAG)), DEVICE, "xfs")
    assert plan_of(bare_host(), storage) == plan_of(bare_host(), shared_vg())


def test_every_interrupted_run_on_a_spare_disk_goes_on_with_the_same_plan() -> None:
    fresh = plan_of(bare_host(), spare_disk(), ON_SPARE)
    for step, storage in on_the_way(spare_disk(), fresh):
        new = () if storage.volume_groups else fresh.new_physical_volumes
        assert plan_of(our_docker_ce_host(), storage, ON_SPARE) == replace(fresh, new_physical_volumes=new), step


def test_run_cut_while_setting_unused_stores_aside_goes_on() -> None:
    fresh = plan_of(docker_host(), shared_vg())
    half = with_directory(shared_vg(), "/var/lib/docker")
    half = with_directory(half, "/var/lib/containerd", empty=False)
    assert plan_of(docker_host(), half) == replace(fresh, skeletons=("/var/lib/containerd",))


def test_run_cut_inside_apt_goes_on_with_the_engine_it_began() -> None:
    assert plan_of(bare_host(docker_sources=(DOCKER_SOURCE,)), shared_vg()).engine == "docker-ce"
    assert plan_of(our_docker_ce_host(units=()), shared_vg()).engine == "docker-ce"


def test_docker_ce_that_somebody_installed_stays_as_it_is() -> None:
    state = our_docker_ce_host(docker_sources=("/etc/apt/sources.list.d/docker.list",))
    assert plan_of(state, shared_vg()).engine == "present"


def test_distribution_engine_stays_though_our_repository_is_left_over() -> None:
    assert plan_of(docker_host(docker_sources=(DOCKER_SOURCE,)), shared_vg()).engine == "present"


def test_engine_may_change_where_there_is_no_data() -> None:
    wanted = settings(engine_source="docker-ce", engine_change=True)
    assert plan_of(docker_host(), shared_vg(), wanted).engine == "docker-ce"


def test_the_rest_of_the_group_may_be_used_up_after_the_volume_was_made() -> None:
    """The incident's own layout: a home-lv of 10 GiB beside root's 30 and Docker's 60."""
    fresh = plan_of(bare_host(), shared_vg())
    full = with_volume(converged(shared_vg(), fresh), "ubuntu-vg", "home-lv", 10 * GIB)
    assert examine(settings(), our_docker_ce_host(), full).plan == fresh


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
    storage = with_group(_with_disk(converged(shared_vg(), fresh)), "data-vg", SPARE)
    storage = with_volume(storage, "data-vg", "docker-lv", 5 * GIB)
    assert plan_of(our_docker_ce_host(), storage) == fresh


def test_volume_is_adopted_when_asked_for() -> None:
    storage = with_filesystem(with_volume(shared_vg(), "ubuntu-vg", "docker-lv", 60 * GIB), DEVICE)
    assert plan_of(bare_host(), storage, settings(adopt_volume=True)).size == 60 * GIB


def test_volume_that_is_mounted_in_a_further_place_stays_ours() -> None:
    fresh = plan_of(bare_host(), shared_vg())
    storage = with_mount(converged(shared_vg(), fresh), "/data/models", DEVICE, "/models")
    assert plan_of(our_docker_ce_host(), storage) == fresh


def test_volume_unmounted_under_its_stores_is_mounted_again() -> None:
    fresh = plan_of(bare_host(), shared_vg())
    storage = converged(shared_vg(), fresh)
    storage = replace(storage, mounts=tuple(m for m in storage.mounts if m.target != VOLUME_MOUNT))
    assert plan_of(our_docker_ce_host(), storage) == fresh


def test_docker_group_takes_a_further_disk() -> None:
    fresh = plan_of(bare_host(), spare_disk(), ON_SPARE)
    storage = converged(spare_disk(), fresh)
    second = BlockDevice("/dev/vdc", "disk", 20 * GIB, False, (), (), (), (), zeroed=True)
    storage = replace(storage, devices=(*storage.devices, second))
    grown = plan_of(our_docker_ce_host(), storage, settings(volume_disks=[SPARE, "/dev/vdc"]))
    assert grown.new_physical_volumes == ("/dev/vdc",)
    assert grown.size > 1.9 * fresh.size


def test_snapshot_of_the_volume_makes_dockers_own_group_no_shared_one() -> None:
    fresh = plan_of(bare_host(), spare_disk(), ON_SPARE)
    storage = with_volume(converged(spare_disk(), fresh), "docker-vg", "docker-lv-snapshot", GIB, origin="docker-lv")
    result = examine(ON_SPARE, our_docker_ce_host(), storage)
    assert result.plan == replace(fresh, new_physical_volumes=())
    (warning,) = result.warnings
    assert "less than the reserve" in warning


def test_extending_roots_group_says_what_it_costs() -> None:
    wanted = settings(volume_group="ubuntu-vg", volume_disks=[SPARE], volume_group_extend=True)
    result = examine(wanted, bare_host(), _with_disk(shared_vg()))
    assert result.plan
    assert result.plan.size < 75 * GIB  # beside other volumes: 60 %, not nearly all
    assert result.warnings == (
        f"the volume group ubuntu-vg is extended by {SPARE}: when one of its disks is lost, the host does not boot",
    )


def test_another_release_passes_with_a_warning_when_allowed() -> None:
    warning = "debian sid is not a release that this project is tested on (allow_unsupported_release)"
    sid = bare_host(os_version="", os_codename="sid")
    plan_of(sid, shared_vg(), settings(allow_unsupported_release=True), warnings=(warning,))


def test_daemon_json_of_others_is_no_obstacle() -> None:
    own = json.dumps({"registry-mirrors": ["https://mirror.example.com"], "data-root": "/var/lib/docker/"})
    plan_of(docker_host(daemon_json=own), shared_vg())


@pytest.mark.parametrize(
    "exec_start",
    [DOCKER_CE_UNIT, "/usr/sbin/dockerd -H fd:// $DOCKER_OPTS", f"{DOCKER_CE_UNIT} -H tcp://127.0.0.1:2375"],
)
def test_flags_of_distributions_and_further_sockets_are_no_obstacle(exec_start: str) -> None:
    plan_of(docker_host(exec_start), shared_vg())


def test_options_that_the_unit_does_not_read_are_no_obstacle() -> None:
    plan_of(our_docker_ce_host(docker_options="--dns 192.0.2.1"), shared_vg())


# -- bad hosts: the system


def test_without_root_nothing_else_is_judged() -> None:
    result = examine(settings(), HostState(1000, "", "", "", "", systemd=False), Storage())
    (only,) = result.findings
    assert_says(only, found_has="not root", needed="through sudo", action='set "_sudo": True')


def test_another_run_is_named() -> None:
    result = examine(settings(), bare_host(), shared_vg(), "anna on laptop (process 7), since 2026-11-23 21:00:00 UTC")
    assert result.plan is None
    (only,) = result.findings
    assert_says(only, found_has="anna on laptop", needed="one run at a time", action="wait until it has ended")


@pytest.mark.parametrize(
    ("os_id", "version", "shown"),
    [
        ("debian", "11", "debian 11"),
        ("ubuntu", "25.10", "ubuntu 25.10"),
        ("fedora", "43", "fedora 43"),
        ("", "", "unknown"),
    ],
)
def test_unsupported_release_is_refused(os_id: str, version: str, shown: str) -> None:
    found = finding(bare_host(os_id=os_id, os_version=version, os_codename=""), shared_vg())
    assert_says(found, found_has=shown, needed="Ubuntu 22.04, 24.04, 26.04", action="allow_unsupported_release = True")


def test_another_distribution_is_refused_whatever_the_settings() -> None:
    found = finding(bare_host(os_id="fedora"), shared_vg(), settings(allow_unsupported_release=True))
    assert "fedora" in found.found


def test_unsupported_architecture_is_refused() -> None:
    found = finding(bare_host(architecture="riscv64"), shared_vg())
    assert_says(found, found_has="riscv64", needed="amd64 or arm64", action="another machine")


def test_host_without_systemd_is_refused() -> None:
    found = finding(bare_host(systemd=False), shared_vg())
    assert_says(found, found_has="not PID 1", needed="systemd", action="boot the host with systemd")


# -- bad hosts: Docker


@pytest.mark.parametrize(
    ("state", "found", "needed", "action"),
    [
        (bare_host(snap_docker=True), "snap", "from packages", "snap remove docker"),
        (bare_host(rootless_docker=("anna", "ben")), "of anna, ben", "home directory", "uninstall"),
        (
            bare_host(packages={"podman-docker": "4.3"}),
            "podman-docker",
            "Docker itself",
            "apt-get remove podman-docker",
        ),
        (docker_host(swarm=True), "Swarm is active", "no Swarm", "docker swarm leave"),
        (bare_host(kubernetes=("/var/lib/kubelet",)), "/var/lib/kubelet", "Docker alone", "leave this host out"),
        (docker_host(containerd_namespaces=("k8s.io",)), "k8s.io", "Docker's own alone", "ctr namespaces ls"),
        (docker_host(storage_driver="btrfs"), "driver is btrfs", "overlay2", "change the driver"),
        (docker_host(data_root="/data/docker"), "/data/docker", "default, /var/lib/docker", "remove data-root"),
        (docker_host(containerd_root="/data/containerd"), "/data/containerd", "/var/lib/containerd", "config.toml"),
        (docker_host(daemon_json="{nonsense"), "not a JSON object", "merge", "correct /etc/docker/daemon.json"),
        (docker_host(daemon_json="[]"), "not a JSON object", "merge", "correct /etc/docker/daemon.json"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_host_of_others_is_refused(state: HostState, found: str, needed: str, action: str) -> None:
    assert_says(finding(state, shared_vg()), found_has=found, needed=needed, action=action)


@pytest.mark.parametrize(
    ("key", "value", "found"),
    [
        ("data-root", "/data/docker", "data root is /data/docker"),
        ("graph", "/data/docker", "data root is /data/docker"),
        ("storage-driver", "zfs", "sets the storage driver zfs"),
    ],
)
def test_daemon_json_counts_though_the_daemon_runs_without_it_yet(key: str, value: str, found: str) -> None:
    assert found in finding(docker_host(daemon_json=json.dumps({key: value})), shared_vg()).found


@pytest.mark.parametrize(
    ("unit", "flags"),
    [
        (Unit(DOCKER, "loaded", f"{DOCKER_CE_UNIT} --data-root=/data --debug"), "--data-root=/data --debug"),
        (Unit(DOCKER, "loaded", "/usr/bin/dockerd -H fd:// --log-driver journald"), "--log-driver journald"),
        (Unit(CONTAINERD, "loaded", "/usr/bin/containerd --root /data"), "--root /data"),
    ],
)
def test_flags_of_others_are_refused(unit: Unit, flags: str) -> None:
    others = tuple(u for u in docker_host().units if u.name != unit.name)
    found = finding(docker_host(units=(*others, unit)), shared_vg())
    assert_says(found, found_has=flags, needed="none", action="the setting daemon_json")


def test_options_that_debians_unit_reads_are_flags_too() -> None:
    found = finding(docker_host(docker_options="--dns 192.0.2.1 -H tcp://127.0.0.1:2375"), shared_vg())
    assert found.found.endswith("of somebody's own: --dns 192.0.2.1")


def test_options_that_an_engine_would_find_count_before_it_is_installed() -> None:
    assert "-g /data" in finding(bare_host(docker_options="-g /data"), shared_vg()).found


def test_masked_units_are_refused() -> None:
    found = finding(bare_host(units=(Unit(DOCKER, "masked"),)), shared_vg())
    assert_says(found, found_has="docker.service: masked", needed="started", action="systemctl unmask docker.service")


CONTAINERD_DATA = EngineData(images=12, layers=30)


@pytest.mark.parametrize(
    ("state", "stays"),
    [
        (docker_host(containerd_store=True, storage_driver="overlayfs", containerd_data=CONTAINERD_DATA), True),
        (docker_host(docker_data=EngineData(images=1), containerd_data=CONTAINERD_DATA), False),
        (docker_host(storage_driver="", containerd_data=CONTAINERD_DATA), True),
        (docker_host(daemon_json='{"features": {"containerd-snapshotter": true}}'), True),
        (docker_host(daemon_json='{"features": []}'), False),
        # The file was edited, and Docker not restarted.
        (
            docker_host(docker_data=EngineData(images=1), daemon_json='{"features": {"containerd-snapshotter": true}}'),
            False,
        ),
    ],
)
def test_engine_stays_on_the_store_that_has_its_images(state: HostState, stays: bool) -> None:
    assert system.uses_containerd_store(state) is stays


# -- data to be moved

USED = {"docker_data": EngineData(images=3, containers=1, volumes=2), "store_bytes": 40 * GIB, "store_inodes": 10**6}


@pytest.mark.parametrize("store", ["docker", "containerd"])
def test_data_off_the_volume_is_moved(store: str) -> None:
    data = EngineData(images=3)
    state = docker_host(docker_data=data) if store == "docker" else docker_host(containerd_data=data)
    plan = plan_of(state, with_directory(shared_vg(), f"/var/lib/{store}", empty=False))
    assert plan.relocates
    assert plan.old_trees
    assert plan.skeletons == ()


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
    assert_says(found, found_has="/var/lib/docker is not empty beneath", needed="empty", action="look at what is there")


@pytest.mark.parametrize(
    ("changes", "wanted", "found_has", "needed", "action"),
    [
        ({"storage_driver": ""}, {}, "Docker does not run", "a running Docker", "systemctl start docker"),
        (
            {"store_bytes": 55 * GIB},
            {},
            "55.0 GiB of Docker's, and a volume of 60.0 GiB",
            "60.5 GiB",
            "volume_size",
        ),
        ({"store_inodes": 10**7}, {}, "10000000 files of Docker's", "11000000 inodes", '"xfs"'),
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


def test_present_engine_that_is_not_there_is_refused() -> None:
    found = finding(bare_host(), shared_vg(), settings(engine_source="present"))
    assert_says(
        found, found_has="no docker.service and no containerd.service", needed="installed", action='"docker-ce"'
    )


def test_dockerd_from_nowhere_without_units_is_refused() -> None:
    found = finding(bare_host(dockerd="/usr/local/bin/dockerd"), shared_vg())
    assert_says(
        found, found_has="but /usr/local/bin/dockerd", needed="with its units", action="install Docker completely"
    )


def test_pin_below_the_installed_version_is_refused() -> None:
    found = finding(our_docker_ce_host(), shared_vg(), settings(engine_source="docker-ce", engine_version="28.5"))
    assert_says(found, found_has="engine_version is 28.5", needed="never downgraded", action="set engine_version")
    plan_of(our_docker_ce_host(), shared_vg(), settings(engine_source="docker-ce", engine_version="29.1"))


def upgrade(version: str, **changes: object) -> Settings:
    return settings(engine_source="docker-ce", engine_version=version, **changes)


def _step(wanted: Settings) -> str:
    return f"{wanted.engine_version or 'unpinned'}{'' if wanted.live_restore else ' without live-restore'}"


BUSY = our_docker_ce_host(containers_running=2)  # Docker 29.1.3


@pytest.mark.parametrize(
    "wanted", [upgrade("29.2"), upgrade("30.0.1"), upgrade("29.1.4", live_restore=False)], ids=_step
)
def test_upgrade_that_running_containers_do_not_outlive_is_refused_without_consent(wanted: Settings) -> None:
    found = finding(BUSY, shared_vg(), wanted)
    assert_says(
        found,
        found_has=f"the engine is to go from 5:29.1.3-1~debian.12~bookworm to {wanted.engine_version}",
        needed="a step to a patch release with live_restore",
        action="engine_upgrade_stops_containers = True",
    )
    plan_of(replace(BUSY, containers_running=0), shared_vg(), wanted)
    plan_of(BUSY, shared_vg(), wanted.model_copy(update={"engine_upgrade_stops_containers": True}))


@pytest.mark.parametrize(
    "wanted",
    [upgrade("29.1.4"), upgrade("29.1.3", live_restore=False), upgrade("29.1", live_restore=False), settings()],
    ids=_step,
)
def test_containers_may_run_where_they_outlive_the_step_or_there_is_none(wanted: Settings) -> None:
    plan_of(BUSY, shared_vg(), wanted)


def test_upgrade_that_was_cut_with_containers_stopped_goes_on_whatever_runs_by_now() -> None:
    plan_of(replace(BUSY, stopped_by_upgrade=True), shared_vg(), upgrade("30.0.1"))


def test_client_of_another_version_is_no_upgrade() -> None:
    plan_of(replace(BUSY, packages=BUSY.packages | {"docker-ce-cli": "5:28.0.0-1"}), shared_vg(), upgrade("29.1.3"))


def test_upgrade_of_the_distributions_engine_counts_too() -> None:
    state = replace(BUSY, packages={"docker.io": "20.10.24+dfsg1-1"}, docker_sources=())
    found = finding(state, shared_vg(), settings(engine_source="distro", engine_version="26.1"))
    assert "from 20.10.24+dfsg1-1 to 26.1" in found.found


@pytest.mark.parametrize(
    ("written", "found_has", "needed", "action"),
    [
        ({"userns-remap": "default"}, "userns-remap", "another data root", "remove userns-remap"),
        (
            {"log-driver": "fluentd", "log-opts": {"fluentd-address": "192.0.2.1"}},
            "the log driver fluentd",
            "json-file",
            "remove log-driver and log-opts",
        ),
    ],
)
def test_settings_of_others_that_cannot_stay_are_refused(
    written: dict[str, object], found_has: str, needed: str, action: str
) -> None:
    found = finding(docker_host(daemon_json=json.dumps(written)), shared_vg())
    assert_says(found, found_has=found_has, needed=needed, action=action)


def test_another_engine_than_the_installed_one_needs_its_setting() -> None:
    found = finding(docker_host(), shared_vg(), settings(engine_source="docker-ce"))
    assert_says(
        found, found_has="distro is installed", needed="docker-ce, as engine_source", action="engine_change = True"
    )


def test_engine_does_not_change_under_data() -> None:
    fresh = plan_of(bare_host(), shared_vg())
    found = finding(
        docker_host(docker_data=EngineData(volumes=1)),
        converged(shared_vg(), fresh),
        settings(engine_source="docker-ce", engine_change=True),
    )
    assert_says(found, found_has="1 volume", needed="no data", action="docker volume rm")


def test_engine_that_no_package_brought_cannot_be_changed() -> None:
    state = docker_host(DOCKER_CE_UNIT, packages={}, dockerd="/usr/bin/dockerd")
    found = finding(state, shared_vg(), settings(engine_source="distro", engine_change=True))
    assert_says(found, found_has="/usr/bin/dockerd", needed="from packages", action='engine_source to "present"')


def test_second_entry_for_dockers_repository_is_refused() -> None:
    state = bare_host(docker_sources=("/etc/apt/sources.list.d/docker.list",))
    found = finding(state, shared_vg())
    assert_says(
        found, found_has="docker.list", needed=DOCKER_SOURCE, action="remove /etc/apt/sources.list.d/docker.list"
    )


# -- bad hosts: room


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
        needed="65.0 GiB, for volume_size auto and volume_reserve 5%",
        action="set a smaller volume_size, or name a blank disk in volume_disks (there is none: attach one)",
    )
    assert "never shrunk" in found.action


def test_size_beyond_the_free_space_says_how_much_is_free() -> None:
    found = finding(bare_host(), shared_vg(), settings(volume_size="80G"))
    assert_says(
        found, found_has="has 70.0 GiB for", needed="80.0 GiB, for volume_size 80G", action="smaller volume_size"
    )


def test_missing_group_is_refused_with_those_there_are() -> None:
    found = finding(bare_host(), shared_vg(), settings(volume_group="data-vg"))
    assert_says(
        found, found_has="no volume group data-vg; there is: ubuntu-vg", needed="names", action="correct volume_group"
    )


def test_two_groups_with_room_are_ambiguous() -> None:
    storage = with_group(_with_disk(shared_vg()), "data-vg", SPARE)
    found = finding(bare_host(), storage, settings(volume_size="10G"))
    assert_says(
        found,
        found_has="2 volume groups with room for the volume: ubuntu-vg (70.0 GiB free), data-vg (",
        needed="one",
        action="set volume_group",
    )


def test_two_groups_without_room_are_both_shown() -> None:
    storage = with_group(_with_disk(shared_vg()), "data-vg", SPARE)
    found = finding(bare_host(), storage, settings(volume_size="90G"))
    assert_says(found, found_has="no volume groups with room", needed="one", action="smaller volume_size")


def test_group_that_misses_a_disk_is_refused() -> None:
    groups = tuple(replace(group, missing_physical_volumes=1) for group in shared_vg().volume_groups)
    found = finding(bare_host(), replace(shared_vg(), volume_groups=groups))
    assert_says(found, found_has="misses 1 of its physical volumes", needed="complete", action="bring the disk back")


# -- bad hosts: disks


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
        found_has=f"no disk /dev/disk/by-id/virtio-gone; there is: /dev/vda (30.0 GiB), {SPARE} (20.0 GiB)",
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
        "no disk /dev/vdz",
        "/dev/vda (30.0 GiB) carries a signature: gpt",
    ]


def test_disk_of_another_group_is_refused() -> None:
    found = finding(bare_host(), with_group(spare_disk(), "data-vg", SPARE), ON_SPARE)
    assert_says(found, found_has="in the volume group data-vg", needed="a blank disk", action="volume_group to data-vg")


def test_disk_that_is_too_small_is_refused() -> None:
    found = finding(bare_host(), spare_disk(size=500 * MIB), ON_SPARE)
    assert_says(
        found,
        found_has=f"volume group docker-vg, made of {SPARE}, has 468.0 MiB",
        needed="1.0 GiB",
        action="name a blank disk in volume_disks (there is none: attach one)",
    )


def test_group_of_others_is_not_extended_without_its_setting() -> None:
    wanted = settings(volume_group="ubuntu-vg", volume_disks=[SPARE])
    found = finding(bare_host(), _with_disk(shared_vg()), wanted)
    assert_says(
        found,
        found_has=f"ubuntu-vg exists, on /dev/vda1, and without {SPARE}",
        needed="of Docker's own",
        action="the host does not boot",
    )


def test_group_without_volumes_is_not_ours_for_that() -> None:
    storage = _with_disk(shared_vg())
    empty = replace(storage, logical_volumes=())
    found = finding(bare_host(), empty, settings(volume_group="ubuntu-vg", volume_disks=[SPARE]))
    assert_says(found, found_has="exists, on /dev/vda1", needed="of Docker's own", action="volume_group_extend")


def test_misspelled_group_is_not_made_where_one_was_to_be_extended() -> None:
    wanted = settings(volume_group="ubuntu_vg", volume_disks=[SPARE], volume_group_extend=True)
    found = finding(bare_host(), _with_disk(shared_vg()), wanted)
    assert_says(found, found_has="no volume group ubuntu_vg", needed="volume_group", action="correct volume_group")


def test_volume_with_a_snapshot_does_not_grow() -> None:
    fresh = plan_of(bare_host(), shared_vg())
    storage = with_volume(converged(shared_vg(), fresh), "ubuntu-vg", "before", GIB, origin="docker-lv")
    assert plan_of(our_docker_ce_host(), storage, settings(volume_size="60G"), warnings=()).size == fresh.size
    found = finding(our_docker_ce_host(), storage, settings(volume_size="62G"))
    assert_says(found, found_has="has a snapshot, before", needed="no snapshot", action="lvremove ubuntu-vg/before")
    storage = with_volume(
        converged(shared_vg(), fresh), "ubuntu-vg", "docker-lv-snapshot", GIB, origin="docker-lv", tags=(SNAPSHOT_TAG,)
    )
    found = finding(our_docker_ce_host(), storage, settings(volume_size="62G"))
    assert_says(found, found_has="docker-lv-snapshot", needed="no snapshot", action="`bulkhead snapshot drop`")
    merging = replace(
        storage, logical_volumes=tuple(replace(v, merging=bool(v.origin)) for v in storage.logical_volumes)
    )
    found = finding(our_docker_ce_host(), merging, settings(volume_size="62G"))
    assert_says(found, found_has="docker-lv-snapshot", needed="no snapshot", action="wait: LVM is still merging it")


# -- bad hosts: the logical volume


def _with_disk(storage: Storage) -> Storage:
    return replace(storage, devices=(*storage.devices, spare_disk().devices[-1]))


def _with_foreign_volume(**changes: object) -> Storage:
    return with_volume(shared_vg(), "ubuntu-vg", "docker-lv", 60 * GIB, **changes)


ADOPTING = settings(adopt_volume=True)


def test_volume_of_that_name_that_is_not_ours_is_refused() -> None:
    found = finding(bare_host(), with_filesystem(_with_foreign_volume(), DEVICE, "xfs"))
    assert_says(
        found,
        found_has="there is a logical volume ubuntu-vg/docker-lv that is not ours, with xfs on it",
        needed="free",
        action="adopt_volume = True",
    )


def test_unfinished_volume_that_has_been_mounted_since_is_not_made_anew() -> None:
    storage = with_filesystem(_with_foreign_volume(tags=(UNFINISHED, TAG)), DEVICE)
    used = replace(storage, filesystems=tuple(replace(f, used=True) for f in storage.filesystems))
    found = finding(bare_host(), used)
    assert_says(found, found_has="has been mounted", needed="tag says the truth", action="--deltag")


def test_unfinished_volume_that_fstab_names_by_its_uuid_is_not_made_anew() -> None:
    storage = with_filesystem(_with_foreign_volume(tags=(UNFINISHED, TAG)), DEVICE)
    named = tuple(
        replace(d, aliases=(*d.aliases, "/dev/disk/by-uuid/1234")) if DEVICE in d.aliases else d
        for d in storage.devices
    )
    found = finding(bare_host(), with_fstab(replace(storage, devices=named), "UUID=1234", "/data"))
    assert_says(found, found_has="is in fstab", needed="tag says the truth", action="--deltag")


def test_foreign_volume_that_is_mounted_elsewhere_is_refused() -> None:
    storage = with_mount(with_filesystem(_with_foreign_volume(), DEVICE), "/data", DEVICE)
    found = finding(bare_host(), storage, ADOPTING)
    assert_says(found, found_has="is mounted on /data", needed="Docker's own", action="set logical_volume")


@pytest.mark.parametrize(
    ("names", "found_has"),
    [
        (["lost+found", "overlay2", "image"], "holds image, overlay2"),
        (["unreadable"], "holds unreadable"),
        (["docker", "docker/overlay2", "docker/vfs"], "another storage driver: docker/vfs"),
    ],
)
def test_adopted_volume_with_anything_else_on_it_is_refused(names: list[str], found_has: str) -> None:
    storage = with_filesystem(_with_foreign_volume(), DEVICE)
    (found,) = examine(ADOPTING, bare_host(), storage, adopted=names).findings
    assert found_has in found.found
    assert examine(ADOPTING, bare_host(), storage, adopted=["docker", "docker/overlay2", "containerd", BALLAST]).plan


@pytest.mark.parametrize(
    "shape", [{"segment_type": "striped"}, {"segment_type": "thin"}, {"segment_type": "linear", "origin": "root"}]
)
def test_volume_of_the_wrong_shape_is_not_adopted(shape: dict[str, str]) -> None:
    found = finding(bare_host(), with_filesystem(_with_foreign_volume(**shape), DEVICE), ADOPTING)
    assert_says(found, found_has=f"of the type {shape['segment_type']}", needed="linear", action="set logical_volume")


@pytest.mark.parametrize(
    ("fstype", "action"),
    [("xfs", 'set filesystem to "xfs"'), ("ext3", "never replaced"), (None, "look at what is on it")],
)
def test_volume_with_another_filesystem_is_refused(fstype: str | None, action: str) -> None:
    storage = with_tags(_with_foreign_volume(), "docker-lv", TAG)
    if fstype:
        storage = with_filesystem(storage, DEVICE, fstype)
    found = finding(bare_host(), storage)
    assert_says(found, found_has=f"holds {fstype or 'no ext4 or xfs'}", needed="ext4", action=action)


def test_volume_smaller_than_its_filesystem_is_refused() -> None:
    storage = with_filesystem(_with_foreign_volume(tags=(TAG,)), DEVICE, size=61 * GIB)
    found = finding(bare_host(), storage)
    assert_says(
        found,
        found_has="has 60.0 GiB, its filesystem 61.0 GiB",
        needed="at least as large",
        action="lvextend --size 65498251264b",
    )


def test_inactive_volume_is_refused() -> None:
    found = finding(bare_host(), _with_foreign_volume(tags=(TAG,), active=False))
    assert_says(
        found, found_has="is not active", needed="can be read", action="lvchange --activate y ubuntu-vg/docker-lv"
    )


def test_unfinished_volume_of_others_is_never_made_anew() -> None:
    storage = with_filesystem(_with_foreign_volume(tags=(UNFINISHED,)), DEVICE)
    found = finding(bare_host(), storage, ADOPTING)
    assert_says(
        found,
        found_has="unfinished, and is not ours",
        needed="filesystem anew",
        action="lvchange --deltag pyinfra-unfinished",
    )


def test_unfinished_volume_that_was_mounted_is_never_made_anew() -> None:
    storage = with_filesystem(_with_foreign_volume(tags=(UNFINISHED, TAG)), DEVICE)
    found = finding(bare_host(), with_mount(storage, "/mnt", DEVICE))
    assert_says(
        found, found_has="mounted on /mnt", needed="filesystem anew", action="lvchange --deltag pyinfra-unfinished"
    )


def test_unfinished_volume_that_is_in_fstab_is_never_made_anew() -> None:
    storage = with_filesystem(_with_foreign_volume(tags=(UNFINISHED, TAG)), DEVICE)
    found = finding(bare_host(), with_fstab(storage, DEVICE, VOLUME_MOUNT))
    assert_says(found, found_has="in fstab", needed="filesystem anew", action="lvchange --deltag pyinfra-unfinished")


# -- bad hosts: mounts


def _with_foreign_mount(target: str) -> Storage:
    storage = with_volume(shared_vg(), "ubuntu-vg", "data-lv", 2 * GIB)
    return with_mount(storage, target, "/dev/mapper/ubuntu--vg-data--lv")


@pytest.mark.parametrize("path", ["/var/lib/docker", "/var/lib/containerd"])
def test_store_on_a_filesystem_of_others_is_refused(path: str) -> None:
    found = finding(docker_host(), _with_foreign_mount(path))
    assert_says(
        found,
        found_has=f"{path} is on a filesystem of its own already: /dev/mapper/ubuntu--vg-data--lv",
        needed=f"/srv/docker-volume/{path.rsplit('/')[-1]}, or nothing",
        action="adopt_volume = True",
    )


def test_store_on_the_root_of_our_volume_is_refused() -> None:
    storage = with_filesystem(_with_foreign_volume(tags=(TAG,)), DEVICE)
    found = finding(docker_host(), with_mount(storage, "/var/lib/docker", DEVICE))
    assert "/var/lib/docker is on a filesystem of its own already" in found.found


def test_foreign_mount_in_the_volumes_place_is_refused() -> None:
    found = finding(bare_host(), _with_foreign_mount(VOLUME_MOUNT))
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
    assert_says(
        found, found_has="not empty beneath what is mounted on it", needed="empty", action="mount --bind / /mnt"
    )


def test_group_that_lost_a_disk_does_not_make_our_own_mounts_a_finding() -> None:
    fresh = plan_of(bare_host(), shared_vg())
    storage = converged(shared_vg(), fresh)
    broken = tuple(replace(group, missing_physical_volumes=1) for group in storage.volume_groups)
    assert "misses 1" in finding(our_docker_ce_host(), replace(storage, volume_groups=broken)).found


# -- all of it, in one message


def test_every_finding_is_reported_in_one_message() -> None:
    state = docker_host(swarm=True, architecture="i386", docker_data=EngineData(images=1))
    result = examine(settings(volume_group="nope"), state, with_fstab(shared_vg(), "UUID=1", "/var/lib/docker"))
    text = report("web-1", result.findings)
    assert text.startswith(
        "web-1 was left untouched: 4 findings\n\n  found:  the architecture is i386\n  needed: amd64 or"
    )
    assert text.count("  do:     ") == 4


def _in_no_group(**changes: object) -> Storage:
    storage = spare_disk(signatures=("LVM2_member",), zeroed=False, **changes)
    return replace(storage, physical_volumes=(PhysicalVolume("/dev/vdb", "", 20 * GIB, 20 * GIB),))


def test_physical_volume_that_was_never_in_a_group_is_our_own_unfinished_work() -> None:
    storage = _in_no_group(zeroed_beyond_header=True)
    assert plan_of(bare_host(), storage, ON_SPARE).new_physical_volumes == (SPARE,)


@pytest.mark.parametrize("beyond", [False, None])
def test_physical_volume_of_a_removed_group_is_refused(beyond: bool | None) -> None:
    found = finding(bare_host(), _in_no_group(zeroed_beyond_header=beyond), ON_SPARE)
    assert_says(found, found_has="`vgcfgrestore` may bring back", needed="a blank disk", action="name another disk")
