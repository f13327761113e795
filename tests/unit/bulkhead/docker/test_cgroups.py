"""Which control group a step has, who is in it, and what they have written."""

from __future__ import annotations

import pytest

from bulkhead.docker import cgroups

from .building_host import ID, OTHER_ID, BuildingHost


@pytest.mark.parametrize(
    ("path", "identifier", "group"),
    [
        ("/system.slice/system.slice:docker:k7x", "k7x", "/system.slice/system.slice:docker:k7x"),
        ("/system.slice/system.slice:docker:k7x/init/deep", "k7x", "/system.slice/system.slice:docker:k7x"),
        ("/system.slice/docker-k7x.scope/k7x", "k7x", "/system.slice/docker-k7x.scope"),
        (f"/system.slice/docker-{ID}.scope/docker/buildkit/k7x/a", "k7x", f"/system.slice/docker-{ID}.scope/docker/buildkit/k7x"),
        ("/docker/buildkit/k7x", "k7x", "/docker/buildkit/k7x"),
        ("/system.slice/docker.service", "k7x", ""),
        ("/system.slice/system.slice:docker:k7xyz", "k7x", ""),
        ("/user.slice/my.k7x", "k7x", ""),
        ("/", "k7x", ""),
    ],
)  # fmt: skip
def test_group_of_a_step_is_the_whole_one_wherever_its_process_has_moved(
    host: BuildingHost, path: str, identifier: str, group: str
) -> None:
    host.process(30, "make", cgroup=path)
    assert cgroups.group_of(30, identifier) == (f"{host.cgroups}{group}" if group else "")


@pytest.mark.parametrize(
    ("path", "container"),
    [
        (f"/system.slice/docker-{ID}.scope/init", f"/system.slice/docker-{ID}.scope"),
        (f"/system.slice/docker-{ID}.scope/docker/{OTHER_ID}", f"/system.slice/docker-{ID}.scope"),
        (f"/docker/{ID}", f"/docker/{ID}"),
        (f"/libpod_parent/libpod-{ID}/x", ""),
        (f"/kubepods.slice/cri-containerd-{ID}.scope", ""),
        ("/system.slice/docker.service", ""),
    ],
)
def test_container_of_a_process_is_the_outermost_of_docker(host: BuildingHost, path: str, container: str) -> None:
    host.process(30, "dockerd", cgroup=path)
    assert cgroups.container_of(30) == (f"{host.cgroups}{container}" if container else "")


def test_groups_below_count_unless_they_are_left_out(host: BuildingHost) -> None:
    for pid, (path, size) in enumerate([("/a", 1), ("/a/b", 20), ("/a/b/c", 300), ("/a/d", 4000)], 30):
        host.process(pid, "make", cgroup=path, written=size)
    assert sorted(cgroups.members(f"{host.cgroups}/a")) == [30, 31, 32, 33]
    assert cgroups.written(f"{host.cgroups}/a") == 4321
    assert cgroups.written(f"{host.cgroups}/a", but=frozenset([f"{host.cgroups}/a/b"])) == 4001
