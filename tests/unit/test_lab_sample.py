"""The choice of the lab tests that run by default: the draw, and its time budget."""

from __future__ import annotations

import pytest

from tests.lab.sample import SETUP, TEST, Case, chosen, on_one_host, seconds


def cases(file: str, names: int, **marks: object) -> list[Case]:
    return [Case(f"{file}::test_{number}", **marks) for number in range(names)]  # type: ignore[arg-type]


def test_unmarked_tests_always_run_and_those_for_full_runs_never_do() -> None:
    always, full = cases("a.py", 3), cases("b.py", 3, full=True)
    assert chosen([*always, *full], "1", {}) == {case.test for case in always}


def test_mark_sets_how_many_of_a_group_run_and_the_seed_sets_which() -> None:
    group = cases("a.py", 20, count=2, group="ways")
    draws = [chosen(group, seed, {}) for seed in "12345"]
    assert {len(draw) for draw in draws} == {2}
    assert len(set(map(frozenset, draws))) > 1
    assert draws[0] == chosen(group, "1", {})


def test_one_of_the_files_that_take_turns_runs() -> None:
    files = {name: cases(name, 2, turn=True) for name in ("a.py", "b.py", "c.py")}
    every = [case for own in files.values() for case in own]
    draws = {frozenset(chosen(every, str(seed), {})) for seed in range(20)}
    assert draws == {frozenset(case.test for case in own) for own in files.values()}


@pytest.mark.parametrize("more", [0, 10, 100])
def test_more_tests_make_no_run_longer_and_leave_none_out_for_ever(more: int) -> None:
    always = [case for number in range(3 + more) for case in cases(f"always{number}.py", 3)]
    drawn = [case for number in range(3 + more) for case in cases(f"drawn{number}.py", 5, count=3, group=f"{number}")]
    draws = [chosen([*always, *drawn], str(seed), {}, budget=30) for seed in range(25)]
    assert all(seconds(draw, {}) <= 30 * 60 for draw in draws)
    for kind in (always, drawn):
        assert all(draw & {case.test for case in kind} for draw in draws), "the other kind takes the whole budget"
    if more == 10:
        assert {case.test for case in always} == set().union(*draws) & {case.test for case in always}


def test_two_workers_share_the_files_and_the_table_says_how_long_they_take() -> None:
    tests = [case.test for file in ("a.py", "b.py") for case in cases(file, 2)]
    assert seconds(tests, {}) == SETUP + 2 * TEST
    assert seconds(tests, {"a.py": {"setup": 1000, "tests": {"test_0": 10}}}) == 1000 + 10 + TEST
    assert seconds(["a.py::test_0[x]"], {"a.py": {"setup": 1000, "tests": {"test_0": 10}}}) == 1010


def test_cases_take_turns_on_hosts_so_that_each_runs_once_and_no_host_has_all() -> None:
    tests = [(function, host, case) for function in "fg" for host in ("old", "new") for case in "abcde"]
    runs = [test for test, kept in zip(tests, on_one_host(tests), strict=True) if kept]
    assert [(host, case) for function, host, case in runs if function == "f"] == [
        *(("old", case) for case in "ace"),
        *(("new", case) for case in "bd"),
    ]
    assert len(runs) == 10
