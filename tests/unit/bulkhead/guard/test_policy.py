"""The policy finds out from samples how fast a volume fills, and who fills it."""

from __future__ import annotations

import pytest

from bulkhead.docker.steps import BuildStep
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


def test_growth_that_begins_is_measured_within_half_a_second() -> None:
    still = [G] * 10
    assert rate_after([*still, *(G - 10 * M * n for n in range(1, 5))]) == pytest.approx(100 * M, rel=0.35)


def test_burst_after_a_rest_is_measured_at_the_first_sample() -> None:
    assert rate_after([G, G, G, G - 50 * M], 0.5) == pytest.approx(100 * M)


def test_rate_falls_slowly_when_nothing_is_written_for_a_moment() -> None:
    frees = [G - 10 * M * min(n, 20) for n in range(25)]  # half a second of rest
    assert rate_after(frees) > 50 * M


def test_rate_falls_to_half_in_each_second_of_rest() -> None:
    assert rate_after([G, G - 100 * M], 1) == 100 * M
    assert rate_after([G, *[G - 100 * M] * 5], 0.5) == pytest.approx(200 * M / 4)


def test_rate_is_zero_after_a_longer_rest() -> None:
    assert rate_after([G - 10 * M * min(n, 20) for n in range(250)]) == 0


def test_space_that_comes_back_is_no_growth() -> None:
    assert rate_after([G + 10 * M * n for n in range(9)]) == 0


def test_space_that_comes_back_leaves_the_growth_of_the_longer_span() -> None:
    assert rate_after([G, G - 100 * M, G - 50 * M], 0.5) == 50 * M


def test_growth_before_the_last_two_seconds_no_longer_counts() -> None:
    used = [0, 900, 910, 920, 930, 940, 935]  # what comes back ends the slow fall of the rate
    assert rate_after([G - mib * M for mib in used], 0.5) == (935 - 910) / 2 * M


def test_growth_that_gets_faster_is_measured_over_a_quarter_of_a_second() -> None:
    slow = [G - 10 * M * n for n in range(11)]
    assert rate_after([*slow, *(slow[-1] - 50 * M * n for n in range(1, 4))]) == pytest.approx(500 * M)


def test_growth_before_a_long_pause_no_longer_counts() -> None:
    rate = Rate()
    for now, used in ((0, 0), (1, 900 * M), (10, 910 * M)):
        rate.add(now, G - used)
    assert rate.value < 2 * M


def test_quarter_of_a_second_is_enough_for_a_rate() -> None:
    assert rate_after([G, G - 10 * M, G - 20 * M, G - 120 * M], 0.25) == 400 * M


@pytest.mark.parametrize(("made", "used", "rate"), [(Rate(), 1024, 1024), (Rate(), 1023, 0), (Rate(10), 9, 0)])
def test_less_than_the_least_is_no_growth(made: Rate, used: int, rate: float) -> None:
    made.add(0, G)
    made.add(1, G - used)
    assert made.value == rate


def test_forgotten_samples_give_no_rate() -> None:
    rate = Rate()
    assert rate.value == 0
    for number in range(5):
        rate.add(number, G - 100 * M * number)
    rate.forget()
    assert rate.value == 0
    rate.add(6, 0)
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
        (2 * G + 100 * M - 1, 100 * M, 0, ABORT),  # the floor itself is not below it
        (2 * G + 100 * M, 100 * M, 0, RECLAIM),
        (4 * G - 1, 0, 0, RECLAIM),
        (4 * G, 0, 0, NOTHING),
        (2 * G + 3000 * M - 1, 200 * M, 0, RECLAIM),  # fifteen seconds from its floor
        (2 * G + 3000 * M, 200 * M, 0, NOTHING),
        (G, 0, 0, RECLAIM),  # below the floor, and nothing grows: nobody is to blame
        (G, M, 0, ABORT),
        (2 * G - 50 * M, 100 * M, 300 * M, RECLAIM),  # what has been stopped gives back more than that
        (G + 50 * M, 100 * M, 9 * G, ABORT),  # but half the floor is never given up for it
        (G + 100 * M - 1, 100 * M, 9 * G, ABORT),
        (G + 100 * M, 100 * M, 9 * G, RECLAIM),
    ],
)
def test_level_for_each_state_of_the_volume(free: int, rate: float, expected: int, what: int) -> None:
    assert judge(free, rate, 2 * G, 1.0, expected) == what


