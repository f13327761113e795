"""Which engines build on a host, and what Docker itself writes."""

from __future__ import annotations

import shutil

import pytest

from bulkhead.docker import engines
from bulkhead.docker.engines import NestedEngine

from .building_host import ID, OTHER_ID, BuildingHost


@pytest.mark.usefixtures("host")
def test_docker_is_the_daemon_of_its_unit() -> None:
    assert engines.dockerd() == 10


@pytest.mark.parametrize("parent", [30, 0], ids=["its-shim", "out-of-sight"])
def test_docker_in_a_container_is_not_the_hosts(host: BuildingHost, parent: int) -> None:
    shutil.rmtree(host.proc / "10")
    host.process(30, "containerd-shim", cgroup="/system.slice/containerd.service")
    host.process(31, "dockerd", parent, f"/system.slice/docker-{ID}.scope")
    assert engines.dockerd() == 0


def test_docker_outside_of_its_unit_is_found_too(host: BuildingHost) -> None:
    (host.cgroups / "system.slice/docker.service/cgroup.procs").write_text("")
    assert engines.dockerd() == 10


def test_engines_in_containers_are_found(host: BuildingHost) -> None:
    scope = f"/system.slice/docker-{ID}.scope"
    host.process(30, "dockerd", 2, f"{scope}/init", namespace="container")
    host.process(31, "buildkitd", 2, f"/system.slice/docker-{OTHER_ID}.scope/init", namespace="container")
    # buildx's builder of the Docker in the container: its clients are in there too.
    host.process(32, "buildkitd", 30, f"{scope}/docker/{OTHER_ID}/init", namespace="container")
    host.process(33, "dockerd", 2, "/user.slice/user-1000.slice")  # rootless, on the host
    container = f"{host.cgroups}{scope}"
    assert engines.nested_engines() == [
        NestedEngine(30, container, False),
        NestedEngine(31, f"{host.cgroups}/system.slice/docker-{OTHER_ID}.scope", True),
        NestedEngine(32, container, False),
    ]


def test_docker_writes_beside_its_steps_and_so_do_its_builders_in_containers(host: BuildingHost) -> None:
    host.step(written=1000)
    host.process(30, "docker-untar", 10, "/system.slice/docker.service", 20, name="exe")
    host.process(31, "containerd", cgroup="/system.slice/containerd.service", written=300)
    builder = f"/system.slice/docker-{ID}.scope"
    host.process(40, "buildkitd", 2, f"{builder}/init", 4000)
    host.process(41, "sh -c make", 40, f"{builder}/buildkit/x", 50000)
    host.process(50, "postgres", 2, f"/system.slice/docker-{OTHER_ID}.scope", 600000)
    step_groups = frozenset([f"{host.cgroups}{builder}/buildkit/x"])
    found = engines.written_by_docker(10, engines.nested_engines(), step_groups)
    assert found == 7 + 20 + 300 + 4000


def test_containerd_and_docker_of_others_are_not_docker(host: BuildingHost) -> None:
    kind = f"/system.slice/docker-{ID}.scope"
    host.process(30, "containerd-shim", cgroup="/system.slice/containerd.service", written=20)
    host.process(31, "dockerd", 30, f"{kind}/init", 300, namespace="container")
    host.process(32, "containerd", 31, f"{kind}/init", 4000, namespace="container")
    host.process(33, "containerd", 1, "/system.slice/k3s.service", 50000)  # of Kubernetes, on the host itself
    builders = [engine for engine in engines.nested_engines() if engine.is_builder]
    assert engines.written_by_docker(10, builders, frozenset()) == 7
