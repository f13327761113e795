"""The builds that `bulkhead build` runs or queues on this host, and the space that each has reserved.

Each build has a file in a directory in memory. Everybody who may use Docker may write there: the directory belongs to the
group of Docker's socket. A file counts as long as its process lives, so a build that was killed holds no space. The guard
writes a file of its own beside them: what each build has written, and whose build it has stopped.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from bulkhead import procfs
from bulkhead.files import changed_at, read_foreign, replace_file
from bulkhead.names import BUILDS_RUN, DOCKER_API

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

DIRECTORY = BUILDS_RUN
_LOCK_TIMEOUT = 10  # seconds
_LARGEST = 2**20  # characters of a file
_GUARD = "guard"  # name of the guard's file
_REFUSED = "only root and members of the group docker may see the builds of others"


class Reservation(NamedTuple):
    """A build, and the space that it has reserved. A process is named by its PID and its start time."""

    process: str  # `bulkhead build`
    name: str  # for people
    need: int  # bytes at its peak
    limit: int  # bytes that it may write; 0: no limit
    since: float  # monotonic seconds: since it asked for the space
    used: int  # bytes of the volume that were in use when it began
    is_waiting: bool = False
    client: str = ""  # docker; empty before it has started

    def remaining(self, account: Account, used: int) -> int:
        """Return the bytes that it may still need.

        Args:
            account: the guard's count of what it has written.
            used: bytes of the volume that are in use now.
        """
        # Others write too, and not everything that is written stays: the smaller of both is what it has taken.
        taken = min(account.total, max(used - self.used, 0))
        return max(self.need - taken, 0)


class Account(NamedTuple):
    """The guard's count of what a build has written, in bytes."""

    steps: int = 0  # by steps that are certainly its own
    total: int = 0  # also what Docker wrote while no other build ran
    has_passed_limit: bool = False
    is_disturbed: bool = False  # whether another build was under way: it may be a user's whose builds others cannot see


class Stop(NamedTuple):
    """A build that the guard has stopped."""

    time: float  # seconds since the epoch
    clients: list[str]  # whose build it may have been: more than one where the guard cannot tell


class Accounts(NamedTuple):
    """What the guard knows of the builds."""

    time: float = 0  # when it wrote this
    builds: Mapping[str, Account] = {}  # by the process of the reservation
    stops: tuple[Stop, ...] = ()

    def of(self, reservation: Reservation) -> Account:
        return self.builds.get(reservation.process, Account())


def identity(pid: int) -> str:
    """Return a name of a process that no later process gets: its PID and its start time."""
    return f"{pid} {procfs.start_time(pid)}"


def is_alive(process: str) -> bool:
    """Return whether a process lives; False for what names none.

    Where /proc hides it, its start time is unknown. Then it counts as alive as long as there is a process of its PID: what
    another user has reserved is not given away.
    """
    pid, _, started = process.partition(" ")
    if not pid.isdecimal() or started == "0":
        return False
    return identity(int(pid)) == process or (started.isdecimal() and procfs.is_hidden(int(pid)))


def make_directory() -> None:
    """Make the directory, for root and the group of Docker's socket. Only root can.

    Raises:
        OSError: it cannot be made.
    """
    os.makedirs(DIRECTORY, 0o700, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):  # Docker is down
        group = os.stat(DOCKER_API).st_gid
        if os.stat(DIRECTORY).st_gid != group:
            os.chown(DIRECTORY, 0, group)
    os.chmod(DIRECTORY, 0o770)  # noqa: S103 # that group may have root's rights through Docker anyway


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """Hold the lock: nobody else reserves space meanwhile.

    Raises:
        OSError: this user has no access, or another build holds the lock too long.
    """
    try:
        descriptor = os.open(DIRECTORY, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no {DIRECTORY}: the guard makes it") from None
    except PermissionError:
        raise PermissionError(_REFUSED) from None
    try:
        deadline = time.monotonic() + _LOCK_TIMEOUT
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise TimeoutError(f"another build has locked {DIRECTORY} for {_LOCK_TIMEOUT} s") from None
            time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)


def changed() -> float:
    """Return when a reservation last came, changed or went, in seconds since the epoch."""
    return changed_at(DIRECTORY)


def standing() -> list[Reservation]:
    """Return the reservations of the builds that live, in the order in which they asked.

    Raises:
        OSError: this user has no access.
    """
    found = []
    for name in _names():
        try:
            reservation = _reservation(_load(name))
            if is_alive(reservation.process) or is_alive(reservation.client):
                found.append(reservation)
        except (KeyError, TypeError, ValueError, OverflowError):  # damaged
            continue
    return sorted(found, key=lambda each: (each.since, each.process))


def save(reservation: Reservation) -> None:
    """
    Raises:
        OSError: it cannot be written.
    """
    _save(reservation.process, reservation._asdict())


def remove(reservation: Reservation) -> None:
    """Give the space back, and remove the files of builds that were killed."""
    with contextlib.suppress(OSError):
        names = {*_names()}  # first: a build that comes later is not among them
        for name in names - {each.process for each in standing()} | {reservation.process}:
            os.unlink(f"{DIRECTORY}/{name}.json")


def accounts() -> Accounts:
    """Return what the guard has written down last."""
    values = _load(_GUARD)
    try:
        builds = {process: Account(*account) for process, account in values["builds"].items()}
        return Accounts(values["time"], builds, tuple(Stop(*stop) for stop in values["stops"]))
    except (KeyError, TypeError, AttributeError):
        return Accounts()


def save_accounts(builds: dict[str, Account], stops: Iterable[Stop]) -> None:
    """
    Raises:
        OSError: they cannot be written.
    """
    _save(_GUARD, {"time": time.time(), "builds": builds, "stops": [*stops]})


def _reservation(values: dict[str, Any]) -> Reservation:
    return Reservation(
        process=str(values["process"]),
        name=str(values["name"]),
        need=int(values["need"]),
        limit=int(values["limit"]),
        since=float(values["since"]),
        used=int(values["used"]),
        is_waiting=bool(values["is_waiting"]),
        client=str(values["client"]),
    )


def _names() -> list[str]:
    try:
        files = [name.removesuffix(".json") for name in os.listdir(DIRECTORY) if name.endswith(".json")]
    except FileNotFoundError:
        return []
    except PermissionError:
        raise PermissionError(_REFUSED) from None
    return [name for name in files if name != _GUARD]


def _load(name: str) -> dict[str, Any]:
    try:
        values = json.loads(read_foreign(f"{DIRECTORY}/{name}.json", _LARGEST))
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def _save(name: str, values: dict[str, Any]) -> None:
    path = f"{DIRECTORY}/{name}.json"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{path}.new")  # all of the group may write here: it may be a link, or a pipe that nobody reads
    replace_file(path, json.dumps(values), 0o644)
