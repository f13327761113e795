"""The volume: its lines in fstab, the order of what is made, its markers, and unused stores that are set aside."""

from __future__ import annotations

import ast
import base64
import shutil
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from bulkhead.names import MARKER, MARKER_TEXT
from pyinfra_lvm.facts import StorageLayout
from pyinfra_lvm.model import Storage
from tasks import fail_closed, volume
from tasks.preflight.facts import HostFacts
from tasks.preflight.host import EngineData, HostState
from tasks.support.run_lock import Holder, RunLockHolder
from tasks.volume import VolumeContents, stores

from .deployment import Deployment, deployed
from .example_hosts import (
    DEVICE,
    GIB,
    MOUNT_POINTS,
    SPARE,
    VOLUME_MOUNT,
    bare_host,
    converged,
    docker_host,
    our_docker_ce_host,
    settings,
    shared_vg,
    spare_disk,
    with_directory,
    with_disk,
)
from .operations import OperationHost, calls, commands, noted, shell, stand_in
from .preflight.verdicts import plan_of

DIRECTORIES = {"docker", "containerd"}
MARKERS = {MARKER, f"docker/{MARKER}", f"containerd/{MARKER}"}
TOP = Path(__file__).parents[3]


def test_volume_of_an_earlier_version_gets_the_markers_that_it_lacks(tmp_path: Path) -> None:
    stand_in(tmp_path, "mountpoint", "exit 0")
    volume = tmp_path / "volume"
    (volume / "docker").mkdir(parents=True)
    (volume / MARKER).touch()
    (command,) = commands(stores, OperationHost({VolumeContents: {*DIRECTORIES, MARKER}}), volume=str(volume))
    done = shell(command, tmp_path)
    assert done.returncode == 0, done.stderr
    assert all((volume / name).read_text().startswith("The volume of docker-bulkhead.") for name in MARKERS)


def test_nothing_is_made_where_the_volume_is_not_mounted(tmp_path: Path) -> None:
    stand_in(tmp_path, "mountpoint", "exit 1")
    (command,) = commands(stores, OperationHost({VolumeContents: set()}), volume=str(tmp_path))
    assert shell(command, tmp_path).returncode == 1
    assert not (tmp_path / "docker").exists()


def test_markers_are_on_disk_before_they_have_their_names_and_the_volumes_own_is_the_last(tmp_path: Path) -> None:
    programs, volume = tmp_path / "bin", tmp_path / "volume"
    for path in (programs, volume):
        path.mkdir()
    noted(programs, "mkdir", "mv", "sync")
    stand_in(programs, "mountpoint", f'[ "$*" = "-q {volume}" ]')
    (command,) = commands(stores, OperationHost({VolumeContents: set()}), volume=str(volume))
    assert shell(command, programs).returncode == 0
    done = ["mkdir -p -m 0711 docker containerd", "sync -f ."]
    for marker in (f"docker/{MARKER}", f"containerd/{MARKER}", MARKER):
        done += [f"sync {marker}.new", f"mv -f {marker}.new {marker}", "sync -f ."]
    assert calls(programs) == done
    assert {(volume / name).stat().st_mode & 0o777 for name in DIRECTORIES} == {0o711}


def test_volume_that_is_cut_at_any_step_is_not_whole_and_the_next_run_finishes(tmp_path: Path) -> None:
    volume, cut = tmp_path / "volume", 0
    stand_in(tmp_path, "mountpoint", "")
    noted(tmp_path, "mkdir", "mv")
    while True:
        cut += 1
        volume.mkdir()
        (command,) = commands(stores, OperationHost({VolumeContents: set()}), volume=str(volume))
        if shell(command, tmp_path, CUT=str(cut)).returncode == 0:
            break
        (tmp_path / "calls").unlink()
        assert not (volume / MARKER).exists()
        found = VolumeContents().process(shell(VolumeContents().command(str(volume)), tmp_path).stdout.splitlines())
        (command,) = commands(stores, OperationHost({VolumeContents: found}), volume=str(volume))
        assert shell(command, tmp_path).returncode == 0
        (tmp_path / "calls").unlink()
        assert all((volume / name).read_text() == MARKER_TEXT for name in MARKERS)
        shutil.rmtree(volume)
    assert cut > 4
    found = VolumeContents().process(shell(VolumeContents().command(str(volume)), tmp_path).stdout.splitlines())
    assert found == DIRECTORIES | MARKERS


