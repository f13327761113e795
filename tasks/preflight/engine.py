"""Judge the engine: who else uses Docker, what others have set for it, and the engine to install. Pure."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator

from bulkhead.names import CONTAINERD, CONTAINERD_STORE, DOCKER, DOCKER_STORE
from pyinfra_lvm.model import Storage
from settings.model import Settings
from tasks.preflight.daemon_json import CHANGE_DRIVER, HIDES_IMAGES, judge_daemon_json, readable_keys
from tasks.preflight.finding import LEAVE_OUT, Finding
from tasks.preflight.host import HostState
from tasks.support.package_names import ENGINE_PINNED, obstacles
from tasks.support.paths import DAEMON_JSON, DOCKER_PATIENCE, DOCKER_SOURCE, STORES
from tasks.support.version import is_newer, is_survived

# The units of Debian, Ubuntu and Docker start the two daemons with these flags. The owner may let a daemon listen
# elsewhere too, and may name a default path; any other flag is somebody's own.
_USUAL_FLAGS = re.compile(
    r"(?<!\S)(?:"
    r"(?:--?H|--host)[= ]\S+|--containerd[= ]/run/containerd/containerd\.sock|\$DOCKER_OPTS|"
    r"--config-file[= ]/etc/docker/daemon\.json|--data-root[= ]/var/lib/docker/?|"  # dockerd
    r"--?c(?:onfig)?[= ]/etc/containerd/config\.toml|--root[= ]/var/lib/containerd/?"  # containerd
    r")(?!\S)"
)

_SILENCE = f"{DOCKER} is active, and `docker info` does not answer within {DOCKER_PATIENCE} s"


def judge_engine(settings: Settings, state: HostState) -> Iterator[Finding]:
    """Yield why this host's Docker cannot move onto a volume, or cannot be the engine that the settings ask for."""
    if state.snap_docker:
        yield Finding(
            "Docker from snap",
            "Docker from packages: a snap has its data and its configuration in other places",
            "save what you need, `snap remove docker`, and run again",
        )
    if state.rootless_docker:
        yield Finding(
            f"rootless Docker of {', '.join(state.rootless_docker)}",
            "only the system's Docker: a rootless Docker has its data in a home directory, not on the volume",
            f"`dockerd-rootless-setuptool.sh uninstall` as that user, {LEAVE_OUT}",
        )
    if "podman-docker" in state.packages:
        yield Finding(
            "podman-docker, which replaces the docker command",
            "Docker itself",
            f"`apt-get remove podman-docker`, {LEAVE_OUT}",
        )
    if state.swarm:
        yield Finding(
            "Swarm is active",
            "no Swarm: when Docker stops, its tasks move to other nodes, and live-restore does not work with it",
            f"`docker swarm leave` if the cluster does not need this node, {LEAVE_OUT}",
        )
    if state.kubernetes:
        yield Finding(
            f"directories of Kubernetes: {', '.join(state.kubernetes)}",
            "a host with Docker alone: the volume would hide the kubelet's containers and images in containerd",
            f"remove them if Kubernetes is gone, {LEAVE_OUT}",
        )
    if state.containerd_namespaces:
        yield Finding(
            f"other programs use containerd, in the namespaces {', '.join(state.containerd_namespaces)}",
            "Docker's own namespaces alone: the volume would hide the containers and images of the others",
            f"stop and remove these programs (`ctr namespaces ls`), {LEAVE_OUT}",
        )
    yield from _judge_storage_driver(state)
    if state.systemd:
        yield from _judge_units(settings, state)
    yield from judge_daemon_json(settings, state, containerd_store=uses_containerd_store(state))
    yield from _judge_flags(state)
    yield from _judge_packages(settings, state)
    yield from _judge_obstacles(settings, state)
    yield from _judge_repository(settings, state)


def judge_silence(state: HostState, storage: Storage) -> Iterator[Finding]:
    """Yield that Docker hangs, where a store would be mounted over what Docker has there."""
    if state.docker_hangs and not _stores_are_mounted(storage):
        yield Finding(
            _SILENCE,
            "Docker's answer: without it nobody can tell what Docker holds, and where",
            f"run again when the host is less busy; if `docker info` never answers, `journalctl -u {DOCKER}` may say why, and "
            f"`systemctl restart {DOCKER}` may help (without live-restore it stops every container, and starts only those "
            "with a restart policy)",
        )


