"""A virtual machine of the lab: its disks, its QEMU, its ssh."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import select
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lab import LabError, cache, qemu
from lab.image import Recipe, image
from lab.progress import step

BOOT_TIMEOUT = 300  # seconds; 45 are usual without KVM
FIRST_BOOT_TIMEOUT = 1200  # of a cloud image: cloud-init and what the image does once, emulated
BOOTED = "booted"  # the snapshot in an image that was booted once
_MAKING = "making-"  # the name of a machine that is on its way to become an image begins so


@dataclass
class Machine:
    """One virtual machine. ``machine.json`` in its directory is what is known of it between two commands."""

    name: str
    recipe: Recipe | None  # None: a cloud image
    disks: dict[str, str]  # serial number → file
    ssh_port: int
    settings: dict[str, Any] = field(default_factory=dict)  # for the inventory
    pulled: list[str] = field(default_factory=list)  # serial numbers of disks that are out of the machine
    accelerator: str = "tcg"  # for good: a snapshot can be loaded under no other
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
        accelerator: str | None = None,
    ) -> Machine:
        """A running machine from an image that was booted before: seconds instead of a boot.

        Args:
            settings: for the inventory, beside those that the recipe brings.
            accelerator: kvm or tcg; by default what works here.

        Raises:
            LabError: there is a machine of that name, or the image cannot be made.
        """
        recipe = Recipe(suite, layout, docker)
        source = image(recipe)
        accelerator = accelerator or qemu.working_accelerator()
        booted = _booted(recipe, source, accelerator)
        settings = inventory_settings(recipe) | (settings or {})
        machine = cls(name, recipe, {}, _free_port(), settings, accelerator=accelerator)
        with machine._claimed():
            machine._copy_disks(booted)
            machine._start(load=BOOTED)
            machine._set_clock()
        return machine

    @classmethod
    def from_cloud_image(
        cls,
        name: str,
        base: Path,
        *,
        settings: dict[str, Any],
        accelerator: str | None = None,
        memory: str = "2G",
        cpus: int = 2,
    ) -> Machine:
        """A machine from a cloud image of any distribution, with a blank second disk; cloud-init lets our key in.

        Raises:
            LabError: there is a machine of that name, no such image, or ssh does not answer in time.
        """
        if not base.is_file():
            raise LabError(f"{base}: no such file. --image wants a cloud image in qcow2 or raw format.")
        accelerator = accelerator or qemu.working_accelerator()
        settings = inventory_settings(None) | settings
        machine = cls(name, None, {}, _free_port(), settings, accelerator=accelerator, memory=memory, cpus=cpus)
        with machine._claimed():
            for serial, arguments in {
                "root": ["-b", str(base.resolve()), "-F", _information(base)["format"], "{}", "100G"],
                "spare": ["{}", "20G"],
            }.items():
                path = str(machine.directory / f"{serial}.qcow2")
                subprocess.run(
                    ["qemu-img", "create", "-q", "-f", "qcow2", *(a.replace("{}", path) for a in arguments)], check=True
                )
                machine.disks[serial] = path
            _seed(machine.directory, cache.ssh_key().with_suffix(".pub").read_text().strip())
            machine.save()
            machine._start()
            machine._wait_for_ssh(FIRST_BOOT_TIMEOUT)
            # ssh is there long before cloud-init has ended, which uses apt and may reboot the host.
            machine.run("cloud-init status --wait || true", timeout=FIRST_BOOT_TIMEOUT)
        return machine

    @contextlib.contextmanager
    def _claimed(self) -> Iterator[None]:
        """Take the name; give it back, with all that was made, if the block that makes the machine fails."""
        if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", self.name):
            raise LabError(f"{self.name!r} is no name for a machine: lower-case letters, digits, dots and dashes")
        try:
            self.directory.mkdir(parents=True)
        except FileExistsError:
            raise LabError(
                f"there is a machine {self.name!r} already: scripts/lab down {self.name}, or another name"
            ) from None
        self.save()
        try:
            yield
        except BaseException:
            self.destroy()
            raise

    def _copy_disks(self, source: Path) -> None:
        for disk in sorted(source.glob("*.qcow2"), key=lambda path: ("root", "spare", "decoy").index(path.stem)):
            copy = self.directory / disk.name
            subprocess.run(["cp", "--sparse=always", "--reflink=auto", disk, copy], check=True)
            self.disks[disk.stem] = str(copy)
        self.save()

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
        found = []
        for path in sorted(cache.machines().glob("*/machine.json")):
            with contextlib.suppress(LabError):  # somebody else has removed it since
                found.append(cls.get(path.parent.name))
        return found

    def destroy(self) -> None:
        """Stop it and remove its disks."""
        self.cut()
        self._monitor.unlink(missing_ok=True)
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
    def _pidfile(self) -> Path:
        return self.directory / "pid"

    @property
    def pid(self) -> int | None:
        """The number of its QEMU, if that runs.

        QEMU's own pidfile is asked, which is there before anything else can go wrong, and then the process for its
        command line: numbers come round again.
        """
        try:
            pid = int(self._pidfile.read_text())
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError, ValueError):
            return None
        return pid if os.fsencode(self._pidfile) in words else None

    @property
    def running(self) -> bool:
        return self.pid is not None

    @property
    def up(self) -> bool:
        """Whether it runs as a host of the lab, not on its way to become an image."""
        return self.running and not self.name.startswith(_MAKING)

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
        self._pidfile.unlink(missing_ok=True)
        extra = ["-daemonize", "-pidfile", str(self._pidfile), "-monitor", f"unix:{self._monitor},server=on,wait=off"]
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
            accelerator=self.accelerator,
            extra=extra,
        )
        subprocess.run(line, check=True, stdin=subprocess.DEVNULL)

    def cut(self) -> None:
        """Pull the power: whatever the guest had not flushed is lost."""
        self._disconnect()
        with self._process() as process:
            if process is not None:
                signal.pidfd_send_signal(process, signal.SIGKILL)
                _wait_for_end(process, 10)

    def shut_down(self) -> None:
        """Power off in good order; pull the power where that takes more than a minute."""
        with self._process() as process:
            if process is not None:
                self.run("systemctl poweroff", check=False, timeout=30)
                _wait_for_end(process, 60)
        self.cut()

    @contextlib.contextmanager
    def _process(self) -> Iterator[int | None]:
        """A pidfd of its QEMU, if that runs."""
        process = None
        if (pid := self.pid) is not None:
            with contextlib.suppress(ProcessLookupError):
                process = os.pidfd_open(pid)
        try:
            yield process
        finally:
            if process is not None:
                os.close(process)

    def reboot(self) -> None:
        """Shut down in good order and boot."""
        self.shut_down()
        self.boot()

    # -- snapshots

    @property
    def _monitor(self) -> Path:
        return self._socket("monitor")

    def _socket(self, purpose: str) -> Path:
        # A socket's name has at most 107 bytes (unix(7)), a cache directory may be deeper; and two caches may each have
        # a machine of this name, which must not be taken for each other.
        return Path(f"/tmp/bulkhead-lab-{hashlib.sha256(os.fsencode(self.directory)).hexdigest()[:16]}.{purpose}")

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
        if tag not in (snapshot["name"] for snapshot in _information(Path(self.disks["root"])).get("snapshots", [])):
            raise LabError(f"{self.name} has no snapshot {tag!r}")
        self._disconnect()
        if self.running and not self.pulled:
            self._tell_monitor(f"loadvm {tag}")
        else:
            self.cut()
            self.pulled = []
            self.save()
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

    def ssh_command(self, *options: str, user: str = "") -> list[str]:
        """The ssh command line up to the host, for a command to be added.

        Args:
            user: who logs in, by a connection of its own; without one it is root, by the connection that all share.
        """
        shared = ("-o", "ControlMaster=auto", "-o", f"ControlPath={self._control}", "-o", "ControlPersist=600")
        return [
            *("ssh", "-F", "none", "-i", str(cache.ssh_key()), "-p", str(self.ssh_port), "-l", user or "root"),
            *("-o", f"UserKnownHostsFile={self.known_hosts}", "-o", "StrictHostKeyChecking=accept-new"),
            *("-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=15", "-o", "LogLevel=ERROR"),
            *(() if user else shared),
            *options,
            "127.0.0.1",
        ]

    @property
    def known_hosts(self) -> Path:
        return self.directory / "known_hosts"

    @property
    def _control(self) -> Path:
        return self._socket("ssh")

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

    def _wait_for_ssh(self, seconds: float = BOOT_TIMEOUT) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not self.running:
                raise LabError(f"{self.name}: QEMU has ended{self._console_said()}")
            with contextlib.suppress(subprocess.TimeoutExpired):
                if self.run("true", check=False, timeout=20).returncode == 0:
                    return
            time.sleep(0.5)
        raise LabError(f"{self.name}: no ssh after {seconds:.0f} s{self._console_said()}")

    def _console_said(self) -> str:
        # Not where the file is: a machine that is being made is removed with it.
        lines = (self.directory / "console.log").read_text(errors="replace").splitlines()
        return "; the end of its console:\n" + "\n".join(lines[-30:])


def inventory_settings(recipe: Recipe | None) -> dict[str, Any]:
    """The settings that a machine of this recipe, or from a cloud image, needs beside the defaults."""
    settings: dict[str, Any] = {"engine_source": "distro"}
    if not (recipe and recipe.lvm):
        settings["volume_disks"] = ["/dev/disk/by-id/virtio-spare"]
    if recipe and recipe.suite == "sid":
        settings["allow_unsupported_release"] = True
    return settings


def _booted(recipe: Recipe, source: Path, accelerator: str) -> Path:
    """The image of a recipe with a snapshot of it booted and settled, made on first use."""
    booted = source.with_name(f"{source.name}-booted-{accelerator}")
    with cache.locked(booted):
        if not booted.exists():
            machine = Machine(f"{_MAKING}{booted.name}", recipe, {}, _free_port(), accelerator=accelerator)
            if machine.directory.exists():  # left by a maker that was killed: we hold the lock
                machine.destroy()
            with step(f"booting {recipe.suite} {recipe.layout} once"), machine._claimed():
                machine._copy_disks(source)
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
            machine.destroy()
    return booted


def _wait_for_end(process: int, seconds: float) -> None:
    """Wait until the process of a pidfd has ended, or for that long.

    Its pidfile, its command line and its first thread go before its locks on the disks do; a pidfd tells when all of it
    has gone (pidfd_open(2)).
    """
    select.select([process], [], [], seconds)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _information(disk: Path) -> dict[str, Any]:
    # --force-share: a running machine has its disks locked.
    command = ["qemu-img", "info", "--force-share", "--output=json", str(disk)]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
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
        capture_output=True,  # -quiet prints its version all the same
        text=True,
    )


def shell_join(command: list[str]) -> str:
    """The words of a command line as one shell command, or the one word as it is: as ssh itself takes it."""
    return command[0] if len(command) == 1 else shlex.join(command)