@pytest.mark.parametrize(("free", "what"), [(2 * G + 300 * M, RECLAIM), (2 * G + 300 * M - 1, ABORT)])
def test_what_is_written_until_a_build_has_ended_counts(free: int, what: int) -> None:
    assert judge(free, 100 * M, 2 * G, 3.0) == what


def test_samples_are_more_frequent_if_the_floor_is_reached_sooner() -> None:
    assert interval(50 * G, 0, 2 * G) == 0.5
    assert interval(50 * G, 100 * M, 2 * G) == 0.5
    assert interval(3 * G, 100 * M, 2 * G) == pytest.approx(10.24 / 60)
    assert interval(2 * G + 100 * M, 100 * M, 2 * G) == pytest.approx(0.1024)  # a two hundredth of the floor
    assert interval(2 * G + 100 * M, 400 * M, 2 * G) == 0.05


def test_samples_of_a_volume_at_rest_are_more_frequent_below_twice_the_floor() -> None:
    assert interval(4 * G, 0, 2 * G) == 0.5
    assert interval(4 * G - 1, 0, 2 * G) == 0.25


def test_samples_stay_rare_while_the_volume_fills_slowly_below_the_floor() -> None:
    assert interval(G, 100 * 1024, 2 * G) == 0.5


# -- who


def history(*at: dict[str, int], seconds: float = 0.5) -> WriteHistory:
    made = WriteHistory()
    for number, written in enumerate(at):
        made.add(number * seconds, written, 0)
    return made


def test_first_scan_gives_no_speeds() -> None:
    assert history({"a": G}).speeds() == {}


def test_speed_is_what_was_written_since_the_scans_before() -> None:
    assert history({"a": G}, {"a": G + 50 * M}, {"a": G + 100 * M}).speeds()["a"] == Speed(100 * M, 100 * M)


def test_step_that_began_after_a_scan_wrote_everything_since_then() -> None:
    assert history({}, {"a": 50 * M}).speeds()["a"].recent == 100 * M


def test_step_that_is_found_late_did_not_write_everything_since_then() -> None:
    made = history({}, {"new": M})
    made.meet("old", 3 * G)
    made.add(1.0, {"new": 51 * M, "old": 3 * G + M}, 0)
    assert made.speeds()["old"] == Speed(M, M)
    assert made.speeds()["new"].recent > 50 * M


@pytest.mark.parametrize(("rate", "seconds"), [(100 * 1024, 5), (2 * M, 0.256), (10 * M, 0.1)])
def test_writers_are_scanned_seldom_while_the_volume_fills_slowly_below_the_floor(rate: float, seconds: float) -> None:
    assert policy.scan_interval(G, rate, 2 * G) == seconds


def test_writers_are_scanned_twenty_times_before_the_floor_is_reached() -> None:
    assert policy.scan_interval(3 * G, 100 * M, 2 * G) == pytest.approx(10.24 / 20)


@pytest.mark.parametrize(("pause", "known"), [(10.0, {"a"}), (10.1, set())])
def test_scans_with_a_long_pause_between_them_give_no_speed(pause: float, known: set[str]) -> None:
    made = history({"a": 0})
    made.add(pause, {"a": G}, 0)
    assert made.speeds().keys() == known
    assert made.is_long_enough() == bool(known)
    assert made.last() == pause


def test_recent_speed_is_measured_from_a_second_ago() -> None:
    made = history({"a": 0}, {"a": 100 * M}, {"a": 110 * M}, {"a": 120 * M})
    assert made.speeds()["a"] == Speed(20 * M, 80 * M)


