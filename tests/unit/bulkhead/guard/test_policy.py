"""How fast a volume fills and who fills it, from played samples."""

from __future__ import annotations

import pytest

from bulkhead.docker.running_builds import BuildStep
from bulkhead.guard import policy
from bulkhead.guard.policy import (
    ABORT,
    DOCKER,
    NOTHING,
    RECLAIM,
    Rate,
    Speed,
    WriteHistory,
    first_to_go,
    growing,
    interval,
    judge,
)

M, G = 2**20, 2**30


def step(name: str, written: int = 0, pid: int = 1) -> BuildStep:
    return BuildStep(name, pid, f"/cgroup/{name}", written, "make")


def rate_after(frees: list[int], seconds: float = 0.1) -> float:
    rate = Rate()
    for number, free in enumerate(frees):
        rate.add(number * seconds, free)
    return rate.value


def test_steady_growth_is_its_rate() -> None:
    assert rate_after([100 * M - 10 * M * n for n in range(9)]) == pytest.approx(100 * M)


def test_growth_that_begins_is_seen_within_half_a_second() -> None:
    still = [G] * 10
    assert rate_after([*still, *(G - 10 * M * n for n in range(1, 5))]) == pytest.approx(100 * M, rel=0.35)


def test_burst_after_a_rest_is_seen_at_the_first_sample() -> None:
    assert rate_after([G, G, G, G - 50 * M], 0.5) == pytest.approx(100 * M)


def test_rate_falls_slowly_when_nothing_is_written_for_a_moment() -> None:
    frees = [G - 10 * M * min(n, 20) for n in range(25)]  # half a second of rest
    assert rate_after(frees) > 50 * M


def test_rate_is_none_after_a_while_of_rest() -> None:
    assert rate_after([G - 10 * M * min(n, 20) for n in range(250)]) == 0


def test_space_that_comes_back_is_no_growth() -> None:
    assert rate_after([G + 10 * M * n for n in range(9)]) == 0


def test_rate_of_before_is_forgotten_when_asked_to() -> None:
    rate = Rate()
    for number in range(5):
        rate.add(number, G - 100 * M * number)
    rate.forget()
    rate.add(6, G)
    assert rate.value == 0


@pytest.mark.parametrize(
    ("free", "rate", "expected", "what"),
    [
        (50 * G, 0, 0, NOTHING),
        (50 * G, 100 * M, 0, NOTHING),
        (3 * G, 100 * M, 0, RECLAIM),  # ten seconds from its floor
        (3 * G, 0, 0, RECLAIM),  # less than twice the floor
        (2 * G + 50 * M, 100 * M, 0, ABORT),
        (2 * G + 150 * M, 100 * M, 0, RECLAIM),
        (G, 0, 0, RECLAIM),  # below the floor, and nothing grows: nobody is to blame
        (G, M, 0, ABORT),
        (2 * G - 50 * M, 100 * M, 300 * M, RECLAIM),  # what has been stopped gives back more than that
        (G + 50 * M, 100 * M, 9 * G, ABORT),  # but half the floor is never given up for it
    ],
)
def test_what_is_to_be_done(free: int, rate: float, expected: int, what: int) -> None:
    assert judge(free, rate, 2 * G, 1.0, expected) == what


def test_samples_are_the_more_frequent_the_sooner_the_floor_is_reached() -> None:
    assert interval(50 * G, 0, 2 * G) == 0.5
    assert interval(50 * G, 100 * M, 2 * G) == 0.5
    assert 0.1 < interval(3 * G, 100 * M, 2 * G) < 0.25
    assert interval(2 * G + 100 * M, 400 * M, 2 * G) == 0.05


def test_slow_growth_below_the_floor_is_no_reason_for_haste() -> None:
    assert interval(G, 100 * 1024, 2 * G) == 0.5


# -- who


def history(*at: dict[str, int], seconds: float = 0.5) -> WriteHistory:
    made = WriteHistory()
    for number, written in enumerate(at):
        made.add(number * seconds, written)
    return made


def test_nothing_is_known_of_anybody_at_the_first_look() -> None:
    assert history({"a": G}).speeds() == {}


def test_speed_is_what_was_written_since_the_looks_before() -> None:
    assert history({"a": G}, {"a": G + 50 * M}, {"a": G + 100 * M}).speeds()["a"] == Speed(100 * M, 100 * M)


def test_step_that_has_begun_since_has_written_all_of_it_since() -> None:
    assert history({}, {"a": 50 * M}).speeds()["a"].recent == 100 * M


def test_step_that_is_found_late_has_not_written_all_of_it_since() -> None:
    made = history({}, {"new": M})
    made.meet("old", 3 * G)
    made.add(1.0, {"new": 51 * M, "old": 3 * G + M})
    assert made.speeds()["old"] == Speed(M, M)
    assert made.speeds()["new"].recent > 50 * M


@pytest.mark.parametrize(("rate", "seconds"), [(100 * 1024, 5), (10 * M, 0.1)])
def test_trickle_below_the_floor_is_not_looked_at_all_the_time(rate: float, seconds: float) -> None:
    assert policy.scan_interval(G, rate, 2 * G) == seconds


def test_pause_of_the_looks_is_no_speed() -> None:
    made = history({"a": 0})
    made.add(3600, {"a": G})
    assert made.speeds() == {}


def test_what_a_step_has_written_does_not_count_for_docker_once_it_has_ended() -> None:
    made = history({"a": G, DOCKER: 0}, {DOCKER: G}, {DOCKER: G + M})
    assert made.speeds()[DOCKER].recent == 2 * M


def test_docker_that_was_not_asked_before_has_no_speed() -> None:
    assert history({"a": 0}, {"a": 0, DOCKER: 9 * G}).speeds()[DOCKER] == Speed(0, 0)


def speeds(**recent: float) -> dict[str, Speed]:
    return {name: Speed(speed, speed) for name, speed in recent.items()}


def test_fastest_goes_first_whatever_the_others_have_written() -> None:
    steps = [step("old", 9 * G), step("fast", M)]
    assert first_to_go(steps, speeds(old=10 * M, fast=90 * M), 100 * M) == steps[1]


def test_of_equally_fast_ones_goes_what_has_written_most_then_the_newest() -> None:
    steps = [step("a", M, 1), step("b", G, 2), step("c", G, 3)]
    assert first_to_go(steps, speeds(a=M, b=M, c=M), M) == steps[2]


def test_step_without_a_part_in_the_growth_stays() -> None:
    assert first_to_go([step("idle", 9 * G)], speeds(idle=M), 100 * M) is None


def test_many_that_are_equally_fast_all_have_a_part_in_the_growth() -> None:
    assert len(growing({f"b{number}": Speed(10 * M, 10 * M) for number in range(25)}, 250 * M)) == 25


def test_burst_of_a_moment_ago_counts_where_nobody_writes_just_now() -> None:
    made = {"a": Speed(0, 50 * M), "b": Speed(0, 20 * M)}
    assert growing(made, 60 * M) == ["a", "b"]


def test_each_level_includes_the_ones_before() -> None:
    assert policy.NOTHING < policy.RECLAIM < policy.ABORT < policy.BALLAST
