"""Docker's stores move onto the volume: copied while Docker runs, switched in one rename, and back if need be.

The old trees stay where they are; the volume's directories are mounted over them. What commits the move is the rename
of an fstab that has the lines for both stores. The journal says how far it came, and `Relocation.recover` goes on from
there: after a failure, after a kill, and at boot.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bulkhead import state
from bulkhead.command import run
from bulkhead.docker.daemon import UNITS, existing_units, is_shutting_down, shims, start_docker
from bulkhead.docker.engine import Engine, EngineError
from bulkhead.docker.inventory import differences, not_running
from bulkhead.docker.running_builds import programs_that_build, under_way
from bulkhead.errors import Failed, in_words
from bulkhead.files import RESERVE, hold_reserve, replace_file, sync_directory
from bulkhead.move import rsync
from bulkhead.names import DOCKER_STORE
from bulkhead.outage import journal
from bulkhead.outage.journal import Journal
from bulkhead.outage.outage import (
    BLOCK,
    BLOCK_DROP_IN,
    BLOCK_DROP_INS,
    RECOVERY_UNIT,
    RECOVERY_UNIT_TEXT,
    SETTLE_TIMEOUT,
    foreign_writers,
    is_dockers_mount,
    writers,
)
from bulkhead.outage.unit import RECOVERY
from bulkhead.sizes import human
from bulkhead.storage.beneath import empty_beneath, refuse_changed
from bulkhead.storage.fstab import read_fstab, replace_fstab, with_entries, without_entries
from bulkhead.storage.mounts import bound_elsewhere, is_mounted, mount_by_fstab, mounts_within
from bulkhead.text import count
from pyinfra_lvm.fstab import fstab_lists

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from bulkhead.config import Config


@dataclass(frozen=True)
class Verified:
    """What of a store's copy has been compared with it while Docker ran."""

    layers: set[str]  # directories that never change: they are equal, and need no further look
    suspects: set[str]  # files that differed, and were copied again


