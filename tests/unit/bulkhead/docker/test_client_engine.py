"""Which engine a client works with: by its arguments, its environment, its configuration and its connection."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bulkhead.docker import client_engine
from bulkhead.docker.client_engine import EngineChoice, choice_of, works_here
from bulkhead.docker.command_lines import parse

from .building_host import BuildingHost

OURS, FAR = "unix:///var/run/docker.sock", "tcp://far:2375"
DIGEST = hashlib.sha256(OURS.encode()).hexdigest()[:20]


class ClientHost:
    """A host, its Docker's socket, and the home of a user."""

    def __init__(self, host: BuildingHost, root: Path) -> None:
        self.root = root
        self.connected: bool | None = True
        self._host = host
        self._docker = root / "home/me/.docker"
        (root / "run").mkdir(parents=True)
        (root / "run/docker.sock").touch()
        (root / "run/other.sock").touch()
        (root / "var").mkdir()
        (root / "var/run").symlink_to("/run")
        self.add_context("near", OURS)
        self.add_context("far", "ssh://far")

    def write(self, name: str, content: Any) -> None:
        path = self._docker / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))

    def add_context(self, name: str, host: str) -> None:
        digest = hashlib.sha256(name.encode()).hexdigest()
        self.write(f"contexts/meta/{digest}/meta.json", {"Name": name, "Endpoints": {"docker": {"Host": host}}})

    def add_builder(self, name: str, driver: str, *endpoints: str) -> None:
        nodes = [{"Name": f"{name}{number}", "Endpoint": endpoint} for number, endpoint in enumerate(endpoints)]
        self.write(f"buildx/instances/{name}", {"Name": name, "Driver": driver, "Nodes": nodes})

    def process(self, pid: int, words: str, environment: str = "") -> None:
        self._host.process(pid, words, environment=environment, root=str(self.root))

    def works_here(self, words: str, environment: str = "HOME=/home/me") -> bool:
        command = parse(words.split())
        assert command
        self.process(80, words, environment)
        return works_here(80, command, 10)


BUILDER_USED = "the builder container (`docker buildx use`)"