def silence_warnings(state: HostState, storage: Storage) -> Iterator[str]:
    """Yield that Docker hangs, where its stores are mounted: a full volume is one cause, and the run may make it larger."""
    if state.docker_hangs and _stores_are_mounted(storage):
        yield f"{_SILENCE}: if its volume is full, a larger volume_size helps; if not, `journalctl -u {DOCKER}` may say why"


def _stores_are_mounted(storage: Storage) -> bool:
    return all(storage.mount(path) for path in STORES.values())


def _judge_storage_driver(state: HostState) -> Iterator[Finding]:
    # With containerd's store, Docker shows the name of a snapshotter here.
    if not state.containerd_store and state.storage_driver not in ("", "overlay2"):
        yield Finding(
            f"Docker's storage driver is {state.storage_driver}",
            HIDES_IMAGES,
            CHANGE_DRIVER,
        )


def _judge_units(settings: Settings, state: HostState) -> Iterator[Finding]:
    masked = [unit.name for unit in state.units if unit.load_state == "masked"]
    if masked:
        yield Finding(
            f"{', '.join(masked)} {'is' if len(masked) == 1 else 'are'} masked",
            "units that systemd can start",
            f"`systemctl unmask {' '.join(masked)}` if Docker is wanted here, {LEAVE_OUT}",
        )
    elif engine_to_install(settings, state) == "present":
        missing = [name for name in (DOCKER, CONTAINERD) if state.unit(name).load_state != "loaded"]
        if missing:
            yield Finding(
                f"there is no {' and no '.join(missing)}" + (f", but {state.dockerd}" if state.dockerd else ""),
                "an installed Docker with its units, because engine_source installs nothing here",
                'install Docker completely, or set engine_source to "docker-ce" or "distro"',
            )


def _judge_flags(state: HostState) -> Iterator[Finding]:
    """Yield what somebody else has set for the daemons beside daemon.json, and that cannot stay."""
    if posixpath.normpath(state.containerd_root or CONTAINERD_STORE) != CONTAINERD_STORE:
        yield Finding(
            f"containerd's root is {state.containerd_root}",
            f"the default, {CONTAINERD_STORE}, where the volume is mounted",
            "stop containerd, move its data to the default path and remove root from /etc/containerd/config.toml and the "
            f"files that it imports, {LEAVE_OUT}",
        )
    for daemon, flags in (("dockerd", _docker_flags(state)), ("containerd", _flags(state, CONTAINERD))):
        if flags:
            yield Finding(
                f"{daemon} starts with extra flags: {flags}",
                "no extra flags: they can move data elsewhere, and Docker does not start when one repeats a key of "
                f"{DAEMON_JSON}",
                "remove them from the unit, its drop-ins and /etc/default/docker; set those that Docker still needs in "
                "the setting daemon_json",
            )


def _flags(state: HostState, unit: str) -> str:
    """Return the flags of a unit's command line that no distribution's unit has."""
    _, _, arguments = state.unit(unit).exec_start.partition(" ")
    return " ".join(_USUAL_FLAGS.sub("", arguments).split())


def _docker_flags(state: HostState) -> str:
    unit = state.unit(DOCKER)
    # Docker's own unit does not read /etc/default/docker; Debian's, which may yet be installed, does.
    options_count = unit.load_state != "loaded" or "$DOCKER_OPTS" in unit.exec_start
    options = _USUAL_FLAGS.sub("", state.docker_options) if options_count else ""
    return " ".join([*_flags(state, DOCKER).split(), *options.split()])


def engine_to_install(settings: Settings, state: HostState) -> str:
    """Return the engine that engine_source means on this host: docker-ce, distro or present."""
    if settings.engine_source != "auto":
        return settings.engine_source
    # An installation that this project began is finished, however far it came.
    begun = state.engine == "docker-ce" and DOCKER_SOURCE in state.docker_sources
    return "docker-ce" if begun or not state.engine else "present"


