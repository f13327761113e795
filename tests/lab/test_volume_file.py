"""Root has taken the whole disk: a file on it becomes Docker's disk. Debian 13 with root on ext4, Debian 12 with xfs."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable

import pytest

from bulkhead.names import VOLUME_FILE, VOLUME_FILE_SERVICE
from lab.deploy import command
from lab.machine import Machine
from tasks.support.paths import VOLUME_FILE_DEVICE
from tests.lab.conftest import (
    IMAGE,
    assert_isolated,
    converge,
    converge_as_predicted,
    cut_and_boot,
    deploy,
    dry,
    fingerprint,
    killed_at_the_end,
    start,
    until,
    verify,
    wait_until_booted,
)

pytestmark = pytest.mark.turn

HOSTS = {"ext4": ("trixie", "single-root"), "xfs": ("bookworm", "single-root-xfs")}
VOLUME = "/srv/docker-volume"

# What the filesystem keeps for the file: how much, and which blocks. Writing turns allocated extents into written ones, so
# that extents split and merge: only where the blocks are is compared.
BLOCKS = f"stat --format '%s %b' {VOLUME_FILE}"

# A container that writes 2 GiB to its volume, says when each part is on the disk, and fails on the first error.
WRITER = (
    "docker run --rm --network none --volume written:/data box sh -c "
    "'for part in 1 2 3 4 5 6 7 8; do busybox dd if=/dev/urandom of=/data/$part bs=1M count=256 conv=fsync || exit 1; done'"
)
SUMS = "cd /var/lib/docker/volumes/written/_data && sha256sum *"
ERRORS = (
    "dmesg --level err,crit,alert,emerg | grep -E 'I/O error|EXT4-fs error|XFS.*(error|shutdown)|loop: Write' || true"
)


def root_free(machine: Machine) -> int:
    """Return what root has free, in MiB, as if nothing were logged: the journal takes 8 MiB at a time."""
    return sum(
        map(int, machine.out("sync; df --output=avail -B1M / | tail -n 1; du -sm /var/log/journal | cut -f 1").split())
    )


@pytest.fixture(scope="module", params=HOSTS)
def provisioned(request: pytest.FixtureRequest, machines: Callable[..., Machine]) -> Machine:
    """A machine with the snapshots "fresh" and "provisioned"."""
    suite, layout = HOSTS[request.param]
    machine = machines(f"file-{request.param}", suite=suite, layout=layout, docker="preinstalled")
    machine.snapshot("fresh")
    converge_as_predicted(machine)
    machine.run(IMAGE)
    machine.snapshot("provisioned")
    return machine


@pytest.fixture
def machine(provisioned: Machine) -> Machine:
    provisioned.restore("provisioned")
    return provisioned


def assert_down(machine: Machine) -> None:
    """Assert that the host has booted, and that Docker does not run and cannot be started."""
    machine.run("systemctl start docker.service containerd.service", check=False, timeout=300)
    assert "active" not in machine.out("systemctl is-active docker.service containerd.service || true").split()
    assert machine.out("ls -A /var/lib/docker /var/lib/containerd").split() == [
        "/var/lib/containerd:",
        "/var/lib/docker:",
    ]


def assert_kept(machine: Machine) -> None:
    """Assert that the file has all its blocks, and that its devices take no discards."""
    size, blocks = map(int, machine.out(BLOCKS).split())
    assert blocks * 512 >= size
    loop = machine.out(f"readlink -f {VOLUME_FILE_DEVICE}").removeprefix("/dev/")
    volume = machine.out("readlink -f /dev/docker-vg/docker-lv").removeprefix("/dev/")
    limits = machine.out(f"cat /sys/block/{loop}/queue/discard_max_bytes /sys/block/{volume}/queue/discard_max_bytes")
    assert limits.split() == ["0", "0"]
    assert machine.out(f"cat /sys/block/{loop}/loop/dio /sys/block/{loop}/loop/backing_file").split() == [
        "1",
        VOLUME_FILE,
    ]


def test_host_is_verified(machine: Machine) -> None:
    assert_kept(machine)
    verify(machine)


def test_second_run_changes_nothing(machine: Machine) -> None:
    assert dry(machine).predicted == set()
    assert converge(machine).changes == 0


def test_host_comes_back_after_a_reboot_and_shuts_down_in_order(machine: Machine) -> None:
    machine.run("journalctl --flush; docker volume create kept && echo kept >/var/lib/docker/volumes/kept/_data/file")
    machine.reboot()
    wait_until_booted(machine)
    assert_isolated(machine)
    assert_kept(machine)
    assert machine.out("cat /var/lib/docker/volumes/kept/_data/file") == "kept"
    # Both filesystems were unmounted cleanly: neither a journal nor a log had to be replayed.
    replayed = machine.out("journalctl --boot --dmesg | grep -iE 'recovery complete|starting recovery|orphan' || true")
    assert replayed == ""
    stopped = machine.out(f"journalctl --boot -1 --unit {VOLUME_FILE_SERVICE} --output cat")
    assert "Failed" not in stopped, stopped
    verify(machine)


def test_data_of_a_living_host_moves_onto_the_file(provisioned: Machine) -> None:
    machine = provisioned
    machine.restore("fresh")
    machine.run(IMAGE)
    machine.run(
        "docker run --detach --name writer --restart always --volume log:/log box sh -c 'while echo x >>/log/x; do sleep 0.2; done'"
    )
    converge(machine)
    assert_isolated(machine)
    assert machine.out("docker inspect --format '{{.State.Running}}' writer") == "true"
    machine.run("bulkhead finalize --yes")
    verify(machine)
    assert converge(machine).changes == 0


def test_writes_arrive_on_the_volume_while_others_fill_root_to_its_last_byte(machine: Machine) -> None:
    machine.run(f"cat >/run/writer <<'END'\n{WRITER}\nEND")
    machine.run("systemd-run --quiet --unit=writer --property=Type=exec --remain-after-exit sh /run/writer")
    # root may fill what is reserved for it too.
    filled = machine.run("cat /dev/zero >/root/filler; cat /dev/zero >>/root/filler; sync", check=False, timeout=1800)
    assert "No space left on device" in filled.stderr
    assert "0" in machine.out("stat --file-system --format '%f %a' /").split()
    deadline = time.monotonic() + 1800
    while machine.out("systemctl show --property=SubState --value writer") == "running":
        assert time.monotonic() < deadline
        machine.run("cat /dev/zero >>/root/filler", check=False, timeout=1800)  # whatever has become free
        time.sleep(1)
    log = machine.out("journalctl --unit writer --output cat")
    assert machine.out("systemctl show --property=ExecMainStatus --value writer") == "0", log
    assert machine.out(ERRORS) == ""
    sums = machine.out(SUMS, timeout=900)
    machine.run("rm /root/filler; sync")
    cut_and_boot(machine)
    assert machine.out(SUMS, timeout=900) == sums
    assert_kept(machine)


def test_volume_that_is_full_leaves_root_as_it_is(machine: Machine) -> None:
    free = root_free(machine)
    filled = machine.run(f"cat /dev/zero >{VOLUME}/filler", check=False, timeout=1800)
    assert "No space left on device" in filled.stderr
    assert machine.out(f"stat --file-system --format %a {VOLUME}") == "0"
    assert abs(root_free(machine) - free) <= 1
    assert machine.out(ERRORS) == ""


def test_trimming_every_filesystem_changes_no_block_of_the_file(machine: Machine) -> None:
    machine.run(f"cat /dev/urandom | head -c 2G >{VOLUME}/removed; sync; rm {VOLUME}/removed; sync", timeout=900)
    before, free = machine.out(BLOCKS), root_free(machine)
    machine.run("fstrim --all --verbose", check=False, timeout=900)
    assert "not supported" in machine.run(f"fstrim --verbose {VOLUME}", check=False).stderr
    machine.run("systemctl start fstrim.service", check=False, timeout=900)
    # Zeros go through another request than discards, and punch holes by themselves.
    machine.run(
        "lvcreate --quiet --yes --name scratch --size 256M docker-vg && blkdiscard --zeroout /dev/docker-vg/scratch"
    )
    refused = machine.run("blkdiscard --force /dev/docker-vg/scratch", check=False)
    assert refused.returncode != 0
    machine.run("lvremove --quiet --yes docker-vg/scratch; sync")
    assert machine.out(BLOCKS) == before
    assert abs(root_free(machine) - free) <= 8  # the journal of the system goes on
    assert_kept(machine)


def test_file_group_volume_and_filesystem_grow_while_containers_run(machine: Machine) -> None:
    machine.run(
        "docker run --detach --name writer --restart always box sh -c 'while echo x >>/log; do sleep 0.2; done'"
    )
    started = machine.out("docker inspect --format '{{.State.StartedAt}}' writer")
    size = int(machine.out(f"df --output=size -B1M {VOLUME} | tail -n 1"))
    converge_as_predicted(machine, volume_file="65%")
    grown = int(machine.out(f"df --output=size -B1M {VOLUME} | tail -n 1"))
    assert grown - size > 1000  # 5 % of 30 GB, less the reserve
    assert machine.out("docker inspect --format '{{.State.StartedAt}} {{.State.Running}}' writer") == f"{started} true"
    assert dry(machine, volume_file="65%").predicted == set()
    assert_kept(machine)
    cut_and_boot(machine)
    assert_isolated(machine)
    smaller = converge(machine, volume_file="30%")
    assert "it never shrinks" in smaller.output
    assert smaller.changes == 0


# -- without the file Docker stays down, and the host boots

LOSSES = {
    "renamed": (f"mv {VOLUME_FILE} {VOLUME_FILE}.moved", "is not there", f"mv {VOLUME_FILE}.moved {VOLUME_FILE}"),
    "truncated": (f"truncate --size -1M {VOLUME_FILE}", "somebody truncated it", ""),
    "unit disabled": (
        f"systemctl disable {VOLUME_FILE_SERVICE}",
        "is not attached",
        f"systemctl enable --now {VOLUME_FILE_SERVICE}",
    ),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_host_boots_without_the_file_and_docker_stays_down(machine: Machine, loss: str) -> None:
    harm, reason, remedy = LOSSES[loss]
    machine.run(harm)
    if loss != "unit disabled":  # the check sees it before the boot does
        assert re.match(f"DISK CRITICAL - .*{VOLUME_FILE}", machine.run("check-disk --no-alert", check=False).stdout)
    machine.run("sync")
    cut_and_boot(machine)
    assert_down(machine)
    shown = machine.out(f"journalctl --boot --unit {VOLUME_FILE_SERVICE} --output cat; check-disk --no-alert || true")
    assert reason in shown
    before = fingerprint(machine)
    refused = deploy(machine)
    assert refused.code == 1
    assert VOLUME_FILE in refused.output
    assert fingerprint(machine) == before
    if remedy:
        machine.run(remedy)
        machine.run("systemctl start docker", timeout=300)
        assert_isolated(machine)
        assert_kept(machine)
        assert converge(machine).code == 0


def test_discards_stay_off_when_the_file_is_attached_anew(machine: Machine) -> None:
    machine.run(f"systemctl stop docker.socket docker containerd {VOLUME_FILE_SERVICE}", timeout=300)
    assert machine.out(f"losetup --associated {VOLUME_FILE}") == ""
    machine.run("systemctl start docker", timeout=300)
    assert_isolated(machine)
    assert_kept(machine)


def test_host_that_docker_bulkhead_has_left_keeps_its_file(machine: Machine) -> None:
    undeployed = deploy(machine, script="undeploy.py")
    assert undeployed.code == 0, undeployed.output
    machine.run("sync")
    cut_and_boot(machine)
    assert machine.out("systemctl is-active docker") == "active"
    assert machine.out("findmnt -no SOURCE /var/lib/docker").endswith("docker--lv[/docker]")
    assert_kept(machine)
    converge(machine)
    verify(machine)


# -- power cuts at random moments

SEED = 17


@pytest.mark.sample(2, of="power cuts while a file becomes the disk")
@pytest.mark.in_turn("provisioned")
@pytest.mark.parametrize("number", range(20))
def test_run_that_a_power_cut_ends_at_a_random_moment_is_finished_by_the_next(
    provisioned: Machine, number: int
) -> None:
    machine = provisioned
    machine.restore("fresh")
    after = random.Random(SEED + number).uniform(2, 75)  # seconds; a run takes about 60 to 90
    with killed_at_the_end(start(command(machine.name))):
        time.sleep(after)
        cut_and_boot(machine)
    converge(machine)
    assert_isolated(machine)
    assert_kept(machine)
    assert dry(machine).predicted == set()


@pytest.mark.sample(2, of="power cuts while Docker writes to a file")
@pytest.mark.in_turn("provisioned")
@pytest.mark.parametrize("number", range(20))
def test_power_cut_while_docker_writes_loses_nothing_that_was_synced(machine: Machine, number: int) -> None:
    after = random.Random(SEED + number).uniform(5, 40)
    writer = (
        "docker run --rm --network none --volume written:/data box sh -c 'n=0; while n=$((n + 1)); do "
        "busybox dd if=/dev/urandom of=/data/$n bs=1M count=8 conv=fsync 2>/dev/null && busybox sha256sum /data/$n && "
        "busybox sync; done'"
    )
    with killed_at_the_end(start([*machine.ssh_command(user="root"), writer])) as process:
        time.sleep(after)
        cut_and_boot(machine)
        process.kill()
        output = process.stdout.read() if process.stdout else ""
    sums = [
        line.replace("/data/", "") for line in output.splitlines() if re.fullmatch(r"[0-9a-f]{64}  /data/\d+", line)
    ]
    assert_isolated(machine)
    assert_kept(machine)
    place = "/var/lib/docker/volumes/written/_data"
    for line in sums:
        wanted, name = line.split()
        assert machine.out(f"sha256sum {place}/{name}").split()[0] == wanted
    assert machine.out(ERRORS) == ""


# -- a real disk takes over

SPARE = "/dev/disk/by-id/virtio-spare"


@pytest.fixture(scope="module")
def beside_disk(machines: Callable[..., Machine]) -> Machine:
    """A machine whose volume is on a file, and which has a blank disk that nobody has named yet."""
    settings = {"volume_disks": [], "volume_file": "40%"}
    machine = machines("file-disk", suite="trixie", layout="spare-disk", docker="preinstalled", settings=settings)
    converge(machine)
    machine.run(IMAGE)
    machine.run(
        "docker run --rm --network none --volume kept:/data box sh -c "
        "'for part in 1 2 3 4 5 6; do busybox dd if=/dev/urandom of=/data/$part bs=1M count=512 conv=fsync; done'",
        timeout=900,
    )
    machine.run(
        "docker run --detach --name writer --restart always --volume log:/log box sh -c "
        "'while echo x >>/log/x; do busybox sync; sleep 0.2; done'"
    )
    machine.snapshot("on-file")
    return machine


def assert_taken_over(machine: Machine, kept: str) -> None:
    assert machine.out("pvs --noheadings -o pv_name -S vg_name=docker-vg") == machine.out(f"readlink -f {SPARE}")
    assert machine.out("losetup --list --noheadings") == ""
    assert machine.run(f"ls -d /var/lib/docker-disk {VOLUME_FILE_DEVICE}", check=False).stdout == ""
    assert machine.out("cd /var/lib/docker/volumes/kept/_data && sha256sum *", timeout=900) == kept
    assert_isolated(machine)


def test_disk_takes_over_while_containers_run_and_a_build_goes_on(beside_disk: Machine) -> None:
    machine = beside_disk
    machine.restore("on-file")
    kept = machine.out("cd /var/lib/docker/volumes/kept/_data && sha256sum *", timeout=900)
    started = machine.out("docker inspect --format '{{.State.StartedAt}}' writer")
    free = root_free(machine)
    predicted = dry(machine, volume_disks=[SPARE]).predicted
    build = (
        "printf 'FROM box\\nRUN n=0; while [ $n -lt 600 ]; do n=$((n + 1)); echo $n >/step-$n; sleep 0.2; done\\n' | "
        "docker build --network none --tag built -"
    )
    with killed_at_the_end(start([*machine.ssh_command(user="root"), build])) as building:
        run = converge(machine, volume_disks=[SPARE])
        output, _ = building.communicate(timeout=900)
        assert building.returncode == 0, output
    assert run.changed == predicted
    assert "Moved: " in run.output
    assert_taken_over(machine, kept)
    assert machine.out("docker inspect --format '{{.State.StartedAt}} {{.State.Running}}' writer") == f"{started} true"
    assert root_free(machine) - free > 10_000
    assert dry(machine, volume_disks=[SPARE]).predicted == set()
    cut_and_boot(machine)
    assert_taken_over(machine, kept)
    machine.settings["volume_disks"] = [SPARE]
    machine.save()
    verify(machine)
    machine.settings["volume_disks"] = []
    machine.save()


@pytest.mark.full
def test_takeover_that_the_power_cuts_three_times_loses_nothing(beside_disk: Machine) -> None:
    machine = beside_disk
    machine.restore("on-file")
    kept = machine.out("cd /var/lib/docker/volumes/kept/_data && sha256sum *", timeout=900)
    for seconds in (1, 6, 12):
        with killed_at_the_end(start(command(machine.name, volume_disks=[SPARE]))) as run:
            until(run, "Starting operation: .*moves from", seconds)
            lines = machine.out("cat /var/lib/docker/volumes/log/_data/x | wc -l")
            cut_and_boot(machine)
        assert_isolated(machine)
        assert int(machine.out("cat /var/lib/docker/volumes/log/_data/x | wc -l")) >= int(lines) - 1
    converge(machine, volume_disks=[SPARE])
    assert_taken_over(machine, kept)
    assert dry(machine, volume_disks=[SPARE]).predicted == set()


@pytest.mark.full
def test_file_that_was_removed_while_it_is_in_use_is_saved_by_a_disk(beside_disk: Machine) -> None:
    machine = beside_disk
    machine.restore("on-file")
    kept = machine.out("cd /var/lib/docker/volumes/kept/_data && sha256sum *", timeout=900)
    machine.run(f"rm {VOLUME_FILE}")
    assert "name a blank disk in volume_disks" in machine.run("check-disk --no-alert", check=False).stdout
    converge(machine, volume_disks=[SPARE])
    assert_taken_over(machine, kept)
