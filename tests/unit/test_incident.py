"""The decisions of the reproduced incident: sizes, the output of builds, verdicts, tables, the data of the picture."""

from __future__ import annotations

import csv
import doctest
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from lab import LabError
from lab.incident import course, report, scenario
from lab.incident.probes import Observations, Outcome, Sample
from lab.incident.report import Story
from lab.incident.scenario import BASE, DOCKER_VOLUME, FACTOR, FREE, STEPS, Event, Line

GIB = 2**30

CLASSIC = """\
Sending build context to Docker daemon  616.4kB
Step 1/3 : FROM cuda:12.4.1
 ---> 0123456789ab
Step 2/3 : {toolchain}
 ---> Using cache
 ---> 123456789abc
Step 3/3 : {torch}
 ---> Running in 23456789abcd
dd: error writing '/usr/lib/python3/torch/7': No space left on device
The command '/bin/sh -c write' returned a non-zero code: 1"""

BUILDKIT = """\
#4 [1/3] FROM docker.io/library/cuda:12.4.1
#4 DONE 0.0s
#6 [3/3] {torch}
#6 sha256:0123
#5 [2/3] {toolchain}
#5 CACHED
#6 [3/3] {torch}
#6 1.500 docker-guard: the volume is nearly full"""


def lines_of(transcript: str) -> list[Line]:
    """Return the lines of a build, one each second."""
    instructions = {step.name: step.instruction for step in STEPS}
    return [Line(float(time), text) for time, text in enumerate(transcript.format(**instructions).splitlines())]


def outcomes(worked: str, probe: str = "apt") -> list[Outcome]:
    """Return an outcome every ten seconds: "." worked, "x" failed."""
    return [Outcome(10.0 * number, probe, mark == ".", 1.0, "") for number, mark in enumerate(worked)]


def sample(time: float, used: float, filesystem: str = "root") -> Sample:
    return Sample(time, filesystem, 100 * GIB, round((100 - used) * GIB), 0)


@pytest.mark.parametrize("module", [report, scenario], ids=lambda module: module.__name__)
def test_examples_hold(module: object) -> None:
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert result.attempted
    assert not result.failed


# -- the scenario


def test_all_sizes_follow_from_one_factor() -> None:
    written = sum(
        int(word)
        for line in scenario.dockerfile().splitlines()
        if line.startswith("RUN")
        for word in line.split()
        if word.isdigit()
    )
    wanted = sum(step.size + step.downloads for step in STEPS if not step.original.startswith("COPY"))
    assert written == pytest.approx(wanted * FACTOR * 1024, abs=len(STEPS))


def test_steps_install_as_much_as_in_the_incident() -> None:
    assert sum(step.size for step in (BASE, *STEPS)) == pytest.approx(25.5, abs=0.01)
    assert sum(step.size for step in (BASE, *STEPS)) < FREE < sum(step.size + step.downloads for step in (BASE, *STEPS))


def test_docker_volume_has_the_free_space_and_holds_earlier_data() -> None:
    assert DOCKER_VOLUME > FREE


def test_dockerfile_has_the_steps_of_the_incident_in_their_order() -> None:
    lines = scenario.dockerfile().splitlines()
    assert lines[1].startswith("FROM ")
    assert lines[2::2] == [f"# {step.original}" for step in STEPS]
    assert lines[3::2] == [step.instruction for step in STEPS]
    assert lines[-1] == "COPY . /app"


@pytest.mark.parametrize(("transcript", "began"), [(CLASSIC, 6.0), (BUILDKIT, 2.0)], ids=["classic", "buildkit"])
def test_step_begins_when_the_builder_names_it_unless_it_was_in_the_cache(transcript: str, began: float) -> None:
    assert scenario.steps_begun(lines_of(transcript)) == [Event(began, "torch")]


@pytest.mark.parametrize(
    ("code", "transcript", "words"),
    [
        (0, "", "build succeeds"),
        (1, CLASSIC, "build fails: no space left"),
        (137, BUILDKIT, "guard stops it"),
        (1, "cannot connect", "build fails"),
    ],
)
def test_output_of_a_build_shows_how_it_ended(code: int, transcript: str, words: str) -> None:
    assert scenario.ending(code, [line.text for line in lines_of(transcript)]) == words


# -- verdicts


