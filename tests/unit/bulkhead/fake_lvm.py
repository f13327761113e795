"""A fake volume group: what `lvs`, `lvcreate`, `lvremove`, `lvextend` and `lvconvert` do to it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from bulkhead.errors import Failed

EXTENT = 4 * 2**20


@dataclass(frozen=True)
class FakeVolume:
    """A logical volume, as lvs shows it."""

    size: int
    origin: str = ""
    percent: str = ""
    tags: str = ""
    made: int = 1000
    attributes: str = "-wi-ao----"


@dataclass
class FakeGroup:
    """ubuntu-vg with docker-lv of 60 GiB, and 20 GiB free."""

    volumes: dict[str, FakeVolume] = field(default_factory=lambda: {"docker-lv": FakeVolume(60 * 2**30)})
    size: int = 80 * 2**30
    disks: dict[str, int] = field(default_factory=dict)  # disk → bytes that are free on it, where a mirror asks
    copies: tuple[str, ...] = ()  # the disks of its copies
    commands: list[tuple[str, ...]] = field(default_factory=list)
    refuses: str = ""  # a command
    is_gone: bool = False  # with its disks
    is_held: bool = False  # somebody has the volume open when LVM would merge it

    @property
    def free(self) -> int:
        return self.size - sum(volume.size for volume in self.volumes.values())

    def add(self, name: str = "docker-lv-snapshot", tags: str = "bulkhead-snapshot", **changed: object) -> None:
        values = {"size": 10 * 2**30, "origin": "docker-lv", "percent": "3.20", "tags": tags} | changed
        self.volumes[name] = FakeVolume(**{"attributes": "swi-a-s---", **values})  # type: ignore[arg-type]

    def mount(self, name: str = "docker-lv", *, mounted: bool) -> None:
        volume = self.volumes[name]
        attributes = f"{volume.attributes[:5]}{'o' if mounted else '-'}{volume.attributes[6:]}"
        self.volumes[name] = replace(volume, attributes=attributes)

    def output_of(self, command: list[str], seconds: float) -> str:
        """Stand in for bulkhead.command.output_of."""
        del seconds
        if self.is_gone and "-a" in command:
            raise OSError('`lvs` says: Volume group "ubuntu-vg" not found')
        if command[0] == "lvs":
            return "".join(self._line(name, volume, whole="-a" not in command) for name, volume in self.volumes.items())
        if command[0] == "pvs":
            parts = {disk: f"[docker-lv_rimage_{number}]" for number, disk in enumerate(self.copies)}
            return "".join(f"  ubuntu-vg|{disk}|{free}|{parts.get(disk, '')}\n" for disk, free in self.disks.items())
        raise AssertionError(f"{command} would be killed after a while")

    def _line(self, name: str, volume: FakeVolume, *, whole: bool) -> str:
        if whole:
            layout = "raid,raid1" if volume.attributes[6] == "r" else "linear"
            fields = (self.size, self.free, name, volume.origin, volume.percent, volume.attributes, "", layout)
            return f"  ubuntu-vg|{'|'.join(map(str, fields))}\n"
        shown = f"[{name}]" if volume.attributes[0] == "S" else name
        values = (shown, volume.attributes, volume.size, volume.origin, volume.percent, volume.tags, volume.made)
        return f"  {'|'.join(map(str, values))}\n"

    def run(self, *command: str, **_: object) -> str:
        """Stand in for bulkhead.command.run."""
        self.commands.append(command)
        if command[0] == self.refuses:
            raise Failed(f"`{command[0]}` failed: no")
        if command[0] == "lvremove":
            assert command[1] == "--yes"
            tags, _, origin = command[3].partition(" && origin=")
            assert tags == "lv_tags={bulkhead-snapshot}"
            name = command[-1].removeprefix("ubuntu-vg/")
            if (volume := self.volumes[name]).tags == "bulkhead-snapshot" and volume.origin == origin.strip('"'):
                del self.volumes[name]
        elif command[0] == "lvcreate":
            self.add(command[4], command[6], size=int(command[8].removesuffix("b")), percent="0.00")
        elif command[0] == "lvextend":
            size = -(-int(command[2].removeprefix("+").removesuffix("b")) // EXTENT) * EXTENT
            assert size <= self.free
            self.volumes["docker-lv"] = replace(volume := self.volumes["docker-lv"], size=volume.size + size)
        elif command[:2] == ("lvconvert", "--merge"):
            name = command[-1].removeprefix("ubuntu-vg/")
            for changed in (name, "docker-lv"):
                first = {"s": "S", "-": "O"}[self.volumes[changed].attributes[0]]
                attributes = first + self.volumes[changed].attributes[1:]
                self.volumes[changed] = replace(self.volumes[changed], attributes=attributes)
            self._merge()
        elif command[:2] == ("lvchange", "--refresh"):
            self._merge()
        return ""

    def _merge(self) -> None:
        """Begin the merge, which LVM does at once if nobody has the volume open."""
        merging = [volume for volume in self.volumes.values() if volume.attributes[0] in "OS"]
        if not self.is_held and all(volume.attributes[5] != "o" for volume in merging):
            self.volumes["docker-lv"] = replace(self.volumes["docker-lv"], percent="40.00")

    def activate(self) -> None:
        """Do what LVM does at boot."""
        if self.volumes["docker-lv"].attributes[0] == "O" and not self.is_held:
            self.volumes["docker-lv"] = replace(self.volumes["docker-lv"], percent="40.00")

    def end_merge(self) -> None:
        self.volumes = {"docker-lv": FakeVolume(self.volumes["docker-lv"].size)}