def _judge_packages(settings: Settings, state: HostState) -> Iterator[Finding]:
    wanted = engine_to_install(settings, state)
    if wanted == "present":
        return
    if state.engine not in ("", wanted):
        installed = state.engine if state.engine != "unknown" else f"{state.dockerd}, from no package that we know,"
        if not settings.engine_change:
            yield Finding(
                f"the engine {installed} is installed",
                f'{wanted}, as engine_source asks, or engine_source = "auto", which keeps what is installed',
                "set engine_change = True, which replaces the engine where Docker holds no data",
            )
        elif state.engine == "unknown":
            yield Finding(
                f"the engine {installed} is installed",
                "an engine from packages, which apt can replace",
                'remove it in the way it was installed, or set engine_source to "present"',
            )
        elif state.docker_data.any or state.containerd_data.any:
            yield Finding(
                f"the engine {installed} is installed, and holds {state.docker_data}; containerd: {state.containerd_data}",
                "no data on a host whose engine changes",
                "save what you need and remove it (`docker system prune -a`, `docker volume rm`), or keep the engine: "
                'engine_source = "auto"',
            )
    elif newer := [
        state.packages[name]
        for name in ENGINE_PINNED[wanted]
        if settings.engine_version and is_newer(state.packages.get(name, ""), settings.engine_version)
    ]:
        yield Finding(
            f"the engine {newer[0]} is installed, and engine_version is {settings.engine_version}",
            "at most engine_version: this project upgrades an engine and never downgrades it",
            "set engine_version to the installed version, or leave it empty",
        )
    elif upgrade := _upgrade_that_stops_containers(settings, state):
        yield Finding(
            f"containers run ({state.containers_running}), and {upgrade}",
            "no running containers, or an upgrade to a patch release with live_restore: any other upgrade stops them",
            "set engine_upgrade_stops_containers = True, which stops them for the upgrade and starts them again (those with "
            "--rm do not come back)",
        )


def _judge_obstacles(settings: Settings, state: HostState) -> Iterator[Finding]:
    """Yield packages that cannot stay beside the engine. Where the engine itself changes, `_judge_packages` does."""
    wanted = engine_to_install(settings, state)
    found = obstacles(wanted, state.packages)
    if not found or state.engine not in ("", wanted):
        return
    names = f"{' and '.join(found)} {'is' if len(found) == 1 else 'are'} installed"
    needed = f"none of them: they cannot stay beside {wanted}"
    if settings.engine_change:
        if state.docker_data.any or state.containerd_data.any:
            yield Finding(
                f"{names}, Docker holds {state.docker_data}, and containerd {state.containerd_data}",
                f"{needed}, and engine_change removes them only where there is no data",
                f"save what you need and remove it, {LEAVE_OUT}",
            )
        return
    if state.engine:
        instead = 'engine_source = "present", which installs no package of Docker'
    else:
        instead = f'engine_source = "{"distro" if wanted == "docker-ce" else "docker-ce"}", which works with them'
    removal = f'engine_source = "{wanted}" and engine_change = True, which removes them'
    yield Finding(names, needed, f"set {instead}; or set {removal}")


def _judge_repository(settings: Settings, state: HostState) -> Iterator[Finding]:
    foreign = [path for path in state.docker_sources if path != DOCKER_SOURCE]
    if foreign and engine_to_install(settings, state) == "docker-ce":
        yield Finding(
            f"the apt repository {settings.docker_repository} is listed in {', '.join(foreign)}",
            f"one entry for it, {DOCKER_SOURCE}: apt refuses two entries that name different keys",
            f'remove {", ".join(foreign)}, or set engine_source to "present" and install Docker yourself',
        )


def _upgrade_that_stops_containers(settings: Settings, state: HostState) -> str:
    """Return the upgrade that running containers would not survive, in words; empty: none, or one with permission."""
    pin = settings.engine_version
    # Docker's client and its plugins have versions of their own.
    version = state.packages.get("docker-ce") or state.packages.get("docker.io", "")
    if not state.containers_running or is_survived(version, pin, live_restore=settings.live_restore):
        return ""
    # An upgrade that was cut goes on: the containers that it has stopped start after it.
    if settings.engine_upgrade_stops_containers or state.stopped_by_upgrade:
        return ""
    return f"engine_version upgrades the engine from {version} to {pin}"


def has_data_off_the_volume(state: HostState, storage: Storage) -> bool:
    """Return whether Docker holds data that a mount of the volume would hide."""
    stores = ((DOCKER_STORE, state.docker_data), (CONTAINERD_STORE, state.containerd_data))
    return any(data.any and storage.mount(path) is None for path, data in stores)


def uses_containerd_store(state: HostState) -> bool:
    """Return whether the engine's images are in containerd's store, where they stay.

    A running daemon with data shows it; otherwise its configuration and the contents of the stores do. An unused engine
    that chose containerd's store by itself (Docker 29 does) has no images there that a change would hide.
    """
    if state.storage_driver and (state.docker_data.any or state.containerd_data.any):
        return state.containerd_store
    features = readable_keys(state.daemon_json).get("features", {})
    if "containerd-snapshotter" in features:
        return features["containerd-snapshotter"] is True
    return bool(state.containerd_data.images) and not state.docker_data.images
