"""A virtual machine of the lab: its disks, its QEMU, its ssh."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lab import cache, qemu
from lab.image import Recipe, image
from lab.progress import step

BOOT_TIMEOUT = 300  # seconds; 45 are usual without KVM
BOOTED = "booted"  # the snapshot in an image that was booted once


class LabError(Exception):
    """A message for the user of the lab."""


@dataclass
class Machine:
    """One virtual machine. ``machine.json`` in its directory is what is known of it between two commands."""

    name: str
    recipe: Recipe | None  # None: a cloud image
    disks: dict[str, str]  # serial number → file
    ssh_port: int
    settings: dict[str, Any] = field(default_factory=dict)  # for the inventory
    pulled: list[str] = field(default_factory=list)  # serial numbers of disks that are out of the machine
    pid: int = 0
    memory: str = "2G"
    cpus: int = 2

    # -- making, finding, removing

    @classmethod
    def create(
        cls,
        name: str,
        *,
        suite: str = "bookworm",
        layout: str = "shared-vg",
        docker: str = "absent",
        settings: dict[str, Any] | None = None,
    ) -> Machine:
        """A running machine from an image that was booted before: seconds instead of a boot.

        Raises:
            LabError: there is a machine of that name.
        """
        recipe = Recipe(suite, layout, docker)
        booted = _booted(recipe)
        machine = cls._new(name, recipe, booted, settings or {})
        try:
            machine._start(load=BOOTED)
            machine._set_clock()
        except BaseException:
            machine.destroy()
            raise
        return machine

    @classmethod
    def from_cloud_image(
        cls, name: str, base: Path, *, settings: dict[str, Any], memory: str = "2G", cpus: int = 2
    ) -> Machine:
        """A machine from a cloud image of any distribution, with a blank second disk; cloud-init lets our key in.

        Raises:
            LabError: there is a machine of that name, or no such image.
        """
        if not base.is_file():
            raise LabError(f"{base}: no such file. --image wants a cloud image in qcow2 or raw format.")
        machine = cls(name, None, {}, _free_port(), settings, memory=memory, cpus=cpus)
        machine._claim()
        for serial, arguments in {
            "root": ["-b", str(base.resolve()), "-F", _format(base), "{}", "100G"],
            "spare": ["{}", "20G"],
        }.items():
            path = str(machine.directory / f"{serial}.qcow2")
            subprocess.run(
                ["qemu-img", "create", "-q", "-f", "qcow2", *(a.replace("{}", path) for a in arguments)], check=True
            )
            machine.disks[serial] = path
        _seed(machine.directory, cache.ssh_key().with_suffix(".pub").read_text().strip())
        machine.boot()
        return machine

    @classmethod
    def _new(cls, name: str, recipe: Recipe, source: Path, settings: dict[str, Any]) -> Machine:
        machine = cls(name, recipe, {}, _free_port(), inventory_settings(recipe) | settings)
        machine._claim()
        for disk in sorted(source.glob("*.qcow2"), key=lambda path: ("root", "spare", "decoy").index(path.stem)):
            copy = machine.directory / disk.name
            subprocess.run(["cp", "--sparse=always", "--reflink=auto", disk, copy], check=True)
            machine.disks[disk.stem] = str(copy)
        machine.save()
        return machine

    def _claim(self) -> None:
        if self.name in {machine.name for machine in Machine.all()}:
            raise LabError(f"there is a machine {self.name!r} already: scripts/lab down {self.name}, or another name")
        self.directory.mkdir(parents=True)

    @classmethod
    def get(cls, name: str) -> Machine:
        """The machine of that name.

        Raises:
            LabError: there is none.
        """
        try:
            known = json.loads((cache.machines() / name / "machine.json").read_text())
        except FileNotFoundError:
            raise LabError(f"there is no machine {name!r}: scripts/lab up {name} makes it") from None
        return cls(**known | {"recipe": Recipe(**known["recipe"]) if known["recipe"] else None})

    @classmethod
    def all(cls) -> list[Machine]:
        return [cls.get(path.parent.name) for path in sorted(cache.machines().glob("*/machine.json"))]

    def destroy(self) -> None:
        """Stop it and remove its disks."""
        self.cut()
        shutil.rmtree(self.directory)

    @property
    def directory(self) -> Path:
        return cache.machines() / self.name

    def save(self) -> None:
        """Keep what is known of the machine; the inventory reads it."""
        aside = self.directory / "machine.json.new"
        aside.write_text(json.dumps(asdict(self), indent=4) + "\n")
        aside.rename(self.directory / "machine.json")

    # -- power

    @property
    def running(self) -> bool:
        """Whether its QEMU runs: the process of that number is asked for its command line, numbers come round again."""
        try:
            return str(self.directory).encode() in Path(f"/proc/{self.pid}/cmdline").read_bytes()
        except FileNotFoundError:
            return False

    def boot(self) -> None:
        """Boot from the disks as they stand, and wait for ssh.

        Raises:
            LabError: ssh does not answer in time.
        """
        if not self.running:
            self._start()
        self._wait_for_ssh()

    def _start(self, load: str | None = None) -> None:
        kernel = None
        if self.recipe:
            kernel = image(self.recipe)
        pidfile = self.directory / "pid"
        pidfile.unlink(missing_ok=True)
        extra = ["-daemonize", "-pidfile", str(pidfile), "-monitor", f"unix:{self._monitor},server=on,wait=off"]
        if load:
            extra += ["-loadvm", load]
        if not self.recipe:
            extra += ["-drive", f"if=virtio,format=raw,readonly=on,file={self.directory}/seed.iso"]
        disks = [qemu.Disk(serial, Path(path)) for serial, path in self.disks.items() if serial not in self.pulled]
        line = qemu.command(
            kernel=kernel,
            append=f"root={self.recipe.kernel_root} ro" if self.recipe else "",
            disks=disks,
            console=self.directory / "console.log",
            network=self.ssh_port,
            memory=self.memory,
            cpus=self.cpus,
            extra=extra,
        )
        subprocess.run(line, check=True, stdin=subprocess.DEVNULL)
        self.pid = int(pidfile.read_text())
        self.save()

    def cut(self) -> None:
        """Pull the power: whatever the guest had not flushed is lost."""
        self._disconnect()
        if self.running:
            os.kill(self.pid, signal.SIGKILL)
            # Its locks on the disks go last, after its command line: wait until there is no such process.
            deadline = time.monotonic() + 10
            while Path(f"/proc/{self.pid}").exists() and time.monotonic() < deadline:
                time.sleep(0.05)

    def shut_down(self) -> None:
        """Power off in good order; pull the power where that takes more than a minute."""
        if self.running:
            self.run("systemctl poweroff", check=False, timeout=30)
            deadline = time.monotonic() + 60
            while self.running and time.monotonic() < deadline:
                time.sleep(0.2)
        self.cut()

    def reboot(self) -> None:
        """Shut down in good order and boot."""
        self.shut_down()
        self.boot()

    # -- snapshots

    @property
    def _monitor(self) -> Path:
        # A socket's name has at most 107 bytes (unix(7)), a cache directory may be deeper.
        return Path(f"/tmp/bulkhead-lab-{os.getuid()}-{self.name}.monitor")

    def _tell_monitor(self, command: str) -> str:
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.connect(str(self._monitor))
            monitor.settimeout(300)

            def until_prompt() -> str:
                said = ""
                while not said.endswith("(qemu) "):
                    part = monitor.recv(4096).decode()
                    if not part:
                        break
                    said += part
                return said

            until_prompt()
            monitor.sendall(f"{command}\n".encode())
            answer = until_prompt()
        if "Error" in answer:
            raise LabError(f"QEMU refused {command!r}: {answer}")
        return answer

    def snapshot(self, tag: str) -> None:
        """Keep the state of disks and memory under a name.

        Raises:
            LabError: the machine does not run, or QEMU refuses.
        """
        if not self.running:
            raise LabError(f"{self.name} is not running: scripts/lab up {self.name} boots it")
        self._disconnect()
        self._tell_monitor(f"savevm {tag}")

    def restore(self, tag: str) -> None:
        """Bring back a snapshot, whether the machine runs or not.

        Raises:
            LabError: there is no such snapshot.
        """
        listing = ["qemu-img", "snapshot", "--force-share", "-l", self.disks["root"]]
        if tag not in subprocess.run(listing, check=True, capture_output=True, text=True).stdout.split():
            raise LabError(f"{self.name} has no snapshot {tag!r}")
        self._disconnect()
        if self.running and not self.pulled:
            self._tell_monitor(f"loadvm {tag}")
        else:
            self.cut()
            self.pulled = []
            self._start(load=tag)
        self._set_clock()

    def _set_clock(self) -> None:
        """The guest's clock stood still in the snapshot: apt's signatures and every timestamp need the present."""
        self._wait_for_ssh()
        self.run(f"date -s @{time.time():.0f}")

    # -- disks

    def pull_disk(self, serial: str) -> None:
        """Take a disk out, from the next boot on."""
        self.pulled.append(serial)
        self.save()

    def put_disk_back(self, serial: str) -> None:
        """Put a pulled disk back, from the next boot on."""
        self.pulled.remove(serial)
        self.save()

    # -- ssh

    def ssh_command(self, *options: str) -> list[str]:
        """The ssh command line up to the host, for a command to be added."""
        return [
            *("ssh", "-F", "none", "-i", str(cache.ssh_key()), "-p", str(self.ssh_port), "-l", "root"),
            *("-o", f"UserKnownHostsFile={self.known_hosts}", "-o", "StrictHostKeyChecking=accept-new"),
            *("-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=15", "-o", "LogLevel=ERROR"),
            *("-o", "ControlMaster=auto", "-o", f"ControlPath={self._control}", "-o", "ControlPersist=600"),
            *options,
            "127.0.0.1",
        ]

    @property
    def known_hosts(self) -> Path:
        return self.directory / "known_hosts"

    @property
    def _control(self) -> Path:
        return Path(f"/tmp/bulkhead-lab-{os.getuid()}-{self.name}.ssh")

    def _disconnect(self) -> None:
        subprocess.run([*self.ssh_command(), "-O", "exit"], capture_output=True, check=False)
        self._control.unlink(missing_ok=True)

    def run(self, command: str, *, check: bool = True, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a shell command on the machine as root.

        Raises:
            LabError: it failed and ``check`` is set; what it said is in the message.
            subprocess.TimeoutExpired: it took longer than ``timeout`` seconds.
        """
        done = subprocess.run(
            [*self.ssh_command(), command], capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL
        )
        if check and done.returncode:
            raise LabError(f"{self.name}: {command!r} exited with {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def out(self, command: str, *, timeout: float = 120) -> str:
        """What a shell command on the machine prints, without the white space around it."""
        return self.run(command, timeout=timeout).stdout.strip()

    def _wait_for_ssh(self) -> None:
        deadline = time.monotonic() + BOOT_TIMEOUT
        while time.monotonic() < deadline:
            if not self.running:
                raise LabError(f"{self.name}: QEMU has ended; its console is in {self.directory}/console.log")
            with contextlib.suppress(subprocess.TimeoutExpired):
                if self.run("true", check=False, timeout=20).returncode == 0:
                    return
            time.sleep(0.5)
        raise LabError(f"{self.name}: no ssh after {BOOT_TIMEOUT} s; its console is in {self.directory}/console.log")


def inventory_settings(recipe: Recipe) -> dict[str, Any]:
    """The settings that a machine of this recipe needs beside the defaults."""
    settings: dict[str, Any] = {"engine_source": "distro"}
    if not recipe.lvm:
        settings["volume_disks"] = ["/dev/disk/by-id/virtio-spare"]
    if recipe.suite == "sid":
        settings["allow_unsupported_release"] = True
    return settings


def _booted(recipe: Recipe) -> Path:
    """The image of a recipe with a snapshot of it booted and settled, made on first use."""
    source = image(recipe)
    booted = source.with_name(f"{source.name}-booted-{qemu.working_accelerator()}")
    with cache.locked(booted):
        if not booted.exists():
            with step(f"booting {recipe.suite} {recipe.layout} once"):
                machine = Machine._new(f"boot-{source.name}", recipe, source, {})
                try:
                    machine.boot()
                    # Degraded is as settled as running: a unit may fail in a virtual machine.
                    machine.run("systemctl is-system-running --wait || true; sync", timeout=BOOT_TIMEOUT)
                    machine.snapshot(BOOTED)
                    machine.cut()
                    aside = booted.with_suffix(".part")
                    shutil.rmtree(aside, ignore_errors=True)
                    aside.mkdir()
                    for disk in machine.disks.values():
                        shutil.move(disk, aside)
                    aside.rename(booted)
                finally:
                    machine.destroy()
    return booted


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _format(disk: Path) -> str:
    information = subprocess.run(
        ["qemu-img", "info", "--output=json", disk], check=True, capture_output=True, text=True
    ).stdout
    found: str = json.loads(information)["format"]
    return found


def seed_files(public_key: str) -> dict[str, str]:
    """cloud-init's NoCloud seed: root comes in with the lab's key."""
    return {
        "meta-data": "instance-id: docker-bulkhead-lab\nlocal-hostname: lab\n",
        "user-data": "#cloud-config\n"
        + json.dumps({"disable_root": False, "users": [{"name": "root", "ssh_authorized_keys": [public_key]}]})
        + "\n",
    }


def _seed(directory: Path, public_key: str) -> None:
    tree = directory / "seed"
    tree.mkdir()
    for name, content in seed_files(public_key).items():
        (tree / name).write_text(content)
    # cloud-init finds the seed by the label of its filesystem (docs: NoCloud).
    subprocess.run(
        ["xorrisofs", "-quiet", "-volid", "CIDATA", "-joliet", "-rock", "-output", directory / "seed.iso", tree],
        check=True,
    )


def shell_join(command: list[str]) -> str:
    """The words of a command line as one shell command, or the one word as it is: as ssh itself takes it."""
    return command[0] if len(command) == 1 else shlex.join(command)
