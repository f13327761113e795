"""Extra volumes: a /home in use and a directory of models move onto volumes of their own."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable

import pytest

from lab.machine import Machine
from tests.lab.conftest import (
    DATA,
    converge,
    converge_as_predicted,
    cut_and_boot,
    deploy,
    dry,
    fingerprint,
    in_time,
    kill_after,
    kill_the_move,
    phase_lengths,
    relocation,
    send,
    until,
    verify,
)

pytestmark = pytest.mark.turn

VOLUMES = {
    "home-lv": {"mount": "/home", "size": "2G"},
    "models-lv": {"mount": "/srv/models", "size": "1G"},
}
ON_VOLUMES = ["/dev/mapper/ubuntu--vg-home--lv", "/dev/mapper/ubuntu--vg-models--lv"]
ON_ROOT = ["", ""]

# The runs log in as a user whose home is in /home.
SETTINGS = {"extra_volumes": VOLUMES, "volume_size": "20G", "ssh_user": "me", "_sudo": True}

LIVED_IN = r"""
set -e
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update && apt-get -qq install -y libpam-systemd >/dev/null 2>&1
useradd --create-home --shell /bin/bash me
echo 'me ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/me
install -d -o me -g me -m 700 /home/me/.ssh
install -o me -g me -m 600 /root/.ssh/authorized_keys /home/me/.ssh/authorized_keys
for path in /home/me/files /srv/models/files; do
    mkdir -p $path && cd $path
    head -c 30000000 /dev/urandom >large
    for n in $(seq 300); do echo $n >small$n; done
    ln large hard; ln -s large link; mkfifo pipe; truncate -s 100M sparse; echo end >>sparse
    echo "two words" >"a b"; echo x >"$(printf 'line\nbreak')"
    chmod 4750 small1; chown 12345:54321 small2; touch -d 2020-01-01 small3
