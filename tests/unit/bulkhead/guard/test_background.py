"""A job in the background has a result or a failure, and ends in time."""

from __future__ import annotations

import os
import time

import pytest

from bulkhead.guard import background
from bulkhead.guard.background import Job


def ended(job: Job) -> Job:
    deadline = time.monotonic() + 20
    while not job.has_ended():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return job


def test_result_comes_from_another_process() -> None:
    job = ended(Job(os.getpid, 10))
    assert job.result not in (None, os.getpid())
    assert job.error == ""


def test_large_result_comes_whole() -> None:
    assert ended(Job(lambda: "x" * 500_000, 10)).result == "x" * 500_000


def test_loop_does_not_wait() -> None:
    began = time.monotonic()
    job = Job(lambda: time.sleep(60), 60)
    assert not job.has_ended()
    assert time.monotonic() - began < 30
    job.stop("the test is over")


def test_failure_is_reported() -> None:
    def fail() -> None:
        raise OSError("no space")

    job = ended(Job(fail, 10))
    assert (job.result, job.error) == (None, "no space")


def test_process_that_dies_has_failed() -> None:
    assert ended(Job(lambda: os._exit(3), 10)).error == "it ended without a result"


def test_process_that_hangs_is_killed_when_its_time_is_up() -> None:
    job = ended(Job(lambda: time.sleep(60), 0.1))
    assert job.error == "it did not end in time"


def test_stopped_job_has_failed_and_leaves_no_zombie() -> None:
    job = Job(lambda: time.sleep(60), 60)
    process = job._process
    job.stop("no longer needed")
    assert (job.has_ended(), job.error) == (True, "no longer needed")
    deadline = time.monotonic() + 20
    while os.path.exists(f"/proc/{process}"):
        assert time.monotonic() < deadline
        ended(Job(os.getpid, 10))
    assert process not in background._killed


def test_process_that_cannot_be_made_leaves_no_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", fail)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(BlockingIOError):
        Job(os.getpid, 10)
    assert {*os.listdir("/proc/self/fd")} <= {*before}
