"""A Docker that hangs holds no run up for ever: whatever waits for it has a limit."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tasks.support.files import render
from tasks.support.paths import DOCKER_PATIENCE
from tasks.support.start_limit import start_limit

from .operations import shell, stand_in

TOP = Path(__file__).parents[3]
SOURCES = [
    *sorted((TOP / "templates").glob("*.sh.j2")),
    *sorted((TOP / "tasks").rglob("*.py")),
    *sorted((TOP / "tasks").rglob("*.sh")),
    TOP / "files/apt.sh",
]
# At the beginning of a command, and with a verb that asks the daemon.
_DOCKER = (
    r"(?:^|[;&|({$] *|\bdo |\bthen |\b! )(?:docker|\$docker|\{docker\}) (?:ps|start|stop|version|info|inspect|images)\b"
)
_UNIT = r"systemctl (?:start|stop|restart|reload) (?:docker|\"\$unit\"|\{CONTAINERD\})"


def test_every_command_that_waits_for_docker_has_a_limit() -> None:
    found = 0
    for path in SOURCES:
        text = path.read_text()
        # docker.sh.j2 makes `docker` a function with a timeout.
        has_function = 'include "docker.sh.j2"' in text or path.name == "docker.sh.j2"
        is_limited = has_function or re.search(r"docker\w* ?= ?[f\"']*\"?timeout ", text)
        for number, line in enumerate(text.splitlines(), 1):
            if re.search(_DOCKER, line):
                found += 1
                assert is_limited or "timeout " in line, (
                    f"{path.name}:{number} waits for Docker without a limit: {line}"
                )
            for match in re.finditer(_UNIT, line):
                if path.parent.name != "preflight":  # its messages name such commands
                    found += 1
                    before = line[: match.start()]
                    assert re.search(r'timeout (?:"[^"]*"|\{\{ \w+ \}\}|\S+) $', before), (
                        f"{path.name}:{number} has no limit: {line}"
                    )
    assert found > 10


def test_docker_is_a_function_with_a_timeout(tmp_path: Path) -> None:
    stand_in(tmp_path, "docker", "exec sleep 60")
    text = render("docker.sh.j2").replace(f"timeout {DOCKER_PATIENCE} docker", "timeout 0.2 docker")
    assert shell(f"{text}\ndocker ps", tmp_path).returncode == 124


@pytest.mark.parametrize(("containers", "setting", "limit"), [(0, None, 900), (300, None, 1500), (300, 600, 600)])
def test_limit_of_a_start_follows_the_setting_or_the_number_of_containers(
    tmp_path: Path, containers: int, setting: int | None, limit: int
) -> None:
    for number in range(containers):
        (tmp_path / f"containers/{number}").mkdir(parents=True)
    word = start_limit(setting).replace("/var/lib/docker", str(tmp_path))
    assert shell(f'echo "{word}"', tmp_path).stdout == f"{limit}\n"
