"""Who builds on a host, from a made-up /proc and control groups; and real processes that are stopped."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bulkhead import procfs
from bulkhead.docker import running_builds
from bulkhead.docker.engine import Engine
from bulkhead.docker.running_builds import BuildStep, Client
from bulkhead.storage.processes import Process

from ...fake_proc import FakeProc
from ..fake_engine import Query, fake_engine
from .conftest import Answers, engine_container

RUNC = "runc --log /l --log-format json run --bundle /var/lib/docker/buildkit/executor/{0} {0}"
ID = "3f" * 32


class BuildingHost:
    """A host's processes and control groups."""

    def __init__(self, path: Path) -> None:
        self.processes = FakeProc(path / "proc")
        self.processes.become(1)
        self.proc, self.cgroups = path / "proc", path / "cgroup"

    def process(
        self,
        pid: int,
        words: str,
        parent: int = 1,
        cgroup: str = "/system.slice/x",
        written: int = 0,
        comm: str = "",
        started: int | None = None,
        namespace: str = "host",
    ) -> None:
        self.processes.add(
            pid, words, name=comm, parent=parent, cgroup=cgroup, written=written, started=started, namespace=namespace
        )
        directory = self.cgroups / cgroup[1:]
        directory.mkdir(parents=True, exist_ok=True)
        with (directory / "cgroup.procs").open("a") as procs:
            procs.write(f"{pid}\n")


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BuildingHost:
    host = BuildingHost(tmp_path)
    monkeypatch.setattr(procfs, "PROC", str(host.proc))
    monkeypatch.setattr(running_builds, "CGROUPS", str(host.cgroups))
    host.process(10, "dockerd -H fd://", cgroup="/system.slice/docker.service", written=7)
    return host


def step_of_buildkit(host: BuildingHost, name: str = "k7x", pid: int = 20, written: int = 0) -> None:
    host.process(pid, RUNC.format(name), 10, "/system.slice/docker.service")
    host.process(pid + 1, "/bin/sh -c make", pid, f"/system.slice/system.slice:docker:{name}", written)


# -- Docker


@pytest.mark.usefixtures("host")
def test_docker_is_the_daemon_of_its_unit() -> None:
    assert running_builds.dockerd() == 10


def test_docker_in_a_container_is_not_the_hosts(host: BuildingHost) -> None:
    shutil.rmtree(host.proc / "10")
    host.process(30, "containerd-shim", cgroup="/system.slice/containerd.service")
    host.process(31, "dockerd", 30, f"/system.slice/docker-{ID}.scope")
    assert running_builds.dockerd() == 0


def test_docker_outside_of_its_unit_is_found_too(host: BuildingHost) -> None:
    (host.cgroups / "system.slice/docker.service/cgroup.procs").write_text("")
    assert running_builds.dockerd() == 10


# -- BuildKit


def test_step_is_found_with_its_command_and_what_all_of_it_has_written(host: BuildingHost) -> None:
    step_of_buildkit(host, written=100)
    host.process(22, "cc -c big.c", 21, "/system.slice/system.slice:docker:k7x", 50)
    cgroup = str(host.cgroups / "system.slice/system.slice:docker:k7x")
    assert running_builds.steps(10) == [BuildStep("k7x", 21, cgroup, 150, "/bin/sh -c make")]


def test_each_step_is_found(host: BuildingHost) -> None:
    step_of_buildkit(host, "one", 20)
    step_of_buildkit(host, "two", 30)
    assert [step.id for step in running_builds.steps(10)] == ["one", "two"]


def test_step_that_is_still_being_set_up_is_none(host: BuildingHost) -> None:
    host.process(20, RUNC.format("k7x"), 10, "/system.slice/docker.service")
    host.process(21, "runc init", 20, "/system.slice/docker.service")
    assert running_builds.steps(10) == []


