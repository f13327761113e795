"""Restore Docker's volume to its snapshot.

One command commits the rollback: `lvconvert --merge`. If it is interrupted, LVM finishes it when the volume is next
activated, and it cannot be taken back. So it runs only after Docker has stopped and nobody has the volume open. A
failure before it leaves everything as it was. After it, the volume shows the snapshot's content at once. If somebody
opens the volume at just that moment, LVM restores it later. Docker stays down until then: what it wrote would be lost.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

from bulkhead import files, state
from bulkhead.command import run
from bulkhead.docker import containers
from bulkhead.docker.daemon import docker_runs, is_shutting_down
from bulkhead.docker.engine import Engine, EngineError
from bulkhead.docker.inventory import NOTHING, differences, record
from bulkhead.errors import PROBLEMS, Failed, in_words
from bulkhead.names import DOCKER_STORE
from bulkhead.outage import journal, lock
from bulkhead.outage.journal import Journal
from bulkhead.outage.outage import Outage
from bulkhead.sizes import human
from bulkhead.snapshot import merge
from bulkhead.snapshot.snapshots import LOST, STATE, Snapshot, ours
from bulkhead.storage import lvm
from bulkhead.storage.mounts import is_mounted, mount_by_fstab, mounted_elsewhere
from bulkhead.storage.processes import users_of
from bulkhead.storage.volume import docker_volume, mark
from bulkhead.text import abbreviated, count

if TYPE_CHECKING:
    from collections.abc import Callable

    from bulkhead.config import Config

_STALLED = 300  # seconds without progress after which a merge is no longer watched
_DOCKERS_OWN = ("dockerd", "containerd", "docker-proxy", "runc")

_OUTLIVED = (
    "to end containers that outlive Docker (live-restore), run `ctr --namespace moby tasks rm --force "
    "$(ctr --namespace moby tasks list --quiet)`"
)


class Rollback:
    """One rollback. Its journal has three of a move's phases.

    STOPPING: Docker is being stopped. SWITCHING: LVM is about to be told to merge, or was told and is not known to have
    begun. CHECKING: Docker is being started on the snapshot's content. The journal's field `lived` says that Docker ran
    before the rollback, so it is started again if the rollback is undone.

    Args:
        config: names the volume, its group and the stores.
        say: receives each line that reports progress.
        engine: Docker; by default the host's.
    """

    path = DOCKER_STORE  # for messages, as a move has it
    stops = "Docker and its containers stop, and start again as they were when the snapshot was taken."

    def __init__(self, config: Config, say: Callable[[str], None], engine: Engine | None = None) -> None:
        self.journal = Journal.load(journal.ROLLBACK)
        self._config = config
        self._say = say
        self._engine = engine or Engine()
        self._outage = Outage(config, self.journal, say, self._engine)
        self._merge = merge.Merge(config)

    @property
    def is_pending(self) -> bool:
        """Whether there is a rollback to finish or undo."""
        return self.journal.phase in journal.UNFINISHED

    # -- before it

    def snapshot(self) -> Snapshot:
        """Return the snapshot that the volume can be restored to.

        Raises:
            Failed, Problem: there is none, or it cannot be done now.
            OSError: LVM does not answer.
        """
        lock.refuse_unfinished(but_stopped=True)
        docker_volume(self._config)
        snapshots = ours(self._config)
        if not snapshots:
            raise Failed(f"there is no snapshot of {self._config.vg_name}/{self._config.logical_volume} to go back to")
        if snapshots[0].percent >= LOST:
            raise Failed(f"{snapshots[0].name} is lost: more was written to the volume than it could hold")
        if snapshots[0].name in self._merge.opened():
            raise Failed(
                f"{self._config.vg_name}/{snapshots[0].name} is open (mounted?), so LVM could only restore the volume "
                "later. Close it first. Nothing was changed"
            )
        self._outage.refuse_foreign_mounts()
        if users := self._foreign_users():
            raise Failed(f"other programs use Docker's volume: {', '.join(users)}. Stop them first")
        return snapshots[0]

    def _foreign_users(self) -> list[str]:
        paths = [self._config.volume_mount, *self._config.stores.values()]
        return [str(user) for user in users_of(paths) if not user.name.startswith(_DOCKERS_OWN)]

    def losses(self, snapshot: Snapshot) -> list[str]:
        """Describe what a rollback loses: what was added or changed since the snapshot, and what is under way.

        Raises:
            EngineError: Docker stopped answering.
        """
        lines = [f"{human(snapshot.written)} of the volume were written since the snapshot; all of it is lost"]
        then, now = state.load(STATE), record(self._engine)
        if "before" not in then or not now:
            when = "does not answer" if not now else "did not answer when the snapshot was taken"
            return [*lines, f"Docker {when}: what was added since then is unknown"]
        for kind, objects in now["before"].items():
            new = [key for key in objects if key not in then["before"][kind]]
            if new:
                names = [_name(key, objects[key]) for key in new]
                lines.append(f"new since then, and lost: {count(len(new), kind[:-1])}: {abbreviated(names)}")
        if changed := differences(then["before"], now["before"], then["ran"]):
            lines.append(f"changed since then, and restored: {abbreviated(changed)}")
        if destroyed := self._outage.would_destroy():
            lines.append(f"under way, and lost: {abbreviated(destroyed)}")
        return lines

    # -- the rollback

    def roll_back(self) -> None:
        """Restore the volume. Start the containers that ran then, and those that run now and existed then.

        Raises:
            Failed, Problem: it failed, or Docker has not come back complete. The message says what the volume holds.
        """
        snapshot = self.snapshot()
        if not self.is_pending:  # a rollback that is begun again keeps what ran before it
            self.journal.clear()
        files.hold_reserve()
        try:
            self._outage.write_units()
            self.stop()
            self.unmount()
            self.commit(snapshot)
            self.check()
        except PROBLEMS as error:
            self.recover(in_words(error))
            if self.journal.phase != journal.DONE:
                raise Failed(f"{in_words(error)}. {self.outcome()}") from error
        except BaseException:  # a signal that asks to stop is treated like a failure
            self.recover("it was interrupted")
            raise
        if self.journal.reason:
            raise Failed(f"Docker is not complete: {self.journal.reason}. {self.outcome()}")
        self._say("Docker runs on the snapshot's data")

    def stop(self) -> None:
        """Stop Docker and its containers, and keep in the journal what ran, also before an earlier attempt.

        Raises:
            Failed: something does not stop.
        """
        if docker_runs():
            self._stop_running_docker()
            return
        if left := containers.shims():
            raise Failed(f"{left[0]} keeps a container running without Docker: {_OUTLIVED}")
        self.journal.enter(journal.STOPPING, before=NOTHING)
        self._stop_docker()

    def _stop_running_docker(self) -> None:
        self.journal.lived = True
        earlier = self.journal.ran
        try:
            self._outage.begin()
        except EngineError as error:
            raise Failed(
                f"{error}. If Docker hangs, stop it with `systemctl stop docker.socket docker`, then roll back again; "
                f"{_OUTLIVED}"
            ) from error
        finally:
            if earlier:
                self.journal.ran = [*dict.fromkeys([*self.journal.ran, *earlier])]
                self.journal.save()

    def _stop_docker(self) -> None:
        self._outage.block_starts()
        self._outage.stop_docker()

    def unmount(self) -> None:
        """Unmount the volume everywhere, and wait for a while until nobody has it open.

        Raises:
            Failed: somebody uses it.
        """
        paths = [*self._config.stores.values(), self._config.volume_mount]
        deadline = time.monotonic() + merge.PATIENCE
        while True:
            try:
                for path in paths:
                    while is_mounted(path):
                        run("umount", path)
                opened = self._merge.opened()
                if not opened:
                    return
                problem = f"{self._config.vg_name}/{opened[0]} is open"
            except Failed as failed:
                opened, problem = [self._config.logical_volume], in_words(failed)
            if time.monotonic() > deadline:
                nodes = [f"/dev/{self._config.vg_name}/{name}" for name in opened]
                devices = [os.stat(node).st_rdev for node in nodes if os.path.exists(node)]
                users = [*map(str, users_of(paths)), *mounted_elsewhere(*devices)]
                raise Failed(f"{problem}. It is used by: {abbreviated(users) or 'unknown'}")
            time.sleep(0.5)

    def commit(self, snapshot: Snapshot) -> None:
        """Have LVM restore the volume. There is no way back: the content is the snapshot's, during the merge and after it.

        Raises:
            Failed: LVM refuses, or can only do it later.
            OSError: LVM does not answer.
        """
        self._say("restoring the volume to its snapshot")
        self.journal.enter(journal.SWITCHING)
        self._merge.request(snapshot.name)
        self._merge.wait_until_begun()
        self._enter_checking()

    def _enter_checking(self) -> None:
        then = state.load(STATE)
        before, ran_then = then.get("before", NOTHING), then.get("ran", [])
        # Of the containers that ran when the rollback began, those that the snapshot has, as far as that is known.
        ran_now = [
            key
            for key in self.journal.ran
            if key not in ran_then and (key in before["containers"] or "before" not in then)
        ]
        self.journal.enter(journal.CHECKING, before=before, ran=[*ran_then, *ran_now])

    def check(self) -> None:
        """Start Docker on the volume, and end the outage. What is not as it was becomes the journal's reason.

        Raises:
            Failed, EngineError: Docker does not start.
        """
        self._start_docker()
        missing = self._outage.start_what_ran()
        self.journal.enter(journal.DONE, reason="; ".join(missing[:5]), before={}, ran=[])
        state.save(STATE, {})
        self._outage.end()

    def _start_docker(self) -> None:
        self._mount_volume()
        self._say("starting Docker")
        self._outage.start_docker(then_by_hand=True)
        existing = self._engine.inventory()["containers"]
        self.journal.ran = [key for key in self.journal.ran if key in existing]

    def _mount_volume(self) -> None:
        mount_by_fstab(self._config.volume_mount, *self._config.stores.values())
        for name in self._config.stores:
            mark(f"{self._config.volume_mount}/{name}")  # the snapshot may be older than the markers
        self._outage.refuse_other_mounts()

    # -- after a failure, a kill, a power cut

    def recover(self, reason: str = "it was interrupted") -> None:
        """Finish a rollback that was committed, and undo one that was not.

        Args:
            reason: why it did not end.

        Raises:
            Failed, Problem, OSError: it is still pending. If LVM was told to merge and has not begun, or does not
                answer, Docker stays down.
        """
        if self.is_pending and is_shutting_down():
            return  # the recovery at the next boot does it
        if self.journal.phase == journal.SWITCHING:
            self._recover_commit()
        try:
            if self.journal.phase == journal.CHECKING:
                with contextlib.suppress(Failed):  # after a power cut, LVM itself may not finish the merge
                    self._merge.resume()
                self.check()
            elif self.journal.phase == journal.STOPPING:
                self._undo(reason)
            else:
                self._outage.end()
        except BaseException:
            self._outage.unblock_starts()  # whoever can start Docker may do so
            raise

    def _recover_commit(self) -> None:
        """Find out whether LVM was told to merge. If it was, make sure that it has begun.

        Raises:
            Failed: it has not begun.
            OSError: LVM does not answer.
        """
        if ours(self._config):
            self.journal.enter(journal.STOPPING)  # it was not told, or has refused
            return
        if not self._merge.has_begun():
            self._stop_docker()  # a boot may have started it
            self.unmount()
            self._merge.wait_until_begun()
        self._enter_checking()

    def _undo(self, reason: str) -> None:
        """Bring Docker back as it was before the rollback: nothing is committed."""
        missing = []
        if self.journal.lived:
            self._start_docker()
            missing = self._outage.start_what_ran()
        else:
            self._mount_volume()
        self.journal.enter(journal.FAILED, reason=reason)
        self._outage.end()
        for line in missing:
            self._say(f"not as before: {line}")

    def outcome(self) -> str:
        """Return what the volume holds and whether Docker runs, in sentences."""
        as_before = "runs as before" if self.journal.lived else "did not run before, and was not started"
        return {
            journal.FAILED: f"The volume was not restored to its snapshot: Docker {as_before}.",
            journal.DONE: "Docker's volume has been restored to its snapshot.",
            journal.CHECKING: "The volume has been restored to its snapshot, but Docker has not started on it. "
            "`bulkhead relocate --recover` tries again.",
            journal.SWITCHING: "LVM was told to restore the volume to its snapshot, and has not begun, or does not answer. "
            "Docker stays down until then, because anything that it wrote would be lost. `bulkhead relocate --recover` "
            "tries again, and so does a reboot.",
            journal.STOPPING: "The volume was not restored to its snapshot, and Docker has not started again. "
            "`bulkhead relocate --recover` tries again; `bulkhead rescue` and `bulkhead snapshot rollback` are allowed.",
        }.get(self.journal.phase, "There has been no rollback to a snapshot.")


def watch(config: Config, say: Callable[[str], None]) -> None:
    """Report the progress of a merge until it has ended or makes no more progress. LVM does the merge by itself."""
    reported, since = 101.0, time.monotonic()
    while True:
        with contextlib.suppress(OSError):
            origin = [v for v in lvm.list_volumes(config.vg_name) if v.name == config.logical_volume and v.is_merging]
            if not origin or origin[0].percent is None:
                return
            if origin[0].percent <= reported - 10:
                reported, since = origin[0].percent, time.monotonic()
                say(f"merging the snapshot in the background: {reported:.0f} % of its space left")
        if time.monotonic() - since > _STALLED:
            return
        time.sleep(2)


def _name(key: str, value: object) -> str:
    """Return the name that people know an object of Docker's inventory by."""
    if isinstance(value, dict):  # a container
        return str(value["name"])
    return str(value[0]) if isinstance(value, list) and value else key  # an image has a list of names
