"""One command changes the host at a time, and none beside an unfinished move."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from bulkhead import state
from bulkhead.errors import Failed
from bulkhead.outage import journal, lock
from bulkhead.outage.journal import Journal


@pytest.fixture(autouse=True)
def directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "VOLATILE", f"{tmp_path}/run")
    monkeypatch.setattr(journal, "PATH", f"{tmp_path}/relocation.json")
    monkeypatch.setattr(journal, "ROLLBACK", f"{tmp_path}/rollback.json")


def test_second_command_is_refused_until_the_first_has_ended() -> None:
    with lock.alone(), pytest.raises(Failed, match=r"^another bulkhead command is changing this host: try again when"):
        lock.lock().__enter__()
    with lock.lock():
        pass


def test_recovery_waits_for_the_command_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    how: list[int] = []
    monkeypatch.setattr(fcntl, "flock", lambda _, operation: how.append(operation))
    for wait in (True, False):
        with lock.lock(wait=wait):
            pass
    assert how == [fcntl.LOCK_EX, fcntl.LOCK_EX | fcntl.LOCK_NB]


@pytest.mark.parametrize("phase", journal.UNFINISHED)
@pytest.mark.parametrize(("name", "what"), [("PATH", "move"), ("ROLLBACK", "rollback")])
def test_nothing_begins_beside_what_is_unfinished(phase: str, name: str, what: str) -> None:
    Journal(getattr(journal, name)).enter(phase)
    text = (
        rf"^a {what} of Docker's data is not finished \({phase}\): `bulkhead relocate --recover` finishes or undoes it$"
    )
    with pytest.raises(Failed, match=text):
        lock.refuse_unfinished()
    with pytest.raises(Failed, match=text), lock.alone():
        pass
    if (what, phase) == ("rollback", journal.STOPPING):
        lock.refuse_unfinished(but_stopped=True)
    else:
        with pytest.raises(Failed, match=text):
            lock.refuse_unfinished(but_stopped=True)


@pytest.mark.parametrize("phase", ["", journal.DONE, journal.FAILED, journal.ROLLED_BACK, journal.FINALIZED])
def test_what_has_ended_keeps_nobody(phase: str) -> None:
    for name in ("PATH", "ROLLBACK"):
        Journal(getattr(journal, name)).enter(phase)
    with lock.alone():
        pass
