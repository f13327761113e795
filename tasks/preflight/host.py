"""A host as preflight finds it: the system, its Docker, and what others have set there."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class EngineData:
    """The contents of a store, counted from its directories, whether the engine runs or not."""

    images: int = 0
    containers: int = 0
    volumes: int = 0  # named and anonymous
    layers: int = 0  # of images, containers and build cache
    networks: int = 0  # beyond bridge, host and none
    plugins: int = 0

    @property
    def any(self) -> bool:
        """Return whether the store holds anything."""
        return any(vars(self).values())

    def __str__(self) -> str:
        counts = vars(self).items()
        return ", ".join(f"{count} {name if count > 1 else name[:-1]}" for name, count in counts if count) or "nothing"


@dataclass(frozen=True)
class Unit:
    """A systemd unit, from ``systemctl show``."""

    name: str
    load_state: str = "not-found"  # loaded, not-found, masked …
    exec_start: str = ""  # the command line, its variables unexpanded


@dataclass(frozen=True)
class MountUnit:
    """What systemd has for a mount point, from ``systemctl show``."""

    name: str
    load_state: str  # loaded, not-found, masked …
    file: str = ""  # the unit's; empty for a mount that was made by hand, and where there is none
    source: str = ""  # what a generator made that file from: /etc/fstab
    drop_ins: tuple[str, ...] = ()  # files that change what the unit mounts


@dataclass(frozen=True)
class Container:
    """A container of a host whose data may move."""

    name: str
    status: str  # running, paused, exited, created …
    image: str  # its identifier
    idle_hours: float  # since it stopped; since it was made if it never ran
    has_restart_policy: bool
    is_kept: bool  # by the label bulkhead.keep


@dataclass(frozen=True)
class DirectoryToMove:
    """A directory that gets a volume of its own, and has none yet."""

    path: str
    bytes: int
    inodes: int
    users: tuple[str, ...] = ()  # processes that use it, in words, without those of our own login


@dataclass(frozen=True)
class HostState:
    """The facts of one host, from one command."""

    uid: int
    os_id: str  # debian, ubuntu
    os_version: str  # VERSION_ID; empty on Debian testing and sid
    os_codename: str
    architecture: str  # dpkg's name: amd64, arm64
    systemd: bool  # is PID 1
    packages: dict[str, str] = field(default_factory=dict)  # name → version; half-installed ones too
    unfinished_packages: tuple[str, ...] = ()  # half-installed, unpacked, half-configured …
    offered: tuple[str, ...] = ()  # that apt could install, of those that only some releases have
    dockerd: str = ""  # path of the program, from whatever package
    snap_docker: bool = False
    rootless_docker: tuple[str, ...] = ()  # users
    swarm: bool = False  # active, or joined when the daemon ran last
    kubernetes: tuple[str, ...] = ()  # its directories on the host
    containerd_namespaces: tuple[str, ...] = ()  # beside Docker's own
    storage_driver: str = ""  # of the running daemon; empty when it does not run
    containerd_store: bool = False  # the running daemon keeps images in containerd
    data_root: str = ""  # of the running daemon
    docker_hangs: bool = False  # docker.service is active, and the daemon does not answer
    containers_running: int = 0
    containers: tuple[Container, ...] = ()  # running or not; empty where Docker's data is on a volume already
    dangling_images: tuple[str, ...] = ()  # identifiers; the same
    stopped_by_upgrade: bool = False  # an upgrade of the engine was cut, and has containers stopped
    units: tuple[Unit, ...] = ()  # docker.service, docker.socket, containerd.service
    mount_units: tuple[MountUnit, ...] = ()  # of the volumes' mount points and the stores
    fails_closed: bool = False  # our drop-ins keep Docker from starting without the volume
    # Docker's volume in the program's configuration: its mapper path; of an adopted filesystem its name in fstab, often
    # UUID=…; empty without one.
    configured_volume: str = ""
    configured_options: tuple[str, ...] = ()  # of its line of fstab, if it is an adopted filesystem
    configured_file: bool = False  # that volume is on the file that is Docker's disk, likewise
    configured_extra_volumes: dict[str, str] = field(default_factory=dict)  # mount point → mapper path, likewise
    docker_options: str = ""  # DOCKER_OPTS of /etc/default/docker
    docker_data: EngineData = EngineData()  # in /var/lib/docker as it is mounted now
    containerd_data: EngineData = EngineData()
    containerd_root: str = ""  # `root` in containerd's configuration and its imports; empty: the default
    store_bytes: int = 0  # of the stores that are not mounted
    store_inodes: int = 0
    # Docker's volumes with their data elsewhere, which Docker itself mounts (`--opt device=…`).
    device_volumes: tuple[str, ...] = ()
    places: tuple[DirectoryToMove, ...] = ()
    moves: dict[str, str] = field(default_factory=dict)  # journal of an extra volume's move → its phase
    relocation: str = ""  # the phase in the journal of the move of Docker's data
    rollback: str = ""  # the phase in the journal of a rollback to a snapshot
    relocation_under_way: bool = False
    daemon_json: str = ""  # the file's text; empty where there is none
    daemon_json_applied: str = ""  # the keys of it that this project wrote
    daemon_json_obstacle: str = ""  # why the file cannot be replaced, in words
    machine: str = ""  # what tells it from a copy of its root disk (tasks.support.machine); empty where nothing does
    has_boot_unit: bool = False  # a boot that finds Docker's disks blank makes its volume on them anew
    journal_bytes: int = 0  # of the system's journal, before the first run
    docker_sources: tuple[str, ...] = ()  # apt's files that name Docker's repository, and always our own
    gpus: tuple[str, ...] = ()  # PCI addresses of NVIDIA's GPUs, without those of virtual machines
    gpu_driver: str = ""  # NVIDIA's: loaded, installed, or empty
    toolkit: str = ""  # path of NVIDIA's container runtime, from whatever package
    toolkit_is_ours: bool = False  # this project has installed NVIDIA's container toolkit, or has begun to
    toolkit_sources: tuple[str, ...] = ()  # apt's files that name the toolkit's repository, without our own
    nvidia_containers: tuple[str, ...] = ()  # that need the toolkit, running or not; empty where it is not ours

    def unit(self, name: str) -> Unit:
        """Return the unit of that name, "not-found" where there is none."""
        return next((u for u in self.units if u.name == name), Unit(name))

    def place(self, path: str) -> DirectoryToMove | None:
        """Return a directory that gets a volume of its own; None where it has one or does not exist."""
        return next((place for place in self.places if place.path == path), None)

    @property
    def engine(self) -> str:
        """Return the installed engine: docker-ce, distro, unknown (from no package that we know), or empty."""
        if "docker-ce" in self.packages:
            return "docker-ce"
        if "docker.io" in self.packages:
            return "distro"
        return "unknown" if self.dockerd else ""