@pytest.mark.parametrize("failing", ["mkdir", "mv", "sync"])
def test_marker_is_not_made_where_a_step_before_it_fails(tmp_path: Path, failing: str) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    stand_in(tmp_path, "mountpoint", "")
    stand_in(tmp_path, failing, "exit 1")
    (command,) = commands(stores, OperationHost({VolumeContents: set()}), volume=str(volume))
    assert shell(command, tmp_path).returncode == 1
    assert not (volume / MARKER).exists()


def test_whole_volume_is_left_as_it_is() -> None:
    assert commands(stores, OperationHost({VolumeContents: DIRECTORIES | MARKERS}), volume=VOLUME_MOUNT) == []


def test_units_assert_each_mount_point_and_its_marker() -> None:
    for content in fail_closed.drop_ins(settings()).values():
        asserted = {line.partition("=")[2] for line in content.splitlines() if line.startswith("AssertPathExists=")}
        # The second group: a store is not the top of the volume.
        assert asserted == {f"{path}/{MARKER}" for path in MOUNT_POINTS} | {
            f"!{path}/docker/{MARKER}" for path in MOUNT_POINTS[1:]
        }
        assert content.count("AssertPathIsMountPoint=") == len(MOUNT_POINTS)


def test_volume_is_not_whole_where_a_marker_of_a_store_is_missing(tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    stand_in(tmp_path, "mountpoint", "")
    stand_in(tmp_path, "mv", 'case "$*" in *docker/*) exit 1 ;; *) exec /bin/mv "$@" ;; esac')
    (command,) = commands(stores, OperationHost({VolumeContents: set()}), volume=str(volume))
    assert shell(command, tmp_path).returncode == 1
    assert not (volume / MARKER).exists()


# -- what is made, and in what order

HOME = {"home-lv": {"mount": "/home", "size": "1G"}}


def fresh(storage: Storage, state: HostState | None = None, **changes: object) -> Deployment:
    """A first run on a host."""
    facts = {HostFacts: state or bare_host(), StorageLayout: storage, RunLockHolder: Holder()}
    return deployed("deploy.py", settings(**changes), OperationHost(facts))


def lines_of_fstab(run: Deployment) -> list[str]:
    """The lines that a run adds, in their order. (Each is added to the same old fstab: the facts of this host stay.)"""
    commands = [str(one.connector_arguments.get("_stdin")) for one in run.ran["pyinfra_lvm.operations.mount"]]
    texts = [base64.b64decode(stdin.split()[1]).decode() for stdin in commands if len(stdin.split()) == 2]
    assert all(text.count("\n") == 1 for text in texts)
    return [text.rstrip() for text in texts]


def test_host_boots_without_the_volume_and_docker_starts_after_its_stores() -> None:
    """nofail: a lost volume does not keep a host from booting. private: a container's mounts do not show twice."""
    before = "x-systemd.before=docker.service,x-systemd.before=containerd.service"
    nofail = "nofail,x-systemd.device-timeout=90s"
    assert lines_of_fstab(fresh(shared_vg(), extra_volumes=HOME)) == [
        f"{DEVICE} {VOLUME_MOUNT} ext4 defaults,private,{nofail} 0 2",
        "/dev/mapper/ubuntu--vg-home--lv /home ext4 defaults,nofail,x-systemd.device-timeout=30s 0 2",
        f"{VOLUME_MOUNT}/docker /var/lib/docker none bind,private,{nofail},{before} 0 0",
        f"{VOLUME_MOUNT}/containerd /var/lib/containerd none bind,private,{nofail},{before} 0 0",
    ]


def test_mount_options_of_the_settings_are_in_fstab_beside_ours() -> None:
    """A disk that needs the network carries the extra volumes too; they may have another filesystem."""
    home = {"home-lv": HOME["home-lv"] | {"filesystem": "xfs"}}
    docker, extra, *stores = lines_of_fstab(
        fresh(shared_vg(), extra_volumes=home, volume_mount_options=["_netdev", "commit=30"])
    )
    assert docker.split()[3] == "defaults,private,nofail,x-systemd.device-timeout=90s,_netdev,commit=30"
    assert extra.split()[3] == "defaults,nofail,x-systemd.device-timeout=30s,_netdev"
    assert not [line for line in stores if "_netdev" in line or "commit" in line]


def test_filesystem_of_docker_is_made_with_the_inodes_of_the_settings() -> None:
    def made(**changes: object) -> list[str]:
        run = fresh(shared_vg(), extra_volumes=HOME, **changes)
        return [str(command).partition("exit 1; }; ")[2] for command in run.ran["pyinfra_lvm.operations.filesystem"]]

    docker, home = made(volume_bytes_per_inode=8192)
    assert docker.startswith(f"mkfs.ext4 -q -F -i 8192 {DEVICE} ")
    assert home.startswith("mkfs.ext4 -q -F /dev/mapper/ubuntu--vg-home--lv ")
    assert made()[0].startswith(f"mkfs.ext4 -q -F {DEVICE} ")


def test_volume_is_whole_before_anything_is_mounted_from_it_or_asserts_it() -> None:
    run = fresh(shared_vg(), extra_volumes=HOME)
    names = [
        "LVM and the filesystem's tools are installed",
        "Logical volume ubuntu-vg/docker-lv",
        f"Filesystem ext4 on {DEVICE}",
        f"{VOLUME_MOUNT} is mounted",
        "The volume has a directory for each store, with its marker",
        "Logical volume ubuntu-vg/home-lv",
        "Filesystem ext4 on /dev/mapper/ubuntu--vg-home--lv",
        "/home is mounted",
        "/usr/local/bin/bulkhead and its configuration",
        "Fail closed: docker.service and containerd.service need the volume",
        "/var/lib/docker is on the volume",
        "/var/lib/containerd is on the volume",
        "daemon.json: Docker's configuration is in force",
        "Docker is installed and runs",
    ]
    assert [name for name in run.names if name in names] == names


def test_disk_becomes_a_physical_volume_before_its_group_is_made() -> None:
    names = fresh(spare_disk(), volume_disks=[SPARE]).names
    steps = [
        f"{SPARE} is a physical volume",
        "Volume group docker-vg holds the named disks",
        "Logical volume docker-vg/docker-lv",
    ]
    assert [name for name in names if name in steps] == steps


def test_grown_disk_is_taken_before_the_volume_grows_into_it() -> None:
    plan = plan_of(bare_host(), spare_disk(), settings(volume_disks=[SPARE]))
    known = converged(spare_disk(), plan)
    devices = tuple(replace(d, size=40 * GIB) if SPARE in d.aliases else d for d in known.devices)
    run = fresh(replace(known, devices=devices), our_docker_ce_host(), volume_disks=[SPARE])
    steps = {
        f"{SPARE} is used over its whole size": "pyinfra_lvm.operations.grown_physical_volume",
        "Logical volume docker-vg/docker-lv": "pyinfra_lvm.operations.logical_volume",
        f"Filesystem ext4 on {plan.device}": "pyinfra_lvm.operations.filesystem",
    }
    assert [name for name in run.names if name in steps] == [*steps]
    done = [str(command) for operation in steps.values() for command in run.ran[operation]]
    assert [
        command for command in done if "pvresize" in command or "lvextend" in command or "resize2fs" in command
    ] == done
    assert len(done) == 3


def test_volume_is_tagged_as_ours_while_it_is_made() -> None:
    made = fresh(shared_vg(), extra_volumes=HOME).ran["pyinfra_lvm.operations.logical_volume"]
    assert ["--addtag docker-bulkhead" in str(command) for command in made] == [True, True]


def test_disk_is_added_to_an_existing_group_where_the_settings_say_so() -> None:
    changes = {"volume_disks": [SPARE], "volume_group": "ubuntu-vg", "volume_group_extend": True}
    (command,) = fresh(with_disk(shared_vg()), **changes).ran["pyinfra_lvm.operations.volume_group"]
    assert f"vgextend --quiet ubuntu-vg {SPARE}" in str(command)


def test_only_stores_that_are_unused_are_set_aside() -> None:
    def set_aside(storage: Storage) -> list[str]:
        run = fresh(storage, docker_host())
        unused, closed = "The unused stores on the root filesystem are set aside", "Fail closed: docker.service"
        # A Docker that is in use after all must be able to start again.
        assert [name.startswith(closed) for name in run.names if name.startswith((unused, closed))][-1]
        return [str(one) for one in run.ran.get("tasks.volume.set_aside", []) if "mv -T" in str(one)]

    assert set_aside(shared_vg()) == []
    (command,) = set_aside(with_directory(shared_vg(), "/var/lib/docker", empty=False))
    assert "mv -T /var/lib/docker " in command


def test_directory_beneath_each_mount_of_docker_is_immutable() -> None:
    def immutable(run: Deployment) -> list[str]:
        made = [str(one) for one in run.ran["pyinfra_lvm.operations.mount"] if "mount --bind" in str(one)]
        return [str(one).partition("mkdir -p /mnt/")[2].partition(" ")[0] for one in made if "chattr +i" in str(one)]

    assert immutable(fresh(shared_vg())) == ["docker-volume", "docker", "containerd"]
    new_home = with_directory(shared_vg(), "/home", empty=True)
    assert immutable(fresh(new_home, extra_volumes=HOME)) == ["docker-volume", "home", "docker", "containerd"]


# -- unused stores

USED = ["docker_data", "containerd_data"]


def set_aside_on(state: HostState | None) -> list[str]:
    return commands(volume.set_aside, OperationHost({HostFacts: state}), paths=["/var/lib/docker"])


def test_docker_is_down_before_its_stores_are_counted_and_renamed() -> None:
    stop, rename = set_aside_on(docker_host())
    assert stop.startswith("for unit in docker.socket docker.service containerd.service; do ")
    assert 'systemctl stop "$unit" || exit 1' in stop
    assert "mv -T /var/lib/docker " in rename


@pytest.mark.parametrize("used", USED)
def test_docker_that_was_used_meanwhile_runs_again_with_its_data(used: str) -> None:
    stop, start, refusal = set_aside_on(docker_host(**{used: EngineData(images=1)}))
    assert "systemctl stop" in stop
    assert start.startswith("for unit in containerd.service docker.socket docker.service; do ")
    assert 'systemctl start "$unit" || exit 1' in start
    assert "Docker has been used since this run began: its data was not touched and it runs again." in refusal


def test_stores_that_cannot_be_counted_are_not_touched() -> None:
    _, start, refusal = set_aside_on(None)
    assert "systemctl start" in start
    assert "could not be counted: they were not touched and Docker runs again." in refusal


def stopped(tmp_path: Path, broken: str = "") -> tuple[int, list[str]]:
    stand_in(
        tmp_path,
        "systemctl",
        f"""case "$1 $4$3" in
            "show docker.socketdocker.socket") ;;
            "show "*) [ "$5" = docker.socket ] && echo not-found || echo loaded ;;
            *) echo "$*" >>{tmp_path}/calls; [ "$2" != "{broken}" ] ;;
        esac""",
    )
    stop, _ = set_aside_on(docker_host())
    return shell(stop, tmp_path).returncode, calls(tmp_path)


def test_unit_that_does_not_exist_is_not_stopped_and_the_others_are(tmp_path: Path) -> None:
    assert stopped(tmp_path) == (0, ["stop docker.service", "stop containerd.service"])


def test_docker_that_does_not_stop_ends_the_run(tmp_path: Path) -> None:
    assert stopped(tmp_path, broken="docker.service") == (1, ["stop docker.service"])


def renamed(top: Path, mounted: bool = False) -> CompletedProcess[str]:
    """Run the command that sets a store aside."""
    stand_in(top, "mountpoint", f"exit {int(not mounted)}")
    noted(top, "sync", "mv", "mkdir")
    _, rename = set_aside_on(docker_host())
    return shell(rename.replace("/var/lib", str(top)), top)


def test_store_is_set_aside_with_all_that_is_in_it_and_an_empty_one_takes_its_place(tmp_path: Path) -> None:
    store = tmp_path / "docker"
    for number, kept in enumerate(("docker.before-bulkhead", "docker.before-bulkhead.2", "docker.before-bulkhead.3")):
        store.mkdir(exist_ok=True)
        (store / f"file-{number}").touch()
        assert renamed(tmp_path).returncode == 0
        assert [path.name for path in (tmp_path / kept).iterdir()] == [f"file-{number}"]
        assert list(store.iterdir()) == []
        assert store.stat().st_mode & 0o777 == 0o711
    assert calls(tmp_path)[:3] == [
        f"mv -T {store} {store}.before-bulkhead",
        f"mkdir -m 0711 {store}",
        f"sync -f {store}",
    ]


def test_store_that_is_mounted_by_now_stays(tmp_path: Path) -> None:
    store = tmp_path / "docker"
    store.mkdir()
    assert renamed(tmp_path, mounted=True).returncode == 1
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["docker"]


def test_deploy_makes_the_markers_before_anything_asserts_them() -> None:
    calls = [
        ast.unparse(call.func)
        for call in ast.walk(ast.parse((TOP / "deploy.py").read_text()))
        if isinstance(call, ast.Call)
    ]
    assert calls.index("volume.provision") < calls.index("fail_closed.refuse_to_start_without_the_volume")
