"""Which steps builds run on a host and in its containers, and how they are stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from bulkhead.docker import cgroups, engines, steps
from bulkhead.docker.engines import NestedEngine
from bulkhead.docker.steps import BuildStep

from .building_host import BUILDKIT, ID, RUNC, BuildingHost

NO_SPACE = "no room"


def test_step_is_found_with_its_command_and_what_all_of_it_has_written(host: BuildingHost) -> None:
    host.step(written=100)
    host.process(22, "cc -c big.c", 21, "/system.slice/system.slice:docker:k7x", 50)
    cgroup = str(host.cgroups / "system.slice/system.slice:docker:k7x")
    assert steps.steps_of(10) == [BuildStep("k7x", 21, cgroup, 150, "/bin/sh -c make")]


def test_step_that_moves_to_a_group_below_is_measured_whole(host: BuildingHost) -> None:
    host.step(written=100, cgroup="/init")
    host.process(22, "cc -c big.c", 21, "/system.slice/system.slice:docker:k7x/others/cc", 50)
    [step] = steps.steps_of(10)
    assert step.cgroup == str(host.cgroups / "system.slice/system.slice:docker:k7x")
    assert step.written == 150
    assert steps.refreshed(step) == step


def test_each_step_is_found(host: BuildingHost) -> None:
    host.step("one", 20)
    host.step("two", 30)
    assert [step.id for step in steps.steps_of(10)] == ["one", "two"]


def test_step_that_is_still_being_set_up_is_none(host: BuildingHost) -> None:
    host.process(20, RUNC.format("k7x", BUILDKIT), 10, "/system.slice/docker.service")
    host.process(21, "runc init", 20, "/system.slice/docker.service")
    assert steps.steps_of(10) == []


@pytest.mark.parametrize(
    ("words", "parent"),
    [
        (RUNC.format("k7x", BUILDKIT), 1),  # started by somebody else
        ("runc run --bundle /run/containerd/io.containerd.runtime.v2.task/moby/k7x k7x", 10),
        ("docker-proxy -proto tcp run --bundle", 10),
        ("runc --root /buildkit/executor/ delete k7x", 10),
        (f"runc run --bundle {BUILDKIT}/executor/k7x a", 10),
        (f"runc run --bundle {BUILDKIT}/executor/k7x z", 10),
        (RUNC.format("k7x", "/srv/mine"), 10),
    ],
)
def test_what_only_resembles_a_step_is_none(host: BuildingHost, words: str, parent: int) -> None:
    host.process(20, words, parent)
    host.process(21, "/bin/sh -c make", 20, "/system.slice/system.slice:docker:k7x")
    assert steps.steps_of(10) == []


def test_step_that_goes_on_is_refreshed_and_one_that_has_ended_is_gone(host: BuildingHost) -> None:
    host.step()
    step = steps.steps_of(10)[0]
    (host.proc / "21" / "io").write_text("write_bytes: 77\n")
    assert steps.refreshed(step) == step._replace(written=77)
    (Path(step.cgroup) / "cgroup.procs").write_text("")
    assert steps.refreshed(step) is None


# -- in containers

SCOPE = f"/system.slice/docker-{ID}.scope"


def add_nested_step(
    host: BuildingHost, root: Path, engine: str = "dockerd", state: str = BUILDKIT, cgroup: str = f"{SCOPE}/docker/buildkit/k7x"
) -> None:  # fmt: skip
    """Add an engine in a container, with a step, and the directory that it runs the step from."""
    (root / state[1:] / "executor/k7x").mkdir(parents=True)
    host.process(40, f"/usr/local/bin/{engine}", 2, f"{SCOPE}/init", name=engine, namespace="container", root=str(root))
    host.process(41, RUNC.format("k7x", state), 40, f"{SCOPE}/init", namespace="container", root=str(root))
    host.process(42, "/bin/sh -c make", 41, cgroup, 500, namespace="step")


@pytest.mark.parametrize(
    ("engine", "state", "cgroup", "is_nested"),
    [
        ("dockerd", BUILDKIT, f"{SCOPE}/docker/buildkit/k7x", True),
        ("buildkitd", "/var/lib/buildkit/runc-overlayfs", f"{SCOPE}/buildkit/k7x", False),
    ],
)
def test_step_of_an_engine_in_a_container_is_found(
    host: BuildingHost, tmp_path: Path, engine: str, state: str, cgroup: str, is_nested: bool
) -> None:
    add_nested_step(host, tmp_path / "container", engine, state, cgroup)
    assert steps.nested_steps(engines.nested_engines(), str(tmp_path)) == [
        BuildStep("k7x", 42, f"{host.cgroups}{cgroup}", 500, "/bin/sh -c make", is_nested=is_nested)
    ]


@pytest.mark.parametrize("difference", [-1, 1])
def test_step_of_an_engine_in_a_container_that_writes_to_another_disk_is_none(
    host: BuildingHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, difference: int
) -> None:
    add_nested_step(host, tmp_path / "container")
    there, other = os.stat, SimpleNamespace(st_dev=tmp_path.stat().st_dev + difference)
    monkeypatch.setattr(os, "stat", lambda path, **how: other if path == "/srv/other" else there(path, **how))
    assert steps.nested_steps(engines.nested_engines(), "/srv/other") == []
    assert steps.nested_steps(engines.nested_engines(), "/no/such/volume") == []


@pytest.mark.parametrize("cgroup", ["/docker/buildkit/k7x", f"{SCOPE}/init"])
def test_step_outside_of_the_containers_control_group_is_not_certain(
    host: BuildingHost, tmp_path: Path, cgroup: str
) -> None:
    add_nested_step(host, tmp_path / "container", cgroup=cgroup)
    assert steps.nested_steps(engines.nested_engines(), str(tmp_path)) == []


def test_link_of_a_container_is_followed_from_the_containers_root(host: BuildingHost, tmp_path: Path) -> None:
    """The path leads to another disk in the container, and from the host's root to the volume."""
    root = tmp_path / "container"
    add_nested_step(host, root, state="/data/buildkit")
    (root / "data").rename(tmp_path / "data")
    (root / "data").symlink_to(tmp_path / "data")
    engine = NestedEngine(40, f"{host.cgroups}{SCOPE}", False)
    assert steps.nested_steps([engine], str(tmp_path)) == []


