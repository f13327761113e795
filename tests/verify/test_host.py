"""Examine a provisioned host from outside, with the system's own tools. The name of each test is a sentence."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from bulkhead.names import (
    BALLAST,
    CONTAINERD,
    DOCKER,
    DOCKER_SOCKET,
    GUARD_SERVICE,
    MARKER,
    VOLUME_FILE,
    VOLUME_FILE_SERVICE,
)
from pyinfra_lvm.operations import GROWTH_TOLERANCE
from tasks.support.paths import DOCKER_HOST, DROP_INS, EPHEMERAL_SERVICE, FSTAB, STORES
from tests.verify import questions
from tests.verify.conftest import Target

# The files of a container's log, in its directory, by log driver.
LOGS = {"json-file": "*-json.log*", "local": "local-logs/container.log*"}


def test_volume_is_a_plain_logical_volume(target: Target) -> None:
    volume = target.logical_volume
    assert volume["lv_name"] == target.settings.logical_volume
    assert target.device == volume["lv_dm_path"]
    # A mirror that somebody made stays one.
    wanted = {"raid1": {"raid1"}, "raid0": {"striped"}, "": {"linear", "striped", "raid1"}}
    assert volume["segtype"] in wanted[target.settings.volume_raid]
    assert "pyinfra-unfinished" not in volume["lv_tags"].split(",")


def test_mirror_is_whole_and_each_copy_is_on_a_disk_of_its_own(target: Target) -> None:
    if target.logical_volume["segtype"] != "raid1":
        pytest.skip("the volume is no mirror")
    assert target.logical_volume["lv_health_status"] == ""
    rows = [line.split() for line in target.output("parts of the volumes").splitlines()]
    name = target.logical_volume["lv_name"]
    disks = [
        {row[-1].partition("(")[0] for row in rows if len(row) > 1 and row[0] == f"[{name}_rimage_{copy}]"}
        for copy in (0, 1)
    ]
    assert all(disks)
    assert not disks[0] & disks[1]
    target.output("the mirror's unit is enabled")


def test_boot_makes_the_volume_anew_on_ephemeral_disks_before_it_is_mounted(target: Target) -> None:
    if not target.settings.volume_ephemeral:
        assert target.fails("script of ephemeral disks")
        return
    if target.fails("machine"):
        pytest.skip("the firmware has no UUID of its own: no boot makes anything")
    shown = set(target.output("the unit of ephemeral disks").splitlines())
    assert shown == {"ActiveState=active", "UnitFileState=enabled", "NeedDaemonReload=no"}
    target.output("script of ephemeral disks")
    _, _, after = target.output("needs of the mount").partition("After=")
    assert EPHEMERAL_SERVICE in after.split()


def test_volume_has_the_filesystem_of_the_settings(target: Target) -> None:
    if target.settings.adopt_filesystem:
        pytest.skip("a filesystem that was adopted stays what it is")
    assert target.mount(target.volume)["fstype"] == target.settings.filesystem


def test_volume_fills_its_logical_volume(target: Target) -> None:
    size = int(target.logical_volume["lv_size"])
    blocks, bytes_of_each = map(int, target.output("blocks of the filesystem").split())  # or the other way round
    assert size - blocks * bytes_of_each <= GROWTH_TOLERANCE


def test_adopted_filesystem_has_nothing_but_the_volume_at_its_top(target: Target) -> None:
    if not target.settings.adopt_filesystem:
        pytest.skip("the volume is a logical volume")
    names = set(target.output("top of the volume").splitlines())
    assert {*STORES, MARKER} <= names
    # What an adoption or a move that went back has left stays there until its owner removes it.
    assert not [
        name
        for name in names
        if not re.fullmatch(rf"{MARKER}|{BALLAST}|lost\+found|(docker|containerd)(\.left-\d+)?", name)
    ]
    assert target.fails("lost+found is in the store")


def test_volume_leaves_the_reserve_to_its_group(target: Target) -> None:
    volume, wanted = target.logical_volume, target.settings.volume_size
    size, extent = int(volume["vg_size"]), int(volume["vg_extent_size"])
    # A size in bytes may use up the reserve. So may other volumes later, which this test does not count.
    reserve = 0 if wanted and wanted.bytes else target.settings.volume_reserve.bytes_of(size)
    assert int(volume["lv_size"]) <= size - reserve + extent


def test_volume_and_both_stores_carry_their_markers(target: Target) -> None:
    target.output("markers")


def test_volume_is_mounted_private(target: Target) -> None:
    # Not the stores: Docker shares their mount when it starts (moby, setupDaemonRootPropagation).
    assert target.mount(target.volume)["propagation"] == "private"


@pytest.mark.parametrize("directory", STORES)
def test_store_is_on_the_volume(target: Target, directory: str) -> None:
    assert target.mount(STORES[directory])["source"] == f"{target.device}[/{directory}]"


def test_extra_volumes_are_on_their_own_logical_volumes(target: Target) -> None:
    if not target.settings.extra_volumes:
        pytest.skip("no extra volumes in the settings")
    for volume in target.settings.extra_volumes.values():
        mount = target.mount(volume.mount)
        assert (mount["source"], mount["fstype"]) == (target.extra_devices[volume.mount], volume.filesystem)


def skip_unless_on_a_file(target: Target) -> str:
    """Return the loop device that the volume's group is on; skip if it is on disks."""
    assert target.logical_volume  # without it this says so
    disks = target.output("disks").split()
    loops = [path for path in disks if path.startswith("/dev/loop")]
    if not loops:
        pytest.skip("the volume is on no file")
    assert len(disks) == 1
    return loops[0]