@pytest.mark.parametrize(
    ("words", "parent"),
    [
        (RUNC.format("k7x"), 1),  # started by somebody else
        ("runc run --bundle /run/containerd/io.containerd.runtime.v2.task/moby/k7x k7x", 10),
        ("docker-proxy -proto tcp run --bundle", 10),
        ("runc --root /buildkit/executor/ delete k7x", 10),
    ],
)
def test_what_only_resembles_a_step_is_none(host: BuildingHost, words: str, parent: int) -> None:
    host.process(20, words, parent)
    host.process(21, "/bin/sh -c make", 20, "/system.slice/system.slice:docker:k7x")
    assert running_builds.steps(10) == []


def test_step_that_goes_on_is_refreshed_and_one_that_has_ended_is_gone(host: BuildingHost) -> None:
    step_of_buildkit(host)
    step = running_builds.steps(10)[0]
    (host.proc / "21" / "io").write_text("write_bytes: 77\n")
    assert running_builds.refreshed(step) == step._replace(written=77)
    (Path(step.cgroup) / "cgroup.procs").write_text("")
    assert running_builds.refreshed(step) is None


def test_docker_writes_beside_its_steps_and_so_do_builders_in_containers(host: BuildingHost) -> None:
    step_of_buildkit(host, written=1000)
    host.process(30, "docker-untar", 10, "/system.slice/docker.service", 20, comm="exe")
    host.process(31, "containerd", cgroup="/system.slice/containerd.service", written=300)
    host.process(40, "buildkitd", 2, f"/system.slice/docker-{ID}.scope/init", 4000)
    host.process(41, "sh -c make", 40, f"/system.slice/docker-{ID}.scope/buildkit/x", 50000)
    host.process(50, "postgres", 2, f"/system.slice/docker-{'ab' * 32}.scope", 600000)
    assert running_builds.written_by_docker(10) == 7 + 20 + 300 + 4000 + 50000


# -- the builder before BuildKit


def container(**changed: Any) -> dict[str, Any]:
    """As Docker shows a step of that builder."""
    values: dict[str, Any] = {
        "Id": ID,
        "Name": "/nervous_mendeleev",
        "State": {"Running": True, "Pid": 60},
        "Config": {
            "Image": "sha256:1",
            "Env": ["PATH=/bin", "LANG=C"],
            "Healthcheck": {"Test": ["NONE"]},
            "AttachStdout": False,
        },
        "HostConfig": {
            "LogConfig": {"Type": "none"},
            "RestartPolicy": {"Name": ""},
            "PortBindings": None,
            "Dns": None,
            "AutoRemove": False,
            "Privileged": False,
            "Binds": None,
            "VolumesFrom": None,
        },
        "Mounts": [],
    }
    for path, value in changed.items():
        *inside, name = path.split("__")
        part = values
        for key in inside:
            part = part[key]
        if value is ...:
            part.pop(name)
        else:
            part[name] = value
    return values


def test_container_with_everything_that_a_step_has_is_one() -> None:
    assert running_builds.is_step(container())
    assert running_builds.is_step(container(HostConfig__RestartPolicy={"Name": "no"}))  # of newer engines


@pytest.mark.parametrize(
    "changed",
    [
        {"Config__Healthcheck": ...},
        {"Config__Healthcheck": None},
        {"Config__Env": None},
        {"Config__Env": ["LANG=C", "PATH=/bin"]},
        {"Config__Tty": True},
        {"Config__AttachStdout": True},
        {"HostConfig__RestartPolicy": {"Name": "always"}},
        {"HostConfig__PortBindings": {}},
        {"HostConfig__Dns": []},
        {"HostConfig__AutoRemove": True},
        {"HostConfig__Privileged": True},
        {"HostConfig__Binds": ["/srv:/srv"]},
        {"HostConfig__Mounts": [{"Type": "volume"}]},
        {"HostConfig__VolumesFrom": ["data"]},
        {"Mounts": [{"Type": "volume"}]},
        {"Name": "/database"},
        {"Name": "/build_step_12"},
    ],
)
def test_container_that_lacks_one_of_them_only_looks_like_a_step(changed: dict[str, Any]) -> None:
    assert running_builds.looks_like_step(container(**changed))
    assert not running_builds.is_step(container(**changed))


