"""The facts of a host. The files in hosts/ are the output of virtual machines, with `docker info` cut to what is read."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyinfra.api import FactProcessError

from bulkhead.names import move_journal
from bulkhead.outage.journal import Journal
from tasks.preflight.daemon_json import readable_keys
from tasks.preflight.facts import HostFacts, parse_host, part
from tasks.preflight.host import EngineData, HostState, MountUnit
from tasks.support.paths import DAEMON_JSON_APPLIED, JOURNALD_DROP_IN, STOPPED_BY_UPGRADE

from ...cases import BOUND, CONTAINERDS, LOGINS, BoundCase, ContainerdCase, LoginCase
from ...fake_proc import FakeProc
from ...processes import orphan
from ..operations import shell, stand_in

HOSTS = Path(__file__).parents[1] / "hosts"


def host(name: str) -> HostState:
    return parse_host((HOSTS / f"{name}.txt").read_text().splitlines())


def test_engine_that_nobody_used_holds_nothing_after_any_number_of_starts() -> None:
    state = host("bookworm-unused")
    assert (state.docker_data, state.containerd_data) == (EngineData(), EngineData())
    assert (state.uid, state.os_id, state.os_version, state.os_codename) == (0, "debian", "12", "bookworm")
    assert (state.architecture, state.systemd) == ("amd64", True)
    assert state.packages == {"docker.io": "20.10.24+dfsg1-1+deb12u1+b6"}
    assert (state.engine, state.storage_driver, state.containerd_store) == ("distro", "overlay2", False)
    assert state.unit("docker.service").load_state == "loaded"
    assert state.unit("docker.service").exec_start.startswith("/usr/sbin/dockerd -H fd:// --containerd=")
    assert not any((state.swarm, state.snap_docker, state.rootless_docker, state.kubernetes))
    assert state.daemon_json == state.containerd_root == state.docker_options == ""


@pytest.mark.parametrize("name", ["bookworm-stopped-with-data", "trixie-with-data"])
def test_data_is_counted_whether_docker_runs_or_not(name: str) -> None:
    state = host(name)
    assert state.docker_data == EngineData(images=2, containers=1, volumes=1, layers=3, networks=1)
    assert str(state.docker_data) == "2 images, 1 container, 1 volume, 3 layers, 1 network"
    assert state.containerd_data == EngineData()
    assert (state.store_bytes, state.store_inodes) == (23912448 + 192512, 426)


def test_swarm_is_seen() -> None:
    assert host("trixie-in-a-swarm").swarm
    assert not host("trixie-with-data").swarm


def test_settings_of_others_are_seen() -> None:
    state = host("trixie-set-up-by-others")
    assert state.daemon_json == '{"userns-remap": "default"}\n'
    assert state.data_root == "/var/lib/docker/100000.100000"
    assert state.docker_data.volumes == 2  # one before the mapping of users, one with it
    assert state.docker_options == "--debug"
    assert state.unit("docker.service").exec_start == "/usr/sbin/dockerd -H fd:// --log-driver journald $DOCKER_OPTS"
    assert state.containerd_root == "/var/lib/containerd"
    assert state.containerd_namespaces == ("k8s.io",)
    assert state.docker_sources == ("/etc/apt/sources.list.d/docker.list",)


def test_without_root_the_rest_is_as_good_as_it_can_be() -> None:
    state = host("bookworm-without-root")
    assert state.uid == 65534
    assert (state.storage_driver, state.swarm) == ("", False)


def test_containerd_store_is_seen() -> None:
    unused = (HOSTS / "trixie-with-data.txt").read_text()
    driver = '"DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]], "Old": ['
    assert parse_host(unused.replace('"DriverStatus": [', driver).splitlines()).containerd_store


def test_namespaces_of_docker_itself_are_nobody_elses() -> None:
    text = (HOSTS / "trixie-with-data.txt").read_text()
    names = "##HOST## namespaces\nmoby\nmoby_history\nplugins.moby\nk8s.io\n"
    assert parse_host(text.replace("##HOST## namespaces\n", names).splitlines()).containerd_namespaces == ("k8s.io",)


def test_output_that_cannot_be_parsed_fails_this_host_alone() -> None:
    with pytest.raises(FactProcessError, match="cannot be read"):
        HostFacts().process(["bash: fork: Cannot allocate memory"])
    killed = (HOSTS / "trixie-with-data.txt").read_text().replace("inodes 412", "inodes ")  # du, for want of memory
    assert "inodes \n" in killed
    with pytest.raises(FactProcessError, match="cannot be read"):
        HostFacts().process(killed.splitlines())


def with_section(title: str, *lines: str) -> HostState:
    text = (HOSTS / "trixie-with-data.txt").read_text()
    return parse_host([*text.splitlines(), f"##HOST## {title}", *lines])


def test_volumes_in_the_programs_configuration_are_read() -> None:
    configuration = {
        "vg_name": "ubuntu-vg",
        "logical_volume": "docker-lv",
        "extra_fstab": [["/dev/mapper/ubuntu--vg-home--lv", "/home", "ext4", ["defaults"]]],
    }
    state = with_section("configuration", *(f"={line}" for line in json.dumps(configuration, indent=4).splitlines()))
    assert state.configured_volume == "/dev/mapper/ubuntu--vg-docker--lv"
    assert state.configured_extra_volumes == {"/home": "/dev/mapper/ubuntu--vg-home--lv"}
    assert not state.configured_file


@pytest.mark.parametrize(
    "line", ["", "={", "=[]", '={"vg_name": null, "logical_volume": "docker-lv", "extra_fstab": []}']
)
def test_configuration_that_cannot_be_read_names_no_volume(line: str) -> None:
    state = with_section("configuration", *filter(None, [line]))
    assert (state.configured_volume, state.configured_extra_volumes) == ("", {})


def test_adopted_filesystem_is_known_with_its_owners_options() -> None:
    line = ["UUID=7", "/srv/docker-volume", "ext4", ["defaults", "discard"]]
    values = {"vg_name": "docker-vg", "logical_volume": "docker-lv", "extra_fstab": [], "volume_fstab": [line]}
    state = with_section("configuration", f"={json.dumps(values)}")
    assert (state.configured_volume, state.configured_options) == ("UUID=7", ("defaults", "discard"))


def test_volume_on_a_file_is_known_by_the_configuration() -> None:
    values = {"vg_name": "docker-vg", "logical_volume": "docker-lv", "extra_fstab": [], "disk_file_bytes": 2**36}
    assert with_section("configuration", f"={json.dumps(values)}").configured_file


def test_units_of_mount_points_are_read_with_their_files() -> None:
    shown = r"""
