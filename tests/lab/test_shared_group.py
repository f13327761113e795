"""The main case, on the incident's layout: a fresh Debian 12 with root on LVM and the rest of the group free."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from lab.deploy import command
from lab.machine import Machine
from tests.lab.conftest import (
    DATA,
    assert_isolated,
    converge,
    cut_and_boot,
    deploy,
    dry,
    fingerprint,
    peak_memory,
    send,
    start,
    verify,
    wait_until,
    wait_until_booted,
)

SECRET = "hunter2"
FSTAB_LINES = ("/srv/docker-volume", "/var/lib/docker", "/var/lib/containerd")


@pytest.fixture(scope="module")
def fresh(machines: Callable[..., Machine]) -> Machine:
    return machines("shared", suite="bookworm")


@pytest.fixture(scope="module")
def provisioned(fresh: Machine) -> Machine:
    """Return the machine after a dry run, which changes nothing, and the run that it predicts."""
    before = fingerprint(fresh)
    predicted = dry(fresh).predicted
    assert fingerprint(fresh) == before, "a dry run has changed the host"
    run = converge(fresh)
    assert run.changed == predicted, "the run did not do what the dry run predicted"
    fresh.snapshot("provisioned")
    return fresh


@pytest.fixture
def machine(provisioned: Machine) -> Machine:
    provisioned.restore("provisioned")
    return provisioned


def main_pid(machine: Machine) -> str:
    return machine.out("systemctl show docker.service -p MainPID,NRestarts,ActiveEnterTimestampMonotonic")


def test_fresh_host_is_provisioned_as_the_dry_run_predicted_and_verified(provisioned: Machine) -> None:
    verify(provisioned, "--disruptive")


def test_second_run_changes_nothing_and_restarts_nothing(machine: Machine) -> None:
    before, pid = fingerprint(machine), main_pid(machine)
    assert dry(machine).predicted == set()
    assert converge(machine).changes == 0
    assert main_pid(machine) == pid
    assert fingerprint(machine) == before


def test_second_run_is_cheap(machine: Machine, record_property: Callable[[str, object], None]) -> None:
    output, memory = peak_memory(command(machine.name, options=("-y", "-vv")))
    commands = output.count(">>> ")
    record_property("remote commands of a converged host's run", commands)
    record_property("memory of pyinfra", f"{memory / 2**20:.0f} MiB")
    assert 1 < commands <= 6
    assert memory < 200 * 2**20


def test_docker_is_back_after_a_reboot_and_nothing_is_left_to_change(machine: Machine) -> None:
    machine.reboot()
    wait_until_booted(machine)
    verify(machine)
    assert dry(machine).predicted == set()


def assert_down_and_dry(machine: Machine) -> None:
    """Assert that Docker is down and that the directories beneath the mount points are empty."""
    # If the device is lost, these units wait until systemd gives up on it.
    machine.run("systemctl start docker.service containerd.service", check=False, timeout=300)
    machine.run("timeout 120 docker ps", check=False, timeout=300)
    assert "active" not in machine.out("systemctl is-active docker.service containerd.service || true").split()
    beneath = "unshare -m --propagation private sh -c 'mount --bind /var/lib /mnt && ls -A /mnt/docker /mnt/containerd'"
    assert machine.out(beneath).split() == ["/mnt/containerd:", "/mnt/docker:"]
    assert (
        machine.out("unshare -m --propagation private sh -c 'mount --bind /srv /mnt && ls -A /mnt/docker-volume'") == ""
    )


LOST = {
    **{f"fstab_line_of_{path}": f"sed -i '\\# {path} #d' /etc/fstab" for path in FSTAB_LINES},
    "marker": "rm /srv/docker-volume/.docker-bulkhead",
    "marker_of_a_store": "rm /var/lib/docker/.docker-bulkhead",
    "volume": "systemctl stop docker.socket docker containerd; umount /var/lib/docker /var/lib/containerd /srv/docker-volume; "
    "lvrename -q ubuntu-vg docker-lv gone-lv",
}


@pytest.mark.sample(1)
@pytest.mark.parametrize("lost", LOST)
def test_docker_stays_down_and_root_stays_clean_when_something_is_lost(machine: Machine, lost: str) -> None:
    machine.run(LOST[lost])
    machine.run("sync")
    cut_and_boot(machine)
    assert_down_and_dry(machine)


@pytest.mark.sample(2, of="a provisioned host")
def test_configuration_that_docker_refuses_is_rolled_back(machine: Machine) -> None:
    before = machine.out("sha256sum /etc/docker/daemon.json")
    run = deploy(machine, daemon_json={"no-such-key": 1})
    assert run.code == 1
    assert "the old file is back and Docker runs with it" in run.output
    assert machine.out("sha256sum /etc/docker/daemon.json") == before
    assert_isolated(machine)
    assert dry(machine).predicted == set()


@pytest.mark.sample(2, of="a provisioned host")
def test_users_keys_are_merged_and_keys_of_the_host_stay(machine: Machine) -> None:
    machine.run(r"""sed -i 's/^{/{"debug": true,/' /etc/docker/daemon.json""")
    converge(machine, daemon_json={"max-concurrent-downloads": 2})
    assert dry(machine, daemon_json={"max-concurrent-downloads": 2}).predicted == set()
    observed = machine.out("cat /etc/docker/daemon.json")
    assert '"debug": true' in observed
    assert '"max-concurrent-downloads": 2' in observed
    assert_isolated(machine)


# Joins the sample once it has passed on a machine.
@pytest.mark.full
def test_secrets_are_on_no_command_line_in_no_output_and_in_no_file_of_others(machine: Machine) -> None:
    send(machine, DATA / "command_lines.py", "/run/command_lines.py")
    machine.run("touch /run/noted && chown nobody /run/noted")
    machine.run(
        "systemd-run --quiet --collect --unit command-lines --uid nobody "
        f"python3 /run/command_lines.py {SECRET[::-1]} /run/noted"
    )
    wait_until(lambda: machine.out("cat /run/noted") == "ready")
    run = converge(
        machine,
        daemon_json={"labels": [f"token={SECRET}"]},
        alert_receivers={"ops": f"json://127.0.0.1:9/{SECRET}"},
    )
    assert SECRET not in run.output
    assert machine.out("cat /run/noted") == "ready"
    machine.run(f"sh -c ': {SECRET}; sleep 1'")
    assert SECRET in machine.out("cat /run/noted"), "it would not have noted a secret"
    machine.run("systemctl stop command-lines.service")
    # Written backwards: what the test itself calls is in the journal of ssh, and in its own files.
    search = f"$(echo {SECRET[::-1]} | rev)"
    found = machine.out(
        f'word="{search}"; journalctl --no-pager | grep -c "$word"; '
        "find /etc /run /tmp /usr/local /var/lib/bulkhead /var/log /var/tmp -xdev -type f -perm -o+r ! -path /run/noted "
        '-exec grep -l "$word" {} +; true'
    )
    assert found == "0"


@pytest.mark.sample(2, of="a provisioned host")
def test_linked_file_with_a_byte_order_mark_is_read_and_written_through(machine: Machine) -> None:
    """What dockerd reads is no obstacle: the link stays, and the file that it leads to gets our keys without the mark."""
    machine.run(
        "mkdir /etc/managed && mv /etc/docker/daemon.json /etc/managed/docker.json && "
        "ln -s ../managed/docker.json /etc/docker/daemon.json && "
        r"""sed -i '1s/^{/\xef\xbb\xbf{"debug": true, "runtimes": null,/' /etc/managed/docker.json"""
    )
    converge(machine)
    assert machine.out("readlink /etc/docker/daemon.json") == "../managed/docker.json"
    assert machine.out("head -c 1 /etc/managed/docker.json; ls /etc/managed") == "{docker.json"
    assert '"debug": true' in machine.out("cat /etc/managed/docker.json")
    assert_isolated(machine)
    assert dry(machine).predicted == set()


@pytest.mark.sample(2, of="a provisioned host")
def test_local_log_driver_has_the_same_limits_with_any_number_of_files(machine: Machine) -> None:
    """`local` compresses by default, and with one file no container would start."""
    settings = {"log_driver": "local", "log_max_file": 1, "log_max_size": "1m"}
    machine.run("cp /bin/busybox /tmp/busybox && tar -C /tmp -c busybox | docker import - box >/dev/null")
    converge(machine, **settings)
    machine.run("docker run --net none --name talks box /busybox dd if=/dev/zero bs=1M count=3 2>/dev/null >/dev/null")
    assert (
        machine.out("docker inspect --format '{{.HostConfig.LogConfig.Type}} {{.State.ExitCode}}' talks") == "local 0"
    )
    assert int(machine.out("du -sb /var/lib/docker/containers/*/local-logs | cut -f1")) < 2 * 2**20
    assert dry(machine, **settings).predicted == set()
    converge(machine)
    assert machine.out("docker info --format '{{.LoggingDriver}}'") == "json-file"


@pytest.mark.sample(2, of="a provisioned host")
def test_log_driver_of_the_hosts_own_is_kept_with_a_warning(machine: Machine) -> None:
    """Without the setting the host is refused; with it Docker runs with the host's own driver and options."""
    machine.run(
        """python3 - <<'P'
import json
path = "/etc/docker/daemon.json"
keys = json.load(open(path)) | {"log-driver": "journald", "log-opts": {"tag": "{{.Name}}"}}
json.dump(keys, open(path, "w"))
P
systemctl restart docker"""
    )
    refused = deploy(machine)
    assert refused.code == 1
    assert "sets the log driver journald" in refused.output
    kept = converge(machine, log_driver="keep")
    assert "the log driver journald of /etc/docker/daemon.json stays" in kept.output
    assert machine.out("docker info --format '{{.LoggingDriver}}'") == "journald"
    assert dry(machine, log_driver="keep").predicted == set()
    assert_isolated(machine)


