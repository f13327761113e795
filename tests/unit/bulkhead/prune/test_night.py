"""The nightly prune waits for what is in its way."""

from __future__ import annotations

import contextlib
import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bulkhead import state, uptime
from bulkhead.errors import Failed
from bulkhead.outage import journal, lock
from bulkhead.prune import attempt, night

from .contents import (
    GIB,
    FakeContents,
    container,
    image,
    record,
    result,
    run,
    up_for,
)


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the night sleeps; time passes with it."""
    slept: list[float] = []
    monkeypatch.setattr(night, "_is_ended", slept.append)
    monkeypatch.setattr(time, "monotonic", lambda: 1e6 + sum(slept))
    return slept


def test_night_comes_back_until_no_build_is_in_the_way(
    contents: FakeContents, slept: list[float], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    state.save("prune", result(skipped_nights=2))
    contents.cache = [record("old", 60)]
    contents.images = [image("lost", size=GIB)]
    contents.building = ["docker (process 7)"]

    def sleep(seconds: float) -> None:
        assert contents.names() == {"lost"}
        assert state.load("prune")["skipped_nights"] == 2
        with state.locked("prune", 0), state.locked("move", 0):  # others may work meanwhile
            slept.append(seconds)
        if len(slept) == 4:
            contents.building = []

    monkeypatch.setattr(night, "_is_ended", sleep)
    assert run(nightly=True) == 0
    assert slept == [900] * 4
    assert contents.names() == set()
    assert state.load("prune") == result(freed=2 * GIB, removed=2)
    output = capsys.readouterr().out
    assert "dangling images: not removed: images stay during a build: docker (process 7), which builds" in output
    again = [line for line in output.splitlines() if line.startswith("Trying again")]
    assert again == [f"Trying again in 15 min, for {hours} h more" for hours in (6, 6, 6, 5)]
    assert output.count("build cache unused") == 1


def test_night_in_which_docker_does_not_answer_for_a_moment_goes_on(
    contents: FakeContents, slept: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    contents.images = [image("lost", size=GIB)]
    contents.building = ["docker (process 7)"]

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        contents.building = []
        if len(slept) == 1:
            contents.refused["GET /containers/json"] = (500, "busy")
        else:
            contents.refused.clear()

    monkeypatch.setattr(night, "_is_ended", sleep)
    assert run(nightly=True) == 0
    assert slept == [900] * 2
    assert contents.names() == set()
    assert state.load("prune") == result(freed=GIB, removed=1)


def test_night_that_is_over_is_counted(
    contents: FakeContents,
    slept: list[float],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(night, "INTERVAL", 2 * 3600)
    contents.images = [image("lost")]
    contents.building = ["docker (process 7)"]
    for nights in (1, 2, 3):
        slept.clear()
        assert run(nightly=True) == 0
        assert sum(slept) == 6 * 3600
        assert state.load("prune")["skipped_nights"] == nights
    what = "images stay during a build: docker (process 7), which builds"
    assert state.load("prune") == result(hindrance=what, skipped_nights=3)
    assert f"The night is over; skipped for 3 nights in a row: {what}" in capsys.readouterr().out
    contents.building = []
    assert run() == 0
    assert state.load("prune")["skipped_nights"] == 0


@pytest.mark.usefixtures("contents")
def test_night_that_a_shutdown_ends_is_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    state.save("prune", result(skipped_nights=2))
    monkeypatch.setattr(night, "INTERVAL", 60)
    monkeypatch.setattr(uptime, "remember", lambda: up_for(2400, since_boot=2.5))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)  # the thread of the fake engine would not block it
    assert run(nightly=True) == 0
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    saved = state.load("prune")
    assert saved["skipped_nights"] == 3, "a host that is never up for long would never be pruned, silently"
    assert saved["hindrance"].startswith("this host booted 2 h ago")
    assert saved["failed"] == []
    assert "Stopped while it waited" in capsys.readouterr().out


def test_night_without_anything_to_remove_is_not_skipped(contents: FakeContents, slept: list[float]) -> None:
    contents.images = [image("a", "a:1")]
    contents.building = ["docker (process 7)"]
    assert run(nightly=True) == 0
    assert slept == []
    assert state.load("prune") == result()


@pytest.mark.parametrize("lock_name", ["prune", "move"])
def test_lock_that_is_held_does_not_cost_the_night(
    contents: FakeContents, slept: list[float], monkeypatch: pytest.MonkeyPatch, lock_name: str
) -> None:
    contents.containers = [container("old", "i")]
    monkeypatch.setattr(attempt, "_PATIENCE", 0)
    monkeypatch.setattr(lock, "lock", lambda: held_lock())

    @contextlib.contextmanager
    def held_lock() -> Iterator[None]:
        try:
            with state.locked("move", 0):
                yield
        except TimeoutError:
            raise Failed("another bulkhead command is changing this host") from None

    with contextlib.ExitStack() as held:
        held.enter_context(state.locked(lock_name, 0))

        def sleep(seconds: float) -> None:
            slept.append(seconds)
            assert contents.names() == {"old"}
            assert state.load("prune") == {}
            held.close()

        monkeypatch.setattr(night, "_is_ended", sleep)
        assert run(nightly=True) == 0
    assert slept == [900]
    assert contents.names() == set()
    assert state.load("prune") == result(removed=1)


def test_lock_that_is_held_all_night_is_a_failure(
    contents: FakeContents, slept: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    contents.containers = [container("old", "i")]
    monkeypatch.setattr(attempt, "_PATIENCE", 0)
    with state.locked("prune", 0):
        assert run(nightly=True) == 1
    assert sum(slept) == 6 * 3600
    saved = state.load("prune")
    assert saved["skipped_nights"] == 1
    assert saved["failed"] == [saved["hindrance"]]
    assert saved["hindrance"].startswith("another prune or reclaim is at work")


def test_night_after_a_boot_waits_for_its_hours(
    contents: FakeContents, slept: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    contents.containers = [container("old", "i")]
    monkeypatch.setattr(uptime, "remember", lambda: up_for(2400, since_boot=0.1 + sum(slept) / 3600))
    assert run(nightly=True) == 0
    assert sum(slept) == 3 * 3600
    assert contents.names() == set()


def test_refused_removal_is_no_reason_to_come_back(contents: FakeContents, slept: list[float]) -> None:
    contents.containers = [container("busy", "i")]
    contents.refused["DELETE /containers/id-busy"] = (500, "device or resource busy")
    assert run(nightly=True) == 1
    assert slept == []


@pytest.mark.usefixtures("contents")
def test_journal_that_cannot_be_read_ends_the_night(slept: list[float]) -> None:
    Path(journal.PATH).parent.mkdir(exist_ok=True)
    Path(journal.PATH).write_text("{")
    with pytest.raises(ValueError, match="is not a journal of a move"):
        run(nightly=True)
    assert slept == []
    assert state.load("prune")["failed"]


def test_service_leaves_the_night_its_time_and_holds_no_boot_up() -> None:
    unit = (Path(__file__).parents[4] / "files/docker-prune.service").read_text()
    assert "\nType=exec\n" in unit, "systemd counts a boot as incomplete as long as a oneshot service runs"
    hours = re.search(r"^RuntimeMaxSec=(\d+)h$", unit, re.MULTILINE)
    assert hours
    assert int(hours[1]) * 3600 >= night.LENGTH + 2 * 3600
    assert "\nExecStart=/usr/local/bin/bulkhead prune --nightly\n" in unit
