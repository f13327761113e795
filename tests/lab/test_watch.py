"""A host tells before it is full: real disks that fill, real messages to receivers that are real or real enough."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest

from lab.machine import Machine
from tests.lab.conftest import DATA, converge, dry, send, verify, wait_until

pytestmark = pytest.mark.turn

# Apprise's own plugins speak to these names; in the machine they are receivers.py, with a certificate that it trusts.
RECEIVERS = {
    "slack": "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ",
    "discord": "discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js",
    "mail": "mailto://127.0.0.1:25?from=docker@example.com&to=ops@example.com",
}
SECRETS = "TIiajkdnlazkcOXrIdevi7FQ|JHMHI8qBe7bk2ZwO5U711o3dV_js"
_PREPARE = """
set -e
openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -keyout /root/key.pem -subj /CN=lab \
    -out /usr/local/share/ca-certificates/lab.crt -addext subjectAltName=DNS:hooks.slack.com,DNS:discord.com 2>/dev/null
update-ca-certificates >/dev/null 2>&1
echo '127.0.0.1 hooks.slack.com discord.com' >>/etc/hosts
systemd-run --quiet --unit=receivers python3 /root/receivers.py /usr/local/share/ca-certificates/lab.crt /root/key.pem
"""
VOLUME = "/srv/docker-volume"


class Watched:
    """A machine whose alerts go to three receivers."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        send(machine, DATA / "receivers.py", "/root/receivers.py")
        machine.run(_PREPARE, timeout=600)
        converge(machine, **SETTINGS)
        self.seen: dict[str, int] = dict.fromkeys(RECEIVERS, 0)

    def check(self, *arguments: str) -> tuple[int, str]:
        """check-disk as cron runs it, and everything sent that it had to say."""
        done = self.machine.run(f"check-disk {' '.join(arguments)}", check=False)
        self.machine.run(
            "while systemctl list-jobs --no-legend | grep -q bulkhead-alert || "
            "systemctl show --property=ActiveState --value bulkhead-alert.service | grep -q activating; do sleep 0.2; done",
            timeout=600,
        )
        assert "Traceback" not in done.stdout + done.stderr
        assert done.stderr == ""
        return done.returncode, done.stdout

    def news(self, receiver: str) -> list[str]:
        """The messages that a receiver got since it was asked last."""
        command = f"cd /run/received/{receiver} && for file in *; do [ ! -e $file ] || {{ cat $file; echo; echo =END=; }}; done"
        messages = self.machine.out(command).split("=END=")[:-1]
        new = messages[self.seen[receiver] :]
        self.seen[receiver] = len(messages)
        return new

    def told(self) -> list[str]:
        """What each receiver got since it was asked last: all of them the same number of messages."""
        news = {receiver: self.news(receiver) for receiver in RECEIVERS}
        assert len({len(messages) for messages in news.values()}) == 1, news
        return news["slack"]

    def fill(self, percent: int) -> None:
        """Write a file until the volume is just so full."""
        self.machine.run(
            f"size=$(df --output=used,avail -B1 {VOLUME} | awk 'NR == 2 {{ print int(($1 + $2) * {percent}.5 / 100 - $1) }}'); "
            f"head -c $size /dev/zero >>{VOLUME}/filler; sync",
            timeout=300,
        )


SETTINGS = {
    "volume_size": "2G",
    "alert_receivers": RECEIVERS,
    "metrics_directory": "/var/lib/metrics",
}


@pytest.fixture(scope="module")
def provisioned(machines: Callable[..., Machine]) -> Watched:
    # Without the guard, which tells too when a volume is nearly full: it has tests of its own.
    machine = machines("watched", suite="bookworm", docker="preinstalled", settings={"guard": False})
    machine.run("mkdir -p /var/lib/metrics")
    watched = Watched(machine)
    machine.snapshot("watched")
    return watched


@pytest.fixture
def host(provisioned: Watched) -> Watched:
    provisioned.machine.restore("watched")
    provisioned.seen = dict.fromkeys(RECEIVERS, 0)
    return provisioned


def test_provisioned_host_is_verified_and_has_nothing_left_to_change(host: Watched) -> None:
    assert dry(host.machine, **SETTINGS).predicted == set()
    verify(host.machine)
    code, said = host.check()
    assert code == 0
    assert said.startswith("DISK OK - ")
    assert host.told() == []


