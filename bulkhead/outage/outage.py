"""Stop Docker, keep it down, start it again, and bring back what ran."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bulkhead import state
from bulkhead.command import run
from bulkhead.docker import containers, daemon, start
from bulkhead.docker.clients import programs_that_build
from bulkhead.docker.inventory import NOTHING, differences, not_running
from bulkhead.docker.running_builds import under_way
from bulkhead.errors import Failed, in_words
from bulkhead.files import RESERVE, replace_file, sync_directory
from bulkhead.names import CONTAINERD, DOCKER, PROGRAM, PROGRAM_RUN
from bulkhead.outage.journal import STOPPING
from bulkhead.outage.unit import RECOVERY
from bulkhead.storage.fstab import read_fstab
from bulkhead.storage.mounts import mounts_within
from bulkhead.storage.processes import Process, users_of
from bulkhead.text import count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bulkhead.config import Config
    from bulkhead.docker.engine import Engine
    from bulkhead.outage.journal import Journal
    from bulkhead.storage.mounts import MountInfo

RECOVERY_UNIT = f"/etc/systemd/system/{RECOVERY}"

# While this file exists, Docker's units do not start, whoever asks: apt, a client at the socket, a person. It is a
# condition and not an assertion, because apt's scripts take a start that was skipped for a success. A reboot removes it.
BLOCK = f"{PROGRAM_RUN}/docker-stays-down"
BLOCK_DROP_IN = f"[Unit]\nConditionPathExists=!{BLOCK}\n"
BLOCK_DROP_INS = {unit: f"/run/systemd/system/{unit}.d/05-bulkhead.conf" for unit in daemon.UNITS}

RECOVERY_UNIT_TEXT = f"""\
# Written by bulkhead, which removes this file when the move or rollback has ended.
[Unit]
Description=Finish or undo an interrupted move or rollback of Docker's data
After={DOCKER} {CONTAINERD}
[Service]
# This type has no time limit for a process that has started, not even after this file has been removed.
Type=exec
ExecStart={PROGRAM} relocate --recover
[Install]
WantedBy=multi-user.target
"""

# Docker's data is in place then, and nothing keeps its units from starting.
_BY_HAND = (
    f"If Docker only needs more time, finish by hand, in this order: `systemctl start {DOCKER}`; wait until `docker info` "
    "answers; `bulkhead relocate --recover`"
)

SETTLE_TIMEOUT = 60  # seconds that the containers that ran may take until they run again
_STOP_ATTEMPTS = 4
_DOCKERS_MOUNTS = ("overlay", "tmpfs", "shm", "nsfs", "mqueue")
_DOCKERS_OWN = ("dockerd", "containerd", "containerd-shim", "docker-proxy")  # the kernel cuts names at 15 bytes


class Outage:
    """One outage of Docker.

    The owner's journal keeps what ran, so that after a power cut another process can end the outage.

    Args:
        config: names the stores and the volume.
        journal: the owner's.
        say: receives each line that reports progress.
        engine: Docker.
    """

    def __init__(self, config: Config, journal: Journal, say: Callable[[str], None], engine: Engine) -> None:
        self._config = config
        self._journal = journal
        self._say = say
        self._engine = engine

    # -- before it

    def would_destroy(self) -> list[str]:
        """Describe what an outage that begins now would destroy: builds, --rm containers, paused containers' memory.

        Raises:
            EngineError: Docker does not answer.
        """
        return [*under_way(self._engine), *(f"{user}, which is building" for user in programs_that_build())]

    def refuse_foreign_mounts(self) -> None:
        """Refuse mounts in the stores that are not Docker's.

        Raises:
            Failed: somebody else has mounted something there.
        """
        for mount in self._mounts():
            if not is_dockers_mount(mount):
                raise Failed(
                    f"{mount.target} ({mount.fstype}) is mounted in Docker's data, and not by Docker. Unmount it"
                )

    def write_units(self) -> None:
        """Write the unit that ends the outage after a power cut, and the drop-ins that make Docker's units heed `BLOCK`."""
        replace_file(RECOVERY_UNIT, RECOVERY_UNIT_TEXT)
        for path in BLOCK_DROP_INS.values():
            replace_file(path, BLOCK_DROP_IN)
        run("systemctl", "daemon-reload")
        run("systemctl", "enable", "--quiet", RECOVERY)
        sync_directory("/etc/systemd/system/multi-user.target.wants")

    # -- down

    def begin(self) -> None:
        """Stop the containers and Docker, and keep in the journal what Docker holds and which containers ran.

        Raises:
            Failed: containers or Docker do not stop, or something is mounted in the stores that is not Docker's.
            EngineError: Docker does not answer.
        """
        before, ran = self._engine.inventory(), self._engine.running()
        self._journal.enter(STOPPING, before=before, ran=ran)
        self._say(f"stopping Docker and {count(len(ran), 'container')}")
        self.block_starts()
        for running in self.stop_containers():
            self._journal.ran += [container for container in running if container not in self._journal.ran]
            self._journal.save()
        # A program that manages containers may have removed some as they stopped. That is no loss.
        before = self._engine.inventory()
        self._journal.before = before
        self._journal.ran = [container for container in self._journal.ran if container in before["containers"]]
        self._journal.save()
        self.stop_docker()

    def block_starts(self) -> None:
        """Keep Docker's units from being started."""
        state.make_volatile()
        Path(BLOCK).touch()

    def unblock_starts(self) -> None:
        """Let Docker's units be started again."""
        Path(BLOCK).unlink(missing_ok=True)

    def stop_containers(self) -> Iterator[list[str]]:
        """Stop all containers, also those that are started meanwhile. Yield each batch before it is stopped.

        Raises:
            Failed: there are always new ones.
            EngineError: Docker does not answer.
        """
        for _ in range(_STOP_ATTEMPTS):
            running = self._engine.running()
            if not running:
                return
            yield running
            self._engine.stop(running)
        raise Failed("containers are started as fast as they are stopped. Stop the program that starts them")

    def stop_docker(self) -> None:
        """Stop Docker and unmount what it left mounted in its stores. Its containers have been stopped.

        Raises:
            Failed: Docker does not stop, or something is mounted in the stores that is not Docker's.
        """
        run("systemctl", "stop", *daemon.existing_units(daemon.UNITS))
        if left := containers.shims():
            raise Failed(f"{left[0]} still runs: a container that was started just now, or a plugin of Docker. Stop it")
        self.refuse_foreign_mounts()
        for mount in self._mounts():
            run("umount", mount.target)

    # -- up again

    def refuse_other_mounts(self) -> None:
        """Refuse stores that are not on the volume.

        Raises:
            Failed: something else is mounted there.
        """
        for path in self._config.stores.values():
            if os.stat(path).st_dev != os.stat(self._config.volume_mount).st_dev:
                raise Failed(f"{path} is not mounted from {self._config.volume_mount}")

    def start_docker(self, *, then_by_hand: bool = False) -> None:
        """Start Docker and wait until it answers.

        Args:
            then_by_hand: there is no other way to try if it does not start: say how to go on by hand.

        Raises:
            Failed: it does not start.
        """
        self.unblock_starts()
        try:
            start.start_docker(self._engine, self._config.docker_start_limit)
        except Failed as failed:
            if not then_by_hand:
                raise
            raise Failed(f"{in_words(failed)}. {_BY_HAND}") from failed

    def start_what_ran(self) -> list[str]:
        """Start the containers that ran, and wait until Docker is as it was before the outage.

        Returns:
            What is not as it was after `SETTLE_TIMEOUT`, described.

        Raises:
            EngineError: Docker does not answer.
        """
        # Nobody knows what Docker held if it did not answer, or was not there yet.
        before, ran = self._journal.before or NOTHING, self._journal.ran
        refused = self._engine.start(ran)
        self._stop_what_was_stopped(before["containers"])
        deadline = time.monotonic() + SETTLE_TIMEOUT
        while missing := differences(before, after := self._engine.inventory(), ran):
            if time.monotonic() > deadline:
                return [*refused, *missing]
            time.sleep(1)
            # A stop that a killed move had asked for can take effect late: it stops a container that we just "started".
            # So does one that shares the network of another, and was started before it.
            refused = self._engine.start(not_running(before, after, ran))
        return refused

    def _stop_what_was_stopped(self, before: dict[str, Any]) -> None:
        """Stop the containers that Docker has started although somebody had stopped them: those with `--restart always`.

        Args:
            before: the containers before the outage.
        """
        started = {container for container in self._engine.running() if container in before} - {*self._journal.ran}
        self._engine.stop([container for container in started if before[container]["restart"].get("Name") == "always"])

    def end(self) -> None:
        """Remove the units, the block and the reserve: nothing is left to recover."""
        Path(RESERVE).unlink(missing_ok=True)
        self.unblock_starts()
        for path in BLOCK_DROP_INS.values():
            Path(path).unlink(missing_ok=True)
        if os.path.exists(RECOVERY_UNIT):
            subprocess.run(["systemctl", "disable", "--quiet", RECOVERY], check=False)
            Path(RECOVERY_UNIT).unlink()
        subprocess.run(["systemctl", "daemon-reload"], check=False)

    def _mounts(self) -> list[MountInfo]:
        return mounts_within(self._config.stores.values())


def is_dockers_mount(mount: MountInfo) -> bool:
    """Return whether Docker made a mount, and will make it again: for a container, or for a volume with `--opt device=…`."""
    volume, name = os.path.split(mount.target)
    if name == "_data" and os.path.exists(f"{volume}/opts.json"):
        return True
    listed = f" {mount.target} " in " ".join(read_fstab().split())
    return mount.fstype in _DOCKERS_MOUNTS and not listed and "/volumes/" not in mount.target


def writers(directories: list[str]) -> list[Process]:
    """Return the processes that have files of these directories open for writing."""
    return [user for user in users_of(directories) if user.writes]


def foreign_writers(directories: list[str]) -> list[Process]:
    """Return the writers that are not Docker's own."""
    return [user for user in writers(directories) if user.name not in _DOCKERS_OWN]
