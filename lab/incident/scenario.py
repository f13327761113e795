"""What is built, and what is on the disks before: the incident's sizes, all by one factor."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

# The lab's root disk of 30 GB stands for the incident's of 100 GB.
FACTOR = 0.3

# In GB of the incident. "Free" is what df calls available: the 5 % that ext4 keeps for root come on top.
FREE = 28.0
DOCKER_VOLUME = 60.0

# pip keeps what it has downloaded in the layer, unless it is told not to (--no-cache-dir): the wheels of torch and of
# NVIDIA's libraries are between a third and a half of what they unpack to. Taken: a third.
DOWNLOADED = 1 / 3


@dataclass(frozen=True)
class Step:
    """A step of the Dockerfile, with what it writes in GB of the incident."""

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
    """A line that a build has said, and when."""

    time: float
    text: str


class Event(NamedTuple):
    time: float
    text: str


def mebibytes(gigabytes: float) -> int:
    """The lab's share of so many GB of the incident.

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
    """When each step began that a build has really run, from what the classic builder or BuildKit said.

    BuildKit names a step again when it goes on with its output, and says only later that it had it in its cache.
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


def ending(code: int, said: Sequence[str]) -> str:
    """How a build has ended, in a few words.

    >>> ending(1, ["write: No space left on device"])
    'build fails: no space left'
    """
    if code == 0:
        return "build succeeds"
    if any("docker-guard" in line for line in said):
        return "guard stops it"
    if any("no space left" in line.lower() for line in said):
        return "build fails: no space left"
    return "build fails"