def test_file_that_is_the_disk_is_whole_and_for_root_only(target: Target) -> None:
    skip_unless_on_a_file(target)
    owner, links, size, blocks = target.output("volume file").split()
    assert (owner, links) == ("root:600", "1")
    assert int(blocks) * 512 >= int(size), "it has holes"
    assert size == target.output("size of the loop device")
    assert target.output("directory of the volume file") == "root:700"
    target.output("cache tag")
    if target.output("filesystem of the volume file") == "xfs":
        assert "shared" not in target.output("extents of the volume file"), "a copy shares its extents"


def test_loop_device_has_the_file_with_direct_io_and_takes_no_discards(target: Target) -> None:
    loop = skip_unless_on_a_file(target)
    assert target.output("loop device").split() == [VOLUME_FILE, "1"]
    assert target.output("loop devices of the file") == loop
    # Without a trial: a trim that the devices take makes the holes.
    assert target.output("discard limits").split() == ["0", "0"]


def test_file_is_attached_at_boot_before_the_volume_is_mounted(target: Target) -> None:
    skip_unless_on_a_file(target)
    shown = target.output("service of the file").splitlines()
    assert set(shown) == {"ActiveState=active", "UnitFileState=enabled", "NeedDaemonReload=no"}
    needs = target.output("needs of the mount").splitlines()
    assert all(VOLUME_FILE_SERVICE in line.partition("=")[2].split() for line in needs)
    assert len(needs) == 2


def test_docker_and_root_are_on_different_devices(target: Target) -> None:
    root, *stores = target.output("devices of root and the stores").split()
    assert root not in stores


def test_fstab_mounts_every_volume_and_never_delays_the_boot(target: Target) -> None:
    lines = [line.split() for line in target.output("fstab").splitlines()]
    found = {fields[1]: fields for fields in lines if len(fields) > 3 and not fields[0].startswith("#")}
    dockers = {target.volume: target.name_in_fstab} | {path: f"{target.volume}/{name}" for name, path in STORES.items()}
    for sources, seconds in ((dockers, 90), (target.extra_devices, 30)):
        assert {path: fields[0] for path, fields in found.items() if path in sources} == sources
        for path in sources:
            assert {"nofail", f"x-systemd.device-timeout={seconds}s"} <= set(found[path][3].split(","))
    assert {*target.settings.volume_mount_options} <= set(found[target.volume][3].split(","))


def test_systemd_takes_every_mount_from_fstab(target: Target) -> None:
    # A unit of somebody else's in /etc/systemd/system wins over fstab at the next boot.
    paths = [*target.mount_points, *(volume.mount for volume in target.settings.extra_volumes.values())]
    blocks = target.output("mount units").split("\n\n")
    units = [dict(line.split("=", 1) for line in block.splitlines()) for block in blocks]
    assert len(units) == len(paths)
    generated = {unit["Id"]: f"/run/systemd/generator/{unit['Id']}" for unit in units}
    assert {unit["Id"]: unit.get("FragmentPath") for unit in units} == generated
    assert {unit.get("SourcePath") for unit in units} == {FSTAB}


def test_fstab_is_valid(target: Target) -> None:
    target.output("fstab is valid")


