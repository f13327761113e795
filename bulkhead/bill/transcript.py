"""Read what docker prints while it builds: its steps, how long each took, and which came from the cache.

There are three forms. BuildKit's plain one has lines like `#7 [2/3] RUN make`, then `#7 DONE 1.2s` or `#7 CACHED` (buildkit,
util/progress/progressui/printer.go). BuildKit's rawjson has objects (buildkit, client/graph.go), with buildx 0.13 over many lines,
later in one each. The classic builder has lines like `Step 2/3 : RUN make` and ` ---> Using cache`.
"""

from __future__ import annotations

import json
import re
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bulkhead.docker.engine import moment
from bulkhead.docker.units import bytes_of

if TYPE_CHECKING:
    from collections.abc import Callable

BUILDKIT, CLASSIC = "BuildKit", "classic"
_LONGEST = 2**20  # bytes of a line; the rest of a longer one is dropped
_VERTEX = re.compile(r"#(\d+) (.*)")
_DONE = re.compile(r"DONE(?: (\d+\.\d+)s)?")
_SENT = re.compile(r"transferring (\S+): (\d[\d.]*[kKMGT]?i?B)\b")
_IMAGE = re.compile(r"(writing image|exporting manifest|exporting manifest list) (sha256:[0-9a-f]{64})")
_INSTRUCTION = re.compile(r"\[(?:([^\]]*) )? *\d+/\d+\] .")
_CONTEXT = re.compile(r"\[(?:\S+ )?internal\] load build context|\[(?:\S+ )?context .+\] load from client")
_CLASSIC_CONTEXT = re.compile(r"Sending build context to Docker daemon +(\S+)")
_CLASSIC_STEP = re.compile(r"Step (\d+/\d+) : (.+)")
_STORED = ("exporting to image",)  # names of steps
_LOADED = ("importing to docker", "exporting to docker image format")
_QUIET = re.compile(r"sha256:[0-9a-f]{64}")
_CLASSIC_IMAGE = re.compile(r"Successfully built ([0-9a-f]{12})")


@dataclass
class PrintedStep:
    """A step of a build, in docker's words."""

    name: str
    began: float  # monotonic seconds when it was first named, as ended
    ended: float | None = None
    seconds: float | None = None  # that it took
    is_cached: bool = False
    has_failed: bool = False

    @property
    def is_instruction(self) -> bool:
        """Return whether it is an instruction of the Dockerfile; the others are BuildKit's own."""
        return bool(_INSTRUCTION.match(self.name))