def test_every_level_is_told_once_then_ever_more_rarely_and_so_is_the_recovery(host: Watched) -> None:
    machine = host.machine
    host.fill(81)
    code, said = host.check("80")
    assert (code, said.startswith("DISK WARNING - ")) == (1, True), said
    assert f"{VOLUME} 81 % used" in said
    (message,) = host.told()
    assert VOLUME in message
    assert "bulkhead" in message
    assert host.check("80")[0] == 1
    assert host.told() == []

    # A real image takes it past the next level.
    machine.run(
        f"head -c $(df --output=size -B1 {VOLUME} | awk 'NR == 2 {{ print int($1 / 10) }}') /dev/urandom >/root/big"
    )
    machine.run("tar -C /root -c big | docker import - big", timeout=300)
    code, said = host.check("80")
    assert (code, said.startswith("DISK CRITICAL - ")) == (2, True), said
    assert len(host.told()) == 1

    machine.run("date -s '+5 hours'")
    assert host.check("80")[0] == 2
    assert len(host.told()) == 1, "no reminder"
    machine.run("date -s '+5 hours'")
    assert host.check("80")[0] == 2
    assert host.told() == [], "a second reminder as soon as the first"
    machine.run("date -s '+5 hours'")
    assert host.check("80")[0] == 2
    assert len(host.told()) == 1

    machine.run(f"rm {VOLUME}/filler; docker rmi big; sync")
    assert host.check("80")[0] == 0
    (message,) = host.told()
    assert "OK" in message
    assert host.check("80")[0] == 0
    assert host.told() == []


@pytest.mark.sample(1, of="ways to be told")
def test_receiver_that_is_down_holds_up_no_other_and_gets_its_messages_later(host: Watched) -> None:
    host.machine.run("touch /run/received/slack.down")
    host.fill(81)
    host.check()
    assert [len(host.news(receiver)) for receiver in RECEIVERS] == [0, 1, 1]
    host.check()
    assert [len(host.news(receiver)) for receiver in RECEIVERS] == [0, 0, 0]
    assert 'bulkhead_alerts_queued{receiver="slack"} 1.0' in host.machine.out("cat /var/lib/metrics/bulkhead.prom")
    host.machine.run("rm /run/received/slack.down")
    host.check()
    assert [len(host.news(receiver)) for receiver in RECEIVERS] == [1, 0, 0]


@pytest.mark.sample(1, of="ways to be told")
def test_receivers_are_tried_and_no_secret_is_to_be_seen(host: Watched) -> None:
    machine = host.machine
    machine.run("touch /run/received/discord.down")
    said = machine.run("bulkhead alert --test", check=False, timeout=300)
    assert said.returncode == 1
    lines = dict(line.split(": ", 1) for line in said.stdout.splitlines())
    assert lines["slack"] == lines["mail"] == "sent"
    assert lines["discord"].startswith("failed: ")
    assert [len(host.news(receiver)) for receiver in RECEIVERS] == [1, 0, 1]
    assert not re.search(SECRETS, said.stdout + said.stderr)
    leaks = machine.out(
        f"journalctl --no-pager | grep -cE '{SECRETS}' || true; grep -rlE '{SECRETS}' /etc /var/lib /var/log || true"
    )
    assert leaks.splitlines() == ["0", "/etc/bulkhead/receivers"]


@pytest.mark.sample(1, of="ways to be told")
def test_other_ways_to_be_full_or_broken_are_told(host: Watched) -> None:
    machine = host.machine
    machine.run(
        "lvcreate -qq -y -L 64M -n tiny ubuntu-vg && mkfs.ext4 -q -N 128 /dev/ubuntu-vg/tiny && mkdir /srv/tiny && "
        "mount /dev/ubuntu-vg/tiny /srv/tiny && for n in $(seq 200); do touch /srv/tiny/$n 2>/dev/null || break; done"
    )
    code, said = host.check()
    assert code == 2
    assert "/srv/tiny 100 % of inodes used, 0 free" in said
    machine.run(
        "rm /srv/tiny/*; mount -o remount,ro /srv/tiny; echo '/dev/ubuntu-vg/tiny /srv/tiny ext4 rw 0 0' >>/etc/fstab"
    )
    code, said = host.check()
    assert (code, "/srv/tiny cannot be written to" in said) == (2, True), said
    machine.run("umount /srv/tiny")
    machine.run(
        "lvcreate -qq -y -s -L 12M -n snap ubuntu-vg/docker-lv && head -c 11500000 /dev/urandom >/srv/docker-volume/new; sync"
    )
    code, said = host.check()
    assert code == 2
    assert "snapshot ubuntu-vg/snap of docker-lv" in said