@pytest.mark.parametrize("unit", DROP_INS)
def test_unit_does_not_start_without_the_volume(target: Target, unit: str) -> None:
    answers = target.output(f"{unit} as loaded")
    drop_ins, mounts, needs_reload, asserts = (json.loads(line)["data"] for line in answers.splitlines())
    assert DROP_INS[unit] in drop_ins
    assert set(target.mount_points) <= set(mounts)
    assert not needs_reload, "systemd has not read the last change of the unit"
    # Each has a kind, whether one of several is enough, whether it is negated, a path and a result.
    firm = {(kind, path) for kind, trigger, negated, path, _ in asserts if not trigger and not negated}
    wanted = {("AssertPathIsMountPoint", path) for path in target.mount_points}
    assert wanted | {("AssertPathExists", f"{path}/{MARKER}") for path in target.mount_points} <= firm
    refused = {(kind, path) for kind, trigger, negated, path, _ in asserts if not trigger and negated}
    assert {("AssertPathExists", f"{path}/docker/{MARKER}") for path in STORES.values()} <= refused


def beneath(output: str, paths: list[str]) -> dict[str, tuple[bool, list[str]]]:
    """Return whether the directory beneath each mount is immutable, and the first files of it.

    Args:
        output: of the question.
    """
    found = [part.splitlines() for part in f"\n{output}".split("\n= ")[1:]]
    return {path: ("i" in lines[0].split()[0], lines[1:]) for path, lines in zip(paths, found, strict=True)}


def old_data(target: Target) -> set[str]:
    """Return the mount points that have the old data of a move beneath them, by `bulkhead status`."""
    moves = [target.status, *target.status["extra_volumes"].values()]
    return {path for move in moves for path in move.get("old", {})}


def test_directories_beneath_the_mounts_are_empty_and_immutable(target: Target) -> None:
    paths = [*target.mount_points, *(volume.mount for volume in target.settings.extra_volumes.values())]
    for path, (is_immutable, files) in beneath(target.output("beneath the mounts"), paths).items():
        if is_immutable and not files:
            continue
        # Files of a move that nobody has finalized look like any others: only the program knows whose they are.
        what = f"holds {', '.join(files)}" if files else "is not immutable"
        assert path in old_data(target), f"the directory beneath {path} {what}, and no move has left its old data there"


def test_docker_and_containerd_run_and_start_at_boot(target: Target) -> None:
    assert target.output("daemons are active").split() == ["active", "active"]
    assert target.output("daemons are enabled").split() == ["enabled", "enabled"]


def in_containerd(docker: dict[str, Any]) -> bool:
    """Return whether an engine has its images in containerd's store, by its answer to ``docker info``."""
    return "io.containerd.snapshotter.v1" in str(docker["DriverStatus"])


def test_docker_has_the_configuration(target: Target) -> None:
    docker = target.docker
    assert docker["Driver"] == ("overlayfs" if in_containerd(docker) else "overlay2")
    assert docker["DockerRootDir"] == STORES["docker"]
    kept = target.settings.log_driver == "keep"
    own = json.loads(target.output("daemon.json")).get("log-driver") or "json-file"
    assert docker["LoggingDriver"] == (own if kept else target.settings.log_driver)
    assert docker["LiveRestoreEnabled"] == target.settings.live_restore
    if not in_containerd(docker):
        backing = dict(docker["DriverStatus"])["Backing Filesystem"]
        assert backing == {"ext4": "extfs", "xfs": "xfs"}[target.mount(target.volume)["fstype"]]


@pytest.mark.parametrize("unit", DROP_INS)
def test_daemon_writes_its_databases_into_its_store(target: Target, unit: str) -> None:
    opened = target.output(f"databases of {unit}").splitlines()
    assert opened
    store = STORES[unit.removesuffix(".service")]
    assert [path for path in opened if not path.startswith(f"{store}/")] == []


