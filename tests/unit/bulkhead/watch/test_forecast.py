"""Forecasts follow what lasts, not what happened once."""

from __future__ import annotations

import pytest

from bulkhead.watch.forecast import Forecast, forecast

QUARTER = 900
G = 2**30


def every_quarter(*sizes: float) -> list[tuple[float, int]]:
    return [(1e9 + number * QUARTER, int(size * G)) for number, size in enumerate(sizes)]


@pytest.mark.parametrize("sizes", [(), (1,), (1, 2, 3, 4)])
def test_little_is_known_of_a_host_that_has_just_come_up(sizes: tuple[float, ...]) -> None:
    assert forecast(every_quarter(*sizes), 5 * G) is None


def test_steady_increase_goes_on() -> None:
    assert forecast(every_quarter(1, 2, 3, 4, 5, 6), 8 * G) == Forecast(G / QUARTER, 8 * QUARTER)


def test_filesystem_that_does_not_fill_is_never_full() -> None:
    assert forecast(every_quarter(5, 5, 5, 5, 5), 1 * G) == Forecast(0, None)
    shrinking = forecast(every_quarter(9, 8, 7, 6, 5), 1 * G)
    assert shrinking
    assert shrinking.seconds_left is None


@pytest.mark.parametrize(
    "sizes",
    [(5, 5, 5, 5, 25), (5, 25, 25, 25, 25), (5, 5, 5, 5, 5, 12, 25, 25, 25), (40, 40, 40, 3, 3, 3, 3, 3, 3)],
    ids="a-pull-now a-pull-before a-pull-over-two-samples a-prune".split(),
)
def test_step_is_no_trend(sizes: tuple[float, ...]) -> None:
    assert forecast(every_quarter(*sizes), 10 * G) == Forecast(0, None)


def test_step_within_an_increase_does_not_hide_it() -> None:
    found = forecast(every_quarter(1, 2, 3, 23, 24, 5, 6, 7, 8), 4 * G)
    assert found
    assert found.seconds_left == pytest.approx(4 * QUARTER)


def test_build_that_began_three_quarters_of_an_hour_ago_counts() -> None:
    found = forecast(every_quarter(5, 5, 5, 5, 5, 5, 9, 13, 17), 4 * G)
    assert found
    assert found.seconds_left
    assert found.seconds_left < 4 * 3600


def test_old_samples_do_not_count() -> None:
    growing, then_still = [float(n) for n in range(1, 20)], [19.0] * 9
    assert forecast(every_quarter(*growing, *then_still), 1 * G) == Forecast(0, None)


def test_samples_of_the_same_moment_do_not_count() -> None:
    samples = every_quarter(1, 2, 3, 4, 5, 6)
    assert forecast([*samples, samples[-1]], 8 * G) == forecast(samples, 8 * G)
