"""Make the images that machines start from, each once, with mmdebstrap. The name of an image changes with its recipe.

This needs neither root nor device-mapper on this machine: fakeroot fills the filesystem, and the image's own kernel and
tools make the volume group of the layout ``shared-vg``, and the xfs of ``single-root-xfs``, in a virtual machine that runs
one script. The disk of ``own-disk`` is filled once by the booted machine, and that of ``cloud-init`` is partitioned by it.
"""

from __future__ import annotations

import hashlib
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lab import LabError, cache, qemu
from lab.progress import step

SUITES = {"bookworm": "Debian 12", "trixie": "Debian 13", "sid": "Debian unstable"}
DOCKER = ("absent", "preinstalled")

ROOT_DISK = "100G"
ROOT_VOLUME = "30G"
PLAIN_ROOT = "30G"
SPARE_DISK = "20G"
SMALL_DISK = "8G"  # where all of a disk is written or emptied
DECOY_DISK = "256M"
CLOUD_ROOT = "3G"  # of the image, before cloud-init grows it
CLOUD_DISK = "40G"

_PACKAGES = (
    "systemd systemd-sysv udev dbus openssh-server python3 sudo ca-certificates cron apparmor iproute2 iptables kmod "
    "linux-image-cloud-amd64 initramfs-tools zstd busybox-static e2fsprogs procps"
).split()

# Tools that the tests need. Images with an engine have them, because an emulated machine needs minutes to install them.
_TEST_TOOLS = "apprise python3-aiosmtpd curl jq".split()

# Runs on the tree before it becomes an image. $1 is the tree, $KEY the file with the lab's public key.
_CUSTOMIZE = r"""
set -eu
install -d -m 0700 "$1/root/.ssh"
install -m 0600 "$KEY" "$1/root/.ssh/authorized_keys"
echo lab >"$1/etc/hostname"
echo '127.0.0.1 localhost lab' >"$1/etc/hosts"
# QEMU's user-mode network has fixed addresses: no DHCP to wait for.
printf '[Match]\nName=e*\n[Network]\nAddress=10.0.2.15/24\nGateway=10.0.2.2\n' >"$1/etc/systemd/network/lab.network"
rm -f "$1/etc/resolv.conf"
echo 'nameserver 10.0.2.3' >"$1/etc/resolv.conf"
chroot "$1" systemctl -q enable systemd-networkd.service
chroot "$1" systemctl -q mask apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer man-db.timer \
    systemd-networkd-wait-online.service getty@tty1.service
mkdir -p "$1/var/log/journal"
"""

# The same for a machine with cloud-init. $USER_DATA is the text of its user data. The network, apt's sources and the locale stay.
_SEED = r"""
seed=$1/var/lib/cloud/seed/nocloud
mkdir -p "$seed"
printf '%s' "$USER_DATA" >"$seed/user-data"
echo 'instance-id: docker-bulkhead-lab' >"$seed/meta-data"
printf '%s\n' 'datasource_list: [NoCloud]' 'network: {config: disabled}' 'apt: {preserve_sources_list: true}' \
    'locale: false' >"$1/etc/cloud/cloud.cfg.d/99-lab.cfg"
"""

# PID 1 of the machine that moves root onto LVM, with the layout of Ubuntu's installer. The plain root is on vda, the
# target disk is vdb. udev does not run here, so LVM must not wait for it.
_TO_LVM = r"""#!/bin/sh
set -eu
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
# The initrd has mounted /proc, /sys, /dev and /run already.
mkdir -p /run/lock/lvm
modprobe dm-mod
quick='activation{udev_sync=0 udev_rules=0} devices{obtain_device_list_from_udev=0}'
pvcreate -q --config "$quick" /dev/vdb
vgcreate -q --config "$quick" ubuntu-vg /dev/vdb
lvcreate -q -y -W n --config "$quick" -n ubuntu-lv {size} ubuntu-vg
mkfs.ext4 -q -L root /dev/mapper/ubuntu--vg-ubuntu--lv
mount /dev/mapper/ubuntu--vg-ubuntu--lv /mnt
cp -ax /. /mnt/
rm /mnt/move-root
echo '/dev/mapper/ubuntu--vg-ubuntu--lv / ext4 errors=remount-ro 0 1' >/mnt/etc/fstab
umount /mnt
sync
echo LAID-OUT
echo o >/proc/sysrq-trigger
sleep 60
"""

