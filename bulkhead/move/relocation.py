"""Move Docker's stores onto the volume: copy them while Docker runs, switch in one rename, and go back if need be.

The old data stays where it is; the volume's directories are mounted over it. The rename of an fstab with the lines of
both stores commits the move. The journal keeps the phase, and `Relocation.recover` continues from it: after a failure,
after a kill, and at boot.

Where Docker's store is a filesystem that is adopted, its files are not copied but renamed, in the same outage.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bulkhead.command import run
from bulkhead.docker.daemon import UNITS, existing_units, is_shutting_down
from bulkhead.docker.engine import Engine, EngineError
from bulkhead.docker.start import start_limit
from bulkhead.errors import Failed, in_words
from bulkhead.files import hold_reserve, replace_file
from bulkhead.move import rsync
from bulkhead.move.adopted_filesystem import AdoptedFilesystem, holds_images
from bulkhead.move.move import LEFT_ON_VOLUME, Move, refuse_too_little_room
from bulkhead.move.tree_copy import TreeCopy
from bulkhead.move.volume_stores import VolumeStores
from bulkhead.names import DOCKER, DOCKER_STORE
from bulkhead.outage import journal
from bulkhead.outage.journal import Journal
from bulkhead.outage.outage import Outage, foreign_writers, writers
from bulkhead.storage.fstab import read_fstab, replace_fstab, with_entries, without_entries
from bulkhead.storage.mounts import bound_elsewhere, is_mounted, mount_by_fstab, mounts_within
from bulkhead.text import count
from pyinfra_lvm.fstab import fstab_lists

if TYPE_CHECKING:
    from collections.abc import Callable

    from bulkhead.config import Config

_IDLE_INTERVAL = 2  # seconds between two checks whether Docker can be stopped
_SHOWN = 5  # of many names
_MARGIN = 60  # seconds: systemd does not end a start that the move still waits for
_BOOT_LIMIT = """\
[Service]
# The recovery is ordered after Docker: a Docker that hangs at boot must not block it for ever.
TimeoutStartSec={}
"""
_DOCKERS_PROGRAMS = ("dockerd", "containerd-shim")


class Relocation(Move):
    """The move of Docker's data.

    Args:
        config: names the stores and the volume.
        say: receives each line that reports progress.
        engine: Docker; by default the host's.
    """

    path = DOCKER_STORE  # containerd's store moves with it
    stops = "Docker and its containers stop, and start again on the old data. " + LEFT_ON_VOLUME

    def __init__(self, config: Config, say: Callable[[str], None], engine: Engine | None = None) -> None:
        super().__init__(Journal.load(journal.PATH), say)
        self._config = config
        self._engine = engine or Engine()
        self._outage = Outage(config, self.journal, say, self._engine)
        self._volume_stores = VolumeStores(config)
        self._filesystem = AdoptedFilesystem(config, self.journal, say) if config.volume_fstab else None
        if self._adopted:
            self.stops = "Docker and its containers stop, and start again with their filesystem where it was."
        self._copies: dict[str, tuple[TreeCopy, set[str]]] = {}  # by store; with its layers that need no further copy

    # -- where it stands

    @property
    def is_pending(self) -> bool:
        return self.journal.phase in journal.UNFINISHED or self._is_adopting or bool(self._old_trees())

    @property
    def _is_adopting(self) -> bool:
        """Whether a filesystem is mounted on Docker's store that is to be adopted."""
        return self._filesystem is not None and self._filesystem.is_pending

    @property
    def _adopted(self) -> AdoptedFilesystem | None:
        """The filesystem that this move adopts, or has adopted; None: it copies Docker's data."""
        return self._filesystem if self.journal.fstab else None

    @property
    def is_on_volume(self) -> bool:
        return self._is_committed() and all(map(is_mounted, self._directories()))

    def outcome(self) -> str:
        return {
            "": "Docker's data has not been moved.",
            journal.FAILED: "Docker runs on its old data.",
            journal.ROLLED_BACK: "Docker runs on its old data: the move was rolled back.",
            journal.DONE: "Docker runs on the volume; the old data is kept.",
            journal.FINALIZING: "Docker runs on the volume; the old data is being removed.",
            journal.FINALIZED: "Docker runs on the volume.",
        }.get(self.journal.phase, f"The move is unfinished ({self.journal.phase}).")

    def _directories(self) -> list[str]:
        return [*self._config.stores.values()]

    def _old_trees(self) -> list[str]:
        """Return the stores that are not mounted, and hold anything; beside a filesystem that is adopted, only images."""
        paths = self._directories()
        found = [path for path in paths if os.path.isdir(path) and not is_mounted(path) and os.listdir(path)]
        return [path for path in found if not self._is_adopting or holds_images(path)]

    def _used(self) -> list[str]:
        """Return the directories that nobody may write to when Docker has stopped."""
        return [*self._old_trees(), *([self.path] if self._is_adopting else [])]

    def _is_committed(self) -> bool:
        if self._adopted:
            return self._adopted.is_committed()
        text = read_fstab()
        return all(fstab_lists(text, entry) for entry in self._config.store_fstab)

    def _is_listed(self) -> bool:
        """Return whether fstab has a line of a store."""
        text = read_fstab()
        return any(fstab_lists(text, entry) for entry in self._config.store_fstab)

    def _has_docker(self) -> bool:
        """Return whether this host has Docker. A filesystem can be adopted before Docker is installed."""
        return not self._adopted or DOCKER in existing_units(UNITS)

    # -- the move

    def relocate(self) -> None:
        if self.journal.phase in journal.UNFINISHED:
            self.recover("the move was interrupted")
            if self.journal.phase in (journal.DONE, journal.FINALIZED):
                return
        try:
            self.copy()
            self.stop()
            self.copy_difference()
            self.switch()
            self.check()
        except (Failed, EngineError, rsync.CopyError, OSError, subprocess.SubprocessError) as error:
            self.recover(in_words(error), forward=False)
            if self.journal.phase == journal.FAILED:
                self.journal.since = time.time()
            # Also if it has not begun: the journal would have no reason, or that of an earlier move.
            self.keep_reason(in_words(error))
            raise Failed(f"{in_words(error)}. {self.outcome()}") from error
        except BaseException:  # a signal that asks to stop is treated like a failure
            self.recover("the move was interrupted", forward=False)
            raise

    def copy(self) -> None:
        """Copy the bulk while Docker runs, and wait until Docker can be stopped.

        Raises:
            Failed: there is nothing to copy, no room for it, or something stands in the way.
            CopyError: rsync failed.
        """
        old = {path: rsync.size_of(path) for path in self._old_trees()}
        lines = self._filesystem.lines() if self._filesystem and self._is_adopting else []
        if not old and not lines:
            raise Failed("there is nothing to move: Docker's stores are on the volume already, or empty")
        if self._filesystem and lines:
            self._filesystem.mount_beside()
        if not is_mounted(self._config.volume_mount):
            raise Failed(f"{self._config.volume_mount} is not mounted")
        begun = self.journal.old if self.journal.phase in (journal.FAILED, journal.COPYING) else ()
        if not lines:  # what lies on a filesystem that is adopted is Docker's
            self._volume_stores.refuse_foreign_volume()
            self._volume_stores.refuse_unknown_data(begun)
        left = "If nobody needs what an earlier move or rollback has left there (docker.left-…), remove it"
        refuse_too_little_room(self._config.volume_mount, sum(old.values()), self._volume_stores.copies(), left)
        self._outage.refuse_foreign_mounts()
        hold_reserve()
        fresh = {"reason": "", "asked": False, "lived": False, "ran": [], "before": {}, "set_aside": ""}
        self.journal.enter(journal.COPYING, old=old, fstab=lines, **fresh)
        self._write_drop_ins(self._config.ordering_drop_ins)
        self._outage.write_units()
        for path, size in old.items():
            self._copy_bulk(path, size)
        self._wait_until_idle()

    def _write_drop_ins(self, drop_ins: dict[str, str]) -> None:
        limit = _BOOT_LIMIT.format(start_limit(self._config.docker_start_limit) + _MARGIN)
        for path, content in drop_ins.items():
            replace_file(path, content + limit)

    def _copy_bulk(self, path: str, size: int) -> None:
        target = self._volume_stores.copy_of(path)
        os.makedirs(target, exist_ok=True)
        layers = rsync.immutable_layers(path)
        # rsync itself would copy a directory of the same filesystem that is bind-mounted in the tree.
        mounted = [os.path.relpath(mount.target, path) for mount in mounts_within([path])]
        copy = TreeCopy(path, target, self._say)
        copy.copy_bulk(size, mounted, note=", while Docker runs")
        self._copies[path] = copy, {layer for layer in layers if copy.is_verified(layer)}

    def _wait_until_idle(self) -> None:
        deadline = time.monotonic() + self._config.relocation_patience
        reported: list[str] = []
        while reasons := self._reasons_to_wait():
            if time.monotonic() > deadline:
                raise Failed(
                    f"still under way after {self._config.relocation_patience} s: {', '.join(reasons)}. Docker was not "
                    "stopped: run again when this has ended"
                )
            if reasons != reported:
                self._say(f"waiting for {', '.join(reasons)}")
                reported = reasons
            time.sleep(_IDLE_INTERVAL)

    def _reasons_to_wait(self) -> list[str]:
        """Describe what stopping Docker now would destroy, and who would continue to write to the old data."""
        if not self._has_docker():
            return []
        writing = [f"{user}, which writes to Docker's data" for user in foreign_writers(self._used())]
        # The containers that Docker itself runs are stopped before the switch.
        bound = [
            f"{path}, which is {where}"
            for path in self._old_trees()
            for where in bound_elsewhere(path, but_of=_DOCKERS_PROGRAMS)
        ]
        return [*self._outage.would_destroy(), *writing, *bound]

    def stop(self) -> None:
        """Stop Docker and its containers. The outage lasts from here until `check` ends.

        Raises:
            Failed: something does not stop, or other programs still use the old data.
            EngineError: Docker does not answer.
        """
        if self._has_docker():
            self._outage.begin()
        else:  # a filesystem that waits for Docker to be installed
            self.journal.enter(journal.STOPPING)
        if users := writers(self._used()):
            raise Failed(f"other programs write to Docker's data: {', '.join(map(str, users))}. Stop them first")
        if bound := [f"{path} is {where}" for path in self._old_trees() for where in bound_elsewhere(path)]:
            raise Failed(
                f"other programs would continue on Docker's old data: {', '.join(bound)}. Stop them, or unmount it"
            )

    def copy_difference(self) -> None:
        """Copy and verify what has changed since the bulk was copied: nobody writes any more.

        Raises:
            CopyError: rsync failed, or somebody does write.
        """
        for path, (copy, layers) in self._copies.items():
            copy.copy_difference(layers & rsync.immutable_layers(path))

    def switch(self) -> None:
        """Commit the move, and mount both stores.

        Raises:
            Failed: fstab cannot be replaced, or a store cannot be mounted.
        """
        self.journal.enter(journal.SWITCHING, switched=time.time())
        self._say("switching to the volume")
        if self._adopted:
            self._write_drop_ins(self._config.closed_drop_ins)
            run("systemctl", "daemon-reload")
            self._adopted.take_over()
        self._volume_stores.put_in_place(self.journal.old)
        if self._adopted:
            self._adopted.complete()
            self._adopted.commit()
        else:
            replace_fstab(lambda text: with_entries(text, self._config.store_fstab))
        self.journal.enter(journal.CHECKING)
        if self._adopted:
            run("systemctl", "daemon-reload")  # or a start of Docker's unit could mount the filesystem by the old line
            self._adopted.uncover_store()
        for path in self._directories():
            run("mount", path)  # at once. systemd notices the mounts, and reads fstab when the move ends
        self._outage.refuse_other_mounts()

    def check(self) -> None:
        """Start Docker on the volume, compare what it holds with what it held, and end the outage.

        Raises:
            Failed, EngineError: Docker does not start, or is not as it was.
        """
        self._say("starting Docker on the volume")
        self.journal.enter(journal.CHECKING, lived=True)
        if self._has_docker():
            self._outage.start_docker()
            if missing := self._outage.start_what_ran():
                raise Failed(f"Docker did not come back complete on the volume: {'; '.join(missing[:_SHOWN])}")
        self.journal.enter(journal.DONE if self.journal.old else journal.FINALIZED)
        self._outage.end()
        self._say("Docker runs on the volume, with all that it had")

    # -- after a failure, a kill, a power cut

    def recover(self, reason: str = "it was interrupted", *, forward: bool = True) -> None:
        """Finish or undo a move that did not end. Docker and what ran are up again, on the volume or on the old data.

        Args:
            reason: why the move did not end.
            forward: finish a committed move; otherwise undo it.

        Raises:
            Failed, EngineError: Docker does not start on its old data. The message says how to go on by hand.
        """
        if self.journal.phase in journal.UNFINISHED and is_shutting_down():
            return  # the recovery at the next boot does it
        phase = self.journal.phase
        if phase == journal.SWITCHING:
            phase = journal.CHECKING if self._is_committed() else journal.STOPPING
        if phase == journal.CHECKING and forward:
            try:
                self.journal.enter(journal.CHECKING, lived=True)  # at boot Docker has started by itself
                mount_by_fstab(*self._directories())
                self._outage.refuse_other_mounts()
                self.check()
                return
            except Exception as error:  # whatever it is: Docker must come up
                reason = in_words(error)
                phase = self.journal.phase
        if phase in (journal.CHECKING, journal.RETURNING):
            self._go_back(self.journal.reason or reason)
        elif phase == journal.STOPPING:
            self._resume_on_old_data(reason)
        else:
            if self._filesystem and self._is_adopting:
                self._filesystem.leave_new_place()  # nothing has been renamed: Docker runs on it
            if phase == journal.COPYING:
                self.journal.enter(journal.FAILED, reason=reason)
            self._outage.end()

    def _go_back(self, reason: str, *, asked: bool = False) -> None:
        """Go back from the volume to the old data. What Docker has written to the volume stays there."""
        self._outage.write_units()
        self.journal.enter(journal.RETURNING, reason=reason, asked=asked or self.journal.asked)
        self._say(f"going back to the old data: {reason}")
        # A Docker that is back on the old data and still starts must not be stopped: it would never come up.
        # By somebody's own line, an adopted filesystem is mounted on the store that it has come back to.
        is_bound = self._adopted.is_bound() if self._adopted else any(map(is_mounted, self._directories()))
        if self._is_listed() or is_bound:
            self._leave_the_volume()
        self._resume_on_old_data(reason)

    def _leave_the_volume(self) -> None:
        """Stop Docker, and unmount the volume from its stores, for now and for the next boot."""
        self._outage.block_starts()
        if self._has_docker():
            with contextlib.suppress(EngineError, Failed):
                for _ in self._outage.stop_containers():
                    pass
            self._outage.stop_docker()
        if self._adopted:
            self._adopted.uncommit()
        else:
            replace_fstab(lambda text: without_entries(text, self._config.store_fstab))
        run("systemctl", "daemon-reload")
        for path in self._directories():
            while is_mounted(path):
                run("umount", "--lazy", path)  # a program that reads there does not prevent it

    def _resume_on_old_data(self, reason: str) -> None:
        if self._adopted:
            self._adopted.give_back()  # and only then may Docker start
        for drop_in in self._config.ordering_drop_ins:
            Path(drop_in).unlink(missing_ok=True)
        run("systemctl", "daemon-reload")
        missing = []
        if self._has_docker():
            self._outage.start_docker(then_by_hand=True)
            missing = self._outage.start_what_ran()
        try:
            if self._adopted:
                pass  # it has taken everything with it
            elif self.journal.lived:
                self._volume_stores.set_apart()
            else:
                self._volume_stores.take_back(self.journal.old)
        except OSError as error:  # the volume fails. The next move checks what is there
            self._say(f"what is on the volume could not be renamed: {in_words(error)}")
        self.journal.enter(journal.ROLLED_BACK if self.journal.asked else journal.FAILED, reason=reason)
        self._outage.end()
        for line in missing:
            self._say(f"on the old data: {line}")

    # -- afterwards

    def refuse_impossible_rollback(self) -> None:
        if self._adopted and self.journal.phase in (journal.DONE, journal.FINALIZED):
            self._adopted.refuse_to_split()
        else:
            super().refuse_impossible_rollback()

    def written_since(self) -> list[str]:
        if self._adopted:
            return [f"the filesystem is mounted on {self.path} again, with all that it holds: nothing is left behind"]
        lines = []
        try:
            now = self._engine.inventory()
        except EngineError as error:
            lines.append(f"{error}: what was added since the move is unknown")
            now = self.journal.before
        for kind in ("images", "containers", "volumes", "networks"):
            new = [key for key in now[kind] if key not in self.journal.before[kind]]
            names = [now[kind][key]["name"] if kind == "containers" else key for key in new]
            if new:
                added = f"{count(len(new), kind[:-1])}: {', '.join(names[:_SHOWN])}"
                lines.append(f"new since the move, and not in the old data: {added}")
        if not is_mounted(self._config.volume_mount):
            return [*lines, f"{self._config.volume_mount} is not mounted: what was written since the move is unknown"]
        for path in self._directories():
            files = rsync.changed_files(self._volume_stores.place_of(path), self.journal.since, ())
            lines.append(f"{path}: {count(len(files), 'file')} written since the move")
        return lines

    def roll_back(self) -> None:
        """Run Docker on its old data again, with the containers that run now, as far as the old data has them.

        Raises:
            Failed: there is no old data, or other programs write to Docker's data.
        """
        self.refuse_impossible_rollback()
        if others := foreign_writers(self._directories()):
            raise Failed(f"other programs write to Docker's data: {', '.join(map(str, others))}. Stop them first")
        with contextlib.suppress(EngineError):  # a Docker that does not answer is a reason to go back
            if self._adopted:
                self.journal.before = self._engine.inventory()
            ran = [container for container in self._engine.running() if container in self.journal.before["containers"]]
            self.journal.enter(self.journal.phase, ran=ran)
        self._go_back("a rollback was requested", asked=True)
