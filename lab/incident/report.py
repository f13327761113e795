"""Report the run to people and to programs: tables, the data of the picture, files."""

from __future__ import annotations

import csv
import itertools
import json
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lab.incident.probes import PROBES, Observations, Outcome, Sample
from lab.incident.scenario import FACTOR, Event, Line

BEGIN = "<!-- from here on written by scripts/incident -->"
END = "<!-- until here -->"
GAP = 5.0  # seconds without a sample that end a line of the picture


@dataclass
class Story:
    """What happened to one of the machines. Times are seconds since the builds began."""

    title: str
    observations: Observations = field(default_factory=Observations)
    events: list[Event] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)  # that the builds printed
    power: float = 0.0  # when it was pulled
    facts: dict[str, str] = field(default_factory=dict)  # question → answer


def verdict(outcomes: Iterable[Outcome]) -> str:
    """Summarize all attempts of a probe.

    >>> verdict([Outcome(90, "apt", True, 1, ""), Outcome(95, "apt", False, 1, "")])
    'failed from +95 s on'
    """
    tried = sorted(outcomes)
    failures = [number for number, outcome in enumerate(tried) if not outcome.worked]
    if not tried:
        return "not tried"
    if not failures:
        return "worked throughout"
    first, last = failures[0], failures[-1]
    begin = f"+{tried[first].time:.0f} s"
    if last == len(tried) - 1:
        steady, span = len(failures) == len(tried) - first, f"from {begin} on"
    else:
        steady, span = len(failures) == last - first + 1, f"from {begin} to +{tried[last + 1].time:.0f} s"
    return f"failed {span}" if steady else f"failed {len(failures)} of {len(tried)} times, {span}"


def tried(observations: Observations, probe: str, since: float, until: float) -> list[Outcome]:
    """Return the outcomes of a probe in a span of time, without the attempt that the power cut interrupted."""
    return [
        outcome
        for outcome in observations.outcomes
        if outcome.probe == probe and since <= outcome.time and outcome.time + outcome.seconds <= until
    ]


def first_failures(story: Story) -> list[Event]:
    """Return the first failure of each probe before the power cut."""
    events = []
    for probe in PROBES:
        failed = [outcome for outcome in tried(story.observations, probe.name, 0, story.power) if not outcome.worked]
        if failed:
            events.append(Event(failed[0].time, f"{probe.name} fails"))
    return events


def peak(samples: Iterable[Sample], filesystem: str) -> Sample:
    return max(
        (sample for sample in samples if sample.filesystem == filesystem), key=lambda sample: sample.used_percent
    )


def increase(samples: Iterable[Sample], filesystem: str) -> int:
    """Return by how many bytes the use of a filesystem rose at most since the first sample."""
    free = [sample.free for sample in samples if sample.filesystem == filesystem]
    return free[0] - min(free)


def longest_gap(records: Sequence[int]) -> int:
    """Return the longest gap, in seconds, between the records of a service that writes one each second.

    >>> longest_gap([100, 101, 102, 130, 131])
    28
    """
    return max((later - earlier for earlier, later in itertools.pairwise(records)), default=0)


# -- tables


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in lines)


def probe_table(stories: Sequence[Story]) -> str:
    """Return a table of each probe on each machine, before the power cut and after the boot."""
    head = [
        "",
        *(f"{story.title}, {when}" for story in stories for when in ("during the build", "after the power cut")),
    ]
    rows = []
    for probe in PROBES:
        row = [f"**{probe.name}**: {probe.what}"]
        for story in stories:
            after = tried(story.observations, probe.name, story.power, float("inf"))
            row += [verdict(tried(story.observations, probe.name, 0, story.power)), _at_last(after)]
        rows.append(row)
    return table(head, rows)


def _at_last(outcomes: Sequence[Outcome]) -> str:
    if not outcomes:
        return "not tried"
    last = max(outcomes)
    return "works" if last.worked else "fails"