# The same for a plain root on xfs.
_TO_XFS = r"""#!/bin/sh
set -eu
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
modprobe xfs
mkfs.xfs -q -L root /dev/vdb
mount -t xfs /dev/vdb /mnt
cp -ax /. /mnt/
rm /mnt/move-root
echo '/dev/vda / xfs defaults 0 0' >/mnt/etc/fstab
umount /mnt
sync
echo LAID-OUT
echo o >/proc/sysrq-trigger
sleep 60
"""

# Runs on the booted machine of the layout own-disk, before its snapshot is taken. Docker's data is on the partition, by a
# line of fstab as people write it: images, containers that run and that do not, and a named volume with a file.
_OWN_DISK = r"""
set -eu
disk=/dev/disk/by-id/virtio-spare
printf 'label: gpt\n,,L\n' | sfdisk --quiet --wipe always "$disk"
udevadm settle
mkfs.ext4 -q "$disk-part1"
udevadm settle
if systemctl cat docker.service >/dev/null 2>&1; then
    systemctl stop docker.socket docker.service containerd.service
    mkdir /run/new
    mount "$disk-part1" /run/new
    cp -a /var/lib/docker/. /run/new/
    umount /run/new
    rm -rf /var/lib/docker
fi
mkdir -p /var/lib/docker
echo "UUID=$(blkid -s UUID -o value "$disk-part1") /var/lib/docker ext4 defaults,noatime 0 2" >>/etc/fstab
systemctl daemon-reload
mount /var/lib/docker
if systemctl cat docker.service >/dev/null 2>&1; then
    systemctl start docker.service
    mkdir -p /root/image/bin
    cp /bin/busybox /root/image/bin/busybox
    for name in sh dd sleep cat env true; do ln -sf busybox "/root/image/bin/$name"; done
    tar -C /root/image -c . | docker import - box >/dev/null
    printf 'FROM box\nRUN dd if=/dev/urandom of=/layer bs=1M count=20\n' | docker build --quiet --network none --tag app - >/dev/null
    docker volume create named >/dev/null
    docker run --rm --network none --volume named:/data app dd if=/dev/urandom of=/data/sentinel bs=1M count=30 2>/dev/null
    docker run --detach --name web --restart always --network none --stop-signal KILL --volume named:/data app sleep 1000000 \
        >/dev/null
    docker run --detach --name plain --network none --stop-signal KILL app sleep 1000000 >/dev/null
    docker run --name ended --network none app true >/dev/null
fi
sync
"""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What a machine has beside its release and its engine. What makes the image is in the record's repr, and so in its name."""

    summary: str = field(repr=False)
    disk: str = PLAIN_ROOT  # the size of root's disk
    filesystem: str = PLAIN_ROOT  # the size of the filesystem that root is made in, before it is moved or grows
    move: str = ""  # the script that moves root to where the layout has it, as PID 1 of a machine
    partitioned: bool = False  # root is on a partition at the beginning of its disk
    root: str = "/dev/vda"  # in the end
    further: tuple[str, ...] = ("spare",)  # the serial numbers of the other disks
    further_size: str = SPARE_DISK
    # What an installer would bring; without an engine, the deploy installs the others.
    packages: tuple[str, ...] = ()
    # Further ones where there is an engine, so that tests need not wait.
    beside_engine: tuple[str, ...] = ("lvm2", "xfsprogs")
    user_data: Path | None = field(default=None, repr=False)  # of cloud-init
    first_boot: str = ""  # runs on the booted machine before its snapshot is taken
    settings: Mapping[str, object] = field(default_factory=dict, repr=False)  # that a deploy needs


_SPARE = "/dev/disk/by-id/virtio-spare"


def _on_lvm(size: str, summary: str) -> Layout:
    """Return the layout with root on a logical volume, whose size is an option of lvcreate."""
    return Layout(
        summary=summary,
        disk=ROOT_DISK,
        move=_TO_LVM.replace("{size}", size),
        root="/dev/mapper/ubuntu--vg-ubuntu--lv",
        further=(),
        packages=("lvm2",),
        beside_engine=(),
    )


