"""How a build has ended."""

from __future__ import annotations

import pytest

from bulkhead.build.outcome import CERTAINLY, MAYBE, BuildOutcome, outcome_lines

from .build_host import G, M


@pytest.mark.parametrize(
    ("outcome", "code", "representative"),
    [
        (BuildOutcome(0, peak=G), 0, True),
        (BuildOutcome(0, peak=0), 0, False),
        (BuildOutcome(0, peak=64 * M - 1), 0, False),
        (BuildOutcome(0, peak=64 * M), 0, True),
        (BuildOutcome(0, peak=64 * M, size=50 * G), 0, False),
        (BuildOutcome(1, peak=G), 1, False),
        (BuildOutcome(1, is_short=True, peak=G), 1, True),
        (BuildOutcome(1, stopped=CERTAINLY, peak=G), 4, True),
        (BuildOutcome(137, stopped=CERTAINLY, peak=G), 4, True),
        (BuildOutcome(1, stopped=MAYBE, peak=G), 1, False),
        (BuildOutcome(130, passed_limit=G, peak=G), 5, True),
        (BuildOutcome(130, is_interrupted=True, peak=G), 130, False),
    ],
)
def test_outcomes(outcome: BuildOutcome, code: int, representative: bool) -> None:
    assert (outcome.exit_code, outcome.is_representative) == (code, representative)


def test_interrupted_build_is_called_interrupted() -> None:
    (line,) = outcome_lines(BuildOutcome(130, is_interrupted=True, duration=12, free=G), G, G, str)
    assert line == "interrupted after 12 s, exit code 130: took 0 bytes at its peak; 1.0 GiB is free now"


def test_build_that_succeeds_in_spite_of_a_signal_is_called_built() -> None:
    (line,) = outcome_lines(BuildOutcome(0, is_interrupted=True), G, G, str)
    assert line.startswith("built after 0 s: ")


def test_stopped_build_is_advised_what_can_be_had() -> None:
    asked: list[int] = []

    def advice(wanted: int) -> str:
        asked.append(wanted)
        return "Make room."

    stopped = BuildOutcome(1, stopped=CERTAINLY, peak=20 * G)
    assert outcome_lines(stopped, 10 * G, 2 * G, advice)[1:] == [
        "the guard stopped it: it needs more space. Make room."
    ]
    outcome_lines(stopped, 40 * G, 2 * G, advice)
    assert asked == [32 * G, 42 * G], "half as much again as it took, or what it should have needed"


def test_build_that_may_have_been_stopped_is_not_advised_to_make_room() -> None:
    lines = outcome_lines(BuildOutcome(1, stopped=MAYBE, is_short=True, peak=G), G, G, str)
    assert lines[1:] == [
        "the guard stopped this build or another one: it cannot tell which. Build again when fewer run"
    ]