@pytest.fixture
def user(host: BuildingHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClientHost:
    user = ClientHost(host, tmp_path / "root")
    monkeypatch.setattr(client_engine, "DOCKER_API", str(user.root / "run/docker.sock"))
    monkeypatch.setattr(client_engine, "is_connected", lambda *_: user.connected)
    monkeypatch.setattr(client_engine, "_reading", {})  # a reader of the test before may not have ended yet
    return user


@pytest.mark.parametrize(
    ("words", "environment", "is_here"),
    [
        ("docker build .", "", True),
        ("docker pull x", "", True),
        ("docker -H unix:///run/docker.sock build .", "", True),
        ("docker -H unix:///run/other.sock build .", "", False),
        (f"docker -H {FAR} build .", "", False),
        ("docker --host ssh://far pull x", "", False),
        ("docker build .", f"DOCKER_HOST={FAR}", False),
        (f"docker -H {OURS} build .", f"DOCKER_HOST={FAR}", True),
        ("docker --context far build .", "", False),
        ("docker -c near build .", f"DOCKER_HOST={FAR}", True),
        ("docker -c default build .", f"DOCKER_HOST={FAR}", False),
        ("docker build .", "DOCKER_CONTEXT=far", False),
        ("docker build .", f"DOCKER_CONTEXT=far DOCKER_HOST={OURS}", True),
        ("docker-compose build", f"DOCKER_HOST={FAR}", False),
        ("docker-compose -c far pull", "", False),
        ("docker-buildx bake", f"DOCKER_HOST={FAR}", False),
        # docker itself builds without buildx, so buildx's builder does not matter.
        ("docker build .", "BUILDX_BUILDER=k8s", True),
        ("docker-buildx build .", "BUILDX_BUILDER=k8s", False),
        ("docker-buildx buildx --builder k8s build .", "", False),
        ("docker-buildx build --builder=cloud .", "", False),
        ("docker-compose build", "BUILDX_BUILDER=k8s", False),
        ("docker-compose build", "BUILDX_BUILDER=k8s DOCKER_BUILDKIT=0", True),
        ("docker-compose pull", "BUILDX_BUILDER=k8s", True),
        # Its containers are on this host's engine, so it writes to the volume.
        ("docker-buildx build .", "BUILDX_BUILDER=container", True),
        ("docker-buildx build .", "BUILDX_BUILDER=Container", True),
        ("docker-buildx build .", "BUILDX_BUILDER=mixed", True),
        ("docker-buildx build .", "BUILDX_BUILDER=away", False),
        ("docker-buildx build .", f"BUILDX_BUILDER=default DOCKER_HOST={FAR}", False),
        ("docker-buildx build .", "BUILDX_BUILDER=default", True),
        ("docker-buildx build .", "BUILDX_BUILDER=far", False),
        ("docker-buildx build .", "BUILDX_BUILDER=../config", False),
    ],
)
def test_arguments_and_environment_decide(user: ClientHost, words: str, environment: str, is_here: bool) -> None:
    user.connected = None
    user.add_builder("k8s", "kubernetes", "kubernetes:///k8s")
    user.add_builder("cloud", "remote", "tcp://cloud:1234")
    user.add_builder("container", "docker-container", OURS)
    user.add_builder("mixed", "docker-container", "far", "near")
    user.add_builder("away", "docker-container", "far")
    assert user.works_here(words, f"HOME=/home/me {environment}") == is_here


@pytest.mark.parametrize(
    ("files", "words", "is_here"),
    [
        ({"config.json": {"currentContext": "far"}}, "docker build .", False),
        ({"config.json": {"currentContext": "far"}}, "docker-buildx build .", False),
        ({"config.json": {"currentContext": "near"}}, "docker build .", True),
        ({"config.json": {"auths": "x" * 1_000_000, "currentContext": "near"}}, "docker build .", True),
        ({"config.json": {"currentContext": ""}}, "docker build .", True),
        ({"config.json": {"auths": {}}}, "docker pull x", True),
        ({"buildx/current": {"Name": "k8s", "Key": OURS}}, "docker-buildx build .", False),
        ({"buildx/current": {"Name": "k8s", "Key": OURS}}, "docker build .", True),
        ({"buildx/current": {"Name": "k8s", "Key": "far"}}, "docker-buildx build .", True),
        ({"buildx/current": {"Name": "k8s", "Key": "far", "Global": True}}, "docker-buildx build .", False),
        ({"buildx/current": {"Name": "gone", "Key": OURS}}, "docker-buildx build .", True),
        ({"buildx/current": {"Name": "", "Key": OURS}}, "docker-buildx build .", True),
        ({f"buildx/defaults/{DIGEST}": "k8s"}, "docker-buildx build .", False),
        # The one that was chosen for this engine is gone: buildx goes on with that of the context.
        (
            {"buildx/current": {"Name": "gone", "Key": OURS}, f"buildx/defaults/{DIGEST}": "k8s"},
            "docker-buildx build .",
            True,
        ),
    ],
)
def test_configuration_decides(user: ClientHost, files: dict[str, Any], words: str, is_here: bool) -> None:
    user.connected = None
    user.add_builder("k8s", "kubernetes", "kubernetes:///k8s")
    for name, content in files.items():
        user.write(name, content)
    assert user.works_here(words) == is_here


@pytest.mark.parametrize(
    ("words", "environment"),
    [
        ("docker --config /home/me/.docker build .", "HOME=/nowhere"),
        ("docker --config home/me/.docker build .", "HOME=/nowhere"),  # from where it works, which is /
        ("docker build .", "HOME=/nowhere DOCKER_CONFIG=/home/me/.docker"),
    ],
)
def test_configuration_is_read_where_the_client_reads_it(user: ClientHost, words: str, environment: str) -> None:
    user.connected = None
    user.write("config.json", {"currentContext": "far"})
    assert not user.works_here(words, environment)


@pytest.mark.parametrize(("uid", "is_here"), [(0, False), (1, True), (1000, True)])
def test_home_of_root_alone_is_known_where_the_environment_names_none(
    user: ClientHost, monkeypatch: pytest.MonkeyPatch, uid: int, is_here: bool
) -> None:
    user.write("config.json", {"currentContext": "far"})
    shutil.copytree(user.root / "home/me/.docker", user.root / "root/.docker")
    there = os.stat

    def stat(path: Any, **how: Any) -> Any:
        return SimpleNamespace(st_uid=uid) if str(path).endswith("/80/.") else there(path, **how)

    monkeypatch.setattr(os, "stat", stat)
    assert user.works_here("docker build .", "LANG=C") == is_here


@pytest.mark.parametrize("connected", [True, False, None])
def test_connection_decides_for_a_client_that_works_here_by_its_arguments(
    user: ClientHost, connected: bool | None
) -> None:
    """The context may have been another one when the client began."""
    user.connected = connected
    assert user.works_here("docker build .") == (connected is not False)


@pytest.mark.parametrize("connected", [True, False, None])
@pytest.mark.parametrize(
    ("words", "environment", "config"),
    [
        ("docker --context gone build .", "HOME=/home/me", ""),
        ("docker build .", "HOME=/home/me", "{"),
        ("docker build .", "HOME=/home/me", "[]"),
        ("docker-buildx build .", "HOME=/home/me BUILDX_BUILDER=gone", ""),
    ],
)
def test_client_that_says_nothing_certain_works_here_only_if_it_is_seen_connected(
    user: ClientHost, connected: bool | None, words: str, environment: str, config: str
) -> None:
    user.connected = connected
    if config:
        user.write("config.json", config)
    assert user.works_here(words, environment) == (connected is True)


def test_client_elsewhere_stays_elsewhere_though_it_has_a_connection_here(user: ClientHost) -> None:
    """docker asks the engine of its context before buildx gives the build to another one."""
    user.add_builder("k8s", "kubernetes", "kubernetes:///k8s")
    assert not user.works_here("docker-buildx build .", "HOME=/home/me BUILDX_BUILDER=k8s")


def test_client_whose_environment_cannot_be_read_is_not_decided(user: ClientHost) -> None:
    user.connected = None
    command = parse(["docker", "build", "."])
    assert command
    assert not works_here(99, command, 10)


def test_link_of_a_container_does_not_lead_to_the_hosts_socket(user: ClientHost) -> None:
    user.connected = None
    (user.root / "run/docker.sock").unlink()
    (user.root / "run/docker.sock").symlink_to("/proc/1/root/run/docker.sock")
    assert not user.works_here("docker build .")


def test_configuration_that_is_a_pipe_or_hangs_is_not_waited_for(
    user: ClientHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    user.connected = None
    user.write("config.json", "")
    config = user.root / "home/me/.docker/config.json"
    config.unlink()
    os.mkfifo(config)
    assert not user.works_here("docker build .")
    hung = threading.Event()
    monkeypatch.setattr(client_engine, "_PATIENCE", 0.05)
    monkeypatch.setattr(json, "loads", lambda _: hung.wait(20))
    config.unlink()
    user.write("config.json", {})
    command = parse(["docker", "build", "."])
    assert command
    began = time.monotonic()
    assert not works_here(80, command, 10)
    assert time.monotonic() - began < 10
    threads = threading.active_count()
    assert not works_here(80, command, 10)
    assert threading.active_count() == threads, "nobody asks for it again while it hangs"
    hung.set()


def test_device_that_a_container_made_is_not_opened(user: ClientHost, monkeypatch: pytest.MonkeyPatch) -> None:
    user.connected = None
    user.write("config.json", "")
    config = user.root / "home/me/.docker/config.json"
    config.unlink()
    os.mkfifo(config)  # stands for it: only root can make a device
    opened: list[int] = []
    really_open = os.open
    monkeypatch.setattr(os, "open", lambda path, flags: opened.append(flags) or really_open(path, flags))
    assert not user.works_here("docker build .")
    assert opened
    assert all(flags & os.O_PATH for flags in opened)


@pytest.mark.parametrize(
    ("words", "environment", "choice"),
    [
        ("docker build .", "", EngineChoice(True, "", "")),
        ("docker image build .", "", EngineChoice(True, "", "")),
        ("docker -c near build .", "", EngineChoice(True, "--context", "")),
        ("docker --context far build .", "", EngineChoice(False, "--context", "")),
        ("docker --context gone build .", "", EngineChoice(None, "--context", "")),
        ("docker build .", f"DOCKER_HOST={FAR}", EngineChoice(False, "DOCKER_HOST", "")),
        ("docker build .", "DOCKER_CONTEXT=far", EngineChoice(False, "DOCKER_CONTEXT", "")),
        ("docker build .", "BUILDX_BUILDER=k8s", EngineChoice(False, "BUILDX_BUILDER", "")),
        ("docker build .", "BUILDX_BUILDER=k8s DOCKER_BUILDKIT=0", EngineChoice(True, "", "")),
        ("docker build --builder container .", "", EngineChoice(True, "--builder", "container")),
        # `docker buildx use` has chosen a builder: docker build alone does not use it.
        ("docker buildx build .", "", EngineChoice(True, BUILDER_USED, "container")),
        ("docker-buildx bake", "", EngineChoice(True, BUILDER_USED, "container")),
        ("docker compose build", "", EngineChoice(True, BUILDER_USED, "container")),
        ("docker build .", "DOCKER_CONFIG=/home/me/alias", EngineChoice(True, BUILDER_USED, "container")),
    ],
)
def test_engine_of_a_build_that_has_not_begun_is_known(
    user: ClientHost, monkeypatch: pytest.MonkeyPatch, words: str, environment: str, choice: EngineChoice
) -> None:
    user.add_builder("k8s", "kubernetes", "kubernetes:///k8s")
    user.add_builder("container", "docker-container", OURS)
    user.write("buildx/current", {"Name": "container", "Key": OURS, "Global": True})
    user.write("../alias/config.json", {"aliases": {"builder": "buildx"}})
    given = dict(
        word.split("=", 1) for word in f"HOME=/home/me BUILDX_CONFIG=/home/me/.docker/buildx {environment}".split()
    )
    monkeypatch.setattr(os, "environ", given)
    monkeypatch.setattr(os, "getpid", lambda: 80)
    user.process(80, "bulkhead build")
    assert choice_of(words.split()) == choice