# -- stopping


def test_step_of_several_processes_is_one(host: BuildingHost) -> None:
    host.step()
    host.process(23, "/bin/sh -c other", 20, "/system.slice/system.slice:docker:k7x")
    assert [step.pid for step in steps.steps_of(10)] == [21]


@pytest.mark.parametrize("moved_to", ["", "/init"])
def test_step_is_ended_by_its_control_group(host: BuildingHost, monkeypatch: pytest.MonkeyPatch, moved_to: str) -> None:
    lines: list[tuple[int, str]] = []
    monkeypatch.setattr(steps, "write_line", lambda pid, why: lines.append((pid, why)))
    host.step(cgroup=moved_to)
    step = steps.steps_of(10)[0]
    switch = host.cgroups / "system.slice/system.slice:docker:k7x/cgroup.kill"
    switch.write_text("")
    steps.abort(step, NO_SPACE)
    assert switch.read_text() == "1"
    assert lines == [(21, NO_SPACE)]


def test_step_that_has_ended_by_itself_is_no_error(host: BuildingHost) -> None:
    steps.abort(BuildStep("k7x", 2**22 + 1, f"{host.cgroups}/system.slice:docker:k7x", 0, ""), NO_SPACE)


@pytest.mark.parametrize("below", ["", "/k7x/child"])
def test_control_group_of_something_else_is_never_killed(host: BuildingHost, below: str) -> None:
    with pytest.raises(AssertionError):
        steps.abort(BuildStep("k7x", 10, f"{host.cgroups}{below}", 0, ""), NO_SPACE)


@pytest.mark.parametrize("moved_to", ["", "/init"])
@pytest.mark.parametrize("is_first", [True, False])
def test_kernel_without_the_switch_ends_all_processes(
    sleeper: subprocess.Popen[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moved_to: str, is_first: bool
) -> None:
    cgroup = tmp_path / "docker:k7x"
    (cgroup / moved_to[1:]).mkdir(parents=True)
    (cgroup / moved_to[1:] / "cgroup.procs").write_text(f"{sleeper.pid}\n")
    monkeypatch.setattr(cgroups, "directory_of", lambda _: f"{cgroup}{moved_to}")
    steps.abort(BuildStep("k7x", sleeper.pid if is_first else 2**22 + 1, str(cgroup), 0, ""), NO_SPACE)
    assert sleeper.wait(10) == -signal.SIGKILL


def test_process_that_is_another_one_by_now_is_left_alone(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    warned: list[int] = []
    monkeypatch.setattr(steps, "write_line", lambda pid, _: warned.append(pid))
    steps.abort(BuildStep("k7x", sleeper.pid, "/no/such/docker:k7x", 0, ""), NO_SPACE)
    time.sleep(0.1)
    assert (sleeper.poll(), warned) == (None, [])
