"""What a provisioned host shows, looked at from outside with the system's own tools. Each test is a sentence."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from pyinfra_lvm.model import mapper_path
from tasks.paths import DROP_INS, MARKER, STORES
from tests.verify.conftest import Target


def test_volume_is_a_plain_logical_volume(target: Target) -> None:
    volume = target.logical_volume
    assert volume["lv_name"] == target.settings.logical_volume
    assert target.device == mapper_path(volume["vg_name"], volume["lv_name"])
    assert volume["segtype"] == "linear"
    assert "pyinfra-unfinished" not in volume["lv_tags"].split(",")


def test_volume_has_the_filesystem_of_the_settings(target: Target) -> None:
    assert target.mounts[target.volume]["fstype"] == target.settings.filesystem


def test_volume_is_mounted_private(target: Target) -> None:
    assert target.mounts[target.volume]["propagation"] == "private"


def test_volume_carries_its_marker(target: Target) -> None:
    target.run(f"test -s {target.volume}/{MARKER}")


def test_volume_fills_its_logical_volume(target: Target) -> None:
    size = int(target.run(f"findmnt --noheadings --bytes --output SIZE {target.volume}"))
    # Of an ext4 the inode tables and the journal are not counted: about 2 %.
    assert size > 0.95 * int(target.logical_volume["lv_size"])


def test_volume_leaves_the_reserve_to_its_group(target: Target) -> None:
    group = target.logical_volume["vg_name"]
    size, extent = map(
        int, target.run(f"vgs --noheadings --units b --nosuffix -o vg_size,vg_extent_size {group}").split()
    )
    wanted = target.settings.volume_size
    # A size in bytes may use the reserve up; what other volumes have taken since is not Docker's doing.
    reserve = 0 if wanted and wanted.bytes else target.settings.volume_reserve.bytes_of(size)
    assert int(target.logical_volume["lv_size"]) <= size - reserve + extent


@pytest.mark.parametrize(("directory", "store"), STORES.items(), ids=STORES)
def test_store_is_on_the_volume(target: Target, directory: str, store: str) -> None:
    assert target.mounts[store]["source"] == f"{target.device}[/{directory}]"


def test_docker_and_root_are_on_different_devices(target: Target) -> None:
    devices = target.run(f"stat --format %d / {' '.join(STORES.values())}").split()
    assert devices[0] not in devices[1:]


def test_fstab_mounts_all_three_and_never_holds_up_the_boot(target: Target) -> None:
    lines = [line.split() for line in target.run("cat /etc/fstab").splitlines()]
    found = {fields[1]: fields for fields in lines if len(fields) > 3 and not fields[0].startswith("#")}
    sources = {target.volume: target.device, **{path: f"{target.volume}/{name}" for name, path in STORES.items()}}
    for path, source in sources.items():
        assert found[path][0] == source
        assert {"nofail", "x-systemd.device-timeout=30s"} <= set(found[path][3].split(","))


def test_fstab_is_valid(target: Target) -> None:
    target.run("findmnt --verify")


@pytest.mark.parametrize("unit", DROP_INS)
def test_unit_asserts_the_volume(target: Target, unit: str) -> None:
    shown = target.run(f"systemctl show {unit} --property=DropInPaths,RequiresMountsFor,NeedDaemonReload,Asserts")
    properties = dict(line.split("=", 1) for line in shown.splitlines())
    assert DROP_INS[unit] in properties["DropInPaths"].split()
    assert properties["NeedDaemonReload"] == "no"
    assert set(target.mount_points) <= set(properties["RequiresMountsFor"].split())
    merged = target.run(f"systemctl cat {unit}").splitlines()
    for path in target.mount_points:
        assert f"AssertPathIsMountPoint={path}" in merged
    assert f"AssertPathExists={target.volume}/{MARKER}" in merged


def test_directories_beneath_the_mounts_are_empty_and_immutable(target: Target) -> None:
    look = " && ".join(
        f"mount --bind $(dirname {path}) /mnt && lsattr -d /mnt/$(basename {path}) && "
        f"ls -A /mnt/$(basename {path}) && umount /mnt"
        for path in target.mount_points
    )
    seen = target.run(f"unshare --mount --propagation private sh -c '{look}'").splitlines()
    # A line of lsattr for each, and not one of ls.
    assert len(seen) == len(target.mount_points), seen
    assert all("i" in line.split()[0] for line in seen), seen


def test_docker_and_containerd_run_and_start_at_boot(target: Target) -> None:
    assert target.run("systemctl is-active docker.service containerd.service").split() == ["active", "active"]
    assert target.run("systemctl is-enabled docker.service").split() == ["enabled"]


def test_docker_has_the_configuration(target: Target) -> None:
    docker = target.docker
    assert docker["Driver"] == "overlay2"
    assert docker["DockerRootDir"] == "/var/lib/docker"
    assert docker["LoggingDriver"] == target.settings.daemon_json.get("log-driver", "json-file")
    assert docker["LiveRestoreEnabled"] == target.settings.live_restore
    backing = dict(docker["DriverStatus"]).get("Backing Filesystem")
    assert backing == {"ext4": "extfs", "xfs": "xfs"}[target.settings.filesystem]


def test_users_own_keys_are_in_daemon_json(target: Target) -> None:
    written = json.loads(target.run("cat /etc/docker/daemon.json"))
    assert written["builder"]["gc"]["enabled"] is True
    for key, value in target.settings.daemon_json.items():
        assert written[key] == value or (isinstance(value, dict) and value.items() <= written[key].items())


@pytest.fixture(scope="session")
def base_image(target: Target) -> Iterator[str]:
    """An image of the host's own shell: nothing is pulled. Removed by its own name at the end."""
    name = "docker-bulkhead-verify:base"
    target.run(
        "set -e; tree=$(mktemp -d); mkdir -p $tree/bin $tree/tmp; "
        "for program in sh yes head cat; do file=$(readlink -f $(command -v $program)); cp $file $tree/bin/$program; "
        "ldd $file | grep -o '/[^ )]*' | while read library; do "
        "mkdir -p $tree$(dirname $library); cp -L $library $tree$library; done; done; "
        f"tar -C $tree -c . | docker import - {name} >/dev/null; rm -rf $tree"
    )
    yield name
    target.run(f"docker image rm --force {name}")


