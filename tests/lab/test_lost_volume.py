"""A provisioned host loses its volume, or finds another filesystem in its place: nothing is destroyed, and there is a way out.

The host is a Debian 12 on the incident's layout. Its Docker has a volume with a file, and the root filesystem holds a file of
its own; each of them must survive whatever may not touch it.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lab.machine import Machine
from tests.lab.conftest import (
    assert_isolated,
    converge,
    converge_as_predicted,
    cut_and_boot,
    deploy,
    dry,
    fingerprint,
    verify,
    wait_until_booted,
)

pytestmark = pytest.mark.turn

PRECIOUS = "/var/lib/docker/volumes/precious/_data/file"
STOP = "systemctl stop docker.socket docker containerd && umount /var/lib/docker /var/lib/containerd /srv/docker-volume"
REMOVE = f"{STOP} && lvremove -qq --yes ubuntu-vg/docker-lv"
# What a lost volume may not take along: our own files on root, and the store that the first run set aside.
ROOT_SENTINEL = "cat /root/sentinel; find /var/lib/docker.before-bulkhead -type f | sort | xargs sha256sum | sha256sum"


@pytest.fixture(scope="module")
def provisioned(machines: Callable[..., Machine]) -> Machine:
    machine = machines("lost", suite="bookworm", docker="preinstalled")
    converge(machine)
    machine.run(f"docker volume create precious >/dev/null && echo precious >{PRECIOUS} && echo mine >/root/sentinel")
    machine.snapshot("provisioned")
    return machine


@pytest.fixture
def machine(provisioned: Machine) -> Machine:
    provisioned.restore("provisioned")
    return provisioned


def assert_refused(machine: Machine, *found: str, script: str = "deploy.py", **settings: object) -> None:
    """Assert that a run refuses the host with these words, and changes nothing."""
    before, sentinel = fingerprint(machine), machine.out(ROOT_SENTINEL)
    run = deploy(machine, script=script, **settings)
    assert run.code == 1
    assert "was left untouched" in run.output
    assert [words for words in found if words not in run.output] == [], run.output
    assert fingerprint(machine) == before
    assert machine.out(ROOT_SENTINEL) == sentinel


def test_volume_that_was_removed_by_mistake_is_refused_and_comes_back_as_the_message_says(machine: Machine) -> None:
    machine.run(REMOVE)
    assert_refused(
        machine,
        "the volume ubuntu-vg/docker-lv for /srv/docker-volume is not there; /etc/fstab and /etc/bulkhead/bulkhead.json",
        "`vgcfgrestore --list ubuntu-vg`",
    )
    blocks = machine.out("vgcfgrestore --list ubuntu-vg").split("File:")
    # Debian 12's LVM lists the file's name twice: /etc/lvm/archive/NAME.vg/NAME.vg.
    name = next(block.split()[0].split("/")[-1] for block in blocks if "lvremove" in block)
    machine.run(
        f"vgcfgrestore --yes --file /etc/lvm/archive/{name} ubuntu-vg && lvchange --activate y ubuntu-vg/docker-lv"
    )
    converge(machine)
    assert machine.out(f"cat {PRECIOUS}") == "precious"
    assert_isolated(machine)
    assert dry(machine).predicted == set()


def test_lost_volume_is_made_anew_when_its_owner_says_that_the_data_is_gone(machine: Machine) -> None:
    machine.run(REMOVE)
    machine.run("sync")
    cut_and_boot(machine)
    sentinel = machine.out(ROOT_SENTINEL)
    assert_refused(machine, "is not there")
    run = converge_as_predicted(machine, replace_lost_volumes=True)
    assert "is given up, as replace_lost_volumes says: a new, empty one takes its place" in run.output
    assert_isolated(machine)
    assert machine.out("docker volume ls --quiet") == ""
    assert machine.out(ROOT_SENTINEL) == sentinel
    again = converge(machine, replace_lost_volumes=True)
    assert again.changes == 0
    assert "replace_lost_volumes is set, and no volume is lost" in again.output
    assert dry(machine).predicted == set()
    verify(machine)
    machine.reboot()
    wait_until_booted(machine)
    assert_isolated(machine)


def test_host_whose_earlier_run_made_the_lost_volume_anew_is_finished(machine: Machine) -> None:
    # What the first version did: it made a volume, and refused its own filesystem step at this and every later run.
    machine.run(REMOVE)
    machine.run(
        "lvcreate --quiet --yes --wipesignatures y --addtag pyinfra-unfinished --addtag docker-bulkhead "
        "--name docker-lv --size 60g ubuntu-vg </dev/null"
    )
    assert_refused(machine, "is not there")
    converge(machine, replace_lost_volumes=True)
    assert_isolated(machine)
    assert dry(machine).predicted == set()


def test_undeploy_leaves_a_host_that_has_lost_its_volume_whole(machine: Machine) -> None:
    machine.run(REMOVE)
    assert_refused(
        machine,
        "the volume ubuntu-vg/docker-lv for /srv/docker-volume is not there",
        "or run deploy.py, which shows every way out",
        script="undeploy.py",
    )


def test_undeploy_leaves_a_host_whose_volume_is_not_mounted_whole(machine: Machine) -> None:
    machine.run(STOP)
    assert_refused(
        machine, "nothing is mounted on /srv/docker-volume, /var/lib/docker, /var/lib/containerd", script="undeploy.py"
    )
    converge(machine)
    assert machine.out(f"cat {PRECIOUS}") == "precious"


FOREIGN_UNIT = """[Mount]
What=/dev/ubuntu-vg/other
Where=/var/lib/docker
Type=ext4
[Install]
WantedBy=local-fs.target
"""


def test_docker_stays_down_on_a_mount_of_others_and_the_unit_is_refused(machine: Machine) -> None:
    unit = "/etc/systemd/system/var-lib-docker.mount"
    machine.run(
        "lvcreate -qq -y -L 512M -n other ubuntu-vg && mkfs.ext4 -q /dev/ubuntu-vg/other && "
        "mount /dev/ubuntu-vg/other /mnt && echo theirs >/mnt/sentinel && umount /mnt"
    )
    machine.run(f"cat >{unit} <<'EOF'\n{FOREIGN_UNIT}EOF\nsystemctl daemon-reload && sync")
    assert_refused(machine, f"{unit} takes the place of fstab's line for that mount point")
    cut_and_boot(machine)
    assert machine.out("findmnt -no SOURCE /var/lib/docker") == "/dev/mapper/ubuntu--vg-other"
    machine.run("systemctl start docker.service containerd.service", check=False, timeout=300)
    machine.run("timeout 60 docker ps", check=False)
    assert "active" not in machine.out("systemctl is-active docker.service || true").split()
    assert machine.out("cd /var/lib/docker && find . -mindepth 1 ! -path './lost+found' && cat sentinel").split() == [
        "./sentinel",
        "theirs",
    ]
    assert_refused(machine, f"{unit} takes the place", "/var/lib/docker is on a filesystem of its own already")
    machine.run(f"systemctl stop var-lib-docker.mount && mv {unit} /root/ && systemctl daemon-reload")
    converge(machine)
    assert machine.out(f"cat {PRECIOUS}") == "precious"
    assert_isolated(machine)


def test_drop_in_that_says_what_is_mounted_is_refused_and_another_is_not(machine: Machine) -> None:
    """systemd itself says which drop-ins a generated unit has, and names their files."""
    directory = r"/etc/systemd/system/srv-docker\x2dvolume.mount.d"
    machine.run(
        f"mkdir '{directory}' && printf '[Mount]\nTimeoutSec=99\n' >'{directory}/time.conf' && systemctl daemon-reload"
    )
    assert dry(machine).predicted == set()
    machine.run(f"printf '[Mount]\nWhat=/dev/ubuntu-vg/other\n' >'{directory}/other.conf' && systemctl daemon-reload")
    assert_refused(machine, f"{directory}/other.conf takes the place of fstab's line for that mount point")
    machine.run(f"rm -r '{directory}' && systemctl daemon-reload")
    assert dry(machine).predicted == set()


def test_host_of_an_earlier_version_gets_the_markers_and_restarts_nothing(machine: Machine) -> None:
    drop_ins = "/etc/systemd/system/docker.service.d/10-bulkhead.conf /etc/systemd/system/containerd.service.d/10-bulkhead.conf"
    machine.run(
        "rm /srv/docker-volume/docker/.docker-bulkhead /srv/docker-volume/containerd/.docker-bulkhead && "
        f"sed -i '\\#^AssertPathExists=/var/lib/#d' {drop_ins} && systemctl daemon-reload"
    )
    started = "systemctl show --property=MainPID,ActiveEnterTimestampMonotonic docker.service containerd.service"
    before = machine.out(started)
    predicted = dry(machine).predicted
    assert predicted == {
        "Volume | The volume has a directory for each store, with its marker",
        "Fail closed: docker.service and containerd.service need the volume",
    }
    assert converge(machine).changed == predicted
    assert machine.out(started) == before
    assert dry(machine).predicted == set()
    machine.run("systemctl restart containerd docker")
    assert machine.out(f"cat {PRECIOUS}") == "precious"
    verify(machine)