=Id=srv-docker\x2dvolume.mount
=LoadState=loaded
=SourcePath=/etc/fstab
=FragmentPath=/run/systemd/generator/srv-docker\x2dvolume.mount
=
=Id=var-lib-docker.mount
=LoadState=loaded
=FragmentPath=/etc/systemd/system/var-lib-docker.mount
=
=Id=var-lib-containerd.mount
=LoadState=not-found
"""
    state = with_section("units", *shown.strip().splitlines())
    volume = MountUnit(
        r"srv-docker\x2dvolume.mount", "loaded", r"/run/systemd/generator/srv-docker\x2dvolume.mount", "/etc/fstab"
    )
    assert state.mount_units == (
        volume,
        MountUnit("var-lib-docker.mount", "loaded", "/etc/systemd/system/var-lib-docker.mount"),
        MountUnit("var-lib-containerd.mount", "not-found"),
    )


def test_systemd_is_asked_for_the_units_of_every_mount_point(tmp_path: Path) -> None:
    stand_in(tmp_path, "systemctl", 'printf "%s\\n" "$@" >>"$0.asked"')
    command = HostFacts().command(mount_points=["/srv/docker-volume", "/home"])
    shell(command, tmp_path)
    asked = (tmp_path / "systemctl.asked").read_text().splitlines()
    assert [word for word in asked if word.endswith(".mount")] == [r"srv-docker\x2dvolume.mount", "home.mount"]


def test_drop_ins_that_say_what_is_mounted_are_told_from_others(tmp_path: Path) -> None:
    (tmp_path / "show").write_text(
        "Id=srv-docker\\x2dvolume.mount\nLoadState=loaded\nDropInPaths=/etc/systemd/system/time.conf /run/a b.conf\n\n"
        "Id=home.mount\nLoadState=loaded\nDropInPaths=\n"
    )
    # As `systemctl cat` prints it.
    (tmp_path / "cat").write_text(
        "# /run/systemd/generator/srv-docker\\x2dvolume.mount\n# Automatically generated\n[Mount]\nWhat=/dev/sda\n\n"
        "# /etc/systemd/system/srv-docker\\x2dvolume.mount.d/time.conf\n[Mount]\nTimeoutSec=9\n\n"
        "# /etc/systemd/system/srv-docker\\x2dvolume.mount.d/with a blank.conf\n[Mount]\n What = /dev/sdb\nWhat=/dev/sdc\n\n"
        "# /etc/systemd/system/srv-docker\\x2dvolume.mount.d/comment.conf\n[Mount]\n#What=/dev/sdd\n\n"
        "# /run/systemd/system/mount.d/all.conf\n[Mount]\nWhat=/dev/sde\n"
    )
    stand_in(
        tmp_path,
        "systemctl",
        f'case "$*" in *FragmentPath*) cat {tmp_path}/show ;; "cat -- srv-"*) cat {tmp_path}/cat ;; cat*) exit 1 ;; esac',
    )
    found = shell(HostFacts().command(mount_points=["/srv/docker-volume", "/home"]), tmp_path).stdout
    assert [unit.drop_ins for unit in parse_host(found.splitlines()).mount_units] == [
        (
            r"/etc/systemd/system/srv-docker\x2dvolume.mount.d/with a blank.conf",
            "/run/systemd/system/mount.d/all.conf",
        ),
        (),
    ]


# -- the command itself, on this machine, with stores made here


@pytest.fixture(scope="module", autouse=True)
def _idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Stand-ins for programs that look at all of this machine, which takes their time. A test's own come first."""
    programs = tmp_path_factory.mktemp("idle")
    for name in ("dpkg-query", "pgrep", "systemctl"):
        stand_in(programs, name, "exit 1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
        yield


def asked(**arguments: Any) -> str:
    """Return the command, for a host without stores: those of this machine may be large, or volumes of a deploy."""
    command = HostFacts().command(**arguments)
    command, changed = re.subn(r"\b(docker|containerd)_store=\S+", r"\1_store=/nonexistent", command)
    assert changed == 2
    return command


def facts_of(docker_store: Path, containerd_store: Path, daemon_json: Path) -> HostState:
    command = HostFacts().command()
    values = {"docker_store": docker_store, "containerd_store": containerd_store, "daemon_json": daemon_json}
    for name, value in values.items():
        command, changed = re.subn(rf"\b{name}=\S+", f"{name}={value}", command, count=1)
        assert changed
    return parse_host(shell(command, docker_store.parent).stdout.splitlines())


def test_every_kind_of_data_in_a_store_is_counted(tmp_path: Path) -> None:
    docker, containerd = tmp_path / "docker", tmp_path / "containerd"
    for directory in (
        "docker/image/overlay2/imagedb/content/sha256",
        "docker/containers/c1",
        "docker/volumes/v1",
        "docker/100000.100000/volumes/v2",
        "docker/overlay2/l",
        "docker/overlay2/layer1",
        "docker/plugins/storage",
        "docker/plugins/tmp",
        "docker/plugins/p1",
        "docker/network/files",
        "docker/swarm",
        "containerd/io.containerd.content.v1.content/blobs/sha256",
        "containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/1",
        "containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/2",
        "containerd/io.containerd.runtime.v2.task/moby/c1",
        "containerd/io.containerd.runtime.v2.task/k8s.io",
    ):
        (tmp_path / directory).mkdir(parents=True)
    (docker / "volumes/metadata.db").touch()
    (docker / "image/overlay2/imagedb/content/sha256/i1").touch()
    (docker / "swarm/docker-state.json").write_text("{}")
    networks = b'\0"name":"bridge","networkType"\0"name":"mine","networkType"\0"name":"mine","networkType"'
    (docker / "network/files/local-kv.db").write_bytes(networks)
    (containerd / "io.containerd.content.v1.content/blobs/sha256/b1").touch()
    state = facts_of(docker, containerd, tmp_path / "none")
    assert state.docker_data == EngineData(images=1, containers=1, volumes=2, layers=1, networks=1, plugins=1)
    assert state.containerd_data == EngineData(images=1, containers=1, layers=2)
    assert state.swarm
    assert "k8s.io" in state.containerd_namespaces


def test_stores_that_are_absent_hold_nothing(tmp_path: Path) -> None:
    state = facts_of(tmp_path / "none", tmp_path / "none", tmp_path / "none")
    assert (state.docker_data, state.containerd_data, state.daemon_json) == (EngineData(), EngineData(), "")


def test_file_without_a_newline_at_its_end_swallows_nothing(tmp_path: Path) -> None:
    (tmp_path / "daemon.json").write_text('{\n  "debug": true\n}')
    state = facts_of(tmp_path, tmp_path, tmp_path / "daemon.json")
    assert (state.daemon_json, state.daemon_json_obstacle) == ('{\n  "debug": true\n}', "")


def test_who_uses_a_directory_is_named_but_our_own_login_is_not(tmp_path: Path) -> None:
    place = tmp_path / "home"
    place.mkdir()
    (place / "file").write_text("x" * 5000)
    (tmp_path / "home2").mkdir()
    stranger = orphan("sh", "-c", f"exec sleep 100 <{place}/file")
    beside = orphan("sh", "-c", f"cd {place}2; exec sleep 100")
    own = subprocess.Popen(["sleep", "100"], cwd=place)
    try:
        command = asked(places=[str(place), "/proc", f"{tmp_path}/none"])
        # Our login ends at this process: in a session of systemd's, the others would belong to it.
        login = 'own=$(line "$self") group=$(cat "$proc/$self/cgroup")'
        assert login in command
        command = command.replace(login, f'own=$(line "$self" | sed "/^{os.getpid()}$/q") group=')
        output = subprocess.run(shlex.split(command), check=True, capture_output=True, text=True).stdout
        (found,) = parse_host(output.splitlines()).places
    finally:
        own.kill()
        own.wait()
        for pid in (stranger, beside):
            os.kill(pid, signal.SIGKILL)
    assert (found.path, found.inodes) == (str(place), 2)
    assert 5000 < found.bytes < 100_000
    # Programs of this machine may have bound the directory elsewhere: mmdebstrap binds all of /dev, with /dev/shm.
    assert [user for user in found.users if "bound" not in user] == [f"sleep (process {stranger})"]


def run_part(script: str, proc: FakeProc, own: int) -> subprocess.CompletedProcess[str]:
    """Run a part of the command with a made-up /proc."""
    return shell(f"proc={proc.path} self={own}\n{script}", proc.path)


@pytest.mark.parametrize("case", LOGINS, ids=str)
def test_whether_a_process_belongs_to_our_login(tmp_path: Path, case: LoginCase) -> None:
    proc = FakeProc(tmp_path / "proc")
    case.fill(proc)
    assert (run_part(f"{part('login')} find_login; is_own {case.other}", proc, case.own).returncode == 0) == case.is_own


@pytest.mark.parametrize("case", BOUND, ids=str)
def test_where_a_directory_is_bound_elsewhere(tmp_path: Path, case: BoundCase) -> None:
    proc = FakeProc(tmp_path / "proc")
    case.fill(proc)
    output = run_part(f"{part('bound_elsewhere')} bound_elsewhere {case.directory}", proc, 50).stdout
    assert output == "".join(f"{pid} {place}\n" for pid, place in case.bound)


def test_command_has_every_part_of_the_script() -> None:
    command = shlex.split(asked())[2]
    names = [path.stem for path in (Path(__file__).parents[4] / "tasks/preflight/host_script").iterdir()]
    assert len(names) == 5
    assert all(part(name) in command for name in names)


@pytest.mark.parametrize(("places", "asks"), [([], False), (["/nonexistent"], True)])
def test_login_is_looked_for_only_where_a_directory_gets_a_volume(
    tmp_path: Path, places: list[str], asks: bool
) -> None:
    """A host pays for each process, and the ancestors of the command are many."""
    stand_in(tmp_path, "cat", f'echo "$*" >>{tmp_path}/calls; exec /bin/cat "$@"')
    assert shell(asked(places=places), tmp_path).returncode == 0
    assert any(re.search("/proc/[0-9]+/cgroup", call) for call in (tmp_path / "calls").read_text().splitlines()) == asks


def test_moves_are_told_apart() -> None:
    text = (HOSTS / "trixie-with-data.txt").read_text()
    journals = {"relocation-home": "copying", "relocation": "done", "rollback": "checking"}
    lines = "".join(f"/var/lib/bulkhead/{name}.json {phase}\n" for name, phase in journals.items()) + "under-way\n"
    state = parse_host(text.replace("##HOST## relocation\n", f"##HOST## relocation\n{lines}").splitlines())
    assert (state.relocation, state.moves) == ("done", {move_journal("/home"): "copying"})
    assert state.rollback == "checking"
    assert state.relocation_under_way


def test_phase_of_a_journal_is_read_as_the_program_writes_it(tmp_path: Path) -> None:
    Journal(f"{tmp_path}/relocation-home.json", "copying", reason='"phase": "done",').save()
    command = shlex.split(asked())
    command = [word.replace("/var/lib/bulkhead", str(tmp_path)) for word in command]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert parse_host(output.splitlines()).moves == {f"{tmp_path}/relocation-home.json": "copying"}


# -- GPUs


def gpu_facts_of(top: Path, repository: str = "") -> HostState:
    """The same command, with the GPUs, the driver, apt's files and the programs that are in a directory."""
    command = asked(nvidia_repository=repository)
    for path in ("/sys/bus/pci/devices", "/proc/driver/nvidia/version", "/etc/apt"):
        command = command.replace(path, f"{top}{path}")
    (top / "bin").mkdir(exist_ok=True)
    idle = os.environ["PATH"].partition(":")[0]
    return parse_host(shell(command, top / "bin", PATH=f"{top}/bin:{idle}:/usr/bin:/bin").stdout.splitlines())


def test_machine_without_gpus_has_none(tmp_path: Path) -> None:
    state = gpu_facts_of(tmp_path)
    assert (state.gpus, state.gpu_driver, state.toolkit_is_ours) == ((), "", False)
    assert (state.toolkit_sources, state.nvidia_containers) == ((), ())


def test_nvidias_gpus_are_seen_and_those_of_virtual_machines_are_not(tmp_path: Path) -> None:
    for address, vendor, kind, driver in (
        ("0000:01:00.0", "0x10de", "0x030000", "nvidia"),
        ("0000:01:00.1", "0x10de", "0x040300", "snd_hda_intel"),
        ("0000:02:00.0", "0x10de", "0x030200", "vfio-pci"),
        ("0000:03:00.0", "0x10de", "0x030200", ""),
        ("0000:04:00.0", "0x1002", "0x030000", "amdgpu"),
    ):
        device = tmp_path / "sys/bus/pci/devices" / address
        device.mkdir(parents=True)
        (device / "vendor").write_text(f"{vendor}\n")
        (device / "class").write_text(f"{kind}\n")
        if driver:
            (device / "driver").symlink_to(f"/sys/bus/pci/drivers/{driver}")
    assert gpu_facts_of(tmp_path).gpus == ("0000:01:00.0", "0000:03:00.0")


def test_driver_is_seen_by_its_module_or_its_tool(tmp_path: Path) -> None:
    version = tmp_path / "proc/driver/nvidia/version"
    version.parent.mkdir(parents=True)
    version.touch()
    assert gpu_facts_of(tmp_path).gpu_driver == "loaded"
    stand_in(tmp_path / "bin", "nvidia-smi", "")
    assert gpu_facts_of(tmp_path).gpu_driver == "loaded"
    version.unlink()
    assert gpu_facts_of(tmp_path).gpu_driver == "installed"
    (tmp_path / "bin/nvidia-smi").unlink()
    assert gpu_facts_of(tmp_path).gpu_driver == ""


def test_toolkit_of_whatever_package_is_seen_by_its_runtime(tmp_path: Path) -> None:
    assert gpu_facts_of(tmp_path).toolkit == ""
    stand_in(tmp_path / "bin", "nvidia-container-runtime", "")
    assert gpu_facts_of(tmp_path).toolkit == f"{tmp_path}/bin/nvidia-container-runtime"


def test_packages_that_dpkg_has_not_finished_are_told_apart(tmp_path: Path) -> None:
    stand_in(
        tmp_path,
        "dpkg-query",
        "printf '%s\\n' 'lvm2 installed 2.03' 'cron half-configured 3.0' 'runc config-files 1.1' 'containerd not-installed '",
    )
    state = parse_host(shell(asked(), tmp_path).stdout.splitlines())
    assert state.packages == {"lvm2": "2.03", "cron": "3.0"}
    assert state.unfinished_packages == ("cron",)


@pytest.mark.parametrize("containers", ["", "c1\n"])
def test_upgrade_that_was_cut_is_seen_by_the_list_of_what_it_has_stopped(tmp_path: Path, containers: str) -> None:
    there = tmp_path / "stopped"
    command = asked().replace(STOPPED_BY_UPGRADE, str(there))
    assert not parse_host(shell(command, tmp_path).stdout.splitlines()).stopped_by_upgrade
    there.write_text(containers)
    assert parse_host(shell(command, tmp_path).stdout.splitlines()).stopped_by_upgrade


NVIDIA_LIST = "deb [signed-by=/k.gpg] https://nvidia.github.io/libnvidia-container/stable/deb/$(ARCH) /\n"


def test_entries_of_others_for_the_toolkit_are_named_and_ours_is_known(tmp_path: Path) -> None:
    sources = tmp_path / "etc/apt/sources.list.d"
    sources.mkdir(parents=True)
    ours = sources / "nvidia-bulkhead.sources"
    (sources / "commented.list").write_text(f"# {NVIDIA_LIST}")
    (sources / "docker.list").write_text("deb https://download.docker.com/linux/debian bookworm stable\n")
    state = gpu_facts_of(tmp_path, repository="https://mirror.example.com/nvidia")
    assert (state.toolkit_sources, state.toolkit_is_ours) == ((), False)
    ours.write_text("URIs: https://mirror.example.com/nvidia/stable/deb/$(ARCH)\n")
    (sources / "toolkit.list").write_text(NVIDIA_LIST)
    (sources / "mirror.sources").write_text("URIs: http://mirror.example.com/nvidia/stable/deb/amd64\n")
    state = gpu_facts_of(tmp_path, repository="https://mirror.example.com/nvidia")
    assert state.toolkit_sources == (str(sources / "mirror.sources"), str(sources / "toolkit.list"))
    assert state.toolkit_is_ours


@pytest.mark.parametrize("docker", ["active", "inactive"])
@pytest.mark.parametrize("ours", [True, False])
def test_containers_that_need_the_toolkit_are_named_where_it_is_ours(tmp_path: Path, ours: bool, docker: str) -> None:
    (tmp_path / "bin").mkdir()
    stand_in(tmp_path / "bin", "systemctl", f"[ $1 != is-active ] || printf '%s\\n' {docker} active")
    stand_in(
        tmp_path / "bin",
        "docker",
        """case "$3 $4" in
            "ps --all") printf 'c1\\nc2\\n' ;;
            inspect*) printf '%s\\n' 'nvidia null /train' 'runc null /nvidia-exporter' 'nvidia-legacy [] /infer' \
                'runc [{"Driver":"","Count":-1,"Capabilities":[["gpu"]]}] /by-hook' \
                'runc [{"Driver":"cdi","DeviceIDs":["nvidia.com/gpu=all"]}] /by-cdi' \
                'runc [{"Driver":"other","Capabilities":[["tpu"]]}] /tpu' 'runc [] /gpu' ;;
        esac""",
    )
    if ours:
        (tmp_path / "etc/apt/sources.list.d").mkdir(parents=True)
        (tmp_path / "etc/apt/sources.list.d/nvidia-bulkhead.sources").touch()
    expected = ("train", "infer", "by-hook", "by-cdi") if ours and docker == "active" else ()
    assert gpu_facts_of(tmp_path).nvidia_containers == expected


# -- daemon.json


@pytest.mark.parametrize("mark", ["utf-8", "utf-8-sig", "utf-16"])
def test_daemon_json_is_read_with_its_byte_order_mark(tmp_path: Path, mark: str) -> None:
    (tmp_path / "daemon.json").write_bytes('{"debug": true}'.encode(mark))
    state = facts_of(tmp_path, tmp_path, tmp_path / "daemon.json")
    assert readable_keys(state.daemon_json) == {"debug": True}


def test_keys_that_we_wrote_are_read_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "applied").write_text('{"debug": true}')
    command = asked().replace(DAEMON_JSON_APPLIED, f"{tmp_path}/applied")
    assert parse_host(shell(command, tmp_path).stdout.splitlines()).daemon_json_applied == '{"debug": true}'