@pytest.mark.parametrize(
    "changed",
    [
        {"HostConfig__LogConfig": {"Type": "json-file"}},
        {"Config__Image": "box:latest"},
        {"State__Running": False},
    ],
)
def test_other_container_does_not_even_look_like_one(changed: dict[str, Any]) -> None:
    assert not running_builds.looks_like_step(container(**changed))
    assert not running_builds.is_step(container(**changed))


def test_docker_is_asked_for_steps(host: BuildingHost, tmp_path: Path) -> None:
    host.process(60, "/bin/sh -c make", 2, f"/system.slice/docker-{ID}.scope", 5)
    host.process(70, "sh", 2, f"/system.slice/docker-{'ab' * 32}.scope")
    inspected = {
        ID: container(),
        "similar": container(Id="similar", Name="/database", State__Pid=70),
        "foreign": container(Id="foreign", State__Pid=70),
    }

    def answer(_: str, path: str, __: Query) -> tuple[int, Any]:
        if path == "/containers/json":
            rows = [{"Id": name, "Image": "sha256:1"} for name in [*inspected, "gone"]]
            return 200, [*rows, {"Id": "web", "Image": "web:1"}]
        found = inspected.get(path.split("/")[2])
        return (200, found) if found else (404, {"message": "No such container"})

    with fake_engine(tmp_path / "docker.sock", answer) as engine:
        certain, similar = running_builds.classic_steps(engine)
    assert [(step.id, step.pid, step.written, step.container) for step in certain] == [(ID, 60, 5, "nervous_mendeleev")]
    # The last has a control group that is not its own.
    assert similar == ["database", "nervous_mendeleev"]


# -- stopping


def test_step_is_ended_by_its_control_group(host: BuildingHost) -> None:
    step_of_buildkit(host)
    step = running_builds.steps(10)[0]
    (Path(step.cgroup) / "cgroup.kill").write_text("")
    running_builds.abort(step, "no room")
    assert (Path(step.cgroup) / "cgroup.kill").read_text() == "1"


def test_step_that_has_ended_by_itself_is_no_error(host: BuildingHost) -> None:
    running_builds.abort(BuildStep("k7x", 2**22 + 1, f"{host.cgroups}/system.slice:docker:k7x", 0, ""), "no room")