@pytest.mark.parametrize(
    ("worked", "verdict"),
    [
        ("", "not tried"),
        ("....", "worked throughout"),
        ("..xx", "failed from +20 s on"),
        ("..xx.", "failed from +20 s to +40 s"),
        (".x.x", "failed 2 of 4 times, from +10 s on"),
        (".x.x.", "failed 2 of 5 times, from +10 s to +40 s"),
    ],
)
def test_verdict_says_when_a_probe_failed(worked: str, verdict: str) -> None:
    assert report.verdict(outcomes(worked)) == verdict


def test_attempt_that_the_power_cut_interrupts_does_not_count() -> None:
    observations = Observations(
        outcomes=[*outcomes("..."), Outcome(29.0, "apt", False, 5.0, "the connection was lost")]
    )
    assert report.verdict(report.tried(observations, "apt", 0, 30)) == "worked throughout"


def test_failures_after_the_power_cut_are_no_first_failures() -> None:
    story = Story("as it was", Observations(outcomes=outcomes("..x.x") + outcomes("....x", "ssh")), power=39)
    assert report.first_failures(story) == [Event(20, "apt fails")]


def test_peak_and_increase_are_those_of_one_filesystem() -> None:
    samples = [sample(0, 60), sample(0, 90, "Docker's volume"), sample(1, 70), sample(2, 65)]
    assert report.peak(samples, "root").time == 1
    assert report.increase(samples, "root") == 10 * GIB


# -- tables and files


def test_table_has_one_line_for_each_probe_and_no_bar_within_a_cell() -> None:
    story = Story("as it was", Observations(outcomes=outcomes("..xx.")), power=35)
    (row,) = [line for line in report.probe_table([story]).splitlines() if line.startswith("| **apt**")]
    assert row.endswith("| failed from +20 s on | works |")
    assert report.table(["a"], [["b|c"]]).splitlines()[-1] == "| b/c |"


def test_answer_is_empty_where_a_machine_was_not_asked() -> None:
    stories = [Story("one", facts={"boots": "no"}), Story("other", facts={"boots": "yes", "state": "running"})]
    assert report.fact_table(stories).splitlines()[2:] == ["| boots | no | yes |", "| state |  | running |"]


def test_machine_that_does_not_boot_has_one_line_of_the_table() -> None:
    def boot() -> None:
        raise LabError("incident-before: no ssh after 600 s; the end of its console:\n[ 3.1] a panic")

    machine = SimpleNamespace(cut=lambda: None, boot=boot)
    host = course.IncidentHost(machine, "as it was", "/")  # type: ignore[arg-type]
    course._cut_and_boot(host, course.Clock(0))
    assert report.fact_table([host.story]).splitlines()[2:] == [
        "| boots after the power cut | no: incident-before: no ssh after 600 s |"
    ]


def test_only_the_generated_part_of_the_page_is_replaced() -> None:
    page = f"before\n{report.BEGIN}\n\nold\n\n{report.END}\nafter\n"
    assert report.with_generated(page, "new\n") == f"before\n{report.BEGIN}\n\nnew\n\n{report.END}\nafter\n"
    with pytest.raises(ValueError, match="lacks"):
        report.with_generated("a page", "new")


def test_page_of_the_docs_has_a_place_for_the_tables() -> None:
    page = (Path(__file__).parent.parent.parent / "docs" / "incident.md").read_text()
    assert "| new |" in report.with_generated(page, "| new |")


def test_all_observations_are_written_for_programs(tmp_path: Path) -> None:
    story = Story("as it was", Observations([sample(0, 60)], outcomes("x")), facts={"boots": "yes"})
    report.keep({"before": story}, tmp_path)
    kept = json.loads((tmp_path / "incident.json").read_text())
    assert kept["factor"] == FACTOR
    assert kept["machines"]["before"]["facts"] == {"boots": "yes"}
    with open(tmp_path / "before-samples.csv", newline="") as file:
        assert [row["filesystem"] for row in csv.DictReader(file)] == ["root"]
    with open(tmp_path / "before-probes.csv", newline="") as file:
        assert [row["worked"] for row in csv.DictReader(file)] == ["False"]


# -- the picture's data


def test_line_of_the_picture_has_a_gap_where_samples_are_missing() -> None:
    samples = [sample(0, 60), sample(0, 10, "other"), sample(1, 61), sample(30, 100)]
    assert report.series(samples, "root").splitlines() == ["0.00 60.000", "1.00 61.000", "", "30.00 100.000"]


def test_labels_of_close_events_do_not_overlap() -> None:
    events = [Event(52, "c"), Event(0, "a"), Event(50, "b")]
    assert report.marks(events, 10) == '0.00 0.00 "a"\n50.00 50.00 "b"\n52.00 60.00 "c"\n'