@pytest.mark.sample(2, of="a provisioned host")
@pytest.mark.parametrize("directory", ["/etc", "/run", "/usr/lib"])
def test_bound_of_the_journal_that_the_host_has_of_its_own_holds(machine: Machine, directory: str) -> None:
    """In every place and form that journald reads; our own goes, and no entry of the journal is deleted."""
    drop_in = f"{directory}/systemd/journald.conf.d/20-own.conf"
    machine.run(f"mkdir -p $(dirname {drop_in}) && printf '[Journal]\\n SystemMaxUse = 4G\\n' >{drop_in}")
    # More than our own bound, in files that journald would delete at once.
    machine.run(
        "base64 -w 40000 </dev/urandom | head -n 2000 | systemd-cat -t filler; journalctl --sync; journalctl --rotate"
    )
    entries = "journalctl --quiet --no-pager --output cat --identifier filler | wc -l"
    assert machine.out(entries) == "2000"
    converge(machine, journal_max_use="20M")
    machine.run("test ! -e /etc/systemd/journald.conf.d/50-bulkhead.conf")
    machine.run("systemctl restart systemd-journald && journalctl --rotate")  # here a bound takes effect
    assert machine.out(entries) == "2000"
    assert dry(machine, journal_max_use="20M").predicted == set()


