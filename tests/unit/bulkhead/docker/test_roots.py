"""Where Docker and containerd keep their data."""

from __future__ import annotations

from pathlib import Path

import pytest

from bulkhead.docker import cgroups, daemon, roots

from ...cases import CONTAINERDS, DAEMON_JSONS, ContainerdCase, DaemonJsonCase
from ...fake_proc import FakeProc
from ..configs import config


class Daemons:
    """Docker and containerd as systemd runs them, with their configuration in a directory."""

    def __init__(self, top: Path, proc: FakeProc, monkeypatch: pytest.MonkeyPatch) -> None:
        self.top = top
        self.proc = proc
        monkeypatch.setattr(roots, "DAEMON_JSON", f"{top}/daemon.json")
        monkeypatch.setattr(roots, "CONTAINERD_CONFIG", f"{top}/config.toml")
        monkeypatch.setattr(cgroups, "ROOT", f"{top}/cgroup")
        monkeypatch.setattr(daemon, "data_root", self._data_root)
        self.says: str | Exception = "/var/lib/docker"

    def _data_root(self) -> str:
        if isinstance(self.says, Exception):
            raise self.says
        return self.says

    def start(self, dockerd: str = "dockerd -H fd://", containerd: str = "containerd") -> None:
        # A Docker in a container comes first.
        for pid, words, parent in (
            (40, "dockerd --data-root=/inner", 39),
            (41, "containerd --root /inner", 40),
            (50, f"/usr/bin/{dockerd}", 1),
            (60, f"/usr/bin/{containerd}", 1),
        ):
            self.proc.add(pid, words, name=words.split()[0].rpartition("/")[2], parent=parent)

    def off_the_volume(self, *, docker_answers: bool = True) -> tuple[list[str], list[str]]:
        return roots.off_the_volume(config(), docker_answers=docker_answers)


@pytest.fixture
def daemons(tmp_path: Path, proc: FakeProc, monkeypatch: pytest.MonkeyPatch) -> Daemons:
    return Daemons(tmp_path, proc, monkeypatch)


def test_default_is_on_the_volume(daemons: Daemons) -> None:
    daemons.start()
    assert daemons.off_the_volume() == ([], [])
    assert daemons.off_the_volume(docker_answers=False) == ([], [])


@pytest.mark.parametrize("case", DAEMON_JSONS, ids=str)
def test_daemon_json_is_read_as_dockerd_reads_it(daemons: Daemons, case: DaemonJsonCase) -> None:
    daemons.start()
    path = daemons.top / "daemon.json"
    path.write_bytes(case.content)
    elsewhere = [f"{path} puts data into {case.root}"] if case.root else []
    unread = [f"Docker does not start with {path}, because it cannot read it: correct that file"]
    assert daemons.off_the_volume() == (elsewhere, unread if case.root is None else [])


@pytest.mark.parametrize("root", ["/var/lib/docker/", "/srv/docker-volume/docker", "/var/lib/docker/100000.100000"])
def test_root_on_the_volume_is_none_elsewhere(daemons: Daemons, root: str) -> None:
    daemons.start()
    (daemons.top / "daemon.json").write_text(f'{{"data-root": "{root}"}}')
    daemons.says = root
    assert daemons.off_the_volume() == ([], [])


@pytest.mark.parametrize("name", ["daemon.json", "config.toml"])
def test_file_that_cannot_be_opened_is_named(daemons: Daemons, name: str) -> None:
    daemons.start()
    (daemons.top / name).mkdir()
    assert daemons.off_the_volume() == ([], [f"{daemons.top}/{name} cannot be read: Is a directory"])


@pytest.mark.parametrize("case", CONTAINERDS, ids=str)
def test_configuration_of_containerd_is_read_with_what_it_imports(
    daemons: Daemons, monkeypatch: pytest.MonkeyPatch, case: ContainerdCase
) -> None:
    daemons.start()
    monkeypatch.setattr(roots, "CONTAINERD_CONFIG", str(case.write(daemons.top / "etc")))
    found, unread = daemons.off_the_volume()
    assert [text.rpartition(" puts data into ")[2] for text in found] == ([case.root] if case.root else [])
    assert unread == []


