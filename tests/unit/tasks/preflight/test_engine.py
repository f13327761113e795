"""The engine: whose Docker is refused, which engine is installed, and which store keeps its images."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from bulkhead.names import CONTAINERD, DOCKER
from settings.model import Settings
from tasks.preflight import engine
from tasks.preflight.host import EngineData, HostState, Unit
from tasks.support.paths import DOCKER_SOURCE

from ..example_hosts import DOCKER_CE_UNIT, bare_host, converged, docker_host, our_docker_ce_host, settings, shared_vg
from .verdicts import assert_says, finding, plan_of


def test_unused_engine_on_the_containerd_store_hides_nothing_and_passes() -> None:
    plan_of(docker_host(containerd_store=True, storage_driver="overlayfs"), shared_vg())


def test_run_cut_inside_apt_goes_on_with_the_engine_it_began() -> None:
    assert plan_of(bare_host(docker_sources=(DOCKER_SOURCE,)), shared_vg()).engine == "docker-ce"
    assert plan_of(our_docker_ce_host(units=()), shared_vg()).engine == "docker-ce"


def test_docker_ce_that_somebody_installed_stays_as_it_is() -> None:
    state = our_docker_ce_host(docker_sources=("/etc/apt/sources.list.d/docker.list",))
    assert plan_of(state, shared_vg()).engine == "present"


def test_distribution_engine_stays_though_our_repository_is_left_over() -> None:
    assert plan_of(docker_host(docker_sources=(DOCKER_SOURCE,)), shared_vg()).engine == "present"


def test_engine_may_change_where_there_is_no_data() -> None:
    wanted = settings(engine_source="docker-ce", engine_change=True)
    assert plan_of(docker_host(), shared_vg(), wanted).engine == "docker-ce"


def test_daemon_json_of_others_is_no_obstacle() -> None:
    own = json.dumps({"registry-mirrors": ["https://mirror.example.com"], "data-root": "/var/lib/docker/"})
    plan_of(docker_host(daemon_json=own), shared_vg())


@pytest.mark.parametrize(
    "exec_start",
    [DOCKER_CE_UNIT, "/usr/sbin/dockerd -H fd:// $DOCKER_OPTS", f"{DOCKER_CE_UNIT} -H tcp://127.0.0.1:2375"],
)
def test_flags_of_distributions_and_further_sockets_are_no_obstacle(exec_start: str) -> None:
    plan_of(docker_host(exec_start), shared_vg())


def test_options_that_the_unit_does_not_read_are_no_obstacle() -> None:
    plan_of(our_docker_ce_host(docker_options="--dns 192.0.2.1"), shared_vg())


@pytest.mark.parametrize(
    ("state", "found", "needed", "action"),
    [
        (bare_host(snap_docker=True), "snap", "from packages", "snap remove docker"),
        (bare_host(rootless_docker=("anna", "ben")), "of anna, ben", "home directory", "uninstall"),
        (
            bare_host(packages={"podman-docker": "4.3"}),
            "podman-docker",
            "Docker itself",
            "apt-get remove podman-docker",
        ),
        (
            docker_host(docker_hangs=True, storage_driver="", docker_data=EngineData(images=1)),
            "`docker info` does not answer within 120 s",
            "Docker's answer",
            "run again when the host is less busy",
        ),
        (docker_host(swarm=True), "Swarm is active", "no Swarm", "docker swarm leave"),
        (bare_host(kubernetes=("/var/lib/kubelet",)), "/var/lib/kubelet", "Docker alone", "leave this host out"),
        (
            docker_host(containerd_namespaces=("k8s.io",)),
            "k8s.io",
            "Docker's own namespaces alone",
            "ctr namespaces ls",
        ),
        (docker_host(storage_driver="btrfs"), "driver is btrfs", "overlay2", "change the driver"),
        (docker_host(data_root="/data/docker"), "/data/docker", "default, /var/lib/docker", "remove data-root"),
        (docker_host(containerd_root="/data/containerd"), "/data/containerd", "/var/lib/containerd", "config.toml"),
        (docker_host(daemon_json="{nonsense"), "not a JSON object", "merge", "correct /etc/docker/daemon.json"),
        (docker_host(daemon_json="[]"), "not a JSON object", "merge", "correct /etc/docker/daemon.json"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_host_of_others_is_refused(state: HostState, found: str, needed: str, action: str) -> None:
    assert_says(finding(state, shared_vg()), found_has=found, needed=needed, action=action)


@pytest.mark.parametrize(
    ("key", "value", "found"),
    [
        ("data-root", "/data/docker", "data root is /data/docker"),
        ("graph", "/data/docker", "data root is /data/docker"),
        ("storage-driver", "zfs", "sets the storage driver zfs"),
    ],
)
def test_daemon_json_counts_though_the_daemon_runs_without_it_yet(key: str, value: str, found: str) -> None:
    assert found in finding(docker_host(daemon_json=json.dumps({key: value})), shared_vg()).found


@pytest.mark.parametrize(
    ("unit", "flags"),
    [
        (Unit(DOCKER, "loaded", f"{DOCKER_CE_UNIT} --data-root=/data --debug"), "--data-root=/data --debug"),
        (Unit(DOCKER, "loaded", "/usr/bin/dockerd -H fd:// --log-driver journald"), "--log-driver journald"),
        (Unit(CONTAINERD, "loaded", "/usr/bin/containerd --root /data"), "--root /data"),
    ],
)
def test_flags_of_others_are_refused(unit: Unit, flags: str) -> None:
    others = tuple(u for u in docker_host().units if u.name != unit.name)
    found = finding(docker_host(units=(*others, unit)), shared_vg())
    assert_says(found, found_has=f"extra flags: {flags}", needed="no extra flags", action="the setting daemon_json")


def test_options_that_debians_unit_reads_are_flags_too() -> None:
    found = finding(docker_host(docker_options="--dns 192.0.2.1 -H tcp://127.0.0.1:2375"), shared_vg())
    assert found.found.endswith("starts with extra flags: --dns 192.0.2.1")


def test_options_that_an_engine_would_find_count_before_it_is_installed() -> None:
    assert "-g /data" in finding(bare_host(docker_options="-g /data"), shared_vg()).found


def test_masked_units_are_refused() -> None:
    found = finding(bare_host(units=(Unit(DOCKER, "masked"),)), shared_vg())
    assert_says(
        found,
        found_has="docker.service is masked",
        needed="systemd can start",
        action="systemctl unmask docker.service",
    )


CONTAINERD_DATA = EngineData(images=12, layers=30)


@pytest.mark.parametrize(
    ("state", "stays"),
    [
        (docker_host(containerd_store=True, storage_driver="overlayfs", containerd_data=CONTAINERD_DATA), True),
        (docker_host(docker_data=EngineData(images=1), containerd_data=CONTAINERD_DATA), False),
        (docker_host(storage_driver="", containerd_data=CONTAINERD_DATA), True),
        (docker_host(daemon_json='{"features": {"containerd-snapshotter": true}}'), True),
        (docker_host(daemon_json='{"features": []}'), False),
        # The file was edited, and Docker not restarted.
        (
            docker_host(docker_data=EngineData(images=1), daemon_json='{"features": {"containerd-snapshotter": true}}'),
            False,
        ),
    ],
)
def test_engine_stays_on_the_store_that_has_its_images(state: HostState, stays: bool) -> None:
    assert engine.uses_containerd_store(state) is stays


def test_present_engine_that_is_not_there_is_refused() -> None:
    found = finding(bare_host(), shared_vg(), settings(engine_source="present"))
    assert_says(
        found, found_has="no docker.service and no containerd.service", needed="installed", action='"docker-ce"'
    )


def test_dockerd_from_nowhere_without_units_is_refused() -> None:
    found = finding(bare_host(dockerd="/usr/local/bin/dockerd"), shared_vg())
    assert_says(
        found, found_has="but /usr/local/bin/dockerd", needed="with its units", action="install Docker completely"
    )


def test_pin_below_the_installed_version_is_refused() -> None:
    found = finding(our_docker_ce_host(), shared_vg(), settings(engine_source="docker-ce", engine_version="28.5"))
    assert_says(found, found_has="engine_version is 28.5", needed="never downgrades it", action="set engine_version")
    plan_of(our_docker_ce_host(), shared_vg(), settings(engine_source="docker-ce", engine_version="29.1"))


def upgrade(version: str, **changes: object) -> Settings:
    return settings(engine_source="docker-ce", engine_version=version, **changes)


def _step(wanted: Settings) -> str:
    return f"{wanted.engine_version or 'unpinned'}{'' if wanted.live_restore else ' without live-restore'}"


BUSY = our_docker_ce_host(containers_running=2)  # Docker 29.1.3


@pytest.mark.parametrize(
    "wanted", [upgrade("29.2"), upgrade("30.0.1"), upgrade("29.1.4", live_restore=False)], ids=_step
)
def test_upgrade_that_running_containers_do_not_survive_is_refused_without_consent(wanted: Settings) -> None:
    found = finding(BUSY, shared_vg(), wanted)
    assert_says(
        found,
        found_has=f"engine_version upgrades the engine from 5:29.1.3-1~debian.12~bookworm to {wanted.engine_version}",
        needed="an upgrade to a patch release with live_restore",
        action="engine_upgrade_stops_containers = True",
    )
    plan_of(replace(BUSY, containers_running=0), shared_vg(), wanted)
    plan_of(BUSY, shared_vg(), wanted.model_copy(update={"engine_upgrade_stops_containers": True}))


@pytest.mark.parametrize(
    "wanted",
    [upgrade("29.1.4"), upgrade("29.1.3", live_restore=False), upgrade("29.1", live_restore=False), settings()],
    ids=_step,
)
def test_containers_may_run_where_they_survive_the_upgrade_or_there_is_none(wanted: Settings) -> None:
    plan_of(BUSY, shared_vg(), wanted)


def test_upgrade_that_was_cut_with_containers_stopped_goes_on_whatever_runs_by_now() -> None:
    plan_of(replace(BUSY, stopped_by_upgrade=True), shared_vg(), upgrade("30.0.1"))


def test_client_of_another_version_is_no_upgrade() -> None:
    plan_of(replace(BUSY, packages=BUSY.packages | {"docker-ce-cli": "5:28.0.0-1"}), shared_vg(), upgrade("29.1.3"))


def test_upgrade_of_the_distributions_engine_counts_too() -> None:
    state = replace(BUSY, packages={"docker.io": "20.10.24+dfsg1-1"}, docker_sources=())
    found = finding(state, shared_vg(), settings(engine_source="distro", engine_version="26.1"))
    assert "from 20.10.24+dfsg1-1 to 26.1" in found.found


@pytest.mark.parametrize(
    ("written", "found_has", "needed", "action"),
    [
        ({"userns-remap": "default"}, "userns-remap", "another data root", "remove userns-remap"),
        (
            {"log-driver": "fluentd", "log-opts": {"fluentd-address": "192.0.2.1"}},
            "the log driver fluentd",
            "json-file",
            "remove log-driver and log-opts",
        ),
    ],
)
def test_settings_of_others_that_cannot_stay_are_refused(
    written: dict[str, object], found_has: str, needed: str, action: str
) -> None:
    found = finding(docker_host(daemon_json=json.dumps(written)), shared_vg())
    assert_says(found, found_has=found_has, needed=needed, action=action)


def test_another_engine_than_the_installed_one_needs_its_setting() -> None:
    found = finding(docker_host(), shared_vg(), settings(engine_source="docker-ce"))
    assert_says(
        found, found_has="distro is installed", needed="docker-ce, as engine_source", action="engine_change = True"
    )


def test_engine_does_not_change_under_data() -> None:
    fresh = plan_of(bare_host(), shared_vg())
    found = finding(
        docker_host(docker_data=EngineData(volumes=1)),
        converged(shared_vg(), fresh),
        settings(engine_source="docker-ce", engine_change=True),
    )
    assert_says(found, found_has="1 volume", needed="no data", action="docker volume rm")


def test_engine_that_no_package_brought_cannot_be_changed() -> None:
    state = docker_host(DOCKER_CE_UNIT, packages={}, dockerd="/usr/bin/dockerd")
    found = finding(state, shared_vg(), settings(engine_source="distro", engine_change=True))
    assert_says(found, found_has="/usr/bin/dockerd", needed="from packages", action='engine_source to "present"')


def test_second_entry_for_dockers_repository_is_refused() -> None:
    state = bare_host(docker_sources=("/etc/apt/sources.list.d/docker.list",))
    found = finding(state, shared_vg())
    assert_says(
        found, found_has="docker.list", needed=DOCKER_SOURCE, action="remove /etc/apt/sources.list.d/docker.list"
    )