def test_link_is_followed_and_what_cannot_be_replaced_is_said(tmp_path: Path) -> None:
    file, link = tmp_path / "managed.json", tmp_path / "daemon.json"
    link.symlink_to("managed.json")
    state = facts_of(tmp_path, tmp_path, link)
    assert state.daemon_json_obstacle == "a symbolic link to managed.json, which does not exist"
    file.write_text("{}")
    state = facts_of(tmp_path, tmp_path, link)
    assert (state.daemon_json, state.daemon_json_obstacle) == ("{}", "")
    assert facts_of(tmp_path, tmp_path, tmp_path).daemon_json_obstacle == "no regular file"


def test_apt_is_asked_only_for_named_packages_that_are_not_installed(tmp_path: Path) -> None:
    stand_in(tmp_path, "dpkg-query", "echo docker-cli installed 1; echo docker-buildx not-installed; exit 1")
    stand_in(
        tmp_path,
        "apt-cache",
        """echo "$*" >>"${0%/*}/asked"; [ $LC_ALL = C ] || exit 1
        printf '%s:\\n  Installed: (none)\\n  Candidate: %s\\n' docker-buildx 0.13 other '(none)'""",
    )
    state = parse_host(shell(asked(), tmp_path).stdout.splitlines())
    assert state.offered == ()
    command = asked(where_offered=["docker-cli", "docker-buildx", "other"])
    assert parse_host(shell(command, tmp_path).stdout.splitlines()).offered == ("docker-buildx",)
    assert (tmp_path / "asked").read_text() == "policy docker-buildx other\n"


