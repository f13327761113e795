"""The decisions of the lab: QEMU's command line, cloud-init's seed, a machine's settings, the stand-in packages."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lab import LabError, cache, deb, deploy, docker_packages, qemu
from lab import machine as machine_module
from lab.__main__ import main
from lab.image import LAYOUTS, Recipe
from lab.machine import Machine, inventory_settings, seed_files, shell_join
from lab.repository import LabRepository
from tests.lab.conftest import Run


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BULKHEAD_CACHE", str(tmp_path))
    cache.ssh_key.cache_clear()


def line(**changes: object) -> list[str]:
    arguments = {
        "disks": [qemu.Disk("root", Path("/d/root.qcow2"))],
        "console": Path("/d/console.log"),
        "network": 2222,
        "accelerator": "tcg",
    }
    return qemu.command(**arguments | changes)  # type: ignore[arg-type]


def test_ssh_is_forwarded_on_the_loopback_address_only() -> None:
    assert "user,id=net,hostfwd=tcp:127.0.0.1:2222-:22" in line()


def test_flushed_data_survives_the_end_of_qemu() -> None:
    (drive,) = [word for word in line() if word.startswith("if=none,id=root")]
    assert "cache=writeback" in drive


def test_emulated_kernel_reads_the_time_from_the_processor() -> None:
    assert " tsc=reliable " in " ".join(line(kernel=Path("/i")))
    assert "tsc=" not in " ".join(line(kernel=Path("/i"), accelerator="kvm"))


def test_snapshot_of_a_booted_machine_is_made_anew_for_other_options_of_the_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qemu, "version", lambda: "10.0.2")
    source = tmp_path / "image"

    def made(options: str) -> bool:
        monkeypatch.setitem(qemu.KERNEL_OPTIONS, "tcg", options)
        monkeypatch.setattr(Machine, "_claimed", lambda _: (_ for _ in ()).throw(ZeroDivisionError))
        try:
            machine_module._booted(Recipe(), source, "tcg").rmdir()
        except ZeroDivisionError:
            return True
        return False

    assert made("quiet")
    (lock,) = tmp_path.glob("image-booted-*.lock")
    lock.with_suffix("").mkdir()
    assert not made("quiet")
    lock.with_suffix("").mkdir()
    assert made("loud")


def test_qemu_that_was_unpacked_is_preferred(tmp_path: Path) -> None:
    assert qemu.binary() == "qemu-system-x86_64"
    newer = tmp_path / "unpacked/qemu/usr/bin/qemu-system-x86_64"
    newer.parent.mkdir(parents=True)
    newer.write_text("#!/bin/sh\necho 'QEMU emulator version 10.0.2 (Debian 1:10.0.2)'\n")
    newer.chmod(0o755)
    assert qemu.binary() == str(newer)
    qemu.version.cache_clear()
    assert qemu.version() == "10.0.2"
    qemu.version.cache_clear()


def test_image_of_the_lab_boots_its_own_kernel_and_a_cloud_image_its_own_loader() -> None:
    assert "-kernel" in line(kernel=Path("/i"), append="root=/dev/vda")
    assert "-kernel" not in line()


def test_seed_lets_root_in_with_the_key_of_the_lab() -> None:
    files = seed_files("ssh-ed25519 AAAA lab")
    head, _, body = files["user-data"].partition("\n")
    assert head == "#cloud-config"
    assert json.loads(body) == {
        "disable_root": False,
        "users": [{"name": "root", "ssh_authorized_keys": ["ssh-ed25519 AAAA lab"]}],
    }
    assert "instance-id" in files["meta-data"]


def test_each_recipe_has_an_image_of_its_own() -> None:
    recipes = [Recipe(), Recipe("trixie"), Recipe(docker="preinstalled")]
    recipes += [Recipe(layout=layout) for layout in LAYOUTS if layout != "shared-vg"]
    assert len({recipe.name for recipe in recipes}) == len(recipes)


def test_name_of_an_image_changes_with_what_makes_it_and_not_with_its_words() -> None:
    layout = LAYOUTS["spare-disk"]
    with pytest.MonkeyPatch.context() as patched:
        names = [Recipe(layout="spare-disk").name]
        for changes in ({"summary": "other words"}, {"settings": {}}, {"packages": ("vim",)}, {"first_boot": "true"}):
            patched.setitem(LAYOUTS, "spare-disk", replace(layout, **changes))  # type: ignore[arg-type]
            names.append(Recipe(layout="spare-disk").name)
    assert names[0] == names[1] == names[2]
    assert len({*names}) == 3


def test_settings_of_a_machine_follow_from_its_recipe() -> None:
    assert inventory_settings(Recipe()) == {"engine_source": "distro"}
    assert inventory_settings(Recipe(layout="decoy"))["volume_disks"] == ["/dev/disk/by-id/virtio-spare"]
    for layout in ("single-root", "single-root-xfs"):
        assert inventory_settings(Recipe(layout=layout)) == {"engine_source": "distro", "volume_file": "60%"}
    adopting = inventory_settings(Recipe(layout="own-disk", docker="preinstalled"))
    assert adopting == {"engine_source": "distro", "adopt_filesystem": True}
    partition = inventory_settings(Recipe(layout="cloud-init"))
    assert partition["volume_disks"] == ["/dev/disk/by-partlabel/docker"]
    ephemeral = inventory_settings(Recipe(layout="instance-store"))
    assert ephemeral["volume_ephemeral"] is True
    mirrored = inventory_settings(Recipe(layout="two-disks"))
    assert mirrored["volume_disks"] == ["/dev/disk/by-id/virtio-spare", "/dev/disk/by-id/virtio-second"]
    assert mirrored["volume_raid"] == "raid1"
    assert inventory_settings(Recipe("sid"))["allow_unsupported_release"] is True
    assert inventory_settings(None)["volume_disks"] == ["/dev/disk/by-id/virtio-spare"]


def test_error_for_a_missing_machine_says_how_to_make_it() -> None:
    with pytest.raises(LabError, match="there is no machine 'x': `scripts/lab up x` makes it"):
        Machine.get("x")


@pytest.fixture(params=["x"])
def machine(request: pytest.FixtureRequest) -> Machine:
    """Return a machine that exists on the disk, without a QEMU."""
    machine = Machine(request.param, Recipe(), {}, 1)
    machine.directory.mkdir(parents=True)
    machine.save()
    return machine


@pytest.fixture
def fake_qemu(machine: Machine) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process that looks like the machine's QEMU: the pidfile is on its command line."""
    pidfile = machine.directory / "pid"
    process = subprocess.Popen(["sh", "-c", "read -r forever", "qemu", pidfile], stdin=subprocess.PIPE)
    # The kernel fills it in a moment after the program has started.
    while not Path(f"/proc/{process.pid}/cmdline").read_bytes():
        time.sleep(0.001)
    pidfile.write_text(f"{process.pid}\n")
    yield process
    process.kill()
    process.wait()