LAYOUTS = {
    "shared-vg": _on_lvm(
        f"-L {ROOT_VOLUME}", "root on ubuntu-vg/ubuntu-lv, 30 GB of a 100 GB disk, the rest of the group free"
    ),
    "ubuntu-default": _on_lvm("-l 50%VG", "the same as Ubuntu Server's installer leaves it: root on half of the group"),
    "spare-disk": Layout(
        summary="a plain root disk and a blank second disk of 20 GB",
        settings={"volume_disks": [_SPARE]},
    ),
    "two-disks": Layout(
        summary="a plain root disk and two blank disks of 8 GB",
        further=("spare", "second"),
        further_size=SMALL_DISK,
        settings={"volume_raid": "raid1", "volume_disks": [_SPARE, "/dev/disk/by-id/virtio-second"]},
    ),
    "instance-store": Layout(
        summary="the same; a test empties the two disks, as a cloud empties its local disks",
        further=("spare", "second"),
        further_size=SMALL_DISK,
        settings={"volume_ephemeral": True, "volume_disks": [_SPARE]},
    ),
    "decoy": Layout(
        summary="as spare-disk, and a third disk that holds data",
        further=("spare", "decoy"),
        settings={"volume_disks": [_SPARE]},
    ),
    "single-root": Layout(
        summary="a plain root over the whole disk of 30 GB, and no other disk",
        further=(),
        settings={"volume_file": "60%"},
    ),
    "single-root-xfs": Layout(
        summary="the same with root on xfs",
        move=_TO_XFS,
        further=(),
        packages=("xfsprogs",),
        beside_engine=("lvm2",),
        settings={"volume_file": "60%"},
    ),
    "cloud-init": Layout(
        summary="a cloud image whose cloud-init left the end of its disk of 40 GB to Docker (docs/new-machines.md)",
        disk=CLOUD_DISK,
        filesystem=CLOUD_ROOT,
        partitioned=True,
        root="/dev/vda1",
        further=(),
        packages=("cloud-init", "cloud-guest-utils", "fdisk"),
        user_data=Path(__file__).parent.parent / "examples/cloud-init/docker-partition.yaml",
        first_boot="cloud-init status --wait",
        settings={"volume_disks": ["/dev/disk/by-partlabel/docker"]},
    ),
    "own-disk": Layout(
        summary="a plain root disk, and a second disk of 20 GB whose partition is mounted on /var/lib/docker, with Docker's data",
        packages=("fdisk",),
        beside_engine=(),
        first_boot=_OWN_DISK,
        settings={"adopt_filesystem": True},
    ),
}


@dataclass(frozen=True)
class Recipe:
    """The ingredients of an image."""

    suite: str = "bookworm"
    layout: str = "shared-vg"
    docker: str = "absent"

    @property
    def has(self) -> Layout:
        return LAYOUTS[self.layout]

    @property
    def packages(self) -> list[str]:
        packages = [*_PACKAGES, *self.has.packages]
        if self.docker == "preinstalled":
            packages += ["docker.io"] if self.suite == "bookworm" else ["docker.io", "docker-cli"]
            packages += [*_TEST_TOOLS, *self.has.beside_engine]
        return packages

    @property
    def seed(self) -> str:
        """Return the part of the script that customizes the tree for cloud-init; empty without it."""
        return f"USER_DATA={shlex.quote(self.has.user_data.read_text())}\n{_SEED}" if self.has.user_data else ""

    @property
    def name(self) -> str:
        public_key = cache.ssh_key().with_suffix(".pub").read_text()
        sizes = (SPARE_DISK, DECOY_DISK)
        text = repr((asdict(self), self.has, self.packages, _CUSTOMIZE, self.seed, sizes, public_key))
        return f"{self.suite}-{self.layout}-{self.docker}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def image(recipe: Recipe) -> Path:
    """Return the directory of the image of this recipe; make it on first use.

    The directory holds ``vmlinuz``, ``initrd.img`` and a qcow2 file for each disk, named after its serial number.

    Raises:
        LabError: the machine that moves root onto LVM or xfs failed.
        subprocess.CalledProcessError: mmdebstrap or a tool of this machine failed; standard error has its message.
    """
    directory = cache.images() / recipe.name
    with cache.locked(directory):
        if not directory.exists():
            partial = directory.with_suffix(".part")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            with step(f"making the image {recipe.name} (once, about two minutes)"):
                _make(recipe, partial)
            partial.rename(directory)
    return directory


def _make(recipe: Recipe, directory: Path) -> None:
    # Next to the image, not in /tmp: a tree of a gigabyte could fill a tmpfs.
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        tarball, plain, root = Path(scratch) / "root.tar", Path(scratch) / "plain.img", directory / "root.qcow2"
        with step(f"mmdebstrap {recipe.suite}"):
            _debootstrap(recipe, tarball)
        with step("filling the root filesystem"):
            _fill(tarball, plain, directory, recipe.has)
        if recipe.has.move:
            with step("moving root to its place in a virtual machine"):
                _lay_out(plain, directory, recipe.has.disk)
        elif recipe.has.partitioned:
            _into_partition(plain, root, recipe.has.disk)
        else:
            _qemu_img("convert", "-O", "qcow2", str(plain), str(root))
        for serial in recipe.has.further:
            disk = directory / f"{serial}.qcow2"
            if serial == "decoy":
                _decoy(Path(scratch), disk)
            else:
                _qemu_img("create", "-q", "-f", "qcow2", str(disk), recipe.has.further_size)


