"""The engine: whose Docker is refused, which engine is installed, and which store keeps its images."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import replace

import pytest

from bulkhead.names import CONTAINERD, DOCKER
from settings.model import Settings
from tasks.preflight import engine
from tasks.preflight.examine import examine
from tasks.preflight.host import EngineData, HostState, Unit
from tasks.support.paths import DOCKER_SOURCE, STORES

from ..example_hosts import (
    DOCKER_CE_UNIT,
    GIB,
    bare_host,
    converged,
    docker_host,
    our_docker_ce_host,
    settings,
    shared_vg,
)
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


def test_engine_that_no_package_brought_stays_though_our_repository_is_left_over() -> None:
    state = docker_host(DOCKER_CE_UNIT, packages={}, dockerd="/usr/bin/dockerd", docker_sources=(DOCKER_SOURCE,))
    assert plan_of(state, shared_vg()).engine == "present"


def test_engine_may_change_where_there_is_no_data() -> None:
    wanted = settings(engine_source="docker-ce", engine_change=True)
    assert plan_of(docker_host(), shared_vg(), wanted).engine == "docker-ce"


def test_docker_that_hangs_on_its_full_volume_is_no_obstacle_to_a_larger_one() -> None:
    fresh = plan_of(bare_host(), shared_vg())
    hangs = our_docker_ce_host(docker_hangs=True, storage_driver="", docker_data=EngineData(images=1))
    warning = (
        "docker.service is active, and `docker info` does not answer within 120 s: if its volume is full, a larger volume_size "
        "helps; if not, `journalctl -u docker.service` may say why"
    )
    whole = converged(shared_vg(), fresh)
    assert plan_of(hangs, whole, settings(volume_size="65G"), warnings=(warning,)).size == 65 * GIB
    # A store that is not mounted would be hidden by its mount.
    for path in STORES.values():
        off = replace(whole, mounts=tuple(mount for mount in whole.mounts if mount.target != path))
        found = examine(settings(), hangs, off).findings[0]
        assert_says(
            found, found_has="does not answer", needed="what Docker holds", action="`systemctl restart docker.service`"
        )


def test_daemon_json_of_others_is_no_obstacle() -> None:
    own = json.dumps({"registry-mirrors": ["https://mirror.example.com"], "data-root": "/var/lib/docker/"})
    plan_of(docker_host(daemon_json=own), shared_vg())


@pytest.mark.parametrize(
    "exec_start",
    [DOCKER_CE_UNIT, "/usr/sbin/dockerd -H fd:// $DOCKER_OPTS", f"{DOCKER_CE_UNIT} -H tcp://127.0.0.1:2375"],
)
def test_flags_of_distributions_and_further_sockets_are_no_obstacle(exec_start: str) -> None:
    plan_of(docker_host(exec_start), shared_vg())


@pytest.mark.parametrize(
    ("daemon", "command"),
    [
        (CONTAINERD, "/usr/bin/containerd --config /etc/containerd/config.toml"),
        (CONTAINERD, "/usr/bin/containerd --config=/etc/containerd/config.toml"),
        (CONTAINERD, "/usr/bin/containerd -c /etc/containerd/config.toml --root /var/lib/containerd"),
        (DOCKER, f"{DOCKER_CE_UNIT} --config-file /etc/docker/daemon.json --data-root=/var/lib/docker"),
    ],
)
def test_flag_that_names_a_default_path_is_no_obstacle(daemon: str, command: str) -> None:
    others = tuple(unit for unit in docker_host().units if unit.name != daemon)
    plan_of(docker_host(units=(*others, Unit(daemon, "loaded", command))), shared_vg())


@pytest.mark.parametrize(
    ("daemon", "flags"),
    [
        (CONTAINERD, "--config /etc/containerd/config.toml.d/own.toml"),
        (CONTAINERD, "--config /srv/config.toml"),
        (CONTAINERD, "--root /var/lib/containerd2"),
        (DOCKER, "--config-file=/etc/docker/other.json"),
        (DOCKER, "--data-root /var/lib/docker/more"),
    ],
)
def test_flag_that_names_another_path_than_the_default_is_refused(daemon: str, flags: str) -> None:
    others = tuple(unit for unit in docker_host().units if unit.name != daemon)
    unit = Unit(daemon, "loaded", f"/usr/bin/daemon {flags}")
    assert finding(docker_host(units=(*others, unit)), shared_vg()).found.endswith(f"extra flags: {flags}")


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
        (docker_host(containerd_root="/var/lib/containerd2"), "/var/lib/containerd2", "/var/lib/cont", "config.toml"),
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


def test_units_that_are_masked_are_named_and_no_others() -> None:
    states = {DOCKER: "masked", CONTAINERD: "masked", "docker.socket": "not-found", "other.service": "error"}
    found = finding(docker_host(units=tuple(Unit(name, state) for name, state in states.items())), shared_vg())
    assert found.found == f"{DOCKER}, {CONTAINERD} are masked"
    plan_of(docker_host(units=(*docker_host().units, Unit("x.service", "not-found"))), shared_vg())


@pytest.mark.parametrize("state", ["bad-setting", "not-found"])
def test_unit_that_systemd_has_not_loaded_is_none(state: str) -> None:
    others = tuple(unit for unit in docker_host().units if unit.name != CONTAINERD)
    found = finding(docker_host(units=(*others, Unit(CONTAINERD, state))), shared_vg())
    assert found.found.startswith("there is no containerd.service")


CONTAINERD_DATA = EngineData(images=12, layers=30)
OFF = '{"features": {"containerd-snapshotter": false}}'


@pytest.mark.parametrize(
    ("state", "stays"),
    [
        (docker_host(containerd_store=True, storage_driver="overlayfs", containerd_data=CONTAINERD_DATA), True),
        (docker_host(docker_data=EngineData(images=1), containerd_data=CONTAINERD_DATA), False),
        (docker_host(storage_driver="", containerd_data=CONTAINERD_DATA), True),
        (docker_host(daemon_json='{"features": {"containerd-snapshotter": true}}'), True),
        (docker_host(daemon_json=OFF, storage_driver="", containerd_data=CONTAINERD_DATA), False),
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
    client = replace(our_docker_ce_host(), packages=our_docker_ce_host().packages | {"docker-ce-cli": "5:29.9.9-1"})
    found = finding(client, shared_vg(), settings(engine_source="docker-ce", engine_version="28.5"))
    assert found.found.startswith("the engine 5:29.1.3-1")
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


@pytest.mark.parametrize("path", ["/etc/apt/sources.list", "/etc/apt/sources.list.d/docker.list"])
def test_second_entry_for_dockers_repository_is_refused_where_the_engine_comes_from_it(path: str) -> None:
    found = finding(bare_host(docker_sources=(path, DOCKER_SOURCE)), shared_vg())
    assert_says(found, found_has=f"is listed in {path}", needed=DOCKER_SOURCE, action=f"remove {path}, or")
    plan_of(docker_host(docker_sources=(path,)), shared_vg(), settings(engine_source="distro"))


# -- packages that cannot stay beside the engine


def ways_out(action: str) -> dict[str, object]:
    """The settings that a message names, as it names them."""
    return {name: ast.literal_eval(value) for name, value in re.findall(r'(engine_\w+) = ("[\w-]+"|True)', action)}


BESIDE_DOCKER_CE = {"containerd": "1.7.28", "runc": "1.3.3"}


@pytest.mark.parametrize(
    ("packages", "wanted", "found", "action"),
    [
        (BESIDE_DOCKER_CE, settings(), "containerd and runc are installed", 'engine_source = "distro"'),
        ({"runc": "1.1.5"}, settings(engine_source="docker-ce"), "runc is installed", 'engine_source = "distro"'),
        ({"docker-compose-v2": "2.40.3"}, settings(), "docker-compose-v2 is installed", 'engine_source = "distro"'),
        ({"docker-cli": "26.1.5"}, settings(), "docker-cli is installed", 'engine_source = "distro"'),
        (
            {"containerd.io": "2.1.5"},
            settings(engine_source="distro"),
            "containerd.io is installed",
            'engine_source = "docker-ce"',
        ),
    ],
    ids=lambda value: "" if isinstance(value, Settings) else str(value),
)
def test_packages_of_the_other_source_without_its_docker_need_consent(
    packages: dict[str, str], wanted: Settings, found: str, action: str
) -> None:
    state = bare_host(packages=packages)
    assert_says(
        finding(state, shared_vg(), wanted),
        found_has=found,
        needed="cannot stay beside",
        action=f"set {action}, which works with them; or set engine_source",
    )
    # Both ways out.
    first, second = (
        plan_of(state, shared_vg(), settings(**ways_out(part)))
        for part in finding(state, shared_vg(), wanted).action.split("; or ")
    )
    assert {first.engine, second.engine} == {"docker-ce", "distro"}


@pytest.mark.parametrize("name", ["docker-buildx", "docker-compose", "docker-compose-v2"])
def test_plugins_of_the_distribution_beside_docker_ce_need_consent(name: str) -> None:
    state = our_docker_ce_host()
    state = replace(state, packages=state.packages | {name: "2.26.1-4"})
    assert_says(
        finding(state, shared_vg()),
        found_has=f"{name} is installed",
        needed="cannot stay beside docker-ce",
        action='engine_source = "present", which installs no package of Docker; or set engine_source = "docker-ce" and',
    )
    for part in finding(state, shared_vg()).action.split("; or "):
        plan_of(state, shared_vg(), settings(**ways_out(part)))


def test_first_compose_and_an_engine_with_its_own_packages_are_no_obstacle() -> None:
    plan_of(bare_host(packages={"docker-compose": "1.29.2-3"}), shared_vg())
    own = {"docker.io": "26.1.5", "docker-cli": "26.1.5", "docker-buildx": "0.13.1"} | BESIDE_DOCKER_CE
    plan_of(docker_host(packages=own), shared_vg(), settings(engine_source="distro"))
    plan_of(docker_host(packages=own), shared_vg())
    both = our_docker_ce_host().packages | {"docker-compose": "2.26.1-4", "docker-compose-plugin": "5.0.0-1"}
    plan_of(our_docker_ce_host(packages=both), shared_vg())


def test_packages_of_the_other_source_stay_where_containerd_holds_data() -> None:
    state = bare_host(packages=BESIDE_DOCKER_CE, containerd_data=EngineData(images=2))
    fresh = plan_of(bare_host(), shared_vg())
    consent = settings(engine_source="docker-ce", engine_change=True)
    found = finding(state, converged(shared_vg(), fresh), consent)
    assert_says(
        found, found_has="containerd 2 images", needed="only where there is no data", action="save what you need"
    )