class Transcript:
    """What docker has printed. Feed it as it comes, from as many threads as there are streams."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.steps: list[PrintedStep] = []
        self.builder = ""  # BUILDKIT or CLASSIC; empty: that cannot be told
        self.image = ""  # identifier; empty: none was named
        self._clock = clock
        self._by_key: dict[str, PrintedStep] = {}
        self._sent: dict[str, int] = {}
        self._object: list[str] = []  # lines of one that has not ended
        self._rests: dict[int, bytes] = {}
        self._lock = threading.Lock()

    @property
    def instructions(self) -> list[PrintedStep]:
        return [step for step in self.steps if step.is_instruction]

    def exports_image(self, *, by_engine: bool) -> bool:
        """Return whether the engine has got an image from the build: not if it was only pushed, or written to a file.

        Args:
            by_engine: whether the engine itself builds; otherwise a builder sends it the image.
        """
        if self.builder != BUILDKIT:
            return bool(self.image)
        wanted = _STORED if by_engine else _LOADED
        return any(step.name.startswith(wanted) for step in self.steps)

    @property
    def sent(self) -> int | None:
        """Return the bytes of context that docker sent; None: it does not say."""
        if self._sent or not self.steps:
            return sum(self._sent.values()) if self._sent else None
        has_context = any(_CONTEXT.match(step.name) for step in self.steps)
        return None if has_context or self.builder != BUILDKIT else 0

    def running_at(self, moment: float) -> PrintedStep | None:
        """Return the instruction that began last of those that ran at a time; if none did, the step that ended last before.

        Args:
            moment: in monotonic seconds.
        """
        running = [
            step
            for step in self.steps
            if step.began <= moment and (step.ended is None or step.ended >= moment) and not step.is_cached
        ]
        if running:
            return max(running, key=lambda step: (step.is_instruction, step.began))
        before = [step for step in self.steps if step.ended is not None and step.ended < moment]
        return max(before, key=lambda step: step.ended or 0, default=None)

    def feed(self, stream: int, data: bytes) -> None:
        """Take a part of what docker prints.

        Args:
            stream: the descriptor that it prints to.
        """
        with self._lock:
            *lines, rest = (self._rests.get(stream, b"") + data).split(b"\n")
            self._rests[stream] = rest[:_LONGEST]
            for line in lines:
                # What a step prints after a carriage return is still the step's; the classic builder redraws its own lines.
                for part in [line.rstrip(b"\r")] if line.startswith(b"#") else line.split(b"\r"):
                    self._read(part.decode(errors="replace"), is_output=stream == 1)

    def _read(self, line: str, *, is_output: bool) -> None:
        if self.builder != CLASSIC and line.startswith("#") and (match := _VERTEX.fullmatch(line)):
            self._plain(match[1], match[2])
        elif self.builder != CLASSIC and not is_output and (self._object or line.startswith("{")):
            self._object.append(line)
            if line.endswith("}") and not line.startswith(" "):
                self._raw("".join(self._object))
                self._object = []
        elif self.builder == BUILDKIT:
            return
        elif match := _CLASSIC_CONTEXT.match(line):
            self.builder = CLASSIC
            self._note_sent("", match[1])
        elif match := _CLASSIC_STEP.match(line):
            self.builder = CLASSIC
            self._end_classic()
            self._begin(match[1], f"[{match[1]}] {match[2].strip()}")
        elif self.builder == CLASSIC and line.strip() == "---> Using cache" and self.steps:
            self.steps[-1].is_cached = True
        elif is_output and _QUIET.fullmatch(line):
            self.image = line
        elif match := _CLASSIC_IMAGE.match(line):
            self._end_classic()
            self.image = match[1]

    def _end_classic(self) -> None:
        if self.steps and self.steps[-1].ended is None:
            step, now = self.steps[-1], self._clock()
            step.ended, step.seconds = now, None if step.is_cached else now - step.began

    def _begin(self, key: str, name: str) -> PrintedStep:
        step = self._by_key[key] = PrintedStep(name, self._clock())
        self.steps.append(step)
        return step

    def _plain(self, key: str, text: str) -> None:
        if key == "0":  # building with "default" instance using docker driver
            return
        self.builder = BUILDKIT
        step = self._by_key.get(key)
        if step is None:
            self._begin(key, text)
            return
        if done := _DONE.fullmatch(text):
            step.ended, step.seconds = self._clock(), float(done[1]) if done[1] else None
        elif text == "CACHED":
            step.ended, step.is_cached = self._clock(), True
        elif text.startswith("ERROR") or text == "CANCELED":
            step.ended, step.has_failed = self._clock(), True
        else:
            self._note(key, step, text)

    def _note(self, key: str, step: PrintedStep, text: str) -> None:
        """Note what a step says of itself."""
        if (sent := _SENT.match(text)) and _CONTEXT.match(step.name):
            self._note_sent(key, sent[2])
        elif image := _IMAGE.match(text):
            self.image = image[2]

    def _note_sent(self, key: str, size: str) -> None:
        if (known := bytes_of(size)) is not None:
            self._sent[key] = known

    def _raw(self, line: str) -> None:
        try:
            status = json.loads(line)
            vertexes, statuses = status.get("vertexes") or [], status.get("statuses") or []
            for vertex in vertexes:
                self._vertex(vertex)
            for each in statuses:
                if step := self._by_key.get(each["vertex"]):
                    size = int(each.get("current") or 0)
                    self._note(each["vertex"], step, f"{each['id']} {size}B" if size else str(each["id"]))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return  # a line of a step's own

    def _vertex(self, vertex: dict[str, Any]) -> None:
        self.builder = BUILDKIT
        key, started, completed = vertex["digest"], vertex.get("started"), vertex.get("completed")
        if not started:
            return
        step = self._by_key.get(key) or self._begin(key, vertex["name"])
        step.is_cached = step.is_cached or bool(vertex.get("cached"))
        step.has_failed = step.has_failed or bool(vertex.get("error"))
        if completed:
            step.ended = self._clock()
            step.seconds = None if step.is_cached else moment(completed) - moment(started)