def test_log_of_a_container_is_bounded(target: Target, base_image: str) -> None:
    maximum = target.settings.log_max_file * _bytes(target.settings.log_max_size)
    # Long lines: what is measured is the log's files, not how fast lines are wrapped.
    output = f"yes {'0123456789abcdef' * 250} | head -c 100000000"
    container = target.run(f"docker create --net none {base_image} sh -c '{output}'")
    try:
        limits = json.loads(target.run(f"docker inspect --format '{{{{json .HostConfig.LogConfig}}}}' {container}"))
        assert limits["Config"]["max-size"] == target.settings.log_max_size
        target.run(f"docker start --attach {container} >/dev/null")
        kept = sum(map(int, target.run(f"stat --format %s /var/lib/docker/containers/{container}/*-json.log*").split()))
    finally:
        target.run(f"docker rm --force {container}")
    # A file is closed after the line that reaches its limit.
    assert 0 < kept <= maximum * 1.01, f"{kept} bytes of log"


def test_image_is_built_and_runs(target: Target, base_image: str) -> None:
    name = "docker-bulkhead-verify:built"
    built = target.run(
        "set -e; context=$(mktemp -d); "
        f'printf \'FROM {base_image}\\nRUN echo built > /proof\\nCMD ["cat", "/proof"]\\n\' >$context/Dockerfile; '
        f"docker build --network none --tag {name} $context 2>&1; rm -rf $context"
    )
    try:
        assert target.run(f"docker run --rm --net none {name}") == "built", built
    finally:
        target.run(f"docker image rm --force {name}")
    # BuildKit's own words, "#1 [internal] …"; the classic builder says "Step 1/3".
    assert re.search(r"^#\d+ ", built, re.MULTILINE), built


@pytest.mark.disruptive
def test_docker_stops_with_its_volume_and_never_writes_to_root(target: Target) -> None:
    escaped = target.run(f"systemd-escape --path --suffix=mount {target.volume}")
    before = target.run("stat --file-system --format %f /")
    try:
        target.run(f"systemctl stop docker.socket docker.service containerd.service && systemctl stop '{escaped}'")
        # A mask stands for a volume that does not come: without it systemd would mount it again for Docker.
        target.run(f"systemctl mask --runtime '{escaped}'")
        assert target.rc("systemctl start docker.service") != 0
        assert target.run("systemctl is-active docker.service || true") in ("inactive", "failed")
        assert target.rc("touch /var/lib/docker/x") != 0
    finally:
        target.run(
            f"systemctl unmask --runtime '{escaped}'; systemctl reset-failed; "
            f"systemctl start '{escaped}' docker.socket containerd.service docker.service"
        )
    after = target.run("stat --file-system --format %f /")
    assert abs(int(before) - int(after)) < 1000  # blocks of 4 KiB: the journal writes on


@pytest.mark.disruptive
def test_stopping_the_mount_stops_docker(target: Target) -> None:
    escaped = target.run("systemd-escape --path --suffix=mount /var/lib/docker")
    try:
        target.run(f"systemctl stop '{escaped}'")
        assert target.run("systemctl is-active docker.service || true") in ("inactive", "failed")
    finally:
        target.run("systemctl reset-failed; systemctl start docker.socket docker.service")
    assert target.rc("mountpoint -q /var/lib/docker") == 0


def _bytes(size: str) -> int:
    return int(size[:-1]) * {"k": 2**10, "m": 2**20, "g": 2**30}[size[-1]]
