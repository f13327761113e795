"""The figures of the two volumes, from what fio prints and what a build takes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from benchmarks import volume
from benchmarks.volume import BUILD, JOBS, VOLUMES, measure, megabytes, rows_of


def test_megabytes_are_those_of_the_direction_that_the_job_has() -> None:
    job = {"jobname": "job", "read": {"bw_bytes": 0}, "write": {"bw_bytes": 104_857_600}}
    assert megabytes(json.dumps({"fio version": "fio-3.39", "jobs": [job]})) == pytest.approx(104.86, abs=0.01)


def test_volumes_take_turns_and_medians_count(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    figures = iter([10.0, 20.0, 30.0, 40.0, 50.0, 60.0] * 10)

    def throughput(_: Any, directory: str, job: str, __: str) -> float:
        if job == "write":
            asked.append(directory)
        return next(figures)

    monkeypatch.setattr(volume, "throughput", throughput)
    monkeypatch.setattr(volume, "build", lambda _, name: 3.0 if name == "file" else 2.0)
    found = measure(None, 3)  # type: ignore[arg-type]
    file, plain = VOLUMES.values()
    assert asked == [file, plain, plain, file, file, plain]
    assert list(found) == [*(name for *_, name in JOBS), BUILD]
    assert found[BUILD] == {"file": 3.0, "logical volume": 2.0}


def test_ratio_says_how_fast_the_file_is_whatever_is_measured() -> None:
    rows = rows_of({"read": {"file": 90.0, "logical volume": 100.0}, BUILD: {"file": 10.0, "logical volume": 8.0}})
    assert [row[3] for row in rows] == [0.9, 0.8]