done
sync
"""


def manifest(machine: Machine) -> list[str]:
    send(machine, DATA / "manifest.py", "/run/manifest.py")
    output = machine.out(
        "python3 /run/manifest.py /home/me/files /home/me/.ssh /srv/models/files; stat -c '%n %a %U %G' /home /home/me /srv/models"
    )
    return output.splitlines()


def sources(machine: Machine) -> list[str]:
    return [machine.out(f"findmnt -no SOURCE {path} || true") for path in ("/home", "/srv/models")]


def can_log_in(machine: Machine) -> bool:
    line = [*machine.ssh_command(user="me"), "pwd"]
    done = subprocess.run(line, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300)
    return done.stdout == "/home/me\n"


@pytest.fixture(scope="module")
def lived_in(machines: Callable[..., Machine]) -> tuple[Machine, list[str]]:
    """Return a machine with files in both directories, and their manifest."""
    machine = machines("extra", suite="bookworm", docker="preinstalled", settings=SETTINGS)
    machine.run(LIVED_IN, timeout=900)
    return machine, manifest(machine)


@pytest.fixture(scope="module")
def moved(lived_in: tuple[Machine, list[str]]) -> Machine:
    """Return the machine after the run that moves both. An earlier run was refused while somebody worked in /home."""
    machine, _ = lived_in
    login = subprocess.Popen(
        [*machine.ssh_command(user="me"), "echo in; exec sleep 1000"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert login.stdout
    with kill_after(login, 300):
        assert login.stdout.readline() == "in\n"
    observed = fingerprint(machine)
    refused = deploy(machine)
    assert refused.code == 1
    assert "/home is in use: sleep (process" in refused.output
    assert fingerprint(machine) == observed, "a refused run has changed the host"
    machine.run("pkill -x sleep")
    login.wait(300)
    converge_as_predicted(machine)
    machine.snapshot("moved")
    return machine


@pytest.fixture
def machine(moved: Machine) -> Machine:
    moved.restore("moved")
    return moved


def test_directories_are_moved_with_everything_in_them(moved: Machine, lived_in: tuple[Machine, list[str]]) -> None:
    assert sources(moved) == ON_VOLUMES
    assert manifest(moved) == lived_in[1]
    assert dry(moved).predicted == set()
    verify(moved)


def test_finalize_removes_the_old_files_and_a_lost_home_locks_nobody_out(
    machine: Machine, lived_in: tuple[Machine, list[str]]
) -> None:
    used = int(machine.out("df --output=used -B1M / | tail -n 1"))
    machine.run("bulkhead finalize --yes")
    assert used - int(machine.out("df --output=used -B1M / | tail -n 1")) > 50
    assert manifest(machine) == lived_in[1]
    assert dry(machine).predicted == set()
    machine.run("umount /home || fuser -vm /home; lvrename -q ubuntu-vg home-lv gone-lv; sync", check=False)
    cut_and_boot(machine)
    assert sources(machine) == ["", ON_VOLUMES[1]]
    assert can_log_in(machine), "without the volume of /home nobody can log in"
    assert machine.out("find /home -type f") == "/home/me/.ssh/authorized_keys"
    assert machine.run("touch /home/me/file", check=False).returncode != 0, (
        "the directory beneath the mount point is writable"
    )


@pytest.mark.full
def test_larger_size_grows_the_volume_while_it_is_used(machine: Machine, lived_in: tuple[Machine, list[str]]) -> None:
    larger = {name: {**volume, "size": "3G"} for name, volume in VOLUMES.items()}
    machine.run("systemd-run --quiet --unit=writer --uid=me sh -c 'while echo x; do sleep 0.1; done >/home/me/written'")
    run = converge(machine, extra_volumes=larger)
    assert run.changed == {
        "Volume | Logical volume ubuntu-vg/home-lv",
        "Volume | Filesystem ext4 on /dev/mapper/ubuntu--vg-home--lv",
        "Volume | Logical volume ubuntu-vg/models-lv",
        "Volume | Filesystem ext4 on /dev/mapper/ubuntu--vg-models--lv",
    }
    sizes = machine.out("df --output=size -B1M /home /srv/models | tail -n 2").split()
    assert [int(size) > 2850 for size in sizes] == [True, True], sizes
    machine.run("systemctl is-active writer && systemctl stop writer")
    assert manifest(machine) == lived_in[1]


@pytest.fixture(scope="module")
def taken_back(moved: Machine, lived_in: tuple[Machine, list[str]]) -> Machine:
    """Return the machine after a rollback of both, with a new file on one volume."""
    moved.restore("moved")
    moved.run("echo new >/home/me/new")
    output = moved.out("bulkhead rollback /home --yes && bulkhead rollback /srv/models --yes", timeout=900)
    assert "/home: 1 file written since the move" in output
    assert sources(moved) == ON_ROOT
    assert manifest(moved) == lived_in[1]
    assert moved.run("test -e /home/me/new", check=False).returncode == 1
    moved.snapshot("taken-back")
    return moved


def test_rollback_keeps_newer_files_on_the_volume(taken_back: Machine, lived_in: tuple[Machine, list[str]]) -> None:
    taken_back.restore("taken-back")
    taken_back.run("bulkhead relocate /home /srv/models", timeout=900)
    assert sources(taken_back) == ON_VOLUMES
    assert manifest(taken_back) == lived_in[1]
    assert taken_back.out("cat /home/.bulkhead-left/1/me/new") == "new"


# The lines that the move prints when a phase begins.
PHASES = (
    "copying /home",
    "verifying /home",
    "copying the difference in /home",
    "switching /home",
    "copying the difference in /srv/models",
    "switching /srv/models",
)
_random = random.Random(2)
# The shares of each phase's length on this machine after which the move is cut: never so late that it may be over.
SHARES = {line: [round(_random.uniform(0, 0.3 if line == PHASES[-1] else 0.6), 2) for _ in range(2)] for line in PHASES}


@pytest.fixture(scope="module")
def lengths(taken_back: Machine) -> dict[str, float]:
    """Return how many seconds each phase takes on this machine."""
    taken_back.restore("taken-back")
    return phase_lengths(taken_back, PHASES, "/home", "/srv/models")


@pytest.mark.sample(1)
@pytest.mark.parametrize("line", PHASES)
@pytest.mark.parametrize("how", ["power", "kill"])
def test_nothing_is_lost_when_move_after_move_is_cut(
    taken_back: Machine, lived_in: tuple[Machine, list[str]], lengths: dict[str, float], line: str, how: str
) -> None:
    machine = taken_back
    machine.restore("taken-back")

    def cut(seconds: float) -> None:
        with relocation(machine, "/home", "/srv/models") as move:
            until(move, line, seconds)
            if how == "power":
                cut_and_boot(machine)
            else:
                kill_the_move(machine)

    for share in SHARES[line]:
        in_time(cut, share * lengths[line], lambda: machine.restore("taken-back"))
        assert manifest(machine) == lived_in[1]
        assert can_log_in(machine)
        machine.run("runuser -u me -- touch /home/me/writable && touch /srv/models/writable && rm /srv/models/writable")
        if sources(machine) != ON_ROOT:
            machine.restore("taken-back")  # one that is half moved has fewer phases
    machine.run("bulkhead relocate /home /srv/models", timeout=900)
    assert sources(machine) == ON_VOLUMES
    assert manifest(machine) == lived_in[1]
    assert dry(machine).predicted == set()