class Relocation:
    """One move, from its journal.

    Args:
        say: is told what happens, a line each.
    """

    path = DOCKER_STORE  # what a command line calls it; containerd's store moves with it
    stops = "Docker and its containers stop, and come back on the old data."

    def __init__(self, config: Config, say: Callable[[str], None], engine: Engine | None = None) -> None:
        self.config = config
        self.say = say
        self.engine = engine or Engine()
        self.journal = Journal.load(journal.PATH)

    @property
    def is_pending(self) -> bool:
        """There is something to move, or a move to end."""
        return self.journal.phase in journal.UNFINISHED or bool(self.old_trees())

    # -- the move

    def relocate(self) -> None:
        """Move the data.

        Raises:
            Failed: it could not be moved, and Docker is on its old data again.
        """
        if self.journal.phase in journal.UNFINISHED:
            self.recover("the move was cut")
            if self.journal.phase == journal.DONE:
                return
        try:
            changed_since = self.copy()
            self.stop()
            self.copy_difference(*changed_since)
            self.switch()
            self.check()
        except (Failed, EngineError, rsync.CopyError, OSError, subprocess.SubprocessError) as error:
            self.recover(in_words(error), forward=False)
            raise Failed(f"{in_words(error)}. {self.outcome()}") from error
        except BaseException:  # a signal to stop: as good as a failure
            self.recover("the move was interrupted", forward=False)
            raise

    def copy(self) -> tuple[float, dict[str, Verified]]:
        """The bulk, while Docker runs. Returns when it began, and for each store what of the copy is verified."""
        old = {path: rsync.size_of(path) for path in self.old_trees()}
        if not old:
            raise Failed("there is nothing to move: the stores are on the volume, or empty")
        for directory, path in self.config.stores.items():
            self._check_target(directory, path)
        self._check_room(sum(old.values()))
        self._refuse_foreign_mounts()
        hold_reserve()
        self.journal.enter(journal.COPYING, old=old, reason="", asked=False, lived=False, ran=[], before={})
        for drop_in, content in self.config.ordering_drop_ins.items():
            replace_file(drop_in, content)
        self._write_units()
        began = rsync.moment()
        verified = {}
        for directory, path in self.config.stores.items():
            if path in old:
                target = self._copy_of(directory)
                os.makedirs(target, exist_ok=True)
                layers = rsync.immutable_layers(path)
                # Where a volume is bound to a directory of the same filesystem, rsync would take it for a part.
                mounted = [os.path.relpath(mount.target, path) for mount in mounts_within([path])]
                self.say(f"copying {path}, {human(old[path])}, while Docker runs")
                rsync.copy(path, target, rsync.progress(self.say, old[path]), mounted, polite=True)
                self.say(f"verifying {path} on the disk")
                suspects = rsync.compare(path, target, mounted)
                touched = {layer for layer in layers for name in suspects if name.startswith(f"{layer}/")}
                verified[path] = Verified(layers - touched, suspects)
        self._wait_until_idle()
        return began, verified

    def _check_target(self, directory: str, path: str) -> None:
        if not is_mounted(self.config.volume_mount):
            raise Failed(f"{self.config.volume_mount} is not mounted")
        begun = self.journal.phase in (journal.FAILED, journal.COPYING) and path in self.journal.old
        for target in (self._target(directory), *(() if begun else (self._copy_of(directory),))):
            if os.path.isdir(target) and os.listdir(target):
                raise Failed(f"{target} is not empty, and no copy of ours: look at what is there and move it away")

    def _check_room(self, needed: int) -> None:
        there = sum(rsync.size_of(self._copy_of(directory)) for directory in self.config.stores)
        volume = os.statvfs(self.config.volume_mount)
        free = volume.f_bavail * volume.f_frsize + there
        if free < needed:
            raise Failed(
                f"{human(needed)} are to be moved, and {self.config.volume_mount} has {human(free)} for it. What an earlier move "
                "or a rollback has left there (docker.left-…) can be removed if nobody needs it"
            )

    def _wait_until_idle(self) -> None:
        deadline = time.monotonic() + self.config.relocation_patience
        told: list[str] = []
        while busy := self._under_way():
            if time.monotonic() > deadline:
                raise Failed(
                    f"still under way after {self.config.relocation_patience} s: {', '.join(busy)}. Stopping Docker would lose it: "
                    "run again when it is over"
                )
            if busy != told:
                self.say(f"waiting for {', '.join(busy)}")
                told = busy
            time.sleep(2)

    def _under_way(self) -> list[str]:
        """What would be lost, or would be left writing to the old data, if Docker were stopped now, in words."""
        builds = [f"{user}, which builds" for user in programs_that_build()]
        writing = [f"{user}, which writes to Docker's data" for user in foreign_writers(self.old_trees())]
        # Its own containers will have been stopped.
        bound = [
            f"{path}, which is {words}"
            for path in self.old_trees()
            for words in bound_elsewhere(path, but_of=("dockerd", "containerd-shim"))
        ]
        return [*under_way(self.engine), *builds, *writing, *bound]

    def stop(self) -> None:
        """From here until Docker has come back its containers are down: the outage."""
        self.journal.enter(journal.STOPPING, before=self.engine.inventory(), ran=self.engine.running())
        self.say(f"stopping Docker and {count(len(self.journal.ran), 'container')}")
        self._block_starts()
        for running in self._stop_containers():
            self.journal.ran += [container for container in running if container not in self.journal.ran]
            self.journal.save()
        # Whoever drives the containers may have removed some when they stopped: that is no loss.
        before = self.engine.inventory()
        self.journal.before, self.journal.ran = before, [c for c in self.journal.ran if c in before["containers"]]
        self.journal.save()
        self._stop_docker()
        self._unmount_leftovers()
        if users := writers(self.old_trees()):
            raise Failed(f"other programs write to Docker's data: {', '.join(map(str, users))}. Stop them first")
        if bound := [f"{path} is {words}" for path in self.old_trees() for words in bound_elsewhere(path)]:
            raise Failed(
                f"other programs would go on with Docker's old data: {', '.join(bound)}. Stop them, or unmount it"
            )

    def _stop_docker(self) -> None:
        run("systemctl", "stop", *existing_units(UNITS))
        if still := shims():
            raise Failed(
                f"something still runs in containerd, a container that was started meanwhile or a plugin of Docker: {still[0]}"
            )

    def _stop_containers(self) -> Iterator[list[str]]:
        """Stop all of them, and those that are started meanwhile; yields those that run."""
        for _ in range(4):
            running = self.engine.running()
            if not running:
                return
            yield running
            self.engine.stop(running)
        raise Failed("somebody starts containers as fast as they are stopped")

    def copy_difference(self, began: float, verified: dict[str, Verified]) -> None:
        """What has changed since the copy began, verified; nothing writes any more."""
        for directory, path in self.config.stores.items():
            if path not in self.journal.old:
                continue
            target = self._copy_of(directory)
            layers = verified[path].layers & rsync.immutable_layers(path)
            files = rsync.to_be_verified(path, began, verified[path].suspects, layers)
            self.say(f"copying the difference in {path}: {count(len(files), 'file')}")
            rsync.distrust(target, files)
            rsync.copy(path, target, lambda *_: None, layers)
            rsync.verify(path, target, files, layers)

    def switch(self) -> None:
        """The commit, and both stores mounted."""
        self.journal.enter(journal.SWITCHING, switched=time.time())
        self.say("switching to the volume")
        for directory, path in self.config.stores.items():
            if path in self.journal.old:
                os.rename(self._copy_of(directory), self._target(directory))  # which is empty
        sync_directory(self.config.volume_mount)
        replace_fstab(lambda text: with_entries(text, self.config.store_fstab))
        self.journal.enter(journal.CHECKING)
        for path in self.config.stores.values():
            run("mount", path)  # at once: systemd sees the mounts, and reads their lines when the move ends
        self._refuse_other_mounts()

    def check(self) -> None:
        """Docker on the volume: started, with all that it had, and what ran runs.

        Raises:
            Failed, EngineError: it is not whole.
        """
        self.say("starting Docker on the volume")
        self.journal.enter(journal.CHECKING, lived=True)
        self._start_docker()
        if missing := self._start_what_ran():
            raise Failed(f"Docker did not come back whole on the volume: {'; '.join(missing[:5])}")
        self.journal.enter(journal.DONE)
        self._end()
        self.say("Docker runs on the volume, with all that it had")

    # -- after a failure, a kill, a cut

    def recover(self, reason: str = "it was cut", *, forward: bool = True) -> None:
        """Bring a move that did not end to one: Docker on the volume or on its old data, and what ran runs.

        Args:
            reason: why it did not end.
            forward: finish a move that is committed; without it, undo it.
        """
        if self.journal.phase in journal.UNFINISHED and is_shutting_down():
            return  # the unit at the next boot has all that it needs
        phase = self.journal.phase
        if phase == journal.SWITCHING:
            phase = journal.CHECKING if self._is_committed() else journal.STOPPING
        if phase == journal.CHECKING and forward:
            try:
                self.journal.enter(journal.CHECKING, lived=True)  # by Docker's own start at boot
                mount_by_fstab(*self.config.stores.values())
                self._refuse_other_mounts()
                self.check()
                return
            except Exception as error:  # whatever it is: Docker must come up
                reason = in_words(error)
                phase = self.journal.phase
        if phase in (journal.CHECKING, journal.RETURNING):
            self.go_back(self.journal.reason or reason)
        elif phase == journal.STOPPING:
            self._resume_on_old_data(reason)
        else:
            if phase == journal.COPYING:
                self.journal.enter(journal.FAILED, reason=reason)
            self._end()

    def go_back(self, reason: str, *, asked: bool = False) -> None:
        """From the volume to the old trees. The new ones stay on the volume."""
        self._write_units()
        self.journal.enter(journal.RETURNING, reason=reason, asked=asked or self.journal.asked)
        self.say(f"going back to the old data: {reason}")
        self._block_starts()
        with contextlib.suppress(EngineError, Failed):
            for _ in self._stop_containers():
                pass
        self._stop_docker()
        self._unmount_leftovers()
        replace_fstab(lambda text: without_entries(text, self.config.store_fstab))
        run("systemctl", "daemon-reload")
        for path in self.config.stores.values():
            while is_mounted(path):
                run("umount", "--lazy", path)  # who reads there keeps nobody from going back
        self._resume_on_old_data(reason)

    def _resume_on_old_data(self, reason: str) -> None:
        for drop_in in self.config.ordering_drop_ins:
            Path(drop_in).unlink(missing_ok=True)
        run("systemctl", "daemon-reload")
        self._start_docker()
        missing = self._start_what_ran()
        try:
            if self.journal.lived:
                self._keep_new_trees()
            else:
                self._take_copies_back()
        except OSError as error:  # the volume has failed: the next move looks at what is there
            self.say(f"what is on the volume stayed in its place: {in_words(error)}")
        self.journal.enter(journal.ROLLED_BACK if self.journal.asked else journal.FAILED, reason=reason)
        self._end()
        for line in missing:
            self.say(f"on the old data: {line}")

    def _keep_new_trees(self) -> None:
        """What was written on the volume since the switch is nobody's to remove: the next move begins beside it."""
        for directory in self.config.stores:
            target = Path(self._target(directory))
            number = 1
            while (aside := target.with_name(f"{directory}.left-{number}")).exists():
                number += 1
            if target.exists():
                target.rename(aside)
        sync_directory(self.config.volume_mount)

    def _take_copies_back(self) -> None:
        """Copies that Docker has not been started on are copies still: nothing else shall ever find them in their place."""
        for directory, path in self.config.stores.items():
            copy, target = self._copy_of(directory), self._target(directory)
            if path in self.journal.old and not os.path.exists(copy) and os.path.isdir(target) and os.listdir(target):
                os.rename(target, copy)
                os.mkdir(target, 0o711)
        sync_directory(self.config.volume_mount)

    # -- afterwards

    def written_since(self) -> list[str]:
        """What a rollback would leave behind on the volume, in words."""
        lines = []
        try:
            now = self.engine.inventory()
        except EngineError as error:
            lines.append(f"{error}: what it has got since the move cannot be told")
            now = self.journal.before
        for kind in ("images", "containers", "volumes", "networks"):
            new = [key for key in now[kind] if key not in self.journal.before[kind]]
            names = [now[kind][key]["name"] if kind == "containers" else key for key in new]
            if new:
                lines.append(
                    f"new since the move, and not in the old data: {count(len(new), kind[:-1])}: {', '.join(names[:5])}"
                )
        for directory, path in self.config.stores.items():
            files = rsync.changed_files(self._target(directory), self.journal.since, ())
            lines.append(f"{path}: {count(len(files), 'file')} written since the move")
        return lines

    def roll_back(self) -> None:
        """Put Docker back on its old data, with the containers running that run now, as far as they are there.

        Raises:
            Failed: there are no old data, or other programs write to Docker's.
        """
        if self.journal.phase != journal.DONE:
            raise Failed(f"there is no way back: {self.outcome()}")
        if others := foreign_writers([*self.config.stores.values()]):
            raise Failed(f"other programs write to Docker's data: {', '.join(map(str, others))}. Stop them first")
        with contextlib.suppress(EngineError):  # a Docker that does not answer is a reason to go back
            ran = [container for container in self.engine.running() if container in self.journal.before["containers"]]
            self.journal.enter(journal.DONE, ran=ran)
        self.go_back("it was asked for", asked=True)

    def finalize(self, *, force: bool = False) -> None:
        """Remove the old trees: from here on there is no way back.

        Args:
            force: also what was written there since the move.

        Raises:
            Failed: Docker is not on the volume, or an old tree cannot be removed, or has been used since.
        """
        if self.journal.phase == journal.FINALIZED:
            return
        if self.journal.phase not in (journal.DONE, journal.FINALIZING):
            raise Failed(f"there is nothing to finalize: {self.outcome()}")
        if not (self._is_committed() and all(map(is_mounted, self.config.stores.values()))):
            raise Failed("the stores are not mounted from the volume; nothing was removed")
        if self.journal.phase == journal.DONE and not force:
            for path in self.journal.old:
                refuse_changed(path, self.journal.switched)
        self.journal.enter(journal.FINALIZING)
        for path in self.config.stores.values():
            self.say(f"removing the old tree beneath {path}, {human(self.journal.old.get(path, 0))}")
            empty_beneath(path)
        self.journal.enter(journal.FINALIZED, old={}, before={})
        self.say("the old trees are gone")

    def outcome(self) -> str:
        """Where Docker's data is, in a sentence."""
        return {
            "": "Docker's data has not been moved.",
            journal.FAILED: "Docker runs on its old data.",
            journal.ROLLED_BACK: "Docker runs on its old data: the move was rolled back.",
            journal.DONE: "Docker runs on the volume; the old trees are kept.",
            journal.FINALIZING: "Docker runs on the volume; the old trees are being removed.",
            journal.FINALIZED: "Docker runs on the volume.",
        }.get(self.journal.phase, f"The move is unfinished ({self.journal.phase}).")

    # -- pieces

    def old_trees(self) -> list[str]:
        """The stores that are not mounted, and hold anything."""
        paths = self.config.stores.values()
        return [path for path in paths if os.path.isdir(path) and not is_mounted(path) and os.listdir(path)]

    def _target(self, directory: str) -> str:
        return f"{self.config.volume_mount}/{directory}"

    def _copy_of(self, directory: str) -> str:
        """Where a store is copied to, until its copy is complete: what is in its place is never half of it."""
        return f"{self.config.volume_mount}/{directory}.moving"

    def _block_starts(self) -> None:
        state.make_volatile()
        Path(BLOCK).touch()

    def _unblock_starts(self) -> None:
        Path(BLOCK).unlink(missing_ok=True)

    def _start_docker(self) -> None:
        self._unblock_starts()
        start_docker(self.engine)

    def _start_what_ran(self) -> list[str]:
        """Start the containers that ran; what is not as it was, in words, after a while to settle."""
        before, ran = self.journal.before, self.journal.ran
        refused = self._start(ran)
        self._stop_what_had_been_stopped()
        deadline = time.monotonic() + SETTLE_TIMEOUT
        while missing := differences(before, after := self.engine.inventory(), ran):
            if time.monotonic() > deadline:
                return [*refused, *missing]
            time.sleep(1)
            # A stop that a killed move had asked for goes on: it takes down what was "started" while it still ran.
            refused = self._start(not_running(before, after, ran))
        return refused

    def _start(self, containers: Iterable[str]) -> list[str]:
        """Start them; who refuses, in words."""
        refused = []
        for container in containers:
            try:
                self.engine.start(container)
            except EngineError as error:
                refused.append(str(error))
        return refused

    def _stop_what_had_been_stopped(self) -> None:
        """Docker starts `--restart always` at its own start, whatever somebody had stopped."""
        before = self.journal.before["containers"]
        started = {container for container in self.engine.running() if container in before} - {*self.journal.ran}
        self.engine.stop([container for container in started if before[container]["restart"].get("Name") == "always"])

    def _unmount_leftovers(self) -> None:
        """What Docker left mounted in its stores; anything else is somebody's own.

        Raises:
            Failed: something else is mounted there.
        """
        self._refuse_foreign_mounts()
        for mount in mounts_within(self.config.stores.values()):
            run("umount", mount.target)

    def _refuse_foreign_mounts(self) -> None:
        for mount in mounts_within(self.config.stores.values()):
            if not is_dockers_mount(mount):
                raise Failed(f"{mount.target} is a mount of somebody's own ({mount.fstype}) in Docker's data")

    def _is_committed(self) -> bool:
        text = read_fstab()
        return all(fstab_lists(text, entry) for entry in self.config.store_fstab)

    def _refuse_other_mounts(self) -> None:
        for path in self.config.stores.values():
            if os.stat(path).st_dev != os.stat(self.config.volume_mount).st_dev:
                raise Failed(f"{path} is mounted, and not from the volume")

    def _write_units(self) -> None:
        """What the move wants of systemd: a recovery at boot, and units that heed `BLOCK`."""
        replace_file(RECOVERY_UNIT, RECOVERY_UNIT_TEXT)
        for path in BLOCK_DROP_INS.values():
            replace_file(path, BLOCK_DROP_IN)
        run("systemctl", "daemon-reload")
        run("systemctl", "enable", "--quiet", RECOVERY)
        sync_directory("/etc/systemd/system/multi-user.target.wants")

    def _end(self) -> None:
        """Nothing is left to be recovered."""
        Path(RESERVE).unlink(missing_ok=True)
        self._unblock_starts()
        for path in BLOCK_DROP_INS.values():
            Path(path).unlink(missing_ok=True)
        if os.path.exists(RECOVERY_UNIT):
            subprocess.run(["systemctl", "disable", "--quiet", RECOVERY], check=False)
            Path(RECOVERY_UNIT).unlink()
        subprocess.run(["systemctl", "daemon-reload"], check=False)