def test_docker_that_hangs_or_is_stopped_is_told_in_time_and_left_alone(host: Watched) -> None:
    machine = host.machine
    machine.run("kill -STOP $(pidof dockerd)")
    code, said = host.check()
    assert code == 3
    assert "Docker does not answer within 10 s" in said
    machine.run("kill -CONT $(pidof dockerd); systemctl stop docker.service 2>/dev/null")
    code, said = host.check()
    assert (code, "Docker does not run: docker.service is inactive" in said) == (3, True), said
    assert machine.out("systemctl is-active docker.service || true") == "inactive"
    machine.run("systemctl start docker.service")
    assert host.check()[0] == 0


@pytest.mark.sample(1, of="ways to be told")
def test_store_that_is_on_the_root_disk_is_critical(host: Watched) -> None:
    host.machine.run("systemctl stop docker.socket docker && umount /var/lib/docker")
    code, said = host.check()
    assert code == 2
    assert f"Docker is not isolated from the root disk: /var/lib/docker is not on {VOLUME}" in said


@pytest.mark.sample(1, of="ways to be told")
def test_damage_to_what_the_check_itself_needs_is_one_clear_line(host: Watched) -> None:
    machine = host.machine
    host.check()
    machine.run("echo '{' >/var/lib/bulkhead/check.json; echo x >/var/lib/bulkhead/alerts.json")
    assert host.check()[0] == 0
    machine.run("rm -f /var/lib/bulkhead/*.json; date -s '-3 days'")
    assert host.check()[0] == 0
    machine.run("date -s '+400 days'")
    assert host.check()[0] == 0
    both = machine.out("check-disk >/run/one & check-disk >/run/two; wait; cat /run/one /run/two")
    assert [line.startswith("DISK OK") for line in both.splitlines()] == [True, True]
    machine.run("mv /etc/bulkhead/bulkhead.json /root/; echo '{' >/etc/bulkhead/bulkhead.json")
    unread = machine.run("check-disk", check=False)
    assert unread.returncode == 3
    found = "/etc/bulkhead/bulkhead.json cannot be read: .* Run the deploy again"
    assert re.match(f"DISK UNKNOWN - {found}", unread.stdout), unread.stdout
    assert re.match(f"bulkhead: {found}", unread.stderr), unread.stderr  # which cron mails


@pytest.mark.sample(1, of="ways to be told")
def test_root_that_is_full_keeps_nobody_from_being_told(host: Watched) -> None:
    machine = host.machine
    # Its check would tell first that the root is full, and another then of the metrics.
    machine.run("systemctl stop cron")
    machine.run(
        "fallocate -l $(df --output=avail -B1 / | tail -n 1) /root/hog; cat /dev/zero >/root/hog2 2>/dev/null; sync",
        check=False,
        timeout=600,
    )
    code, said = host.check()
    assert code == 2
    assert "/ 100 % used, 0K free" in said
    assert len(host.told()) == 1
    assert host.check()[0] == 2
    assert host.told() == [], "told again: what was told is forgotten"


@pytest.mark.sample(1, of="ways to be told")
def test_cron_itself_runs_it_and_node_exporter_serves_its_figures(host: Watched) -> None:
    machine = host.machine
    # It sleeps on to the end of what was a minute before, and then looks at the clock.
    machine.run("rm -f /var/lib/metrics/bulkhead.prom; date -s \"$(date +'%F %H'):14:45\"")
    wait_until(lambda: machine.run("test -e /var/lib/metrics/bulkhead.prom", check=False).returncode == 0, 120)
    machine.run("apt-get install -qq --no-install-recommends prometheus-node-exporter >/dev/null 2>&1", timeout=300)
    machine.run(
        "systemctl stop prometheus-node-exporter; systemd-run --quiet prometheus-node-exporter --web.listen-address=127.0.0.1:9100 "
        "--collector.disable-defaults --collector.textfile --collector.textfile.directory=/var/lib/metrics"
    )
    ask = "python3 -c \"import urllib.request as u; print(u.urlopen('http://127.0.0.1:9100/metrics').read().decode())\""
    wait_until(lambda: machine.run(ask, check=False).returncode == 0, 60)
    served = machine.out(ask)
    assert f'bulkhead_filesystem_size_bytes{{mountpoint="{VOLUME}"}}' in served
    assert "bulkhead_isolated 1" in served
    assert "node_textfile_scrape_error 0" in served


def test_figures_are_there_for_programs(host: Watched) -> None:
    done = host.machine.run("bulkhead check --json --no-alert", check=False)
    figures = json.loads(done.stdout)
    assert figures["status"] == "OK"
    assert {"/", VOLUME} <= {filesystem["mount"] for filesystem in figures["filesystems"]}
    assert json.loads(host.machine.out("bulkhead status --json"))["phase"] == ""
