"""What preflight judges of the system and its Docker. Pure."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator
from typing import Any

from bulkhead.names import CONTAINERD, CONTAINERD_STORE, DOCKER, DOCKER_STORE
from pyinfra_lvm.model import Storage
from settings.model import Settings
from tasks.preflight.finding import Finding
from tasks.preflight.host import HostState
from tasks.support.paths import DAEMON_JSON, DOCKER_SOURCE
from tasks.support.version import is_newer, is_outlived

SUPPORTED = {"debian": ("12", "13"), "ubuntu": ("22.04", "24.04", "26.04")}
ARCHITECTURES = ("amd64", "arm64")

# What the units of Debian, Ubuntu and Docker start the two daemons with. Where a daemon listens besides is its owner's
# affair; any other flag is somebody's own.
_USUAL_FLAGS = re.compile(r"--?H[= ]\S+|--host[= ]\S+|--containerd[= ]/run/containerd/containerd\.sock|\$DOCKER_OPTS")
_LEAVE_OUT = "or leave this host out"
_CHANGE_DRIVER = "save what you need, change the driver as Docker's documentation says, and run again"


def not_root() -> Finding:
    return Finding(
        "the login is not root",
        "root, directly or through sudo",
        'set "_sudo": True for this host (and _sudo_password where sudo asks for one), or ssh_user to "root"',
    )


def another_run(holder: str) -> Finding:
    return Finding(
        f"another run is under way: {holder}",
        "one run at a time on a host",
        "wait until it has ended and run again; if its connection is dead, end that process on the host",
    )


def system(settings: Settings, state: HostState) -> Iterator[Finding]:
    """The release, the architecture, the init."""
    release_may_differ = settings.allow_unsupported_release and state.os_id in SUPPORTED
    if not _is_supported(state) and not release_may_differ:
        yield Finding(
            f"the system is {_release(state)}",
            " or ".join(f"{name.capitalize()} {', '.join(versions)}" for name, versions in SUPPORTED.items()),
            "use a supported release; allow_unsupported_release = True goes on with another one of Debian or Ubuntu",
        )
    if state.architecture not in ARCHITECTURES:
        yield Finding(f"the architecture is {state.architecture}", " or ".join(ARCHITECTURES), "use another machine")
    if not state.systemd:
        yield Finding(
            "systemd is not PID 1",
            "systemd: it is what keeps Docker from starting without its volume",
            f"boot the host with systemd, {_LEAVE_OUT}",
        )


def system_warnings(state: HostState) -> Iterator[str]:
    if not _is_supported(state):
        yield f"{_release(state)} is not a release that this project is tested on (allow_unsupported_release)"


def _is_supported(state: HostState) -> bool:
    return state.os_version in SUPPORTED.get(state.os_id, ())


def _release(state: HostState) -> str:
    return f"{state.os_id} {state.os_version or state.os_codename}".strip() or "unknown"


def docker(settings: Settings, state: HostState) -> Iterator[Finding]:
    """The engine, and who else uses it."""
    if state.snap_docker:
        yield Finding(
            "Docker from snap",
            "Docker from packages: a snap keeps its data and its configuration in places of its own",
            "save what you need, `snap remove docker`, and run again",
        )
    if state.rootless_docker:
        yield Finding(
            f"rootless Docker of {', '.join(state.rootless_docker)}",
            "the system's Docker alone: rootless data lies in a home directory, out of the volume's reach",
            f"`dockerd-rootless-setuptool.sh uninstall` as that user, {_LEAVE_OUT}",
        )
    if "podman-docker" in state.packages:
        yield Finding(
            "podman-docker, which takes the place of the docker command",
            "Docker itself",
            f"`apt-get remove podman-docker`, {_LEAVE_OUT}",
        )
    if state.swarm:
        yield Finding(
            "Swarm is active",
            "no Swarm: stopping Docker moves its tasks to other nodes, and live-restore excludes it",
            f"`docker swarm leave` if the cluster can do without this node, {_LEAVE_OUT}",
        )
    if state.kubernetes:
        yield Finding(
            f"Kubernetes: {', '.join(state.kubernetes)}",
            "a host of Docker alone: the volume would hide what the kubelet keeps in containerd",
            f"remove those directories if Kubernetes is gone, {_LEAVE_OUT}",
        )
    if state.containerd_namespaces:
        yield Finding(
            f"containerd namespaces of others: {', '.join(state.containerd_namespaces)}",
            "Docker's own alone: the volume would hide what the others keep in containerd",
            f"stop and remove what uses them (`ctr namespaces ls`), {_LEAVE_OUT}",
        )
    yield from _storage_driver(state)
    if state.systemd:
        yield from _units(settings, state)
    yield from _others_settings(state)
    yield from _engine(settings, state)


def _storage_driver(state: HostState) -> Iterator[Finding]:
    # containerd's store has snapshotters of its own names.
    if not state.containerd_store and state.storage_driver not in ("", "overlay2"):
        yield Finding(
            f"Docker's storage driver is {state.storage_driver}",
            "overlay2: the change would hide every image and container",
            _CHANGE_DRIVER,
        )


def _units(settings: Settings, state: HostState) -> Iterator[Finding]:
    masked = [unit.name for unit in state.units if unit.load_state == "masked"]
    if masked:
        yield Finding(
            f"{', '.join(masked)}: masked",
            "units that may be started",
            f"`systemctl unmask {' '.join(masked)}` if Docker is wanted here, {_LEAVE_OUT}",
        )
    elif engine_to_install(settings, state) == "present":
        missing = [name for name in (DOCKER, CONTAINERD) if state.unit(name).load_state != "loaded"]
        if missing:
            yield Finding(
                f"no {' and no '.join(missing)}" + (f", but {state.dockerd}" if state.dockerd else ""),
                "an installed Docker with its units, where nothing is to be installed",
                'install Docker completely, or set engine_source to "docker-ce" or "distro"',
            )


def _others_settings(state: HostState) -> Iterator[Finding]:
    """Places, drivers and flags that somebody else has set."""
    configuration = _configuration(state)
    if configuration is None:
        configuration = {}
        yield Finding(
            f"{DAEMON_JSON} is not a JSON object",
            "one, to merge ours with: what it was meant to say cannot be kept otherwise",
            f"correct {DAEMON_JSON}, or remove it",
        )
    # The file too, beside the running daemon: what it says counts from the next start on.
    roots = (state.data_root, configuration.get("data-root"), configuration.get("graph"))
    for root in dict.fromkeys(str(root) for root in roots if root and posixpath.normpath(str(root)) != DOCKER_STORE):
        yield Finding(
            f"Docker's data root is {root}",
            f"the default, {DOCKER_STORE}: the volume is mounted there",
            f"stop Docker, move its data to the default place and remove data-root from {DAEMON_JSON}, {_LEAVE_OUT}",
        )
    if "userns-remap" in configuration:
        yield Finding(
            f"{DAEMON_JSON} sets userns-remap",
            "none: it gives Docker another data root, below the default one",
            f"remove userns-remap from {DAEMON_JSON} on a host whose Docker holds nothing, {_LEAVE_OUT}",
        )
    log_driver = configuration.get("log-driver", "json-file")
    if log_driver != "json-file":
        yield Finding(
            f"{DAEMON_JSON} sets the log driver {log_driver}",
            "json-file, whose files are bounded by log_max_size and log_max_file; its log-opts are not another driver's",
            f"remove log-driver and log-opts from {DAEMON_JSON}: a container can still be given another driver by its own "
            f"--log-driver, {_LEAVE_OUT}",
        )
    driver = configuration.get("storage-driver", "overlay2")
    if driver not in ("overlay2", state.storage_driver):
        yield Finding(
            f"{DAEMON_JSON} sets the storage driver {driver}",
            "overlay2: the change would hide every image and container",
            _CHANGE_DRIVER,
        )
    if posixpath.normpath(state.containerd_root or CONTAINERD_STORE) != CONTAINERD_STORE:
        yield Finding(
            f"containerd's root is {state.containerd_root}",
            f"the default, {CONTAINERD_STORE}: the volume is mounted there",
            f"stop containerd, move its data to the default place and remove root from /etc/containerd/config.toml, "
            f"{_LEAVE_OUT}",
        )
    for daemon, flags in (("dockerd", _docker_flags(state)), ("containerd", _flags(state, CONTAINERD))):
        if flags:
            yield Finding(
                f"{daemon} is started with flags of somebody's own: {flags}",
                "none: a flag can lead data elsewhere, and Docker does not start when one repeats a key of its file",
                "take them out of the unit, its drop-ins and /etc/default/docker; what Docker shall keep of them goes "
                "into the setting daemon_json",
            )


def _configuration(state: HostState) -> dict[str, Any] | None:
    """daemon.json as it is; None where it is no JSON object."""
    try:
        configuration = json.loads(state.daemon_json or "{}")
    except ValueError:
        return None
    return configuration if isinstance(configuration, dict) else None


def _flags(state: HostState, unit: str) -> str:
    """The flags of a unit's command line that no distribution's unit has."""
    _, _, arguments = state.unit(unit).exec_start.partition(" ")
    return " ".join(_USUAL_FLAGS.sub("", arguments).split())


def _docker_flags(state: HostState) -> str:
    unit = state.unit(DOCKER)
    # Docker's own unit does not read /etc/default/docker; Debian's, which may yet be installed, does.
    options_count = unit.load_state != "loaded" or "$DOCKER_OPTS" in unit.exec_start
    options = _USUAL_FLAGS.sub("", state.docker_options) if options_count else ""
    return " ".join([*_flags(state, DOCKER).split(), *options.split()])


def engine_to_install(settings: Settings, state: HostState) -> str:
    """What engine_source comes to on this host: docker-ce, distro or present."""
    if settings.engine_source != "auto":
        return settings.engine_source
    # An installation that we began ends as one, however far it came.
    begun = state.engine == "docker-ce" and DOCKER_SOURCE in state.docker_sources
    return "docker-ce" if begun or not state.engine else "present"


def _engine(settings: Settings, state: HostState) -> Iterator[Finding]:
    wanted = engine_to_install(settings, state)
    if wanted == "present":
        return
    if state.engine not in ("", wanted):
        there = (
            state.engine if state.engine != "unknown" else f"{state.dockerd}, which no package that we know brought,"
        )
        if not settings.engine_change:
            yield Finding(
                f"the engine {there} is installed",
                f'{wanted}, as engine_source asks, or engine_source = "auto", which keeps what is installed',
                "engine_change = True lets one take the other's place on a host where Docker holds no data",
            )
        elif state.engine == "unknown":
            yield Finding(
                f"the engine {there} is installed",
                "an engine from packages, which apt can replace",
                'remove it the way it was installed, or set engine_source to "present"',
            )
        elif state.docker_data.any or state.containerd_data.any:
            yield Finding(
                f"the engine {there} is installed, with data: {state.docker_data}; containerd: {state.containerd_data}",
                "no data where the engine is changed",
                "save what you need and remove it (`docker system prune -a`, `docker volume rm`), or keep the engine: "
                'engine_source = "auto"',
            )
    elif newer := [
        v for v in state.packages.values() if settings.engine_version and is_newer(v, settings.engine_version)
    ]:
        yield Finding(
            f"the engine {newer[0]} is installed, and engine_version is {settings.engine_version}",
            "the same version or an older one: an engine is upgraded here and never downgraded",
            "set engine_version to what is installed, or empty",
        )
    elif step := _step_that_stops_containers(settings, state):
        yield Finding(
            f"containers run ({state.containers_running}), and {step}",
            "none that runs, or a step to a patch release with live_restore: containers do not outlive another one",
            "engine_upgrade_stops_containers = True stops them for the upgrade and starts them again (one with --rm does not "
            "come back)",
        )
    foreign = [path for path in state.docker_sources if path != DOCKER_SOURCE]
    if wanted == "docker-ce" and foreign:
        yield Finding(
            f"{settings.docker_repository} is in {', '.join(foreign)}",
            f"one entry for it, {DOCKER_SOURCE}: apt refuses two that name different keys",
            f'remove {", ".join(foreign)}, or set engine_source to "present" and install Docker yourself',
        )


def _step_that_stops_containers(settings: Settings, state: HostState) -> str:
    """The upgrade that running containers would not outlive, in words; empty: there is none, or it may be taken."""
    pin = settings.engine_version
    # Docker's client and its plugins have versions of their own.
    version = state.packages.get("docker-ce") or state.packages.get("docker.io", "")
    if not state.containers_running or is_outlived(version, pin, live_restore=settings.live_restore):
        return ""
    # A step that was begun goes on: what it has stopped starts after it.
    if settings.engine_upgrade_stops_containers or state.stopped_by_upgrade:
        return ""
    return f"the engine is to go from {version} to {pin}"


def has_data_off_the_volume(state: HostState, storage: Storage) -> bool:
    """Whether Docker holds data that mounting the volume would hide."""
    stores = ((DOCKER_STORE, state.docker_data), (CONTAINERD_STORE, state.containerd_data))
    return any(data.any and storage.mount(path) is None for path, data in stores)


def uses_containerd_store(state: HostState) -> bool:
    """Whether the engine's images are in containerd's store, where they stay.

    The running daemon tells, if it has any; else its configuration, and what lies in the stores. An unused engine that
    chose containerd's store by itself (Docker 29 does) has nothing to hide there.
    """
    if state.storage_driver and (state.docker_data.any or state.containerd_data.any):
        return state.containerd_store
    features = (_configuration(state) or {}).get("features")
    if isinstance(features, dict) and "containerd-snapshotter" in features:
        return features["containerd-snapshotter"] is True
    return bool(state.containerd_data.images) and not state.docker_data.images
