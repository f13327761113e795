"""The script that puts daemon.json in force, with stand-ins for Docker and systemd, and cut at each step."""

from __future__ import annotations

import json
import os
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from bulkhead.names import BEFORE
from tasks import daemon
from tasks.daemon import DaemonJson, DaemonJsonFiles
from tasks.support.paths import DAEMON_JSON, DAEMON_JSON_APPLIED

from .operations import OperationHost, after_cuts, as_functions, calls, noted, noting, performed, shell, stand_in

OURS = {"debug": True}
REFUSED = {"refused": True}  # by `dockerd --validate`
BAD = {"bad": True}  # Docker does not start with it
LIVE_RESTORE = {"live-restore": True}
STEPS = ("mv", "rm", "sync")  # what must come in its order


class DockerHost:
    """A host with Docker and containers, each a file that says "running" or "stopped".

    Containers run on over a restart of Docker only if the running Docker has live-restore on. One whose name begins with
    `broken-` does not start.

    Args:
        current: daemon.json, with which Docker runs; None for none.
    """

    def __init__(self, top: Path, current: dict[str, Any] | None = None, containers: str = "web") -> None:
        self.top = top
        for name in ("bin", "containers", "etc/docker", "etc/bulkhead"):
            (top / name).mkdir(parents=True)
        self.path, self.applied = top / DAEMON_JSON[1:], top / DAEMON_JSON_APPLIED[1:]
        self.before, self.old = (Path(f"{self.path}{suffix}") for suffix in (BEFORE, ".old"))
        if current is not None:
            self.path.write_text(daemon.text(current))
        (top / "docker").write_text("active")
        (top / "validates").touch()
        (top / "read").write_text(self.path.read_text() if current is not None else "{}")
        for name in containers.split():
            (top / "containers" / name).write_text("running")
        # The system's makes a process group of its own, which a cut would leave out.
        stand_in(top / "bin", "timeout", 'shift; exec "$@"')
        noted(top / "bin", "chmod", "cp", *STEPS)
        scripts = {
            "systemctl": f"""case "$1" in
                cat) exit 0 ;;
                is-active) read -r state <docker; [ "$state" = active ] ;;
                reload) echo x >reloading ;;
                restart) grep -q '"live-restore": true' read || for name in containers/*; do echo stopped >$name; done
                    if [ -e {self.path} ]; then cp {self.path} read; else echo '{{}}' >read; fi
                    if [ -e broken ] || grep -q '"bad"' read; then echo failed >docker; exit 1; fi
                    echo active >docker ;;
            esac""",
            "dockerd": """case $1 in
                --help) [ ! -e validates ] || echo '  --validate' ;;
                --validate) ! grep -q '"refused"' "$3" || { echo 'unable to configure the Docker daemon' >&2; exit 1; } ;;
            esac""",
            "docker": f"""read -r state <docker; [ "$DOCKER_HOST $state" = "unix:///run/docker.sock active" ] || exit 1
            case $1 in
                ps) cd containers; grep -l running * || true ;;
                version) ! grep -q '"mute"' read ;;
                info) grep -q '"live-restore": true' read && echo true || echo false ;;
                start) case $2 in broken-*) exit 1 ;; *) echo running >{top}/containers/$2 ;; esac ;;
            esac""",
            "journalctl": "echo 'the log of Docker'; exit 1",
            # A reload has its effect two seconds later.
            "sleep": f"[ $(wc -l <reloading) -lt 2 ] || cp {self.path} read; echo x >>reloading",
        }
        for name, script in scripts.items():
            note = noting(top / "bin", name)
            note = f"case $1 in start|re*) {note} ;; esac" if name in ("systemctl", "docker") else ""
            stand_in(top / "bin", name, f"cd {top}; PATH=/usr/bin:/bin\n{note}\n{script}")

    def apply(self, ours: dict[str, Any] = OURS, *, private: bool = False, **environment: str) -> CompletedProcess[str]:
        """Have a run put these keys in force."""
        host = OperationHost({DaemonJson: self.state()})
        (command,) = performed(daemon.daemon_json, host, ours=ours, private=private)
        return self.run(str(command), command.connector_arguments["_stdin"], **environment)

    def run(self, command: str, stdin: str, **environment: str) -> CompletedProcess[str]:
        here = as_functions(self.top / "bin") + command.replace("/etc", f"{self.top}/etc")
        return shell(here, self.top / "bin", stdin=stdin, DOCKER_HOST="tcp://192.0.2.1", **environment)

    def state(self) -> DaemonJsonFiles:
        """What a run reads on the host. (tests/unit/tasks/test_daemon.py has the command that reads it.)"""
        texts = [path.read_text() if path.exists() else "" for path in (self.path, self.applied)]
        return DaemonJsonFiles(*texts, unfinished=self.old.exists())

    @property
    def keys(self) -> dict[str, Any] | None:
        """The keys in the file; None without one."""
        return json.loads(self.path.read_text()) if self.path.exists() else None

    @property
    def ours(self) -> dict[str, Any] | None:
        """What the project knows to be its own keys."""
        return json.loads(self.applied.read_text()) if self.applied.exists() else None

    @property
    def docker_reads(self) -> Any:
        """The keys with which Docker runs; None where it does not run."""
        return json.loads((self.top / "read").read_text()) if "active" in (self.top / "docker").read_text() else None

    @property
    def running(self) -> set[str]:
        return {path.name for path in (self.top / "containers").iterdir() if "running" in path.read_text()}

    @property
    def files(self) -> set[str]:
        return {path.name for path in (self.top / "etc").rglob("*") if path.is_file()}

    def calls(self) -> list[str]:
        """The calls of programs whose order matters, with paths from the top."""
        called = [call.replace(f"{self.top}", "") for call in calls(self.top / "bin")]
        return [call for call in called if call.startswith((*STEPS, "systemctl re", "docker start"))]