def fact_table(stories: Sequence[Story]) -> str:
    # The machine with the most facts sets the order: the other has no volume for Docker.
    longest_first = sorted(stories, key=lambda story: -len(story.facts))
    questions = dict.fromkeys(question for story in longest_first for question in story.facts)
    rows = [[question, *(story.facts.get(question, "") for story in stories)] for question in questions]
    return table(["", *(story.title for story in stories)], rows)


def with_generated(page: str, text: str) -> str:
    """Replace the generated part of a page.

    Raises:
        ValueError: the page has no such part.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page lacks {BEGIN!r} or {END!r}")
    return f"{before}{BEGIN}\n\n{text.strip()}\n\n{END}{after}"


# -- the picture


def series(samples: Iterable[Sample], filesystem: str) -> str:
    """Return lines of time and percent used, with an empty line where samples are missing."""
    lines, last = [], None
    for sample in samples:
        if sample.filesystem != filesystem:
            continue
        if last is not None and sample.time - last > GAP:
            lines.append("")
        lines.append(f"{sample.time:.2f} {sample.used_percent:.3f}")
        last = sample.time
    return "\n".join(lines) + "\n"


def spread(times: Sequence[float], distance: float) -> list[float]:
    """Place labels at sorted times at least ``distance`` apart; a label that would overlap moves right.

    >>> spread([0, 50, 51, 52], 10)
    [0, 50, 60, 70]
    """
    places: list[float] = []
    for time in times:
        places.append(max(time, places[-1] + distance) if places else time)
    return places


def marks(events: Sequence[Event], distance: float) -> str:
    """Return a line for each event: its time, the place of its label, and the label."""
    ordered = sorted(events)
    places = spread([event.time for event in ordered], distance)
    return "".join(
        f'{event.time:.2f} {place:.2f} "{event.text}"\n' for event, place in zip(ordered, places, strict=True)
    )


def draw(before: Story, after: Story, title: str, directory: Path, pictures: Path) -> None:
    """Write the data files into ``directory``, and the picture as SVG and PNG into ``pictures``."""
    last = max(sample.time for story in (before, after) for sample in story.observations.samples)
    # The picture is 1200 pixels wide, a label about 13.
    distance = (last + 20) * 13 / 1100
    for name, story in (("before", before), ("after", after)):
        (directory / f"{name}-root.dat").write_text(series(story.observations.samples, "root"))
        (directory / f"{name}-events.dat").write_text(marks([*story.events, *first_failures(story)], distance))
    (directory / "after-volume.dat").write_text(series(after.observations.samples, "Docker's volume"))
    pictures.mkdir(parents=True, exist_ok=True)
    for terminal, name in (
        ("svg size 1200,600 dynamic font 'DejaVu Sans,12' background rgb 'white'", "incident.svg"),
        ("pngcairo size 1200,600 font 'DejaVu Sans,10' background rgb 'white'", "incident.png"),
    ):
        variables = f"directory={_quoted(str(directory))}; title={_quoted(title)}; last={last:.0f}"
        settings = f"set terminal {terminal}; set output {_quoted(str(pictures / name))}"
        template = Path(__file__).with_name("picture.gnuplot")
        subprocess.run(["gnuplot", "-e", f"{variables}; {settings}", template], check=True)


def _quoted(text: str) -> str:
    """Quote a word for gnuplot, which wants a single quote doubled within single quotes."""
    return "'" + text.replace("'", "''") + "'"


# -- for programs


def keep(stories: dict[str, Story], directory: Path) -> None:
    """Write all observations as JSON, and the samples and outcomes as CSV."""
    record = {"factor": FACTOR, "machines": {name: asdict(story) for name, story in stories.items()}}
    (directory / "incident.json").write_text(json.dumps(record, indent=1) + "\n")
    for name, story in stories.items():
        for kind, fields, rows in (
            ("samples", Sample._fields, story.observations.samples),
            ("probes", Outcome._fields, story.observations.outcomes),
        ):
            with open(directory / f"{name}-{kind}.csv", "w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(fields)
                writer.writerows(rows)
