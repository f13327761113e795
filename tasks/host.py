"""What a host is before anything is changed on it: the system, its Docker, and what others have set there."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class EngineData:
    """What lies in the two stores, counted from the directories themselves: a stopped engine is counted too."""

    images: int = 0
    containers: int = 0
    volumes: int = 0  # named and anonymous
    layers: int = 0  # of images, containers and build cache
    networks: int = 0  # beyond bridge, host and none
    plugins: int = 0

    @property
    def any(self) -> bool:
        return bool(self.images or self.containers or self.volumes or self.layers or self.networks or self.plugins)


@dataclass(frozen=True)
class Unit:
    """A systemd unit, as ``systemctl show`` tells it."""

    name: str
    load_state: str = "not-found"  # loaded, not-found, masked …
    active_state: str = "inactive"
    enabled: str = ""  # UnitFileState
    main_pid: int = 0
    needs_reload: bool = False  # its file, a drop-in or fstab changed after systemd read it
    exec_start: str = ""  # the command line
    drop_ins: tuple[str, ...] = ()


@dataclass(frozen=True)
class HostState:
    """One host, from one command."""

    uid: int
    os_id: str  # debian, ubuntu
    os_version: str  # VERSION_ID; empty on Debian testing and sid
    os_codename: str
    architecture: str  # dpkg's name: amd64, arm64
    systemd: bool  # is PID 1
    packages: dict[str, str] = field(default_factory=dict)  # name → version: installed and configured, of those that matter
    broken_packages: tuple[str, ...] = ()  # half installed or not configured, as a cut in apt leaves them
    docker_candidates: dict[str, str] = field(default_factory=dict)  # unused by preflight: apt's candidate versions
    snap_docker: bool = False
    rootless_docker: tuple[str, ...] = ()  # users
    podman_docker: bool = False
    swarm: bool = False  # active, or joined while the daemon was down
    kubernetes: tuple[str, ...] = ()  # what was found: a process, a directory
    containerd_namespaces: tuple[str, ...] = ()  # other than moby
    storage_driver: str = ""  # of the running daemon; empty when it does not run
    containerd_store: bool = False  # the running daemon keeps images in containerd
    docker_version: str = ""  # dockerd --version: known also when it does not run
    data_root: str = ""  # of the running daemon
    units: tuple[Unit, ...] = ()  # docker.service, docker.socket, containerd.service
    docker_data: EngineData = EngineData()  # beneath /var/lib/docker, what is seen there now
    containerd_data: EngineData = EngineData()
    containerd_root: str = ""  # `root` in /etc/containerd/config.toml; empty: the default
    daemon_json: str | None = None  # /etc/docker/daemon.json; None: absent
    daemon_json_applied: str | None = None  # the copy of what was last applied with success
    daemon_json_pending: bool = False  # a replacement was begun and not finished
    drop_ins: dict[str, str] = field(default_factory=dict)  # path → content, of the drop-ins of this project
    volume_marker: bool = False  # the marker file on the mounted volume
    lock_holder: str = ""  # who holds the run lock, in words; empty: nobody, or this connection
    apt_sources: dict[str, str] = field(default_factory=dict)  # path → sha256, of this project's source and key

    def unit(self, name: str) -> Unit:
        return next((u for u in self.units if u.name == name), Unit(name))
