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
from lab.image import LAYOUTS, Recipe, image
from lab.progress import step

BOOT_TIMEOUT = 600  # seconds; 45 s are usual without KVM
SHUTDOWN_TIMEOUT = 300  # seconds; systemd itself kills what has not stopped after 90 s
COMMAND_TIMEOUT = 300  # seconds
FIRST_BOOT_TIMEOUT = 1200  # seconds; the first boot of a cloud image runs cloud-init, emulated
BOOTED = "booted"  # the name of the snapshot of a booted image
_MAKING = "making-"  # prefix of the name of a machine that becomes an image


@dataclass
class Machine:
    """One virtual machine. ``machine.json`` in its directory keeps its state between two commands."""

    name: str
    recipe: Recipe | None  # None: a cloud image
    disks: dict[str, str]  # serial number → file
    ssh_port: int
    settings: dict[str, Any] = field(default_factory=dict)  # for the inventory
    pulled: list[str] = field(default_factory=list)  # serial numbers of disks that are taken out
    added: list[str] = field(default_factory=list)  # those of disks that no snapshot has
    accelerator: str = "tcg"  # never changes: a snapshot loads under the same accelerator only
    memory: str = "2G"
    cpus: int = 2
    # Of the firmware, which has none without. One for all machines: the snapshots of a booted image have it in their memory.
    uuid: str = "b01c4ead-10ab-4d0c-8ead-0123456789ab"

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
        """Start a machine from the snapshot of a booted image, which takes seconds.

        Args:
            settings: for the inventory, in addition to those of the recipe.
            accelerator: kvm or tcg; by default the one that works here.

        Raises:
            LabError: a machine of that name exists, or the image cannot be made.
        """
        recipe = Recipe(suite, layout, docker)
        source = image(recipe)
        accelerator = accelerator or qemu.working_accelerator()
        booted = _booted(recipe, source, accelerator)
        settings = inventory_settings(recipe) | (settings or {})
        machine = cls(name, recipe, {}, _free_port(), settings, accelerator=accelerator)
        with machine._claimed():
            machine._image.symlink_to(source)
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
        """Start a machine from a cloud image of any distribution, with a blank second disk. cloud-init installs our key.

        Raises:
            LabError: a machine of that name exists, the image does not exist, or ssh does not answer in time.
        """
        if not base.is_file():
            raise LabError(f"{base}: no such file. --image takes a cloud image in qcow2 or raw format")
        if accelerator is None and qemu.has_kvm():
            image(Recipe())  # the probe boots the kernel of an image of ours
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
            # ssh answers long before cloud-init ends, which uses apt and may reboot the host.
            machine.run("cloud-init status --wait || true", timeout=FIRST_BOOT_TIMEOUT)
        return machine

    @contextlib.contextmanager
    def _claimed(self) -> Iterator[None]:
        """Claim the name of the machine. If the block fails, remove all that was made and release the name."""
        if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", self.name):
            raise LabError(f"{self.name!r} is no name for a machine: use lower-case letters, digits, dots and dashes")
        try:
            self.directory.mkdir(parents=True)
        except FileExistsError:
            raise LabError(
                f"the machine {self.name!r} exists already: `scripts/lab down {self.name}` removes it, or choose another name"
            ) from None
        self.save()
        try:
            yield
        except BaseException:
            self.destroy()
            raise

    def _copy_disks(self, source: Path) -> None:
        for disk in sorted(
            source.glob("*.qcow2"), key=lambda path: ("root", "spare", "second", "decoy").index(path.stem)
        ):
            copy = self.directory / disk.name
            subprocess.run(["cp", "--sparse=always", "--reflink=auto", disk, copy], check=True)
            self.disks[disk.stem] = str(copy)
        self.save()

    @classmethod
    def get(cls, name: str) -> Machine:
        """Return the machine of that name.

        Raises:
            LabError: it does not exist.
        """
        try:
            known = json.loads((cache.machines() / name / "machine.json").read_text())
        except FileNotFoundError:
            raise LabError(f"there is no machine {name!r}: `scripts/lab up {name}` makes it") from None
        return cls(**known | {"recipe": Recipe(**known["recipe"]) if known["recipe"] else None})

    @classmethod
    def all(cls) -> list[Machine]:
        found = []
        for path in sorted(cache.machines().glob("*/machine.json")):
            with contextlib.suppress(LabError):  # another process removed it meanwhile
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
        """Save the state of the machine; the inventory reads it."""
        new = self.directory / "machine.json.new"
        new.write_text(json.dumps(asdict(self), indent=4) + "\n")
        new.rename(self.directory / "machine.json")

    # -- power

    @property
    def _image(self) -> Path:
        """Return the link to the image that it was made from: root has modules for no other kernel, and a recipe changes."""
        return self.directory / "image"

    @property
    def _pidfile(self) -> Path:
        return self.directory / "pid"

    @property
    def pid(self) -> int | None:
        """Return the process number of its QEMU; None: it does not run.

        QEMU's own pidfile has the number. The command line shows that no other process has taken this number since.
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
        """Tell whether it runs as a host of the lab. A machine that becomes an image is none."""
        return self.running and not self.name.startswith(_MAKING)

    def boot(self) -> None:
        """Boot from the disks as they are, and wait for ssh.

        Raises:
            LabError: ssh does not answer in time.
        """
        if not self.running:
            self._start()
        self._wait_for_ssh()

    def _start(self, load: str | None = None) -> None:
        kernel = None
        if self.recipe:
            kernel = self._image if self._image.exists() else image(self.recipe)
        self._pidfile.unlink(missing_ok=True)
        extra = ["-daemonize", "-pidfile", str(self._pidfile), "-monitor", f"unix:{self._monitor},server=on,wait=off"]
        if load:
            extra += ["-loadvm", load]
        if not self.recipe:
            extra += ["-drive", f"if=virtio,format=raw,readonly=on,file={self.directory}/seed.iso"]
        disks = [qemu.Disk(serial, Path(path)) for serial, path in self.disks.items() if serial not in self.pulled]
        line = qemu.command(
            kernel=kernel,
            append=f"root={self.recipe.has.root} ro" if self.recipe else "",
            disks=disks,
            console=self.directory / "console.log",
            network=self.ssh_port,
            memory=self.memory,
            cpus=self.cpus,
            accelerator=self.accelerator,
            extra=[*extra, "-uuid", self.uuid],
        )
        subprocess.run(line, check=True, stdin=subprocess.DEVNULL)

    def cut(self) -> None:
        """Cut the power: data that the guest did not flush is lost."""
        self._disconnect()
        with self._process() as process:
            if process is not None:
                signal.pidfd_send_signal(process, signal.SIGKILL)
                _wait_for_end(process, SHUTDOWN_TIMEOUT)  # it may have much to write to the disk

    def shut_down(self) -> None:
        """Power off cleanly; cut the power if that takes too long."""
        with self._process() as process:
            if process is not None:
                self.run("systemctl poweroff", check=False)
                _wait_for_end(process, SHUTDOWN_TIMEOUT)
        self.cut()

    @contextlib.contextmanager
    def _process(self) -> Iterator[int | None]:
        """Open a pidfd of its QEMU; None: it does not run."""
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
        """Shut down cleanly, and boot."""
        self.shut_down()
        self.boot()

    # -- snapshots

    @property
    def _monitor(self) -> Path:
        return self._socket("monitor")

    def _socket(self, purpose: str) -> Path:
        # The name of a socket has at most 107 bytes (unix(7)), and a cache directory may be deeper. The digest also keeps
        # machines of the same name in two caches apart.
        return Path(f"/tmp/bulkhead-lab-{hashlib.sha256(os.fsencode(self.directory)).hexdigest()[:16]}.{purpose}")

    def _tell_monitor(self, command: str) -> str:
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.connect(str(self._monitor))
            monitor.settimeout(300)

            def until_prompt() -> str:
                received = ""
                while not received.endswith("(qemu) "):
                    part = monitor.recv(4096).decode()
                    if not part:
                        break
                    received += part
                return received

            until_prompt()
            monitor.sendall(f"{command}\n".encode())
            answer = until_prompt()
        if "Error" in answer:
            raise LabError(f"QEMU refused {command!r}: {answer}")
        return answer

    def snapshot(self, tag: str) -> None:
        """Save the state of disks and memory under a name.

        Raises:
            LabError: the machine does not run, or QEMU refuses.
        """
        if not self.running:
            raise LabError(f"{self.name} is down: `scripts/lab up {self.name}` boots it")
        self._disconnect()
        self._tell_monitor(f"savevm {tag}")

    def restore(self, tag: str) -> None:
        """Restore a snapshot, whether the machine runs or not. Disks that were added since are removed.

        Raises:
            LabError: the snapshot does not exist.
        """
        if tag not in (snapshot["name"] for snapshot in _information(Path(self.disks["root"])).get("snapshots", [])):
            raise LabError(f"{self.name} has no snapshot {tag!r}")
        # In a new process: within one, QEMU never lets the guest's time stamp counter go back (cpu_ticks_prev in its
        # cpu-timers.c). All the time since the snapshot would pass at once, and systemd's watchdogs would kill services.
        self.cut()
        for serial in self.added:
            Path(self.disks.pop(serial)).unlink()
        self.pulled, self.added = [], []
        self.save()
        self._start(load=tag)
        self._set_clock()

    def _set_clock(self) -> None:
        """Set the guest's clock, which stopped in the snapshot: apt's signatures and all timestamps need the present time."""
        self._wait_for_ssh()
        self.run(f"date -s @{time.time():.0f}")

    # -- disks

    def pull_disk(self, serial: str) -> None:
        """Take a disk out at the next boot."""
        self.pulled.append(serial)
        self.save()

    def put_disk_back(self, serial: str) -> None:
        """Put a disk back at the next boot."""
        self.pulled.remove(serial)
        self.save()

    def add_disk(self, serial: str, size: str) -> None:
        """Add a blank disk at the next boot.

        Args:
            size: such as 20G.
        """
        path = self.directory / f"{serial}.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(path), size], check=True)
        self.disks[serial] = str(path)
        self.added.append(serial)
        self.save()

    def empty_disk(self, serial: str) -> None:
        """Make a disk blank while the machine is down, as a cloud empties an ephemeral one. Its snapshots stay."""
        size = int(_information(Path(self.disks[serial]))["virtual-size"])
        # qemu-io takes 2 GiB at most.
        parts = [f"write -z -u {at} {min(2**30, size - at)}" for at in range(0, size, 2**30)]
        options = [word for part in parts for word in ("-c", part)]
        subprocess.run(["qemu-io", "-f", "qcow2", *options, self.disks[serial]], check=True, capture_output=True)

    def grow_disk(self, serial: str, size: str) -> None:
        """Enlarge a disk while the machine runs, as a cloud does.

        Args:
            size: such as 30G.
        """
        self._tell_monitor(f"block_resize {serial} {size}")

    # -- ssh

    def ssh_command(self, *options: str, user: str = "") -> list[str]:
        """Return the ssh command line up to the host; the caller adds a command.

        Args:
            user: log in as this user over a new connection; empty: log in as root over the shared connection.
        """
        shared = ("-o", "ControlMaster=auto", "-o", f"ControlPath={self._control}", "-o", "ControlPersist=600")
        return [
            *("ssh", "-F", "none", "-i", str(cache.ssh_key()), "-p", str(self.ssh_port), "-l", user or "root"),
            *("-o", f"UserKnownHostsFile={self.known_hosts}", "-o", "StrictHostKeyChecking=accept-new"),
            *("-o", "BatchMode=yes", "-o", "ConnectTimeout=60", "-o", "ServerAliveInterval=15", "-o", "LogLevel=ERROR"),
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
        subprocess.run([*self.ssh_command(), "-O", "exit"], capture_output=True, check=False, timeout=60)
        self._control.unlink(missing_ok=True)

    def run(
        self, command: str, *, check: bool = True, timeout: float = COMMAND_TIMEOUT
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell command on the machine as root.

        Raises:
            LabError: it failed and ``check`` is set; the message has its output.
            subprocess.TimeoutExpired: it took longer than ``timeout`` seconds.
        """
        done = subprocess.run(
            [*self.ssh_command(), command], capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL
        )
        if check and done.returncode:
            raise LabError(f"{self.name}: {command!r} exited with {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def out(self, command: str, *, timeout: float = COMMAND_TIMEOUT) -> str:
        """Return the output of a shell command on the machine, stripped."""
        return self.run(command, timeout=timeout).stdout.strip()

    def _wait_for_ssh(self, seconds: float = BOOT_TIMEOUT) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not self.running:
                raise LabError(f"{self.name}: QEMU ended{self._console_tail()}")
            with contextlib.suppress(subprocess.TimeoutExpired):
                if self.run("true", check=False, timeout=20).returncode == 0:
                    return
            time.sleep(0.5)
        raise LabError(f"{self.name}: no ssh after {seconds:.0f} s{self._console_tail()}")

    def _console_tail(self) -> str:
        # Quote the text, not the path: a machine that fails while it is made is removed with its files.
        lines = (self.directory / "console.log").read_text(errors="replace").splitlines()
        return "; the end of its console:\n" + "\n".join(lines[-30:])


def inventory_settings(recipe: Recipe | None) -> dict[str, Any]:
    """Return the settings that a machine of this recipe (None: of a cloud image) needs beyond the defaults."""
    # A machine of a cloud image has a blank second disk too.
    layout = recipe.has if recipe else LAYOUTS["spare-disk"]
    settings: dict[str, Any] = {"engine_source": "distro", **layout.settings}
    if recipe and recipe.suite == "sid":
        settings["allow_unsupported_release"] = True
    return settings


def _booted(recipe: Recipe, source: Path, accelerator: str) -> Path:
    """Return the image of a recipe with a snapshot of the booted machine; make it on first use."""
    # Another version of QEMU cannot load the snapshot, and the kernel that booted keeps its options.
    options = hashlib.sha256(qemu.KERNEL_OPTIONS[accelerator].encode()).hexdigest()[:6]
    booted = source.with_name(f"{source.name}-booted-{accelerator}-{qemu.version()}-{options}")
    with cache.locked(booted):
        if not booted.exists():
            machine = Machine(f"{_MAKING}{booted.name}", recipe, {}, _free_port(), accelerator=accelerator)
            if machine.directory.exists():  # a killed process left it: we hold the lock
                machine.destroy()
            with step(f"booting {recipe.suite} {recipe.layout} once"), machine._claimed():
                machine._copy_disks(source)
                machine.boot()
                # "degraded" will do: a unit may fail in a virtual machine.
                machine.run("systemctl is-system-running --wait || true; sync", timeout=BOOT_TIMEOUT)
                if recipe.has.first_boot:
                    machine.run(recipe.has.first_boot, timeout=FIRST_BOOT_TIMEOUT)
                machine.snapshot(BOOTED)
                machine.cut()
                new = booted.with_name(f"{booted.name}.part")
                shutil.rmtree(new, ignore_errors=True)
                new.mkdir()
                for disk in machine.disks.values():
                    shutil.move(disk, new)
                new.rename(booted)
            machine.destroy()
    return booted


def _wait_for_end(process: int, seconds: float) -> None:
    """Wait until the process of a pidfd ends, at most for ``seconds``.

    Its pidfile, its command line and its first thread disappear before its locks on the disks. A pidfd shows when the
    whole process is gone (pidfd_open(2)).
    """
    select.select([process], [], [], seconds)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _information(disk: Path) -> dict[str, Any]:
    # --force-share: a running machine locks its disks.
    command = ["qemu-img", "info", "--force-share", "--output=json", str(disk)]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def seed_files(public_key: str) -> dict[str, str]:
    """Return the files of a NoCloud seed for cloud-init that lets root log in with the lab's key."""
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
        capture_output=True,  # -quiet still prints the version
        text=True,
    )


def shell_join(command: list[str]) -> str:
    """Join the words of a command line into one shell command. A single word stays as it is, as with ssh."""
    return command[0] if len(command) == 1 else shlex.join(command)
