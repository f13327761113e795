"""What a host is before anything is changed on it: the system, its Docker, and what others have set there."""

from __future__ import annotations

from dataclasses import astuple, dataclass, field


@dataclass(frozen=True)
class EngineData:
    """What lies in a store, counted from its directories: a stopped engine is counted too."""

    images: int = 0
    containers: int = 0
    volumes: int = 0  # named and anonymous
    layers: int = 0  # of images, containers and build cache
    networks: int = 0  # beyond bridge, host and none
    plugins: int = 0

    @property
    def any(self) -> bool:
        return any(astuple(self))

    def __str__(self) -> str:
        counts = vars(self).items()
        return ", ".join(f"{count} {name if count > 1 else name[:-1]}" for name, count in counts if count) or "nothing"


@dataclass(frozen=True)
class Unit:
    """A systemd unit, as ``systemctl show`` tells it."""

    name: str
    load_state: str = "not-found"  # loaded, not-found, masked …
    exec_start: str = ""  # the command line, its variables unexpanded


@dataclass(frozen=True)
class DirectoryToMove:
    """A directory that is to be on a volume of its own, and is on none yet."""

    path: str
    bytes: int
    inodes: int
    users: tuple[str, ...] = ()  # processes that use it, in words; those of our own login are none


@dataclass(frozen=True)
class HostState:
    """One host, from one command."""

    uid: int
    os_id: str  # debian, ubuntu
    os_version: str  # VERSION_ID; empty on Debian testing and sid
    os_codename: str
    architecture: str  # dpkg's name: amd64, arm64
    systemd: bool  # is PID 1
    packages: dict[str, str] = field(default_factory=dict)  # name → version, of engines; half installed ones too
    dockerd: str = ""  # path of the program, whoever brought it
    snap_docker: bool = False
    rootless_docker: tuple[str, ...] = ()  # users
    swarm: bool = False  # active, or joined when the daemon ran last
    kubernetes: tuple[str, ...] = ()  # directories that tell of it
    containerd_namespaces: tuple[str, ...] = ()  # beside Docker's own
    storage_driver: str = ""  # of the running daemon; empty when it does not run
    containerd_store: bool = False  # the running daemon keeps images in containerd
    data_root: str = ""  # of the running daemon
    containers_running: int = 0
    stopped_by_upgrade: bool = False  # containers that an upgrade of the engine, which was cut, has stopped
    units: tuple[Unit, ...] = ()  # docker.service, docker.socket, containerd.service
    docker_options: str = ""  # DOCKER_OPTS of /etc/default/docker
    docker_data: EngineData = EngineData()  # in /var/lib/docker as it is seen
    containerd_data: EngineData = EngineData()
    containerd_root: str = ""  # `root` in /etc/containerd/config.toml; empty: the default
    store_bytes: int = 0  # that the stores take which are not mounted
    store_inodes: int = 0
    device_volumes: tuple[
        str, ...
    ] = ()  # Docker's volumes that lie elsewhere: it mounts them itself (`--opt device=…`)
    places: tuple[DirectoryToMove, ...] = ()
    moves: dict[str, str] = field(default_factory=dict)  # journal of an extra volume's move → its phase
    relocation: str = ""  # how far a move of Docker's data has come: the phase in its journal
    rollback: str = ""  # the same of a rollback to a snapshot
    relocation_under_way: bool = False
    daemon_json: str = ""  # the file's text; empty where there is none
    docker_sources: tuple[str, ...] = ()  # files of apt that name Docker's repository, and ours in any case
    gpus: tuple[str, ...] = ()  # NVIDIA's, by their PCI addresses; those of virtual machines are none
    gpu_driver: str = ""  # of NVIDIA: loaded, installed, or empty
    toolkit_is_ours: bool = False  # NVIDIA's container toolkit, or what we began of it
    toolkit_sources: tuple[str, ...] = ()  # files of apt that name its repository, but ours
    nvidia_containers: tuple[str, ...] = ()  # that need the toolkit, running or not, where it is ours

    def unit(self, name: str) -> Unit:
        return next((u for u in self.units if u.name == name), Unit(name))

    def place(self, path: str) -> DirectoryToMove | None:
        return next((place for place in self.places if place.path == path), None)

    @property
    def engine(self) -> str:
        """The engine that is there: docker-ce, distro, unknown (no package that we know brought it), or empty."""
        if "docker-ce" in self.packages:
            return "docker-ce"
        if "docker.io" in self.packages:
            return "distro"
        return "unknown" if self.dockerd else ""