def test_recent_speed_is_measured_from_the_last_scan_where_all_are_older() -> None:
    made = history({"a": 0}, {"a": 100 * M}, {"a": 110 * M}, seconds=2)
    assert made.speeds()["a"] == Speed(5 * M, 27.5 * M)


def test_counter_that_begins_again_is_no_speed() -> None:
    assert history({"a": G}, {"a": 0}).speeds()["a"] == Speed(0, 0)


def test_data_of_a_step_that_ended_does_not_count_as_written_by_docker() -> None:
    made = history({"a": G, DOCKER: 0}, {DOCKER: G}, {DOCKER: G + M})
    assert made.speeds()[DOCKER].recent == 2 * M


def test_step_that_begins_takes_nothing_from_what_is_known_of_docker() -> None:
    assert history({DOCKER: 0}, {DOCKER: G}, {"a": 0, DOCKER: 2 * G}).speeds()[DOCKER].long > 0


def test_docker_has_no_speed_at_its_first_scan() -> None:
    assert history({"a": 0}, {"a": 0, DOCKER: 9 * G}).speeds()[DOCKER] == Speed(0, 0)


def speeds(**recent: float) -> dict[str, Speed]:
    return {name: Speed(speed, speed) for name, speed in recent.items()}


def test_fastest_step_goes_first_however_much_the_others_wrote() -> None:
    steps = [step("old", 9 * G), step("fast", M)]
    assert first_to_go(steps, speeds(old=10 * M, fast=90 * M), Speed(100 * M, 100 * M)) == steps[1]


def test_of_equally_fast_steps_the_one_that_wrote_most_goes_first_then_the_newest() -> None:
    steps = [step("a", M, 1), step("b", G, 2), step("c", G, 3)]
    assert first_to_go(steps, speeds(a=M, b=M, c=M), Speed(3 * M, 3 * M)) == steps[2]


@pytest.mark.parametrize(("each", "goes"), [(6, False), (11, False), (13, True)])
def test_steps_go_only_if_together_they_make_a_third_of_the_growth(each: int, goes: bool) -> None:
    steps = [step(name) for name in "abcd"]
    total = (100 + 4 * each) * M
    assert bool(first_to_go(steps, speeds(**dict.fromkeys("abcd", each * M)), Speed(total, total))) == goes


def test_speeds_count_over_the_span_in_which_each_is_faster() -> None:
    """A container that writes in bursts rests just now: what the step writes meanwhile is not what fills the volume."""
    made = {"small": Speed(6 * M, 6 * M)}
    assert first_to_go([step("small")], made, Speed(6 * M, 100 * M)) is None
    assert first_to_go([step("small")], {"small": Speed(60 * M, 6 * M)}, Speed(90 * M, 50 * M))
    assert first_to_go([step("new")], {"new": Speed(60 * M, 6 * M)}, Speed(60 * M, 100 * M)), (
        "a container has just ended"
    )


def test_growth_is_measured_between_the_scans_and_without_what_has_ended_or_was_stopped() -> None:
    made = WriteHistory()
    for number in range(5):
        written = {name: number * 10 * M for name in ("a", "b", "ended") if name != "ended" or number < 4}
        made.add(number * 0.5, written, number * 40 * M)  # 10 of them each half second by nobody known
    assert made.total_speed(()) == Speed((80 - 10) * M, (160 - 30) / 2 * M)
    assert made.total_speed(["b"]) == Speed((80 - 10 - 20) * M, (160 - 30 - 40) / 2 * M)


@pytest.mark.parametrize(("before", "then"), [({}, {"ended": 10}), ({"ended": 10}, {"ended": 5})])
def test_what_has_ended_takes_nothing_more_from_the_growth_than_it_wrote(
    before: dict[str, int], then: dict[str, int]
) -> None:
    made = WriteHistory()
    for number, (written, used_up) in enumerate([(before, 0), (then, 30), ({}, 30)]):
        made.add(number * 2, written, used_up)
    assert made.total_speed(()).long == ((30 - 10) / 4 if not before else 30 / 4)