def test_new_file_is_in_force_with_all_that_ran_running(tmp_path: Path) -> None:
    host = DockerHost(tmp_path, {"theirs": 1}, "web app")
    (tmp_path / "containers" / "old").write_text("stopped")
    done = host.apply()
    assert (done.returncode, done.stderr) == (0, "")
    assert host.keys == host.docker_reads == OURS | {"theirs": 1}
    assert host.ours == OURS
    assert host.running == {"web", "app"}
    assert host.files == {"daemon.json", "daemon.json.before-bulkhead"}
    assert json.loads(host.before.read_text()) == {"theirs": 1}


def test_each_file_is_on_disk_before_it_takes_its_place_and_before_the_next_step(tmp_path: Path) -> None:
    host = DockerHost(tmp_path, {"theirs": 1})
    assert host.apply().returncode == 0
    path, applied, before = DAEMON_JSON, DAEMON_JSON_APPLIED, DAEMON_JSON + BEFORE
    assert host.calls() == [
        f"rm -f {path}.new {applied}.new",
        f"sync {path}.new {applied}.new",
        f"sync {path}.old.part",
        f"mv -T {path}.old.part {path}.old",
        f"sync {before}.part",
        f"mv -T {before}.part {before}",
        f"mv -fT {path}.new {path}",
        "sync /etc/docker",
        "systemctl reset-failed docker.service docker.socket",
        "systemctl restart docker.service",
        "docker start web",
        f"mv -fT {applied}.new {applied}",
        "sync /etc/bulkhead",
        f"rm -f {path}.old",
        f"rm -f {path}.new {applied}.new",
    ]


def test_run_that_is_cut_leaves_a_whole_file_and_the_next_one_finishes(tmp_path: Path) -> None:
    before, after, cut = {"theirs": 1}, OURS | {"theirs": 1}, 0
    host = DockerHost(tmp_path / "host", before)
    for program in ("sync", "chmod"):  # they change nothing that matters here
        stand_in(host.top / "bin", program, "")
    for cut in after_cuts(host.top, host.apply):
        last = f"{cut}: {calls(host.top / 'bin')[-1]}"
        assert host.keys in (before, after), last
        state = host.state()
        # A file with which Docker may not have started yet is known to be unfinished.
        assert state.unfinished or host.keys == before or (host.ours, host.docker_reads) == (OURS, after), last
        if state.unfinished or host.ours != OURS:
            assert host.apply().returncode == 0, last
        assert host.keys == host.docker_reads == after, last
        assert host.ours == OURS, last
        assert not host.old.exists()
        assert json.loads(host.before.read_text()) == before
    assert cut > 10