def test_machine_runs_as_long_as_its_qemu(machine: Machine, fake_qemu: subprocess.Popen[bytes]) -> None:
    assert machine.pid == fake_qemu.pid
    assert machine.up
    fake_qemu.kill()
    fake_qemu.wait()
    assert not machine.running


def test_machine_boots_the_kernel_whose_modules_it_has(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[list[str]] = []
    monkeypatch.setattr(subprocess, "run", lambda line, **_: lines.append(line))
    monkeypatch.setattr(machine_module, "image", lambda _: Path("/images/of-today"))
    (machine.directory / "image").symlink_to(tmp_path)
    Machine.get("x")._start()
    assert Path(lines[0][lines[0].index("-kernel") + 1]).resolve() == tmp_path / "vmlinuz"


def test_process_of_another_program_is_no_running_machine(machine: Machine) -> None:
    (machine.directory / "pid").write_text(f"{os.getpid()}\n")
    assert not machine.running


def test_machine_can_be_stopped_by_another_process(
    machine: Machine, fake_qemu: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Machine, "_disconnect", lambda _: None)  # it needs ssh
    Machine.get(machine.name).destroy()
    assert fake_qemu.wait(timeout=60) == -9
    assert Machine.all() == []


@pytest.mark.usefixtures("fake_qemu")
@pytest.mark.parametrize("machine", ["making-x"], indirect=True)
def test_machine_that_becomes_an_image_is_no_host_of_the_inventory(machine: Machine) -> None:
    assert machine.running
    assert not machine.up


def test_option_of_up_for_a_machine_that_exists_is_an_error_and_leaves_it_as_it_is(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["scripts/lab", "up", "x", "--suite", "bookworm", "--cpus", "4"])
    assert main() == 1
    assert (
        "x exists already, and --suite, --cpus can only be chosen for a new machine: `scripts/lab down x` removes this one"
        in " ".join(capsys.readouterr().err.split())
    )
    assert not machine.running


def test_taken_name_is_refused_and_its_machine_stays(machine: Machine) -> None:
    with pytest.raises(LabError, match="the machine 'x' exists already"), Machine("x", None, {}, 1)._claimed():
        raise AssertionError("never here")
    assert Machine.all() == [machine]


@pytest.mark.parametrize("name", ["", "..", "a/b", "a,b", "-a", "A"])
def test_name_that_is_unsafe_in_a_path_or_an_option_is_refused(name: str) -> None:
    with pytest.raises(LabError, match="is no name for a machine"), Machine(name, None, {}, 1)._claimed():
        raise AssertionError("never here")


def test_machine_that_cannot_be_made_leaves_nothing_behind() -> None:
    with pytest.raises(ZeroDivisionError), Machine("y", None, {}, 1)._claimed():
        raise ZeroDivisionError
    assert not cache.machines().joinpath("y").exists()


def test_machines_of_one_name_in_two_caches_share_no_socket(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = machine._socket("ssh")
    monkeypatch.setenv("BULKHEAD_CACHE", str(tmp_path / "another"))
    assert machine._socket("ssh") != one


def test_snapshot_is_restored_in_a_new_process_without_disks_that_were_added(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[object] = []
    monkeypatch.setattr(subprocess, "run", lambda line, **_: Path(line[-2]).touch())
    machine.add_disk("further", "20G")
    path = machine.directory / "further.qcow2"
    assert Machine.get("x").disks == {"further": str(path)}
    machine.disks["root"] = "root.qcow2"
    monkeypatch.setattr(machine_module, "_information", lambda _: {"snapshots": [{"name": "before"}]})
    for name in ("_disconnect", "_set_clock"):
        monkeypatch.setattr(Machine, name, lambda _: None)
    monkeypatch.setattr(Machine, "cut", lambda _: done.append("cut"))
    monkeypatch.setattr(Machine, "_start", lambda self, load: done.append((load, dict(self.disks))))
    machine.restore("before")
    assert done == ["cut", ("before", {"root": "root.qcow2"})]
    assert not path.exists()
    assert Machine.get("x").added == []


def test_disk_grows_while_the_machine_runs(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[str] = []
    monkeypatch.setattr(Machine, "_tell_monitor", lambda _, command: commands.append(command))
    machine.grow_disk("spare", "30G")
    assert commands == ["block_resize spare 30G"]


@pytest.mark.skipif(not shutil.which("qemu-io"), reason="the lab's tools are not installed")
def test_emptied_disk_is_zeros_and_its_snapshots_stay(machine: Machine) -> None:
    disk = machine.directory / "spare.qcow2"
    machine.disks["spare"] = str(disk)
    at_end = 1100 * 2**20

    def qemu(*words: str) -> int:
        return subprocess.run([*words, str(disk)], capture_output=True, check=False).returncode

    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(disk), "1200M"], check=True)
    filled = [word for at in (0, at_end) for word in ("-c", f"write -P 7 {at} 1M")]
    assert qemu("qemu-io", "-f", "qcow2", *filled) == 0
    assert qemu("qemu-img", "snapshot", "-c", "before") == 0
    machine.empty_disk("spare")
    for pattern in (0, 7):
        read = [word for at in (0, at_end) for word in ("-c", f"read -P {pattern} {at} 1M")]
        assert qemu("qemu-io", "-f", "qcow2", *read) == 0, pattern
        assert qemu("qemu-img", "snapshot", "-a", "before") == 0


@pytest.mark.parametrize(
    ("asked", "has_kvm", "steps"),
    [
        (None, True, ["an image", "the probe"]),
        (None, False, ["the probe"]),
        ("kvm", True, []),
    ],
)
def test_first_machine_of_a_cloud_image_has_an_image_to_probe_kvm_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str | None, has_kvm: bool, steps: list[str]
) -> None:
    done: list[str] = []

    def probe() -> str:
        done.append("the probe")
        return "kvm"

    (tmp_path / "ubuntu.img").touch()
    monkeypatch.setattr(qemu, "has_kvm", lambda: has_kvm)
    monkeypatch.setattr(machine_module, "image", lambda _: done.append("an image"))
    monkeypatch.setattr(qemu, "working_accelerator", probe)
    monkeypatch.setattr(Machine, "_claimed", lambda _: (_ for _ in ()).throw(ZeroDivisionError))
    with pytest.raises(ZeroDivisionError):
        Machine.from_cloud_image("ubuntu", tmp_path / "ubuntu.img", settings={}, accelerator=asked)
    assert done == steps


def test_words_after_the_dashes_are_one_command() -> None:
    assert shell_join(["docker", "run", "a b"]) == "docker run 'a b'"
    assert shell_join(["df / | tail -1"]) == "df / | tail -1"


def test_deploy_runs_on_the_named_machine_only_and_passes_the_settings_on() -> None:
    line = deploy.command("one", options=("--dry",), volume_size="25G", volume_raid=None)
    assert " ".join(line[1:]) == (
        "-m pyinfra --dry inventory/lab.py --limit one --data volume_size=25G --data volume_raid=null deploy.py"
    )


def test_names_of_changed_operations_are_read_off_pyinfras_output() -> None:
    output = (
        "--> Starting operation: A | one \n    [x] Success\n\n--> Starting operation: B \n    [x] No changes\n\n"
        "--> Results:\n    Grand total    2    1    -    1\n"
    )
    assert Run(0, output).changed == {"A | one"}
    assert Run(0, output).changes == 1


def test_package_of_the_stand_in_repository_has_dockers_name_and_the_distributions_content() -> None:
    control = (
        "Package: docker.io\nVersion: 26.1.5+dfsg1-9\nArchitecture: amd64\n"
        "Depends: containerd (>= 1.7~), runc (>= 1.1), iptables\nConflicts: docker-ce\nDescription: containers\n of Linux\n"
    )
    version = "5:26.1.5-1~debian.13~trixie"
    made = docker_packages.fields(deb.fields(control), "docker-ce", version, "docker.io", "trixie")
    assert deb.fields(deb.control(made)) == made
    assert made == {
        "Package": "docker-ce",
        "Version": "5:26.1.5-1~debian.13~trixie",
        "Architecture": "amd64",
        "Depends": "containerd.io, iptables, docker-ce-cli",
        "Conflicts": "docker.io",
        "Replaces": "docker.io",
        "Description": "containers\n of Linux",
    }


def test_containerd_of_the_stand_in_repository_brings_its_runc_as_dockers_does() -> None:
    theirs = {"Depends": "runc (>= 1.1), libc6 (>= 2.38), libseccomp2"}
    made = docker_packages.fields(theirs, "containerd.io", "1", "containerd", "trixie")
    assert made["Depends"] == "libc6 (>= 2.38), libseccomp2"
    assert made["Conflicts"] == made["Replaces"] == "containerd, runc"


def test_process_of_another_program_is_not_the_repositorys_server() -> None:
    repository = LabRepository()
    repository.directory.mkdir(parents=True)
    (repository.directory / "server").write_text(f"{os.getpid()} 80\n")
    assert repository._server() is None


def test_repository_is_served_until_its_last_user_leaves(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BULKHEAD_CACHE", str(tmp_path))
    stopped: list[str] = []
    monkeypatch.setattr(LabRepository, "running", classmethod(lambda cls: cls()))
    monkeypatch.setattr(LabRepository, "stop_running", classmethod(lambda _: stopped.append("server")))
    with LabRepository.served():
        with LabRepository.served():
            pass
        assert stopped == []
    assert stopped == ["server"]