def test_space_that_comes_back_between_the_scans_is_no_growth() -> None:
    made = WriteHistory()
    made.add(0, {"a": 0}, G)
    made.add(1, {"a": 0, "b": M}, 0)
    assert made.total_speed(()) == Speed(0, 0)


def test_builds_that_write_nothing_are_not_worth_stopping() -> None:
    assert not policy.is_worth_stopping(["a"], speeds(a=0), Speed(0, 0))
    assert not policy.is_worth_stopping(["unknown"], {}, Speed(3, 3))
    assert policy.is_worth_stopping(["a"], speeds(a=1), Speed(0, 0))


@pytest.mark.parametrize(("share", "is_worth_it"), [(M, True), (M - 1, False)])
def test_third_of_the_growth_is_worth_stopping(share: int, is_worth_it: bool) -> None:
    assert policy.is_worth_stopping(["a"], speeds(a=share), Speed(3 * M, 3 * M)) == is_worth_it


@pytest.mark.parametrize(("beside", "goes"), [(40, True), (50, False), (60, False)])
def test_step_goes_only_if_it_is_faster_than_what_docker_writes_for_builds(beside: int, goes: bool) -> None:
    made = speeds(a=50 * M) | {DOCKER: Speed(beside * M, beside * M)}
    assert bool(first_to_go([step("a")], made, Speed(110 * M, 110 * M), [DOCKER])) == goes


def test_step_goes_only_if_it_is_faster_over_both_spans() -> None:
    made = {"a": Speed(50 * M, 50 * M), DOCKER: Speed(60 * M, 10 * M)}
    assert first_to_go([step("a")], made, Speed(110 * M, 60 * M), [DOCKER]) is None


def test_fastest_step_is_that_of_the_span_in_which_all_are_faster() -> None:
    steps = [step("now"), step("before")]
    made = {"now": Speed(90 * M, 10 * M), "before": Speed(20 * M, 60 * M)}
    assert first_to_go(steps, made, Speed(110 * M, 110 * M)) == steps[0]
    made = {"now": Speed(30 * M, 10 * M), "before": Speed(20 * M, 60 * M)}
    assert first_to_go(steps, made, Speed(110 * M, 110 * M)) == steps[1]


def test_step_that_no_scan_has_seen_stays() -> None:
    assert first_to_go([step("new")], {}, Speed(0, 0)) is None
    assert first_to_go([step("new")], {DOCKER: Speed(M, M)}, Speed(M, M), [DOCKER]) is None


@pytest.mark.parametrize(("share", "names"), [(5, ["a"]), (4.9, [])])
def test_writer_with_a_twentieth_of_the_growth_counts_as_growing(share: float, names: list[str]) -> None:
    assert growing(speeds(a=share * M), 100 * M) == names


@pytest.mark.parametrize(("share", "names"), [(5, ["slow"]), (4.9, [])])
def test_writer_with_half_an_equal_share_of_many_counts_as_growing(share: float, names: list[str]) -> None:
    made = speeds(slow=share * M, **{f"b{number}": 0 for number in range(19)})
    assert growing(made, 200 * M) == names
    assert growing(made, 0) == ["slow"], "a byte in a second is a share of nothing"


def test_nobody_is_growing_who_writes_nothing() -> None:
    assert growing({}, 100 * M) == []
    assert growing(speeds(idle=0, a=1), 0) == ["a"]


def test_growing_writers_begin_with_the_fastest() -> None:
    assert growing(speeds(slow=30 * M, fast=60 * M, idle=0), 90 * M) == ["fast", "slow"]


def test_many_equally_fast_steps_all_count_as_growing() -> None:
    assert len(growing({f"b{number}": Speed(10 * M, 10 * M) for number in range(25)}, 250 * M)) == 25


def test_recent_burst_counts_while_nobody_writes() -> None:
    made = {"a": Speed(0, 50 * M), "b": Speed(0, 20 * M)}
    assert growing(made, 60 * M) == ["a", "b"]


def test_levels_are_ordered() -> None:
    assert policy.NOTHING < policy.RECLAIM < policy.ABORT < policy.BALLAST