@pytest.mark.sample(2, of="a provisioned host")
def test_second_run_at_the_same_time_is_refused_and_names_the_first(machine: Machine) -> None:
    # The first run holds its lock until its connection ends. Here it waits for apt's lock.
    machine.run("apt-get -qq remove -y apparmor >/dev/null 2>&1")
    machine.run("systemd-run -q --unit=holds-apt flock -x /var/lib/dpkg/lock-frontend sleep 3000")
    machine.run(
        'systemd-run -q --unit=holds-lists python3 -c \'import fcntl,time; f=open("/var/lib/apt/lists/lock","w"); fcntl.lockf(f,fcntl.LOCK_EX); time.sleep(3000)\''
    )
    first = start(command(machine.name))
    try:
        wait_until(lambda: machine.run("pgrep -f 'apt-get.*update'", check=False).returncode == 0, 600)
        second = deploy(machine)
        assert second.code == 1
        assert "another run is under way" in second.output
        assert f"process {first.pid}" in second.output
    finally:
        machine.run("systemctl stop holds-apt holds-lists")
    output, _ = first.communicate(timeout=1200)
    assert first.returncode == 0, output
    assert_isolated(machine)


@pytest.mark.sample(2, of="a provisioned host")
def test_volume_grows_while_containers_run(machine: Machine) -> None:
    machine.run("cp /bin/busybox /tmp/busybox && tar -C /tmp -c busybox | docker import - box >/dev/null")
    container = machine.out("docker run -d --net none box /busybox sleep 1000")
    predicted = dry(machine, volume_size="64G").predicted
    # daemon.json changes because the limits of the build cache depend on the size of the volume. The program's
    # configuration changes because a size in bytes may use up the reserve, and the check must then not ask for it.
    assert predicted == {
        "Volume | Logical volume ubuntu-vg/docker-lv",
        "Volume | Filesystem ext4 on /dev/mapper/ubuntu--vg-docker--lv",
        "Host program | /usr/local/bin/bulkhead and its configuration",
        "daemon.json: Docker's configuration is in force",
    }
    assert converge(machine, volume_size="64G").changed == predicted
    assert machine.out(f"docker inspect -f '{{{{.State.Running}}}}' {container}") == "true"
    assert int(machine.out("findmnt -nbo SIZE /srv/docker-volume")) > 61 * 2**30


@pytest.mark.sample(2, of="a provisioned host")
def test_one_bad_host_does_not_keep_the_others_from_being_provisioned(
    machine: Machine, machines: Callable[..., Machine]
) -> None:
    bad = machines("bad", beside=True, suite="bookworm")
    bad.run("lvcreate -qq -y -l 100%FREE -n data-lv ubuntu-vg")
    before = fingerprint(bad)
    machine.run("systemctl stop docker.socket docker")  # gives the run something to do on the good host
    run = deploy(machine, bad)
    assert run.code == 1
    assert f"{bad.name} was left untouched: 1 finding" in run.output
    assert fingerprint(bad) == before
    assert_isolated(machine)
    bad.destroy()


@pytest.mark.sample(2, of="a provisioned host")
def test_bad_settings_are_refused_before_any_change(machine: Machine) -> None:
    line = [sys.executable, "-m", "pyinfra", "-y", "inventory/lab.py", "--limit", machine.name]
    line += ["--data", "volume_sise=10G", "--data", "log_max_file=0", "deploy.py"]
    before = fingerprint(machine)
    done = subprocess.run(line, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300)
    assert done.returncode == 1
    assert "did you mean volume_size?" in done.stderr
    assert "log_max_file = 0: must be at least 1" in done.stderr
    assert fingerprint(machine) == before