def test_control_group_of_something_else_is_never_killed(host: BuildingHost) -> None:
    with pytest.raises(AssertionError):
        running_builds.abort(BuildStep("k7x", 10, str(host.cgroups), 0, ""), "no room")


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (tmp_path / "errors").open("ab") as errors:
        command = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"]
        process = subprocess.Popen(command, stderr=errors, stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.read(1)
    yield process
    process.kill()
    process.communicate()


def test_kernel_without_the_switch_ends_the_first_process(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running_builds, "_cgroup_directory", lambda _: "/no/such/docker:k7x")
    running_builds.abort(BuildStep("k7x", sleeper.pid, "/no/such/docker:k7x", 0, ""), "no room")
    assert sleeper.wait(10) == -signal.SIGKILL


def test_process_that_is_another_one_by_now_is_left_alone(sleeper: subprocess.Popen[bytes]) -> None:
    running_builds.abort(BuildStep("k7x", sleeper.pid, "/no/such/docker:k7x", 0, ""), "no room")
    assert not running_builds.interrupt(Client(sleeper.pid, 1, "docker build ."), "no room")
    time.sleep(0.1)
    assert sleeper.poll() is None


def test_client_is_interrupted_and_reads_why(sleeper: subprocess.Popen[bytes], tmp_path: Path) -> None:
    client = running_builds._client(sleeper.pid)
    assert client
    assert running_builds.interrupt(client, "no room")
    sleeper.wait(10)
    assert (tmp_path / "errors").read_bytes().startswith(b"\nno room\n")


def test_client_that_has_ended_is_no_error(sleeper: subprocess.Popen[bytes]) -> None:
    sleeper.kill()
    sleeper.wait()
    assert not running_builds.interrupt(Client(sleeper.pid, 1, "docker build ."), "no room")


def test_file_that_a_process_may_only_read_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("kept")
    with path.open("rb") as errors:
        process = subprocess.Popen(["sleep", "60"], stderr=errors)
    running_builds.write_to_stderr(process.pid, "no room")
    process.kill()
    process.wait()
    assert path.read_text() == "kept"


def test_terminal_is_written_and_so_is_no_file_of_another_user_nor_a_device(
    host: BuildingHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.process(80, "docker build .")
    (host.proc / "80" / "fdinfo").mkdir()
    (host.proc / "80" / "fdinfo" / "2").write_text("pos:\t0\nflags:\t0100002\n")
    ours, theirs = os.openpty()
    (host.proc / "80" / "fd").mkdir()
    errors = host.proc / "80" / "fd" / "2"
    errors.symlink_to(os.ttyname(theirs))
    running_builds.write_to_stderr(80, "no room")
    assert b"no room" in os.read(ours, 100)
    os.close(ours)
    os.close(theirs)

    written: list[str] = []
    monkeypatch.setattr(running_builds, "_write", lambda path, _: written.append(path))
    errors.unlink()
    errors.symlink_to("/dev/null")
    running_builds.write_to_stderr(80, "no room")
    errors.unlink()
    errors.symlink_to("/proc/1/comm" if os.geteuid() else tmp_path / "theirs")
    if not os.geteuid():
        (tmp_path / "theirs").touch()
        os.chown(tmp_path / "theirs", 1000, 1000)
    running_builds.write_to_stderr(80, "no room")
    assert written == []


def test_pipe_that_is_full_or_broken_is_not_waited_for() -> None:
    read, write = os.pipe()
    process = subprocess.Popen(["sleep", "60"], stderr=write)
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    os.write(write, b"x" * 4096)
    running_builds.write_to_stderr(process.pid, "no room")
    os.close(read)
    running_builds.write_to_stderr(process.pid, "no room")
    process.kill()
    process.wait()
    os.close(write)


# -- command lines


@pytest.mark.parametrize(
    "words",
    [
        "docker pull box",
        "/usr/bin/docker -D pull box",
        "docker --host tcp://h image pull box",
        "docker load -i box.tar",
        "docker image import box.tar",
        "docker compose -f c.yml pull",
        "docker-compose pull",
        "docker-compose -p box pull",
    ],
)
def test_command_line_pulls(words: str) -> None:
    assert running_builds.pulls(words.split())


@pytest.mark.parametrize(
    "words",
    [
        *("docker run --name pull box", "docker build .", "docker ps", "git pull", "docker", "docker exec x load"),
        *("docker --context load run -it box", "docker compose -p load up", "docker compose -f import up -d"),
        "docker-compose -p pull up",
    ],
)
def test_command_line_does_not_pull(words: str) -> None:
    assert not running_builds.pulls(words.split())


def test_command_lines_are_found_the_newest_first(host: BuildingHost) -> None:
    long = f"docker compose -f {'x' * 300} up --build"
    for pid, words in enumerate(["docker build .", "docker buildx build -t a .", long], 80):
        host.process(pid, words)
    host.process(90, "docker pull box")
    building, pulling = running_builds.clients()
    # Interrupting the last could stop containers that run already.
    assert [client.pid for client in building] == [81, 80]
    assert pulling == [Client(90, 9000, "docker pull box")]


def test_docker_and_the_plugin_that_it_starts_are_one(host: BuildingHost) -> None:
    host.process(80, "docker build .")
    host.process(81, "docker-buildx buildx build .", 80)
    assert [client.pid for client in running_builds.clients()[0]] == [81]


def test_command_line_in_a_container_is_none(host: BuildingHost) -> None:
    host.process(80, "docker build .", namespace="container")
    host.process(81, "docker pull box", namespace="container")
    assert running_builds.clients() == ([], [])


def test_long_command_is_shown_in_part() -> None:
    assert len(running_builds.redacted(["sh", "-c", "x" * 1000])) == 200


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["--build-arg", "TOKEN=a b=c", "."], "--build-arg TOKEN=… ."),
        (["--build-arg=TOKEN=a", "."], "--build-arg=TOKEN=… ."),
        (["--build-arg", "TOKEN", "--label", "a=b"], "--build-arg TOKEN --label a=b"),
        (["--secret", "id=a,env=A", "."], "--secret id=… ."),
        (["sh", "-c", "docker build --build-arg TOKEN=a ."], "sh -c docker build --build-arg TOKEN=…"),
        (
            ["sh", "-c", "git clone https://me:t@ken@host/a && mail you@b"],
            "sh -c git clone https://host/a && mail you@b",
        ),
    ],
)
def test_secrets_of_a_command_line_are_not_shown(words: list[str], shown: str) -> None:
    assert running_builds.redacted(words) == shown


