"""`bulkhead build`: reserves the space of a build, lets the next one wait, and ends a build that passes its limit."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from lab.machine import Machine
from tests.lab.conftest import start, wait_until
from tests.lab.test_guard import FLOOR, leave_free, prepared

M = 2**20
# Writes 1 GB in steps that the guard can follow.
SLOWLY = "for i in 0 1 2 3 4 5 6 7 8 9; do dd if=/dev/zero of=/big$i bs=1M count=100; sleep 2; done"

# By default one of these tests runs.
# They join the sample once they have passed on a machine.
SELDOM = pytest.mark.full


class BuildCommand:
    """A `bulkhead build` that runs on the machine."""

    def __init__(self, machine: Machine, name: str, step: str, options: str = "", *, buildkit: bool = True) -> None:
        directory = f"/root/{name}"
        dockerfile = f"FROM box\\nLABEL build={name}\\nRUN {step}\\n"
        self.process = start(
            [
                *machine.ssh_command(user="root"),
                f"mkdir -p {directory}; printf '{dockerfile}' >{directory}/Dockerfile; export DOCKER_BUILDKIT={int(buildkit)}; "
                f"bulkhead build {options} -- --no-cache --network none --tag {name} {directory} 2>&1; "
                "code=$?; date +ended-%s.%N; exit $code",
            ]
        )

    def end(self) -> tuple[int, str]:
        output, _ = self.process.communicate(timeout=600)
        return self.process.returncode, output


def ended(output: str) -> float:
    found = re.search(r"ended-([0-9.]+)", output)
    assert found, output
    return float(found[1])


def wait_for_step(machine: Machine, command: str) -> None:
    wait_until(lambda: machine.run(f"pgrep -fx '{command}'", check=False).returncode == 0)


def end_step(machine: Machine, command: str) -> None:
    machine.run(f"pkill -fx '{command}'")


@pytest.fixture(scope="module")
def guarded(machines: Callable[..., Machine]) -> Machine:
    return prepared(machines("building", suite="bookworm", docker="preinstalled"))


@pytest.fixture
def machine(guarded: Machine) -> Machine:
    guarded.restore("guarded")
    return guarded


@SELDOM
def test_second_of_two_builds_that_do_not_fit_together_waits_for_the_first(machine: Machine) -> None:
    leave_free(machine, FLOOR + 900 * M)
    first = BuildCommand(machine, "first", "sleep 900 || true", "--need 600M")
    wait_for_step(machine, "sleep 900")
    code, output = BuildCommand(machine, "refused", "true", "--need 600M").end()
    assert code == 3, output
    assert "that 1 other build may still need" in output
    second = BuildCommand(machine, "second", "true", "--need 600M --wait 5m")
    wait_until(lambda: "waiting" in machine.out("bulkhead status"))
    status = machine.out("bulkhead status")
    assert "Guarded builds" in status
    assert re.search(r"running +first for .*600M of 600M still reserved", status), status
    end_step(machine, "sleep 900")
    (first_code, first_output), (second_code, second_output) = first.end(), second.end()
    assert (first_code, second_code) == (0, 0), first_output + second_output
    assert "waits for" in second_output
    assert "after first" in second_output
    assert ended(first_output) < ended(second_output)
    assert machine.out("ls /run/bulkhead-builds") == "guard.json"


@SELDOM
def test_build_that_was_killed_holds_no_space(machine: Machine) -> None:
    leave_free(machine, FLOOR + 900 * M)
    killed = BuildCommand(machine, "killed", "sleep 300", "--need 600M")
    wait_for_step(machine, "sleep 300")
    machine.run("pkill -KILL -f '[d]ocker build.*killed'; pkill -KILL -f '[b]ulkhead build.*killed'", check=False)
    killed.end()
    code, output = BuildCommand(machine, "next", "true", "--need 600M").end()
    assert code == 0, output


@SELDOM
@pytest.mark.parametrize("builder", ["buildkit", "classic"])
def test_build_that_passes_its_limit_is_ended_and_no_other(machine: Machine, builder: str) -> None:
    # Alone at first: steps of builds that begin beside each other count for none of them.
    limited = BuildCommand(machine, "limited", SLOWLY, "--need 100M --limit 300M", buildkit=builder == "buildkit")
    wait_for_step(machine, "sleep 2")
    other = BuildCommand(machine, "other", "sleep 900 || true", "--need 100M", buildkit=builder == "buildkit")
    code, output = limited.end()
    assert code == 5, output
    assert re.search(r"the guard stopped it: this build has written [3-7]\d\d\.\d MiB, its limit is 300\.0 MiB", output)
    wait_for_step(machine, "sleep 900")
    end_step(machine, "sleep 900")
    code, output = other.end()
    assert code == 0, output
    assert machine.out("systemctl is-active docker") == "active"


@SELDOM
def test_stop_of_another_build_is_not_this_builds(machine: Machine) -> None:
    leave_free(machine, FLOOR + 900 * M)
    fails = BuildCommand(machine, "fails", "sleep 900; false", "--need 10M")
    wait_for_step(machine, "sleep 900")
    code, output = BuildCommand(machine, "fills", "dd if=/dev/zero of=/big bs=1M count=8000", "--need 10M").end()
    assert code == 4, output
    end_step(machine, "sleep 900")
    code, output = fails.end()
    assert code == 1, output


@pytest.mark.full
def test_bake_and_compose_are_guarded_like_docker_build(machines: Callable[..., Machine]) -> None:
    machine = prepared(machines("composing", suite="trixie", docker="preinstalled"))
    machine.run(
        "apt-get -qq update && apt-get -qq -y install docker-buildx docker-compose >/dev/null 2>&1", timeout=600
    )
    machine.run(
        f"mkdir -p /root/app && cd /root/app && printf 'FROM box\\nRUN {SLOWLY}\\n' >Dockerfile && "
        'printf "services:\\n  app:\\n    build: .\\n" >compose.yaml && '
        'printf \'target "default" { context = "." }\\n\' >docker-bake.hcl'
    )
    for command in ("docker compose build", "docker buildx bake --no-cache"):
        built = machine.run(f"cd /root/app && bulkhead build --need 1500M -- {command}", check=False, timeout=600)
        assert built.returncode == 0, built.stdout + built.stderr
        limited = f"cd /root/app && bulkhead build --limit 300M -- {command}"
        if "compose" in command:
            limited += " --no-cache"
        stopped = machine.run(limited, check=False, timeout=600)
        assert stopped.returncode == 5, stopped.stdout + stopped.stderr
        assert "its limit is 300.0 MiB" in stopped.stderr
    known = machine.out("bulkhead build --list")
    assert "compose build in /root/app" in known
    assert "bake in /root/app" in known
    machine.run("bulkhead build --forget")
    assert machine.out("bulkhead build --list") == "no build is remembered"