# -- Docker itself


def docker_facts(top: Path, docker: str, patience: str = "120") -> HostState:
    """The facts of a host whose docker.service is active, with a stand-in for docker."""
    stand_in(top, "systemctl", "[ $1 != is-active ] || printf '%s\\n' active inactive")
    stand_in(top, "docker", docker)
    command = asked().replace("patience=120", f"patience={patience}")
    return parse_host(shell(command, top).stdout.splitlines())


def test_docker_that_does_not_answer_in_time_is_told_from_one_that_does_not_run(tmp_path: Path) -> None:
    state = docker_facts(tmp_path, '[ "$3" != info ] || exec sleep 5', patience="0.2")
    assert (state.docker_hangs, state.storage_driver) == (True, "")
    state = docker_facts(tmp_path, '[ "$3" != info ] || { sleep 0.1; echo \'{"Driver": "overlay2"}\'; }')
    assert (state.docker_hangs, state.storage_driver) == (False, "overlay2")
    assert not docker_facts(tmp_path, "exit 1").docker_hangs


# As docker inspect of 26.1 prints it by the template of the facts.
CONTAINERS = r"""
case "$3 $4" in
    "ps --all") printf 'c1\nc2\nc3\n' ;;
    "inspect --format") cat <<END
["/web","running","sha256:a","$now","0001-01-01T00:00:00Z","2024-01-01T00:00:00.123456789Z","always",false]
["/job","exited","sha256:b","2024-01-01T00:00:00.5Z","$two_days_ago","2024-01-01T00:00:00Z","no",true,false]
["/new","created","sha256:c","0001-01-01T00:00:00Z","0001-01-01T00:00:00Z","$two_days_ago","",false]
END
    ;;
    "images --quiet") printf 'sha256:d\nsha256:b\n' ;;
esac
"""


