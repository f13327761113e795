"""The build, and what the disks hold before it: the incident's sizes, scaled by one factor."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

# The lab's root disk of 30 GB stands for the incident's of 100 GB.
FACTOR = 0.3

# In GB of the incident. FREE is what df calls available: ext4 reserves another 5 % for root.
FREE = 28.0
DOCKER_VOLUME = 60.0

# pip keeps its downloads in the layer unless it runs with --no-cache-dir. The wheels of torch and of NVIDIA's libraries
# have between a third and a half of their unpacked size. We take a third.
DOWNLOADED = 1 / 3


@dataclass(frozen=True)
class Step:
    """A step of the Dockerfile, and how many GB of the incident it writes."""

    name: str
    original: str
    directory: str
    size: float
    downloads: float = 0.0

    @property
    def instruction(self) -> str:
        if self.original.startswith("COPY"):
            return self.original
        parts = [f"write {self.directory} {mebibytes(self.size)}"]
        if self.downloads:
            parts.append(f"write /root/.cache/pip/{self.name} {mebibytes(self.downloads)}")
        return f"RUN {' && '.join(parts)}"


BASE = Step("base image", "FROM nvidia/cuda:12.4.1", "/usr/local/cuda", 7)
CONTEXT = Step("context", "COPY . /app", "/app", 0.002)
STEPS = (
    Step("toolchain", "RUN apt-get install build-essential", "/usr/lib/gcc", 0.5),
    Step("torch", "RUN pip install torch torchaudio", "/usr/lib/python3/torch", 8, 8 * DOWNLOADED),
    Step("TTS", "RUN pip install coqui-tts f5-tts", "/usr/lib/python3/tts", 6, 6 * DOWNLOADED),
    Step("models", "RUN python create_default_speaker.py", "/app/models", 4),
    CONTEXT,
)


class Line(NamedTuple):
    """A line that a build printed, and when."""

    time: float
    text: str


class Event(NamedTuple):
    time: float
    text: str


def mebibytes(gigabytes: float) -> int:
    """Scale gigabytes of the incident to mebibytes of the lab.

    >>> mebibytes(28)
    8602
    """
    return round(gigabytes * FACTOR * 1024)


def dockerfile() -> str:
    lines = [f"# {BASE.original}", "FROM base"]
    for step in STEPS:
        lines += [f"# {step.original}", step.instruction]
    return "\n".join(lines) + "\n"


def steps_begun(lines: Sequence[Line]) -> list[Event]:
    """Return when each step that really ran began, from the output of the classic builder or of BuildKit.

    BuildKit prints a step again when more of its output follows, and marks a cached step only later.
    """
    named = {step.instruction: step.name for step in STEPS}
    found: dict[str, tuple[str, float]] = {}
    cached = set()
    last = ""
    for time, text in lines:
        if match := re.match(r"(?:Step (\d+)/\d+ : |#(\d+) \[ *\d+/\d+\] )(.*)", text):
            last = match[1] or match[2]
            if name := named.get(match[3]):
                found.setdefault(last, (name, time))
        elif text.strip() == "---> Using cache":
            cached.add(last)
        elif match := re.fullmatch(r"#(\d+) CACHED", text.strip()):
            cached.add(match[1])
    return [Event(time, name) for number, (name, time) in found.items() if number not in cached]


def ending(code: int, lines: Sequence[str]) -> str:
    """Say in a few words how a build ended.

    >>> ending(1, ["write: No space left on device"])
    'build fails: no space left'
    """
    if code == 0:
        return "build succeeds"
    if any("docker-guard" in line for line in lines):
        return "guard stops it"
    if any("no space left" in line.lower() for line in lines):
        return "build fails: no space left"
    return "build fails"
