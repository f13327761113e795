"""Which clients of this host's Docker run, and how they are interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from bulkhead import procfs
from bulkhead.docker import clients
from bulkhead.docker.clients import Client
from bulkhead.storage.processes import Process

from .building_host import BuildingHost


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The clients that work with another engine."""
    elsewhere: set[int] = set()
    monkeypatch.setattr(clients, "works_here", lambda pid, *_: pid not in elsewhere)
    monkeypatch.setattr(time, "clock_gettime", lambda _: 7200.0)  # this machine may have booted a minute ago
    return elsewhere


def building() -> list[int]:
    return [client.pid for client in clients.find_clients()[0]]


def test_clients_are_found_the_newest_first(host: BuildingHost) -> None:
    for pid, words in enumerate(["docker build .", "docker buildx build -t a .", "docker compose build"], 80):
        host.process(pid, words)
    host.process(90, "docker pull box")
    assert building() == [82, 81, 80]
    assert clients.find_clients()[1] == [Client(90, 9000, "docker pull box")]


def test_client_of_another_engine_is_none(host: BuildingHost, elsewhere: set[int]) -> None:
    for pid, words in enumerate(["docker build .", "docker build far", "docker pull x"], 80):
        host.process(pid, words)
    elsewhere |= {81, 82}
    assert building() == [80]
    assert clients.find_clients()[1] == []
    assert clients.programs_that_build() == [Process(80, "docker")]


@pytest.mark.parametrize(
    "words", ["docker compose up --build", "docker compose up --build=true", "docker compose watch"]
)
def test_compose_that_starts_containers_is_not_interrupted(host: BuildingHost, words: str) -> None:
    """It would stop containers that run already. What it starts to build with can be stopped."""
    host.process(80, words)
    assert building() == []
    host.process(81, words.replace("docker", "docker-compose"), 80)
    host.process(82, "docker-buildx bake --file -", 81)
    assert building() == [82]
    assert clients.programs_that_build() == [Process(82, "docker-buildx")]


def test_docker_and_the_plugin_that_it_starts_are_one(host: BuildingHost) -> None:
    host.process(80, "docker build .")
    host.process(81, "docker-buildx buildx build .", 80)
    assert building() == [81]
    assert clients.programs_that_build() == [Process(81, "docker-buildx")]


@pytest.mark.parametrize(("age", "found"), [(0.99, []), (1.0, [80])])
def test_docker_has_a_second_to_start_its_plugin(
    host: BuildingHost, monkeypatch: pytest.MonkeyPatch, age: float, found: list[int]
) -> None:
    monkeypatch.setattr(procfs, "age", lambda _: age)
    host.process(80, "docker build .")
    assert building() == found


@pytest.mark.parametrize(("age", "builds"), [(3599.9, True), (3600.0, False)])
def test_compose_that_stays_may_build_for_an_hour(
    host: BuildingHost, monkeypatch: pytest.MonkeyPatch, age: float, builds: bool
) -> None:
    monkeypatch.setattr(procfs, "age", lambda _: age)
    host.process(80, "docker-compose up --build")
    assert bool(clients.programs_that_build()) == builds


def test_docker_whose_program_cannot_be_read_is_docker(host: BuildingHost) -> None:
    host.process(80, "docker build .")
    (host.proc / "80" / "exe").unlink()
    assert building() == [80]


def test_docker_that_may_still_start_its_plugin_is_left_alone(host: BuildingHost) -> None:
    now = int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))
    host.process(80, "docker build .", started=now)
    host.process(81, "docker-buildx bake", started=now)
    assert building() == [81]


def test_client_in_a_container_counts_and_is_not_interrupted(host: BuildingHost) -> None:
    host.process(80, "docker build .", namespace="container")
    host.process(81, "docker pull box", namespace="container")
    assert clients.find_clients() == ([], [])
    assert clients.programs_that_build() == [Process(80, "docker")]


def test_podman_under_the_name_of_docker_is_none(host: BuildingHost) -> None:
    host.process(80, "docker build .", program="/usr/bin/podman")
    assert clients.find_clients() == ([], [])
    assert clients.programs_that_build() == []


def test_without_docker_nobody_is_its_client(host: BuildingHost) -> None:
    (host.proc / "10" / "comm").write_text("other\n")
    host.process(80, "docker build .")
    assert clients.find_clients() == ([], [])


def test_client_is_found_by_a_user_from_whom_the_daemon_is_hidden(
    host: BuildingHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(clients, "works_here", lambda *arguments: asked.append(arguments[2]) or True)
    host.process(80, "docker build .")
    host.processes.hide(1, 10)
    assert clients.programs_that_build() == [Process(80, "docker")]
    assert asked == [0], "the configuration decides"


def test_first_docker_compose_is_found_to_build(host: BuildingHost) -> None:
    now = int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))
    host.process(80, "python3 /usr/bin/docker-compose build")
    host.process(81, "/usr/bin/python3.9 /usr/bin/docker-compose up --build", started=now)
    host.process(82, "python3 /usr/bin/docker-compose logs build", started=now)
    found = [Process(80, "docker-compose"), Process(81, "docker-compose")]
    assert clients.programs_that_build() == found


def test_compose_that_has_stayed_with_its_containers_no_longer_builds(
    host: BuildingHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A machine that has been up for two hours, whatever this one has.
    monkeypatch.setattr(time, "clock_gettime", lambda _: 7200.0)
    hour_ago = 3600 * os.sysconf("SC_CLK_TCK")
    host.process(80, "docker-compose build", started=hour_ago)
    host.process(81, "docker compose up --build", started=hour_ago)
    host.process(82, "docker compose watch", started=hour_ago)
    assert clients.programs_that_build() == [Process(80, "docker-compose")]


# -- stopping


def test_client_is_interrupted_and_reads_why(sleeper: subprocess.Popen[bytes], tmp_path: Path) -> None:
    client = clients._client(sleeper.pid)
    assert client
    assert clients.interrupt(client, "no room")
    sleeper.wait(50)
    assert (tmp_path / "errors").read_bytes().startswith(b"\nno room\n")


def test_client_that_has_ended_is_no_error(sleeper: subprocess.Popen[bytes]) -> None:
    sleeper.kill()
    sleeper.wait()
    assert not clients.interrupt(Client(sleeper.pid, 1, "docker build ."), "no room")


def test_client_that_ends_just_before_its_signal_is_no_error(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def has_ended(*_: int) -> None:
        raise ProcessLookupError

    client = clients._client(sleeper.pid)
    assert client
    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr(signal, "pidfd_send_signal", has_ended)
    assert not clients.interrupt(client, "no room")
    assert os.listdir("/proc/self/fd") == before, "a guard that runs for months would run out of them"


@pytest.mark.parametrize("started", [1, 2**62])
def test_process_that_is_another_one_by_now_is_left_alone(sleeper: subprocess.Popen[bytes], started: int) -> None:
    assert not clients.interrupt(Client(sleeper.pid, started, "docker build ."), "no room")
    with pytest.raises(subprocess.TimeoutExpired):
        sleeper.wait(0.1)
    assert sleeper.returncode != -signal.SIGINT
