"""A host sends alerts before it is full. The disks really fill, and real messages go to real or fake receivers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest

from lab.machine import Machine
from tests.lab.conftest import DATA, converge, dry, send, verify, wait_until

pytestmark = pytest.mark.turn

# Apprise's own plugins send to these services. On the machine receivers.py stands in for them, with a trusted
# certificate.
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


class WatchedHost:
    """A machine whose alerts go to three receivers."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        send(machine, DATA / "receivers.py", "/root/receivers.py")
        machine.run(_PREPARE, timeout=600)
        converge(machine, **SETTINGS)
        machine.run("systemctl stop cron")  # its checks send alerts of their own
        self.observed: dict[str, int] = dict.fromkeys(RECEIVERS, 0)

    def check(self, *arguments: str) -> tuple[int, str]:
        """Run check-disk as cron does, and wait until its alerts are sent. Return its exit code and its output."""
        done = self.machine.run(f"check-disk {' '.join(arguments)}", check=False)
        self.machine.run(
            "while systemctl list-jobs --no-legend | grep -q bulkhead-alert || "
            "systemctl show --property=ActiveState --value bulkhead-alert.service | grep -q activating; do sleep 0.2; done",
            timeout=600,
        )
        assert "Traceback" not in done.stdout + done.stderr
        assert done.stderr == ""
        return done.returncode, done.stdout

    def new_messages(self, receiver: str) -> list[str]:
        """Return the messages that a receiver got since the last call."""
        command = f"cd /run/received/{receiver} && for file in *; do [ ! -e $file ] || {{ cat $file; echo; echo =END=; }}; done"
        messages = self.machine.out(command).split("=END=")[:-1]
        new = messages[self.observed[receiver] :]
        self.observed[receiver] = len(messages)
        return new

    def received(self) -> list[str]:
        """Return the messages since the last call. Assert that every receiver got equally many."""
        news = {receiver: self.new_messages(receiver) for receiver in RECEIVERS}
        assert len({len(messages) for messages in news.values()}) == 1, news
        return news["slack"]

    def fill(self, percent: int) -> None:
        """Write a file that fills the volume up to this percentage."""
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
def provisioned(machines: Callable[..., Machine]) -> WatchedHost:
    # The guard is off: it also sends alerts when a volume is nearly full. It has tests of its own.
    machine = machines("watched", suite="bookworm", docker="preinstalled", settings={"guard": False})
    machine.run("mkdir -p /var/lib/metrics")
    watched = WatchedHost(machine)
    machine.snapshot("watched")
    return watched


@pytest.fixture
def host(provisioned: WatchedHost) -> WatchedHost:
    provisioned.machine.restore("watched")
    provisioned.observed = dict.fromkeys(RECEIVERS, 0)
    return provisioned


def test_provisioned_host_is_verified_and_has_nothing_left_to_change(host: WatchedHost) -> None:
    host.machine.run("systemctl start cron")
    assert dry(host.machine, **SETTINGS).predicted == set()
    verify(host.machine)
    host.machine.run("systemctl stop cron")
    code, output = host.check()
    assert code == 0
    assert output.startswith("DISK OK - ")
    assert host.received() == []


def test_each_level_sends_one_alert_then_ever_rarer_reminders_and_recovery_sends_one_alert(host: WatchedHost) -> None:
    machine = host.machine
    host.fill(81)
    code, output = host.check("80")
    assert (code, output.startswith("DISK WARNING - ")) == (1, True), output
    assert f"{VOLUME} 81 % used" in output
    (message,) = host.received()
    assert VOLUME in message
    assert "bulkhead" in message
    assert host.check("80")[0] == 1
    assert host.received() == []

    # A real image fills the volume beyond the next level.
    machine.run(
        f"head -c $(df --output=size -B1 {VOLUME} | awk 'NR == 2 {{ print int($1 / 10) }}') /dev/urandom >/root/big"
    )
    machine.run("tar -C /root -c big | docker import - big", timeout=300)
    code, output = host.check("80")
    assert (code, output.startswith("DISK CRITICAL - ")) == (2, True), output
    assert len(host.received()) == 1

    machine.run("date -s '+5 hours'")
    assert host.check("80")[0] == 2
    assert len(host.received()) == 1, "no reminder"
    machine.run("date -s '+5 hours'")
    assert host.check("80")[0] == 2
    assert host.received() == [], "the second reminder came as soon as the first"
    machine.run("date -s '+5 hours'")
    assert host.check("80")[0] == 2
    assert len(host.received()) == 1

    machine.run(f"rm {VOLUME}/filler; docker rmi big; sync")
    assert host.check("80")[0] == 0
    (message,) = host.received()
    assert "OK" in message
    assert host.check("80")[0] == 0
    assert host.received() == []