def test_content_that_did_not_arrive_whole_changes_nothing(tmp_path: Path) -> None:
    host = DockerHost(tmp_path, {"theirs": 1})
    (command,) = performed(daemon.daemon_json, OperationHost({DaemonJson: host.state()}), ours=OURS, private=False)
    stdin = command.connector_arguments["_stdin"]
    for kept in ("", stdin[:9], stdin.splitlines(keepends=True)[0], stdin[:-1]):
        assert host.run(str(command), kept).returncode != 0
        assert (host.keys, host.ours, host.files) == ({"theirs": 1}, None, {"daemon.json"})
    assert "systemctl restart docker.service" not in host.calls()


def test_host_without_docker_gets_its_file_and_nothing_is_started(tmp_path: Path) -> None:
    host = DockerHost(tmp_path, None)
    (tmp_path / "bin" / "dockerd").unlink()
    stand_in(tmp_path / "bin", "systemctl", f'echo "systemctl $*" >>{tmp_path}/bin/calls; exit 1')
    assert host.apply().returncode == 0
    assert (host.keys, host.ours, host.files) == (OURS, OURS, {"daemon.json"})
    assert not [call for call in host.calls() if call.startswith(("systemctl re", "docker"))]


@pytest.mark.parametrize("missing", ["unit", "program"])
def test_docker_of_which_only_a_part_is_left_is_not_started(tmp_path: Path, missing: str) -> None:
    host = DockerHost(tmp_path, {})
    if missing == "program":
        (tmp_path / "bin" / "dockerd").unlink()
    else:
        stand_in(tmp_path / "bin", "systemctl", f'echo "systemctl $*" >>{tmp_path}/bin/calls; [ "$1" != cat ]')
    assert host.apply().returncode == 0
    assert not [call for call in host.calls() if call.startswith("systemctl re")]


def test_file_that_docker_refuses_to_read_takes_nobodys_place(tmp_path: Path) -> None:
    host = DockerHost(tmp_path, {"theirs": 1})
    done = host.apply(REFUSED)
    assert done.returncode == 1
    assert done.stderr == (
        "unable to configure the Docker daemon\n"
        f"daemon.json: Docker refuses the new file, for the reason above; {host.path} and the running Docker were not "
        "touched. Correct the setting 'daemon_json'.\n"
    )
    assert (host.keys, host.ours, host.files, host.running) == ({"theirs": 1}, None, {"daemon.json"}, {"web"})
    assert "systemctl restart docker.service" not in host.calls()


def test_docker_before_23_is_not_asked_to_check_the_file(tmp_path: Path) -> None:
    host = DockerHost(tmp_path, {})
    (tmp_path / "validates").unlink()
    assert host.apply(REFUSED).returncode == 0
    assert host.docker_reads == REFUSED


@pytest.mark.parametrize("current", [{"theirs": 1}, None])
def test_file_with_which_docker_does_not_start_is_taken_back(tmp_path: Path, current: dict[str, Any] | None) -> None:
    host = DockerHost(tmp_path, current, "web broken-1")
    done = host.apply(BAD)
    assert done.returncode == 1
    assert done.stderr == (
        "daemon.json: Docker does not start with the new file. The end of its log:\n"
        "the log of Docker\n"
        "daemon.json: the container broken-1 does not start again\n"
        "daemon.json: the old file is back and Docker runs with it. Correct the setting 'daemon_json' and run again.\n"
    )
    assert host.keys == current
    assert host.docker_reads == (current or {})
    assert host.ours is None
    assert host.running == {"web"}
    assert not host.state().unfinished
    assert ("sync /etc/docker/daemon.json.new" in host.calls()) or current is None


def test_file_with_which_docker_starts_and_does_not_answer_is_taken_back(tmp_path: Path) -> None:
    host = DockerHost(tmp_path, {"theirs": 1})
    assert host.apply({"mute": True}).returncode == 1
    assert host.keys == host.docker_reads == {"theirs": 1}


def test_file_that_is_taken_back_is_for_the_same_users(tmp_path: Path) -> None:
    host = DockerHost(tmp_path, {"theirs": 1})
    host.path.chmod(0o660)  # which no umask gives
    assert host.apply(BAD).returncode == 1
    assert host.path.stat().st_mode & 0o777 == 0o660