def overlaid(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Return the keys of both, object by object; the value of ``above`` where both have one."""
    both = {key: value for key, value in above.items() if isinstance(value, dict) and isinstance(below.get(key), dict)}
    return below | above | {key: overlaid(below[key], value) for key, value in both.items()}


def differences(wanted: dict[str, Any], found: dict[str, Any], above: str = "") -> Iterator[str]:
    """Yield what is wrong with each key, and no value: that may be a secret."""
    for key, value in wanted.items():
        if key not in found:
            yield f"{above}{key} is missing"
        elif isinstance(value, dict) and isinstance(found[key], dict):
            yield from differences(value, found[key], f"{above}{key}.")
        elif found[key] != value:
            yield f"{above}{key} has another value"


def test_daemon_json_has_our_keys_and_those_of_the_settings(target: Target) -> None:
    settings, docker = target.settings, target.docker
    ours = {
        "live-restore": settings.live_restore,
        "features": {"buildkit": True, "containerd-snapshotter": in_containerd(docker)},
        "builder": {"gc": {"enabled": True}},
    }
    if settings.log_driver != "keep":
        limits = {"max-size": settings.log_max_size, "max-file": str(settings.log_max_file)}
        ours |= {"log-driver": settings.log_driver, "log-opts": limits}
    written = json.loads(target.output("daemon.json"))
    wanted = overlaid(ours, settings.daemon_json)
    if settings.log_driver == "keep":  # the host may have a driver of its own, with its own options
        wanted = {key: value for key, value in wanted.items() if key not in ("log-driver", "log-opts")}
    changed = list(differences(wanted, written))
    assert not changed, f"others have changed our keys: {'; '.join(changed)}. The next run restores them"


def test_daemon_json_with_the_users_own_keys_is_not_for_every_user(target: Target) -> None:
    if target.settings.daemon_json:
        assert target.output("daemon.json for everyone") == ""


def test_log_of_a_container_has_a_size_limit(target: Target, image: str) -> None:
    settings, driver = target.settings, target.docker["LoggingDriver"]
    # With "keep", only json-file gets our limits. Any other driver is the host's own, with its options.
    if driver not in LOGS or (settings.log_driver == "keep" and driver != "json-file"):
        pytest.skip(f"the host keeps its own log driver, {driver}")
    limit = settings.log_max_file * _bytes(settings.log_max_size)
    # Long lines, and nobody who reads them here: else most of the time would go there.
    size = min(limit * 11 // 10, 100_000_000)
    output = f"yes {'0123456789abcdef' * 1000} | head -c {size}"
    container = target.run(f'docker create --network none {image} sh -c "{output}"')
    try:
        limits = json.loads(target.run(f"docker inspect --format '{{{{json .HostConfig.LogConfig}}}}' {container}"))
        assert limits["Type"] == driver
        assert limits["Config"]["max-size"] == settings.log_max_size
        assert limits["Config"]["max-file"] == str(settings.log_max_file)
        assert target.run(f"docker start {container} >/dev/null && docker wait {container}") == "0"
        files = target.run(f"stat --format %s {STORES['docker']}/containers/{container}/{LOGS[driver]}").split()
    finally:
        target.run(f"docker rm --force --volumes {container}")
    # A file is closed after the line that reaches its limit.
    assert 0 < sum(map(int, files)) <= limit + settings.log_max_file * 20_000


def test_image_is_built_by_buildkit_and_runs(target: Target, image: str) -> None:
    built = f"{image}-built"
    output = target.run(
        f'printf \'FROM {image}\\nRUN echo {built} >/proof\\nCMD ["cat", "/proof"]\\n\' | '
        f"docker build --network none --tag {built} - 2>&1"
    )
    try:
        assert target.run(f"docker run --rm --network none {built}") == built
    finally:
        target.run(f"docker image rm {built}")
    # BuildKit prints "#1 [internal] …", the classic builder "Step 1/3".
    assert re.search(r"^#\d+ ", output, re.MULTILINE), output


def test_cron_checks_the_disks(target: Target) -> None:
    assert target.output("cron is active") == "active"
    lines = [line for line in target.output("cron's line").splitlines() if " root " in line]
    settings = target.settings
    assert lines == [f"*/{settings.check_interval} * * * * root check-disk {settings.check_threshold} >/dev/null"]


def test_check_disk_reports_root_and_the_volume(target: Target) -> None:
    output = target.output("check-disk")
    assert re.match("DISK (OK|WARNING|CRITICAL) - ", output), output
    performance = output.partition("|")[2]
    assert "'/'=" in performance
    assert f"'{target.volume}'=" in performance


def test_only_root_can_read_the_receivers_of_alerts(target: Target) -> None:
    if not target.settings.alert_receivers:
        pytest.skip("no alert_receivers in the settings")
    assert target.output("receivers") == "600 root"
    target.output("apprise")


def test_prune_runs_every_day(target: Target) -> None:
    if not target.settings.prune_time:
        pytest.skip("no prune_time in the settings")
    shown = target.output("prune timer")
    assert {"ActiveState=active", "UnitFileState=enabled"} <= set(shown.splitlines())
    assert re.search(rf"OnCalendar=\*-\*-\* {target.settings.prune_time}:00 ; next_elapse=\w", shown), shown


def test_prune_says_what_it_would_remove(target: Target) -> None:
    assert "would be freed" in target.output("prune")


def skip_unless_guarded(target: Target) -> None:
    if not target.settings.guard:
        pytest.skip("guard = False in the settings")


def test_guard_runs_and_starts_at_boot(target: Target) -> None:
    skip_unless_guarded(target)
    shown = target.output("guard").splitlines()
    assert set(shown) == {"ActiveState=active", "UnitFileState=enabled", "NeedDaemonReload=no"}
    target.output("guard has the unit")


def test_check_disk_reports_the_guard(target: Target) -> None:
    skip_unless_guarded(target)
    assert f"OK: {GUARD_SERVICE} is active" in target.output("check-disk in full")


def floor_of(target: Target, size: int) -> int:
    """Return the floor that the settings give the guard of a volume of this size, in bytes."""
    wanted = target.settings.guard_floor
    floor = wanted.bytes_of(size) if wanted else min(max(size // 20, 2 * 2**30), 50 * 2**30)
    return min(floor, size // 4)


def inode_floor_of(inodes: int) -> int:
    """Return the floor for inodes of a volume that has so many; 0 where the filesystem does not limit them."""
    return min(max(inodes // 20, 50_000), 1_000_000, inodes // 4)


def test_guard_is_at_work_and_keeps_its_floors(target: Target) -> None:
    skip_unless_guarded(target)
    # When systemd last got the guard's sign that it is at work.
    since, now = map(int, target.output("guard's sign").split())
    assert now - since < 60
    size, inodes = int(target.output("space").split()[0]), int(target.output("inodes"))
    # The system has no word for a floor: until a build is stopped, only the guard knows what it keeps free.
    guard = target.status["guard"]
    assert abs(guard["floor"] - floor_of(target, size)) < size / 100
    assert abs(guard["inode_floor"] - inode_floor_of(inodes)) <= inodes / 100


def test_guard_has_ballast(target: Target) -> None:
    skip_unless_guarded(target)
    wanted = target.settings.guard_ballast
    if not wanted:
        pytest.skip("no guard_ballast in the settings")
    target.mount(target.volume)
    size, free = map(int, target.output("space").split())
    floor, size = floor_of(target, size), min(wanted.bytes, size // 50)
    if free < 2 * floor + size and target.fails("ballast"):
        pytest.skip("the guard has deleted its ballast, because the volume is nearly full")
    found = "" if target.fails("ballast") else target.output("ballast")
    if not found or found.split()[1] == "0":
        # The guard makes it a few seconds after its start, or after the next half minute without writes.
        path = f"{target.volume}/{BALLAST}"
        found = target.run(f"timeout 120 sh -c 'until [ -s {path} ]; do sleep 1; done'; {target.commands['ballast']}")
    owner, _, blocks = found.split()
    assert owner == "root:600"
    assert int(blocks) * 512 >= size


def test_journal_of_the_system_has_a_size_limit(target: Target) -> None:
    if not target.settings.journal_max_use:
        pytest.skip("no journal_max_use in the settings")
    found = target.answer("limits of the journal").stdout.splitlines()
    assert found, "it has no size limit"
    if target.fails("journald's drop-in"):
        return  # the host has a limit of its own
    assert found == [f"SystemMaxUse={target.settings.journal_max_use}"]
    target.output("journald has the drop-in")


@pytest.mark.disruptive
def test_docker_stops_with_its_volume_and_nothing_is_written_to_root(target: Target) -> None:
    assert target.docker["Driver"]  # before Docker stops
    containers = target.run("docker ps --quiet").split()
    assert not containers, "containers run and keep the volume mounted: stop them first. This test has stopped nothing"
    mount = target.run(f"systemd-escape --path --suffix=mount {target.volume}")
    try:
        target.run(f"systemctl stop '{mount}'")
        assert target.run(f"systemctl is-active {DOCKER} {CONTAINERD} || true").split() == ["inactive", "inactive"]
        # The mask plays a lost volume: without it systemd would mount the volume again for Docker.
        target.run(f"systemctl mask --quiet --runtime '{mount}'")
        assert target.connection.run(f"systemctl start {DOCKER}").failed
        version = target.connection.run(f"docker --host {DOCKER_HOST} version")
        assert version.failed, "a client has started Docker through its socket"
        _, files = beneath(target.run(questions.beneath([target.volume])), [target.volume])[target.volume]
        assert not files, "something was written to the root filesystem"
    finally:
        target.run(
            f"systemctl unmask --quiet --runtime '{mount}'; systemctl reset-failed {DOCKER} {CONTAINERD}; "
            f"systemctl start {DOCKER_SOCKET} {CONTAINERD} {DOCKER}"
        )
    assert target.run("docker info --format '{{.Driver}}'") == target.docker["Driver"]


def _bytes(size: str) -> int:
    return int(size[:-1]) * {"k": 2**10, "m": 2**20, "g": 2**30}[size[-1]]