def test_containers_are_named_with_what_decides_whether_the_prune_removes_them(tmp_path: Path) -> None:
    times = "now=$(date -u +%Y-%m-%dT%H:%M:%S.1Z) two_days_ago=$(date -u -d '-48 hours' +%Y-%m-%dT%H:%M:%S.987654321Z)"
    state = docker_facts(tmp_path, f"{times}\n{CONTAINERS}")
    web, job, new = state.containers
    assert (web.name, web.status, web.image, web.has_restart_policy) == ("web", "running", "sha256:a", True)
    assert (job.status, job.has_restart_policy, job.is_kept) == ("exited", False, True)
    assert (new.status, new.has_restart_policy, new.is_kept) == ("created", False, False)
    assert [round(one.idle_hours, 1) for one in (job, new)] == [48.0, 48.0]
    assert state.dangling_images == ("sha256:d", "sha256:b")


@pytest.mark.parametrize("ours", [JOURNALD_DROP_IN, DAEMON_JSON_APPLIED, ""])
def test_journal_is_measured_before_the_first_run_alone(tmp_path: Path, ours: str) -> None:
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal/system.journal").write_bytes(b"x" * 50_000)
    if ours:
        (tmp_path / ours[1:]).parent.mkdir(parents=True)
        (tmp_path / ours[1:]).write_text("{}")
    command = asked().replace("/var/log/journal", f"{tmp_path}/journal")
    for path in (JOURNALD_DROP_IN, DAEMON_JSON_APPLIED):
        command = command.replace(path, f"{tmp_path}{path}")
    size = parse_host(shell(command, tmp_path).stdout.splitlines()).journal_bytes
    assert size == 0 if ours else 50_000 <= size < 100_000