def test_old_file_is_on_disk_before_it_takes_its_place_again(tmp_path: Path) -> None:
    host = DockerHost(tmp_path, {"theirs": 1})
    host.apply(BAD)
    called = host.calls()
    back = called[called.index("systemctl restart docker.service") + 1 :]
    assert back == [
        f"sync {DAEMON_JSON}.new",
        f"mv -fT {DAEMON_JSON}.new {DAEMON_JSON}",
        "sync /etc/docker",
        "systemctl reset-failed docker.service docker.socket",
        "systemctl restart docker.service",
        f"rm -f {DAEMON_JSON}.old",
        "docker start web",
        f"rm -f {DAEMON_JSON}.new {DAEMON_JSON_APPLIED}.new",
    ]


def test_docker_that_does_not_start_with_the_old_file_either_is_left_unfinished(tmp_path: Path) -> None:
    host = DockerHost(tmp_path, {"theirs": 1})
    (tmp_path / "broken").touch()
    done = host.apply()
    assert done.returncode == 1
    assert done.stderr.endswith(
        "daemon.json: the old file is back, but Docker does not run with it either: see journalctl -u docker.service.\n"
    )
    assert (host.keys, host.ours) == ({"theirs": 1}, None)
    assert host.state().unfinished


def test_second_try_keeps_the_file_with_which_docker_last_ran(tmp_path: Path) -> None:
    host = DockerHost(tmp_path, BAD)  # from a run that was cut before it tried it
    host.old.write_text('{"theirs": 1}')
    assert host.apply(BAD).returncode == 1
    assert host.keys == host.docker_reads == {"theirs": 1}
    assert not host.old.exists()


def test_file_from_before_the_project_is_kept_once(tmp_path: Path) -> None:
    host = DockerHost(tmp_path, {"theirs": 1})
    host.path.chmod(0o640)
    assert host.apply().returncode == 0
    assert host.before.stat().st_mode & 0o777 == 0o640
    assert host.apply({"debug": False}).returncode == 0
    assert json.loads(host.before.read_text()) == {"theirs": 1}
    host.before.write_text("the very first")
    host.applied.unlink()
    assert host.apply().returncode == 0
    assert host.before.read_text() == "the very first"


def test_host_that_had_no_file_keeps_none(tmp_path: Path) -> None:
    host = DockerHost(tmp_path, None)
    assert host.apply().returncode == 0
    assert not host.before.exists()
    assert host.apply({"debug": False}).returncode == 0
    assert not host.before.exists()


def test_containers_run_on_where_live_restore_is_switched_on_before_the_restart(tmp_path: Path) -> None:
    host = DockerHost(tmp_path, {}, "broken-1")
    done = host.apply(LIVE_RESTORE)
    assert (done.returncode, done.stderr) == (0, "daemon.json: the container broken-1 does not start again\n")
    assert host.running == {"broken-1"}, "it was stopped, and would not start again"
    called = host.calls()
    assert (tmp_path / "reloading").read_text().count("x") == 3, "it was waited for no longer than it took"
    assert called.index("systemctl reload docker.service") < called.index("systemctl restart docker.service")


@pytest.mark.parametrize(("ours", "containers"), [(OURS, "web"), (LIVE_RESTORE, "")])
def test_docker_is_not_reloaded_without_containers_or_live_restore(
    tmp_path: Path, ours: dict[str, Any], containers: str
) -> None:
    host = DockerHost(tmp_path, {}, containers)
    assert host.apply(ours).returncode == 0
    assert "systemctl reload docker.service" not in host.calls()


def test_docker_that_does_not_run_is_started_and_asked_for_no_containers(tmp_path: Path) -> None:
    host = DockerHost(tmp_path, {})
    (tmp_path / "docker").write_text("failed")
    assert host.apply().returncode == 0
    assert host.docker_reads == OURS
    assert not [call for call in host.calls() if call.startswith("docker start")]


@pytest.mark.parametrize(
    ("mode", "private", "new"),
    [(None, False, 0o644), (None, True, 0o640), (0o644, False, 0o644), (0o644, True, 0o640), (0o600, True, 0o600)],
)
def test_same_users_can_read_the_new_file_but_not_others_where_it_is_private(
    tmp_path: Path, mode: int | None, private: bool, new: int
) -> None:
    host = DockerHost(tmp_path, None if mode is None else {})
    if mode:
        host.path.chmod(mode)
    os.umask(0o022)
    assert host.apply(private=private).returncode == 0
    assert host.path.stat().st_mode & 0o777 == new
    assert host.applied.stat().st_mode & 0o777 == 0o600
