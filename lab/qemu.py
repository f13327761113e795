"""Make QEMU's command line, and find the accelerator that works on this machine."""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab import cache

BINARY = "qemu-system-x86_64"


def binary() -> str:
    """Return the QEMU to run: the newer one that ``scripts/lib.sh`` may have unpacked, else the installed one."""
    newer = cache.root() / "unpacked" / "qemu" / "usr" / "bin" / BINARY
    return str(newer) if newer.exists() else BINARY


@functools.cache
def version() -> str:
    """Return QEMU's version, such as 7.2.22."""
    words = subprocess.run([binary(), "--version"], check=True, capture_output=True, text=True).stdout.split()
    return words[words.index("version") + 1]


# Of the guest's kernel, by accelerator. An emulated machine takes a fifth longer without the last two, and a tenth without
# the first. Linux trusts the time stamp counters of several AMD processors, which QEMU's are, only if it is told to
# (unsynchronized_tsc in arch/x86/kernel/tsc.c); otherwise it asks the HPET for the time, which QEMU answers one processor at
# a time. And page tables of five levels take longer to walk than those of four.
KERNEL_OPTIONS = {"kvm": "mitigations=off", "tcg": "mitigations=off tsc=reliable no5lvl"}


@dataclass(frozen=True)
class Disk:
    serial: str  # the guest finds it as /dev/disk/by-id/virtio-<serial>
    path: Path
    format: str = "qcow2"


def command(
    *,
    disks: Sequence[Disk],
    console: Path,
    network: int | None,
    kernel: Path | None = None,
    append: str = "",
    memory: str = "2G",
    cpus: int = 2,
    accelerator: str | None = None,
    extra: Sequence[str] = (),
) -> list[str]:
    """Return the command line of one virtual machine.

    Args:
        disks: in the order of the guest: vda, vdb …
        console: the file that gets the output of the serial console.
        network: the port of 127.0.0.1 that is forwarded to the guest's ssh; None: no network.
        kernel: the directory with vmlinuz and initrd.img; None boots from the first disk.
        append: further words of the kernel's command line.
        accelerator: kvm or tcg; by default the one that works here.
    """
    accelerator = accelerator or working_accelerator()
    # -cpu max offers all features of the accelerator. So a snapshot loads only under the accelerator that made it.
    line = [binary(), "-machine", "pc", "-cpu", "max", "-smp", str(cpus), "-m", memory]
    line += ["-accel", "tcg,thread=multi,tb-size=512" if accelerator == "tcg" else accelerator]
    line += ["-nodefaults", "-no-user-config", "-display", "none", "-serial", f"file:{console}"]
    line += ["-device", "virtio-rng-pci", "-rtc", "base=utc,clock=host"]
    if kernel:
        line += ["-kernel", f"{kernel}/vmlinuz", "-initrd", f"{kernel}/initrd.img"]
        line += ["-append", f"console=ttyS0 quiet panic=-1 {KERNEL_OPTIONS[accelerator]} {append}"]
    for disk in disks:
        # writeback, not unsafe: data that the guest flushed must survive a kill -9 of QEMU. With `unsafe` the qcow2 tables
        # that point to it stay in QEMU's own memory (qemu(1), cache=).
        line += [
            "-drive",
            f"if=none,id={disk.serial},file={disk.path},format={disk.format},cache=writeback,discard=unmap",
        ]
        line += ["-device", f"virtio-blk-pci,drive={disk.serial},serial={disk.serial},id=disk-{disk.serial}"]
    if network is not None:
        line += [
            "-netdev",
            f"user,id=net,hostfwd=tcp:127.0.0.1:{network}-:22",
            "-device",
            "virtio-net-pci,netdev=net,romfile=",
        ]
    return [*line, *extra]


def has_kvm() -> bool:
    """Return whether this user may use /dev/kvm: it may still not work."""
    return os.access("/dev/kvm", os.R_OK | os.W_OK)


def working_accelerator() -> str:
    """Return ``kvm`` if an image's kernel boots under it, else ``tcg``. The probe runs once per boot of this machine.

    /dev/kvm may exist and still not boot a kernel (nested virtualization, a filtering host): only a boot shows it.
    """
    if not has_kvm():
        return "tcg"
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    answer = cache.root() / "lab" / "accelerator"
    with cache.locked(answer):
        asked, _, works = answer.read_text().partition(" ") if answer.exists() else ("", "", "")
        if asked != boot:
            kernel = next((path.parent for path in sorted(cache.images().glob("*/vmlinuz"))), None)
            if kernel is None:
                return "tcg"
            works = "kvm" if _boots_under_kvm(kernel) else "tcg"
            answer.write_text(f"{boot} {works}")
    return works


def _boots_under_kvm(kernel: Path) -> bool:
    """Tell whether the kernel of an image reaches its first process under KVM."""
    with tempfile.TemporaryDirectory() as scratch:
        console = Path(scratch) / "console"
        line = command(
            disks=[],
            console=console,
            network=None,
            kernel=kernel,
            append="loglevel=7 rdinit=/bin/false",
            accelerator="kvm",
            extra=["-no-reboot"],
        )
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(line, timeout=30, capture_output=True, check=False)
        return console.exists() and "as init process" in console.read_text(errors="replace")