@pytest.mark.sample(1, of="ways to be told")
def test_receiver_that_is_down_delays_no_other_and_gets_its_messages_later(host: WatchedHost) -> None:
    host.machine.run("touch /run/received/slack.down")
    host.fill(81)
    host.check()
    assert [len(host.new_messages(receiver)) for receiver in RECEIVERS] == [0, 1, 1]
    host.check()
    assert [len(host.new_messages(receiver)) for receiver in RECEIVERS] == [0, 0, 0]
    assert 'bulkhead_alerts_queued{receiver="slack"} 1.0' in host.machine.out("cat /var/lib/metrics/bulkhead.prom")
    host.machine.run("rm /run/received/slack.down")
    host.check()
    assert [len(host.new_messages(receiver)) for receiver in RECEIVERS] == [1, 0, 0]


@pytest.mark.sample(1, of="ways to be told")
def test_alert_test_tries_every_receiver_and_shows_no_secret(host: WatchedHost) -> None:
    machine = host.machine
    machine.run("touch /run/received/discord.down")
    output = machine.run("bulkhead alert --test", check=False, timeout=300)
    assert output.returncode == 1
    lines = dict(line.split(": ", 1) for line in output.stdout.splitlines())
    assert lines["slack"] == lines["mail"] == "sent"
    assert lines["discord"].startswith("failed: ")
    assert [len(host.new_messages(receiver)) for receiver in RECEIVERS] == [1, 0, 1]
    assert not re.search(SECRETS, output.stdout + output.stderr)
    leaks = machine.out(
        f"journalctl --no-pager | grep -cE '{SECRETS}' || true; grep -rlE '{SECRETS}' /etc /var/lib /var/log || true"
    )
    assert leaks.splitlines() == ["0", "/etc/bulkhead/receivers"]


@pytest.mark.sample(1, of="ways to be told")
def test_inodes_read_only_mounts_and_full_snapshots_are_critical(host: WatchedHost) -> None:
    machine = host.machine
    machine.run(
        "lvcreate -qq -y -L 64M -n tiny ubuntu-vg && mkfs.ext4 -q -N 128 /dev/ubuntu-vg/tiny && mkdir /srv/tiny && "
        "mount /dev/ubuntu-vg/tiny /srv/tiny && for n in $(seq 200); do touch /srv/tiny/$n 2>/dev/null || break; done"
    )
    code, output = host.check()
    assert code == 2
    assert "/srv/tiny 100 % of inodes used, 0 free" in output
    machine.run(
        "rm /srv/tiny/*; mount -o remount,ro /srv/tiny; echo '/dev/ubuntu-vg/tiny /srv/tiny ext4 rw 0 0' >>/etc/fstab"
    )
    code, output = host.check()
    assert (code, "/srv/tiny cannot be written to" in output) == (2, True), output
    machine.run("umount /srv/tiny")
    machine.run(
        "lvcreate -qq -y -s -L 12M -n snap ubuntu-vg/docker-lv && head -c 11500000 /dev/urandom >/srv/docker-volume/new; sync"
    )
    code, output = host.check()
    assert code == 2
    assert "snapshot ubuntu-vg/snap of docker-lv" in output


def test_docker_that_hangs_or_is_stopped_is_reported_in_time_and_left_alone(host: WatchedHost) -> None:
    machine = host.machine
    machine.run("kill -STOP $(pidof dockerd)")
    code, output = host.check()
    assert code == 3
    assert "Docker does not answer within 10 s" in output
    machine.run("kill -CONT $(pidof dockerd); systemctl stop docker.service 2>/dev/null")
    code, output = host.check()
    assert (code, "Docker does not run: docker.service is inactive" in output) == (3, True), output
    assert machine.out("systemctl is-active docker.service || true") == "inactive"
    machine.run("systemctl start docker.service")
    assert host.check()[0] == 0


@pytest.mark.sample(1, of="ways to be told")
def test_store_that_is_on_the_root_disk_is_critical(host: WatchedHost) -> None:
    host.machine.run("systemctl stop docker.socket docker && umount /var/lib/docker")
    code, output = host.check()
    assert code == 2
    assert f"Docker is not isolated from the root disk: /var/lib/docker is not on {VOLUME}" in output


@pytest.mark.sample(1, of="ways to be told")
def test_check_survives_damaged_state_and_reports_damaged_settings_in_one_line(host: WatchedHost) -> None:
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
    assert re.match(f"bulkhead: {found}", unread.stderr), unread.stderr  # cron mails this


