"""Docker's volume goes back to its snapshot.

What commits it is one command, which LVM itself finishes at the next activation if it is cut: `lvconvert --merge`. It
cannot be taken back. So it is given when Docker has stopped and nobody has the volume open any more: what goes wrong
before that leaves everything as it was, and after it the volume shows the snapshot's content at once. Where somebody
opens it at just that moment it does so later: Docker stays down until then, for what it wrote would be lost.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

from bulkhead import files, state
from bulkhead.command import run
from bulkhead.docker.daemon import docker_runs, is_shutting_down, shims
from bulkhead.docker.engine import Engine, EngineError
from bulkhead.docker.inventory import differences, record
from bulkhead.docker.running_builds import programs_that_build, under_way
from bulkhead.errors import PROBLEMS, Failed, in_words
from bulkhead.move.relocation import Relocation
from bulkhead.names import SNAPSHOT_TAG
from bulkhead.outage import journal, lock
from bulkhead.outage.journal import Journal
from bulkhead.procfs import users_of
from bulkhead.sizes import human
from bulkhead.snapshot.snapshots import LOST, STATE, Snapshot, ours
from bulkhead.storage import lvm
from bulkhead.storage.mounts import is_mounted, mount_by_fstab, mounted_elsewhere
from bulkhead.storage.volume import docker_volume
from bulkhead.text import abbreviated, count

if TYPE_CHECKING:
    from collections.abc import Callable

    from bulkhead.config import Config

_PATIENCE = 15  # seconds for who only looks at the volume, or has LVM's lock
_AT_ONCE = ("--config", "global/wait_for_locks=0")  # else LVM waits without an end, and Docker is down meanwhile
_STALLED = 300  # seconds without progress after which a merge is not watched any more
_DOCKERS_OWN = ("dockerd", "containerd", "docker-proxy", "runc")
_NOTHING: dict[str, dict[str, object]] = {"images": {}, "containers": {}, "volumes": {}, "networks": {}}

_OUTLIVED = (
    "containers that outlive Docker (live-restore) end by `ctr --namespace moby tasks rm --force "
    "$(ctr --namespace moby tasks list --quiet)`"
)


class Rollback(Relocation):
    """One rollback, from its journal, in the phases of a move.

    Stopping; switching, from before LVM is told until it is known to have begun; checking. What has `lived` is a Docker
    that ran before it, and is to run after it.

    Args:
        say: is told what happens, a line each.
    """

    stops = "Docker and its containers stop, and come back as they were when the snapshot was taken."

    def __init__(self, config: Config, say: Callable[[str], None], engine: Engine | None = None) -> None:
        super().__init__(config, say, engine)
        self.journal = Journal.load(journal.ROLLBACK)

    @property
    def is_pending(self) -> bool:
        return self.journal.phase in journal.UNFINISHED

    def snapshot(self) -> Snapshot:
        """What there is to go back to.

        Raises:
            Failed, Problem: nothing, or not now.
            OSError: LVM does not answer.
        """
        lock.refuse_unfinished(but_stopped=True)
        docker_volume(self.config)
        snapshots = ours(self.config)
        if not snapshots:
            raise Failed(f"there is no snapshot of {self.config.vg_name}/{self.config.logical_volume} to go back to")
        if snapshots[0].percent >= LOST:
            raise Failed(f"{snapshots[0].name} is lost: more was written to the volume than it could hold")
        if snapshots[0].name in self._opened():
            raise Failed(
                f"{self.config.vg_name}/{snapshots[0].name} is open (mounted?): LVM could only go back later. Close it first. "
                "Nothing was changed"
            )
        self._refuse_foreign_mounts()
        if users := self._foreign_users():
            raise Failed(f"other programs use Docker's volume: {', '.join(users)}. Stop them first")
        return snapshots[0]

    def losses(self, snapshot: Snapshot) -> list[str]:
        """What has come since the snapshot, and would be lost, in words."""
        lines = [f"{human(snapshot.written)} of the volume have been written since the snapshot; all of it is lost"]
        kept, now = state.load(STATE), record(self.engine)
        if "before" not in kept or not now:
            when = "does not answer" if not now else "did not answer when the snapshot was taken"
            return [*lines, f"Docker {when}: what it has got since cannot be told"]
        for kind, there in now["before"].items():
            new = [key for key in there if key not in kept["before"][kind]]
            if new:
                names = [_name(kind, key, there[key]) for key in new]
                lines.append(f"new since then, and lost: {count(len(new), kind[:-1])}: {abbreviated(names)}")
        if changed := differences(kept["before"], now["before"], kept["ran"]):
            lines.append(f"not as it was then, and comes back: {abbreviated(changed)}")
        lost = [*under_way(self.engine), *(f"{user}, which builds" for user in programs_that_build())]
        if lost:
            lines.append(f"under way, and lost: {abbreviated(lost)}")
        return lines

    def roll_back(self) -> None:
        """Put the volume back, with the containers running that ran then, and those that run now and were there then.

        Raises:
            Failed, Problem: it did not come about, or Docker has not come back whole; the message says on what it is.
        """
        snapshot = self.snapshot()
        if not self.is_pending:  # else it goes on from where it ended, with what ran then
            self.journal = Journal(journal.ROLLBACK)
        files.hold_reserve()
        try:
            self._write_units()
            self.stop()
            self.unmount()
            self.commit(snapshot)
            self.check()
        except PROBLEMS as error:
            self.recover(in_words(error))
            if self.journal.phase != journal.DONE:
                raise Failed(f"{in_words(error)}. {self.outcome()}") from error
        except BaseException:  # a signal to stop: as good as a failure
            self.recover("it was interrupted")
            raise
        if self.journal.reason:
            raise Failed(f"Docker is not whole: {self.journal.reason}. {self.outcome()}")
        self.say("Docker runs on the snapshot's data")

    def stop(self) -> None:
        if docker_runs():
            self.journal.lived = True
            earlier = self.journal.ran  # of a rollback that is begun again
            try:
                super().stop()
            except EngineError as error:
                raise Failed(
                    f"{error}. Where it hangs: `systemctl stop docker.socket docker`, and roll back then; {_OUTLIVED}"
                ) from error
            finally:
                if earlier:
                    self.journal.ran = [*dict.fromkeys([*self.journal.ran, *earlier])]
                    self.journal.save()
            return
        if still := shims():
            raise Failed(f"{still[0]} keeps a container running without Docker: {_OUTLIVED}")
        self.journal.enter(journal.STOPPING, before=_NOTHING)
        self._block_starts()
        self._stop_docker()
        self._unmount_leftovers()

    def unmount(self) -> None:
        """Take the volume out of use.

        Raises:
            Failed: somebody has it in use.
        """
        paths = [*self.config.stores.values(), self.config.volume_mount]
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                for path in paths:
                    while is_mounted(path):
                        run("umount", path)
                opened = self._opened()
                if not opened:
                    return
                problem = f"{self.config.vg_name}/{opened[0]} is open"
            except Failed as failed:
                opened, problem = [self.config.logical_volume], in_words(failed)
            if time.monotonic() > deadline:
                nodes = [f"/dev/{self.config.vg_name}/{name}" for name in opened]
                devices = [os.stat(node).st_rdev for node in nodes if os.path.exists(node)]
                users = [*map(str, users_of(paths)), *mounted_elsewhere(*devices)]
                raise Failed(f"{problem}. It is used by: {abbreviated(users) or 'unknown'}")
            time.sleep(0.5)

    def commit(self, snapshot: Snapshot) -> None:
        """From here on there is no way back: the content is the snapshot's, while it is merged and after it.

        Raises:
            Failed: LVM refuses; or it can only do it later.
            OSError: it does not answer.
        """
        self.say("the volume goes back to its snapshot")
        self.journal.enter(journal.SWITCHING)
        self._insist("lvconvert", "--merge", "--background", f"{self.config.vg_name}/{snapshot.name}")
        self._begin()
        self._enter_checking()

    def check(self) -> None:
        """Docker started on the volume, with what it held; what is not as it was goes into the journal.

        Raises:
            Failed, EngineError: it does not start.
        """
        self._start_all()
        missing = self._start_what_ran()
        self.journal.enter(journal.DONE, reason="; ".join(missing[:5]), before={}, ran=[])
        state.save(STATE, {})
        self._end()

    # -- after a failure, a kill, a cut

    def recover(self, reason: str = "it was cut", *, forward: bool = True) -> None:
        """Bring a rollback that did not end to one: Docker on the snapshot's data if it was committed, else as it was.

        Args:
            reason: why it did not end.
            forward: is of moves; nothing that is committed here can be undone.

        Raises:
            Failed, Problem, OSError: it is pending still. Where LVM was told and has not begun, or does not say, Docker
                stays down.
        """
        del forward
        if self.is_pending and is_shutting_down():
            return  # the unit at the next boot has all that it needs
        if self.journal.phase == journal.SWITCHING:
            self._go_on()
        try:
            if self.journal.phase == journal.CHECKING:
                with contextlib.suppress(Failed):  # after a cut nobody else may see to the end of the merge
                    self._insist("lvchange", "--poll", "y", self._name)
                self.check()
            elif self.journal.phase == journal.STOPPING:
                missing = []
                if self.journal.lived:
                    self._start_all()
                    missing = self._start_what_ran()
                else:
                    self._mount_all()
                self.journal.enter(journal.FAILED, reason=reason)
                self._end()
                for line in missing:
                    self.say(f"not as before: {line}")
            else:
                self._end()
        except BaseException:
            self._unblock_starts()  # whoever can start Docker shall
            raise

    def outcome(self) -> str:
        as_before = "runs as before" if self.journal.lived else "did not run before, and was not started"
        return {
            journal.FAILED: f"The volume was not put back to its snapshot: Docker {as_before}.",
            journal.DONE: "Docker's volume is back at its snapshot.",
            journal.CHECKING: "The volume is back at its snapshot; Docker has not come up on it. "
            "`bulkhead relocate --recover` tries again.",
            journal.SWITCHING: "LVM was told to put the volume back to its snapshot, and has not begun, or does not say. Docker "
            "stays down until then: what it wrote would be lost. `bulkhead relocate --recover` tries again; so does a reboot.",
            journal.STOPPING: "The volume was not put back to its snapshot; Docker has not come up again. "
            "`bulkhead relocate --recover` tries again; `bulkhead rescue` and `bulkhead snapshot rollback` are allowed.",
        }.get(self.journal.phase, "There has been no rollback to a snapshot.")

    # -- pieces

    @property
    def _name(self) -> str:
        return f"{self.config.vg_name}/{self.config.logical_volume}"

    def _volume(self) -> lvm.VolumeRecord:
        return next(v for v in lvm.list_volumes(self.config.vg_name) if v.name == self.config.logical_volume)

    def _opened(self) -> list[str]:
        """Which of the volume and its snapshot somebody has open."""
        return [
            volume.name
            for volume in lvm.list_volumes(self.config.vg_name)
            if volume.is_open
            and (
                volume.name == self.config.logical_volume
                or (SNAPSHOT_TAG in volume.tags and volume.origin == self.config.logical_volume)
            )
        ]

    def _foreign_users(self) -> list[str]:
        paths = [self.config.volume_mount, *self.config.stores.values()]
        return [str(user) for user in users_of(paths) if not user.name.startswith(_DOCKERS_OWN)]

    def _enter_checking(self) -> None:
        kept = state.load(STATE)
        before, then = kept.get("before", _NOTHING), kept.get("ran", [])
        now = [
            key for key in self.journal.ran if key not in then and (key in before["containers"] or "before" not in kept)
        ]
        self.journal.enter(journal.CHECKING, before=before, ran=[*then, *now])

    def _mount_all(self) -> None:
        mount_by_fstab(self.config.volume_mount, *self.config.stores.values())
        self._refuse_other_mounts()

    def _start_all(self) -> None:
        self._mount_all()
        self.say("starting Docker")
        self._start_docker()
        there = self.engine.inventory()["containers"]
        self.journal.ran = [key for key in self.journal.ran if key in there]

    def _insist(self, *command: str) -> None:
        """Have LVM change something, though another command may have its lock at just that moment.

        Raises:
            Failed: it refuses, or the lock was not to be had.
        """
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                run(*command[:-1], *_AT_ONCE, command[-1])
                return
            except Failed:
                if time.monotonic() > deadline:
                    raise
            time.sleep(1)

    def _begin(self) -> None:
        """See that LVM, which was told to go back, has begun to: somebody may have opened the volume at just that moment.

        Raises:
            Failed: it has not.
            OSError: it does not answer.
        """
        deadline = time.monotonic() + _PATIENCE
        while not self._has_begun():
            if time.monotonic() > deadline:
                raise Failed("something has the volume or its snapshot open: it goes back when that has ended")
            time.sleep(1)
            with contextlib.suppress(Failed):  # LVM's lock was not to be had
                run("lvchange", "--refresh", *_AT_ONCE, self._name)

    def _go_on(self) -> None:
        """After LVM was told, or was about to be."""
        if ours(self.config):
            self.journal.enter(journal.STOPPING)  # it has not heard it, or has refused
            return
        if not self._has_begun():
            self._block_starts()
            self._stop_docker()  # a boot may have started it
            self._unmount_leftovers()
            self.unmount()
            self._begin()
        self._enter_checking()

    def _has_begun(self) -> bool:
        volume = self._volume()
        return not volume.is_merging or volume.percent is not None


def watch(config: Config, say: Callable[[str], None]) -> None:
    """Tell how far LVM is with a merge, until it has ended; it needs nobody for it."""
    told, since = 101.0, time.monotonic()
    while True:
        with contextlib.suppress(OSError):
            origin = [v for v in lvm.list_volumes(config.vg_name) if v.name == config.logical_volume and v.is_merging]
            if not origin or origin[0].percent is None:
                return
            if origin[0].percent <= told - 10:
                told, since = origin[0].percent, time.monotonic()
                say(f"merging the snapshot in the background: {told:.0f} % of its space to go")
        if time.monotonic() - since > _STALLED:
            return
        time.sleep(2)


def _name(kind: str, key: str, value: object) -> str:
    if kind == "containers" and isinstance(value, dict):
        return str(value["name"])
    return str(value[0]) if kind == "images" and isinstance(value, list) and value else key