def test_import_that_is_missing_is_named(daemons: Daemons) -> None:
    daemons.start()
    (daemons.top / "config.toml").write_text('imports = ["gone.toml"]\n')
    assert daemons.off_the_volume() == ([], [f"{daemons.top}/gone.toml cannot be read: No such file or directory"])


def test_configuration_that_is_no_text_is_named(daemons: Daemons) -> None:
    daemons.start()
    (daemons.top / "config.toml").write_bytes(b"root = \xff")
    assert daemons.off_the_volume() == ([], [f"{daemons.top}/config.toml cannot be read: it is not UTF-8"])


def test_running_docker_is_asked(daemons: Daemons) -> None:
    daemons.start("dockerd --data-root=/elsewhere")
    daemons.says = "/elsewhere"
    assert daemons.off_the_volume() == (["the running Docker puts data into /elsewhere"], [])
    daemons.says = ValueError("Docker does not say where its data is: it does not answer within 10 s")
    assert daemons.off_the_volume() == ([], [str(daemons.says)])


@pytest.mark.parametrize(
    ("dockerd", "root"),
    [
        ("dockerd --data-root=/elsewhere -H fd://", "/elsewhere"),
        ("dockerd -H fd:// --data-root /elsewhere", "/elsewhere"),
        ("dockerd -g /elsewhere", "/elsewhere"),
        ("dockerd --graph=/elsewhere", "/elsewhere"),
        ("dockerd --data-root=/var/lib/docker", ""),
    ],
)
def test_who_may_not_ask_docker_reads_its_command_line(daemons: Daemons, dockerd: str, root: str) -> None:
    daemons.start(dockerd)
    daemons.says = PermissionError(13, "Permission denied")
    assert daemons.off_the_volume() == ([f"the running Docker puts data into {root}"] if root else [], [])


@pytest.mark.parametrize("option", ["--root /elsewhere", "--root=/elsewhere", "-root=/elsewhere"])
def test_command_line_of_containerd_is_read(daemons: Daemons, option: str) -> None:
    daemons.start(containerd=f"containerd {option}")
    assert daemons.off_the_volume() == (["the running containerd puts data into /elsewhere"], [])


@pytest.mark.parametrize("option", ["--config {}", "-c={}"])
def test_configuration_that_containerd_was_started_with_is_read(daemons: Daemons, option: str) -> None:
    other = daemons.top / "other.toml"
    other.write_text('root = "/elsewhere"\n')
    daemons.start(containerd=f"containerd {option.format(other)}")
    assert daemons.off_the_volume() == ([f"{other} puts data into /elsewhere"], [])


def test_daemon_without_a_process_cannot_be_read(daemons: Daemons) -> None:
    daemons.says = PermissionError(13, "Permission denied")
    assert daemons.off_the_volume() == (
        [],
        [
            "the command line of containerd cannot be read: no process of containerd.service is found",
            "the command line of dockerd cannot be read: no process of docker.service is found",
        ],
    )


def test_daemon_that_is_hidden_from_this_user_is_not_called_missing(daemons: Daemons) -> None:
    daemons.start("dockerd --data-root=/elsewhere")
    daemons.proc.hide(1, 50, 60)
    daemons.says = PermissionError(13, "Permission denied")
    hidden = "cannot be read: /proc hides the processes of others from this user (hidepid). Root can read it"
    assert daemons.off_the_volume() == (
        [],
        [f"the command line of {program} {hidden}" for program in ("containerd", "dockerd")],
    )


def test_processes_of_the_unit_are_looked_at_first(daemons: Daemons, monkeypatch: pytest.MonkeyPatch) -> None:
    daemons.start()
    group = daemons.top / "cgroup/system.slice/containerd.service"
    group.mkdir(parents=True)
    (group / "cgroup.procs").write_text("41\n60\n")
    monkeypatch.setattr("bulkhead.procfs.process_ids", lambda: pytest.fail("every process of the host is read"))
    assert daemon.process_of("containerd.service", "containerd") == 60
