"""Reserve the space of a build, or wait for it: who came first starts first."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

from bulkhead.build.checklist import FAILED, OK, WARNING, Item, is_root
from bulkhead.build.progress import say, show_line
from bulkhead.errors import in_words
from bulkhead.guard import reservations
from bulkhead.guard.reservations import Accounts, Reservation, identity
from bulkhead.text import abbreviated, in_time, short

if TYPE_CHECKING:
    from bulkhead.build.checklist import Checklist

_PAUSE = 2.0  # seconds between two checks
_LINES = 60.0  # seconds between two lines where there is no terminal
_TRIES = 60.0  # seconds between two attempts to make room beside the same builds
_COUNT_TIMEOUT = 3.0  # seconds for the guard to count what a build has written


class BuildQueue:
    """The place of one build among those of this host. Leave it at the end.

    Args:
        limit: bytes that the build may write; 0: no limit.
    """

    def __init__(self, checklist: Checklist, name: str, limit: int) -> None:
        self._checklist = checklist
        self._limit = limit
        self._is_reserved = False
        self._place = Reservation(identity(os.getpid()), name, 0, limit, time.monotonic(), 0)
        self._next_line = 0.0  # monotonic seconds

    def enter(self, patience: float) -> None:
        """Check the room, and reserve it: add both to the checklist.

        Args:
            patience: seconds to wait for the room; 0: do not wait.
        """
        try:
            self._checklist.add(self._enter(patience))
        except KeyboardInterrupt:
            if self._place.is_waiting:
                show_line("")
                say("left the queue: the build was not started")
            raise
        except OSError as error:
            is_needed = self._limit or patience
            text = f"the space cannot be reserved: {in_words(error)}"
            if is_needed:
                text += f". {'--limit' if self._limit else '--wait'} needs that"
            self._checklist.add(Item("reservation", FAILED if is_needed else WARNING, text))
            if not is_needed:
                self._checklist.add(self._without_reservation())

    def begin(self, client: int) -> None:
        """Note that docker has started.

        Args:
            client: its PID.
        """
        if self._is_reserved:
            self._place = self._place._replace(client=identity(client))
            reservations.save(self._place)

    def leave(self) -> None:
        """Give the space back."""
        if self._is_reserved:
            self._is_reserved = False
            reservations.remove(self._place)

    @property
    def process(self) -> str:
        return self._place.process

    @property
    def client(self) -> str:
        return self._place.client

    def accounts(self) -> Accounts:
        """Return what the guard knows of the builds now. Wait until it has counted once more."""
        asked, deadline = time.time(), time.monotonic() + _COUNT_TIMEOUT
        found = reservations.accounts()
        while self._place.client and found.time < asked and time.monotonic() < deadline:
            time.sleep(0.1)
            found = reservations.accounts()
        return found

    def _enter(self, patience: float) -> Item:
        began = time.monotonic()
        made_room_beside: set[str] | None = None
        next_try = began
        while True:
            found, ahead = self._try(waits=patience > 0)
            if found.level == OK:
                break
            if not self._checklist.can_fit():
                return self._checklist.advised(found)
            beside = {each.process for each in ahead}
            # Again when a build has ended: its cache may be idle now. Somebody else may have freed space, too.
            if is_root() and (beside != made_room_beside or time.monotonic() >= next_try):
                made_room_beside, next_try = beside, time.monotonic() + _TRIES
                self._checklist.make_room()
                continue
            waited = time.monotonic() - began
            if waited >= patience:
                advised = self._checklist.advised(found)
                return advised._replace(text=f"waited {in_time(waited)}. {advised.text}") if patience else advised
            self._show(ahead, patience - waited)
            time.sleep(_PAUSE)
        show_line("")
        return found

    def _try(self, *, waits: bool) -> tuple[Item, list[Reservation]]:
        """Reserve the space if it is there; else take a place in the queue, if the build waits.

        Returns:
            The check of the room, and the builds before this one.
        """
        if is_root():
            reservations.make_directory()
        with reservations.locked():
            ahead = [
                each
                for each in reservations.standing()
                if each.process != self._place.process and (not each.is_waiting or each.since < self._place.since)
            ]
            found = self._checklist.room(ahead)
            if found.level == OK:
                self._save(self._place._replace(used=self._checklist.used, is_waiting=False))
            elif waits and not self._is_reserved:
                self._save(self._place._replace(is_waiting=True))
            return found, ahead

    def _save(self, place: Reservation) -> None:
        self._place = place._replace(need=self._checklist.need.bytes)
        reservations.save(self._place)
        self._is_reserved = True

    def _without_reservation(self) -> Item:
        found = self._checklist.room([])
        if found.level != OK and is_root() and self._checklist.can_fit():
            self._checklist.make_room()
            found = self._checklist.room([])
        return found if found.level == OK else self._checklist.advised(found)

    def _show(self, ahead: list[Reservation], left: float) -> None:
        missing = self._checklist.wanted - self._checklist.free
        before = f", after {abbreviated([each.name for each in ahead])}" if ahead else ""
        line = f"waits for {short(missing)} of room{before}; gives up in {in_time(left)}"
        if sys.stderr.isatty():
            show_line(line)
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + _LINES
            say(line)