@pytest.mark.parametrize(
    ("words", "is_build"),
    [
        ("docker build .", True),
        ("/usr/bin/docker --host tcp://h buildx --builder b build .", True),
        ("docker image build .", True),
        ("docker buildx bake", True),
        ("docker compose --file build.yaml build web", True),
        ("docker --debug compose -f a.yaml up --detach --build", True),
        ("/usr/libexec/docker/cli-plugins/docker-compose compose up --build", True),
        ("docker-compose -p mine up --build", True),
        ("/usr/libexec/docker/cli-plugins/docker-buildx buildx build .", True),
        ("docker run --rm box npm run build", False),
        ("docker run box configure --build", False),
        ("docker compose up build", False),
        ("docker --context build compose --profile build up", False),
        ("docker stats build", False),
        ("docker ps", False),
        ("make build", False),
        ("docker", False),
        ("", False),
    ],
)
def test_command_line_that_builds_is_distinguished_from_others(words: str, is_build: bool) -> None:
    assert running_builds._builds(words.split()) == is_build


def test_first_docker_compose_is_found_to_build(host: BuildingHost) -> None:
    now = int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))
    host.process(80, "python3 /usr/bin/docker-compose build")
    host.process(81, "/usr/bin/python3.9 /usr/bin/docker-compose up --build", started=now)
    host.process(82, "python3 /usr/bin/docker-compose logs build", started=now)
    found = [Process(80, "docker-compose"), Process(81, "docker-compose")]
    assert running_builds.programs_that_build() == found


def test_compose_that_has_stayed_with_its_containers_no_longer_builds(host: BuildingHost) -> None:
    hour_ago = int((time.clock_gettime(time.CLOCK_BOOTTIME) - 3600) * os.sysconf("SC_CLK_TCK"))
    host.process(80, "docker-compose build", started=hour_ago)
    host.process(81, "docker compose up --build", started=hour_ago)
    assert running_builds.programs_that_build() == [Process(80, "docker-compose")]


# -- what a stop of Docker would lose


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({"GET /containers/c1/json": engine_container("web", AutoRemove=True)}, ["the --rm container web"]),
        ({"GET /containers/c1/json": engine_container("web", status="paused")}, ["the paused container web"]),
        (
            {
                "GET /containers/c1/json": engine_container(
                    "web", LogConfig={"Type": "none"}, Config={"Image": "sha256:0123", "Cmd": []}
                )
            },
            [],
        ),
        ({"GET /containers/c1/json": engine_container("web", LogConfig={"Type": "none"})}, []),
        ({"GET /system/df": {"BuildCache": [{"InUse": False}, {"InUse": True}]}}, ["a build"]),
        ({"GET /system/df": {"BuildCache": [{"InUse": False}]}}, []),
    ],
)
def test_what_a_stop_would_lose_is_described(
    engine: Engine, answers: Answers, changed: Answers, found: list[str]
) -> None:
    answers.update(changed)
    assert running_builds.under_way(engine) == found


def test_build_is_found_in_the_form_that_the_count_has_since_api_1_52(engine: Engine, answers: Answers) -> None:
    answers["GET /system/df"] = {"BuildCacheUsage": {"TotalSize": 1, "Items": [{"InUse": True}]}}
    assert running_builds.under_way(engine) == ["a build"]