def test_containers_are_not_asked_for_where_docker_does_not_run(tmp_path: Path) -> None:
    state = gpu_facts_of(tmp_path)
    assert (state.containers, state.dangling_images, state.docker_hangs) == ((), (), False)


# -- containerd's configuration


@pytest.mark.parametrize("case", CONTAINERDS, ids=str)
def test_root_of_containerd_is_found_as_containerd_finds_it(tmp_path: Path, case: ContainerdCase) -> None:
    done = shell(f"configuration={case.write(tmp_path)}\n{part('containerd_config')} containerd_config", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    text = (HOSTS / "trixie-with-data.txt").read_text()
    output = text.replace("##HOST## containerd-config\n", f"##HOST## containerd-config\n{done.stdout}")
    assert parse_host(output.splitlines()).containerd_root == case.root


# -- apt's entries


@pytest.mark.parametrize(
    ("entry", "counts"),
    [
        ("{types}Enabled: yes\n{uris}", True),
        ("{types}Enabled: no\n{uris}", False),
        ("{types}{uris}enabled:No \n", False),
        ("{types}{uris}Enabled: false\n", False),
        ("{types}{uris}Enabled: 0\n", False),
        ("{types}{uris}# Enabled: no\n", True),
        ("{types}# a comment\n{uris}#\nEnabled: no\n", False),
        ("{types}Enabled: no\nURIs: https://example.com\n\n{types}{uris}", True),
        ("{types}{uris}\nTypes: deb\nEnabled: no\nURIs: https://example.com\n", True),
        ("{types}URIs:\n https://example.com\n https://download.docker.com/linux/debian\n", True),
        ("Types: deb\nSuites: no\n{uris}Components: Enabled: no\n", True),
    ],
    ids=repr,
)
def test_entry_that_is_disabled_is_no_entry(tmp_path: Path, entry: str, counts: bool) -> None:
    file = tmp_path / "etc/apt/sources.list.d/docker.sources"
    file.parent.mkdir(parents=True)
    values = {"types": "Types: deb\n", "uris": "URIs: https://download.docker.com/linux/debian\n"}
    file.write_text(entry.format(**values))
    sources = part("apt_sources").replace("/etc/apt", f"{tmp_path}/etc/apt")
    found = shell(f"{sources} sources https://download.docker.com/linux", tmp_path).stdout
    assert found == (f"1 {file}\n" if counts else "")


def test_machine_is_identified_only_where_that_is_asked() -> None:
    lines = (HOSTS / "bookworm-unused.txt").read_text().splitlines()
    assert parse_host(lines).machine == ""
    assert parse_host([*lines, "##HOST## machine", "0123abcd"]).machine == "0123abcd"
    assert parse_host([*lines, "##HOST## machine"]).machine == ""
    assert not parse_host(lines).has_boot_unit
    assert parse_host([*lines, "##HOST## boot-unit", "yes"]).has_boot_unit
    commands = asked(identify=True), asked()
    assert ["identify=yes " in command for command in commands] == [True, False]