@pytest.mark.sample(1, of="ways to be told")
def test_full_root_stops_no_alert(host: WatchedHost) -> None:
    machine = host.machine
    machine.run(
        "fallocate -l $(df --output=avail -B1 / | tail -n 1) /root/hog; cat /dev/zero >/root/hog2 2>/dev/null; sync",
        check=False,
        timeout=600,
    )
    code, output = host.check()
    assert code == 2
    assert "/ 100 % used, 0K free" in output
    assert len(host.received()) == 1
    assert host.check()[0] == 2
    assert host.received() == [], "the alert was sent again: the check has forgotten that it sent it"


@pytest.mark.sample(1, of="ways to be told")
def test_cron_runs_the_check_and_node_exporter_serves_its_metrics(host: WatchedHost) -> None:
    machine = host.machine
    machine.run("apt-get -qq update", timeout=900)  # before the clock is set: apt refuses lists from the future
    # cron sleeps until the next minute of the old clock, and only then notices the new time.
    machine.run("systemctl start cron; rm -f /var/lib/metrics/bulkhead.prom; date -s \"$(date +'%F %H'):14:45\"")
    wait_until(lambda: machine.run("test -e /var/lib/metrics/bulkhead.prom", check=False).returncode == 0)
    machine.run("apt-get install -qq --no-install-recommends prometheus-node-exporter >/dev/null 2>&1", timeout=900)
    machine.run(
        "systemctl stop prometheus-node-exporter; systemd-run --quiet prometheus-node-exporter --web.listen-address=127.0.0.1:9100 "
        "--collector.disable-defaults --collector.textfile --collector.textfile.directory=/var/lib/metrics"
    )
    ask = "python3 -c \"import urllib.request as u; print(u.urlopen('http://127.0.0.1:9100/metrics').read().decode())\""
    wait_until(lambda: machine.run(ask, check=False).returncode == 0)
    served = machine.out(ask)
    assert f'bulkhead_filesystem_size_bytes{{mountpoint="{VOLUME}"}}' in served
    assert "bulkhead_isolated 1" in served
    assert "node_textfile_scrape_error 0" in served


# How data gets off the volume, and what the check says of it.
ELSEWHERE = {
    "flag_of_dockerd": (
        "mkdir -p /etc/systemd/system/docker.service.d /elsewhere; line=$(systemctl cat docker.service | sed -n "
        "'s/^ExecStart=//p' | tail -n 1); printf '[Service]\\nExecStart=\\nExecStart=%s --data-root=/elsewhere\\n' "
        '"$line" >/etc/systemd/system/docker.service.d/90-root.conf; systemctl daemon-reload; systemctl restart docker',
        2,
        "the running Docker puts data into /elsewhere",
    ),
    "flag_of_containerd": (
        "mkdir -p /etc/systemd/system/containerd.service.d; line=$(systemctl cat containerd.service | sed -n "
        "'s/^ExecStart=//p' | tail -n 1); printf '[Service]\\nExecStart=\\nExecStart=%s --root=/elsewhere\\n' "
        '"$line" >/etc/systemd/system/containerd.service.d/90-root.conf; systemctl daemon-reload; '
        "systemctl restart containerd docker",
        2,
        "the running containerd puts data into /elsewhere",
    ),
    "import_of_containerd": (
        "mkdir -p /etc/containerd/conf.d; printf 'root = \"/elsewhere\"\\n' >/etc/containerd/conf.d/root.toml; "
        "{ echo 'imports = [\"/etc/containerd/conf.d/*.toml\"]'; cat /etc/containerd/config.toml 2>/dev/null || "
        "echo 'version = 2'; } >/run/config.toml; mv /run/config.toml /etc/containerd/config.toml",
        2,
        "/etc/containerd/conf.d/root.toml puts data into /elsewhere",
    ),
    "daemon_json": ("echo '{' >/etc/docker/daemon.json", 3, "Docker does not start with /etc/docker/daemon.json"),
}


@pytest.mark.sample(1, of="ways to be told")
@pytest.mark.parametrize("way", ELSEWHERE)
def test_data_that_leaves_the_volume_is_reported(host: WatchedHost, way: str) -> None:
    command, level, text = ELSEWHERE[way]
    host.machine.run(command, timeout=300)
    code, output = host.check()
    assert (code, text in output) == (level, True), output
    assert [text in message for message in host.received()] == [True]


def test_json_output_has_the_figures(host: WatchedHost) -> None:
    done = host.machine.run("bulkhead check --json --no-alert", check=False)
    figures = json.loads(done.stdout)
    assert figures["status"] == "OK"
    assert {"/", VOLUME} <= {filesystem["mount"] for filesystem in figures["filesystems"]}
    assert json.loads(host.machine.out("bulkhead status --json"))["phase"] == ""