def _debootstrap(recipe: Recipe, tarball: Path) -> None:
    subprocess.run(
        [
            "mmdebstrap",
            "--quiet",
            "--variant=minbase",
            f"--include={','.join(recipe.packages)}",
            "--aptopt=Apt::Install-Recommends false",
            # Unstable's lists expire within a week. A mirror that is not updated is good enough for a lab.
            *(["--aptopt=Acquire::Check-Valid-Until false"] if recipe.suite == "sid" else []),
            # Without root, hooks run as a user who cannot read our files: upload the key, and pass the script as a word.
            f"--customize-hook=upload {shlex.quote(f'{cache.ssh_key()}.pub')} /tmp/lab-key",
            f'--customize-hook=KEY=$1/tmp/lab-key\n{_CUSTOMIZE}rm "$KEY"',
            *([f"--customize-hook={recipe.seed}"] if recipe.seed else []),
            "--skip=cleanup/apt/lists",
            recipe.suite,
            str(tarball),
        ],
        check=True,
    )


def _fill(tarball: Path, filesystem: Path, directory: Path, layout: Layout) -> None:
    """Make an ext4 filesystem with the tree in it, and put its kernel and initrd into ``directory``."""
    device = "/dev/vda" if layout.move else layout.root  # for fstab: the script that moves root writes it anew
    script = r"""
    set -eu
    tree=$(mktemp -d -p "$4"); trap 'rm -rf "$tree"' EXIT
    tar -C "$tree" -xf "$1"
    [ -z "$5" ] || { printf '%s' "$5" >"$tree/move-root"; chmod 0755 "$tree/move-root"; }
    echo "$7 / ext4 errors=remount-ro 0 1" >"$tree/etc/fstab"
    cp "$tree"/boot/vmlinuz-* "$3/vmlinuz"; cp "$tree"/boot/initrd.img-* "$3/initrd.img"; chmod 0644 "$3"/vmlinuz "$3"/initrd.img
    mke2fs -q -t ext4 -L root -d "$tree" "$2" "$6"
    """
    subprocess.run(
        [
            *("fakeroot", "sh", "-c", script, "fill"),
            *map(str, (tarball, filesystem, directory, filesystem.parent)),
            *(layout.move, layout.filesystem, device),
        ],
        check=True,
    )


def _lay_out(plain: Path, directory: Path, size: str) -> None:
    disk = directory / "root.qcow2"
    _qemu_img("create", "-q", "-f", "qcow2", str(disk), size)
    console = directory / "layout.log"
    subprocess.run(
        qemu.command(
            kernel=directory,
            append="root=/dev/vda rw init=/move-root",
            disks=[qemu.Disk("plain", plain, "raw"), qemu.Disk("root", disk)],
            console=console,
            network=None,
            extra=["-no-reboot"],
        ),
        check=True,
        timeout=600,
    )
    if "LAID-OUT" not in console.read_text(errors="replace"):
        raise LabError(f"moving root failed; {console} has the output of its console")


def _into_partition(filesystem: Path, disk: Path, size: str) -> None:
    """Make a disk with a partition that holds the filesystem, as a cloud image has it, and enlarge the disk."""
    raw = filesystem.with_suffix(".disk")
    with raw.open("wb") as file:
        file.truncate(filesystem.stat().st_size + 2 * 2**20)
    table = f"label: gpt\nstart=1MiB, size={filesystem.stat().st_size // 512}, type=L\n"
    subprocess.run(["sfdisk", "--quiet", raw], input=table, check=True, text=True)
    subprocess.run(
        ["dd", "status=none", "conv=notrunc,sparse", "bs=1M", "seek=1", f"if={filesystem}", f"of={raw}"], check=True
    )
    _qemu_img("convert", "-O", "qcow2", str(raw), str(disk))
    _qemu_img("resize", "-q", str(disk), size)


def _decoy(scratch: Path, disk: Path) -> None:
    """Make a disk with a filesystem and files. A deploy must not change it unless a setting names it."""
    tree = scratch / "decoy"
    tree.mkdir()
    for number in range(20):
        (tree / f"record-{number}").write_bytes(hashlib.sha512(str(number).encode()).digest() * 1000)
    raw = scratch / "decoy.img"
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-L", "records", "-d", tree, raw, DECOY_DISK], check=True)
    _qemu_img("convert", "-O", "qcow2", str(raw), str(disk))


def _qemu_img(*arguments: str) -> None:
    subprocess.run(["qemu-img", *arguments], check=True)
