"""Start Docker, and wait for it as long as it makes progress: with hundreds of containers that takes many minutes."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from bulkhead.command import output_of
from bulkhead.docker.daemon import PATIENCE, UNITS
from bulkhead.errors import Failed
from bulkhead.names import CONTAINERD, DOCKER, DOCKER_START_LIMIT, DOCKER_START_PER_CONTAINER, DOCKER_STORE

if TYPE_CHECKING:
    from bulkhead.docker.engine import Engine

STALLED = 180  # seconds without progress after which a start is given up
_INTERVAL = 2  # seconds between two looks
_ANSWER_TIMEOUT = 60  # seconds; a Docker that starts hundreds of containers is busy
_WORK = 0.5  # seconds of CPU time: Docker and containerd need less in `STALLED` seconds when they hang

_SHOW = ["systemctl", "show", "--property=ActiveState,SubState,TasksCurrent,CPUUsageNSec", DOCKER, CONTAINERD]
_BEFORE_DOCKER = "SubState=start-pre"  # a program of ExecStartPre= runs, with a time limit of its own


def start_limit(setting: int | None) -> int:
    """Return the seconds that Docker may take to start.

    Args:
        setting: docker_start_limit; None: "auto", which follows from the number of containers.
    """
    try:
        containers = len(os.listdir(f"{DOCKER_STORE}/containers"))
    except OSError:
        containers = 0
    return setting or max(DOCKER_START_LIMIT, DOCKER_START_PER_CONTAINER * containers)


def start_docker(engine: Engine, setting: int | None) -> None:
    """Start Docker, also after starts that have failed, and wait until it answers.

    Args:
        setting: docker_start_limit.

    Raises:
        Failed: it does not start. systemd may still be starting it: nothing stops it.
    """
    import subprocess  # slow to import, and the guard only asks for the limit

    limit = start_limit(setting)
    subprocess.run(["systemctl", "reset-failed", *UNITS], stderr=subprocess.DEVNULL, check=False)
    deadline, progress = time.monotonic() + limit, Progress()
    with subprocess.Popen(["systemctl", "start", CONTAINERD, DOCKER], stderr=subprocess.PIPE, text=True) as waiting:
        try:
            while (code := waiting.poll()) is None or (code == 0 and not engine.answers(_ANSWER_TIMEOUT)):
                if progress.stalled():
                    raise Failed(
                        f"Docker has not started, and has made no progress for {STALLED} s: `journalctl --unit {DOCKER}` "
                        "shows where it stands"
                    )
                if time.monotonic() > deadline:
                    raise Failed(
                        f"Docker has not started within {limit} s, although it makes progress: a larger docker_start_limit "
                        "gives it more time"
                    )
                time.sleep(_INTERVAL)
            if code and waiting.stderr:
                raise Failed(f"`systemctl start {DOCKER}` failed: {waiting.stderr.read().strip()[-500:]}")
        finally:
            waiting.kill()


class Progress:
    """The progress of Docker's start: the states of its units, their processes, and the CPU time that they use."""

    def __init__(self) -> None:
        self._state = ""
        self._cpu = 0.0  # seconds
        self._since = time.monotonic()

    def stalled(self) -> bool:
        """Return whether there has been no progress for `STALLED` seconds."""
        try:
            lines = output_of(_SHOW, PATIENCE).splitlines()
        except OSError:
            lines = []
        cpu = [line.partition("=")[2] for line in lines if line.startswith("CPUUsageNSec=")]
        seconds = sum(int(used) for used in cpu if used.isdecimal()) / 1e9
        state = " ".join(line for line in lines if not line.startswith("CPUUsageNSec="))
        if state != self._state or abs(seconds - self._cpu) >= _WORK or _BEFORE_DOCKER in state:
            self._state, self._cpu, self._since = state, seconds, time.monotonic()
        return time.monotonic() - self._since > STALLED
