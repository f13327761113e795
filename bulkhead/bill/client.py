"""Ask docker, as the user's own command line does: the same engine, the same builder."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from bulkhead.bill import cache
from bulkhead.bill.archive import Unreadable
from bulkhead.docker import command_lines
from bulkhead.docker.engine import Engine, EngineError
from bulkhead.errors import Failed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bulkhead.bill.cache import Records

ENGINE, CONTAINER = "docker", "docker-container"  # drivers of builders
_TIMEOUT = 120  # seconds for an answer
_ENGINE_OPTIONS = ("--host", "--context", "--config")


class Builder(NamedTuple):
    """What builds."""

    driver: str  # of buildx
    name: str = ""  # empty: the one that docker chooses itself


class HistoryEntry(NamedTuple):
    """A line of an image's history."""

    instruction: str
    size: int  # bytes


class DockerClient:
    """docker, with the options that choose an engine in a command line that builds."""

    def __init__(self, words: Sequence[str]) -> None:
        command = command_lines.parse([*words])
        options = dict(command.options) if command else {}
        self._words = ["docker"]
        for name in _ENGINE_OPTIONS:
            if value := options.get(name):
                self._words += [name, value]
        self._builder = options.get("--builder", "")
        self._is_plain = not {"buildx", "compose"} & {*command_lines.split(words).path}

    def output(self, *words: str) -> str:
        """Return what a command of docker's prints.

        Raises:
            Failed: it fails, or docker is not installed.
        """
        try:
            done = subprocess.run(
                [*self._words, *words],
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                timeout=_TIMEOUT,
                env={**os.environ, "LC_ALL": "C"},
            )
        except FileNotFoundError:
            raise Failed("docker is not installed") from None
        except subprocess.TimeoutExpired:
            raise Failed(f"`docker {words[0]}` did not end within {_TIMEOUT} s") from None
        if done.returncode:
            raise Failed(f"`docker {' '.join(words[:2])}` failed: {_first_line(done.stderr)}")
        return done.stdout

    def info(self) -> dict[str, Any]:
        """Return what the engine says of itself.

        Raises:
            Failed: it does not answer.
        """
        try:
            info = json.loads(self.output("info", "--format", "{{json .}}"))
        except ValueError as error:
            raise Failed(f"docker info prints no JSON: {error}") from None
        if not isinstance(info, dict) or info.get("ServerErrors") or not info.get("ServerVersion"):
            errors = info.get("ServerErrors") if isinstance(info, dict) else None
            raise Failed(f"Docker does not answer: {'; '.join(errors or ['it says nothing'])}")
        return info

    def builder(self, container_builder: str) -> Builder:
        """Return what builds.

        Args:
            container_builder: name of the builder that the build goes to for certain; empty: that is not known.
        """
        name = self._builder or os.environ.get("BUILDX_BUILDER", "") or container_builder
        if self._is_plain and not name:
            return Builder(ENGINE)
        try:
            found = re.search(
                r"^Driver:\s+(\S+)", self.output("buildx", "inspect", *([name] if name else [])), re.MULTILINE
            )
        except Failed:  # there is no buildx, and so the engine builds
            return Builder(ENGINE)
        return Builder(found[1] if found else "", name)

    def cache(self, builder: Builder) -> Records:
        """Return the records of a builder's cache.

        Raises:
            Failed, ValueError: they cannot be had.
        """
        complaint = ""
        if builder.driver == ENGINE and (path := self._socket()):
            try:
                return cache.of_engine(Engine(path).usage("build-cache")["build-cache"])
            except EngineError as error:
                complaint = str(error)
        chosen = ["--builder", builder.name] if builder.name else []
        try:
            return cache.of_text(self.output("buildx", "du", "--verbose", *chosen))
        except Failed as error:
            raise Failed(complaint or str(error)) from None

    def _socket(self) -> str:
        """Return the path of the engine's socket; empty: the engine is reached in another way."""
        if host := self._value("--host"):
            return host.removeprefix("unix://") if host.startswith("unix://") else ""
        with contextlib.suppress(Failed):
            host = self.output("context", "inspect", "--format", "{{.Endpoints.docker.Host}}").strip()
        return host.removeprefix("unix://") if host.startswith("unix://") else ""

    def _value(self, option: str) -> str:
        return self._words[self._words.index(option) + 1] if option in self._words else ""

    def image(self, name: str) -> dict[str, Any] | None:
        """Return an image as docker inspects it; None if the engine does not have it."""
        try:
            found = json.loads(self.output("image", "inspect", name))
        except (Failed, ValueError):
            return None
        is_image = isinstance(found, list) and found and isinstance(found[0], dict) and "Id" in found[0]
        return found[0] if is_image else None

    def history(self, image: str) -> list[HistoryEntry]:
        """Return the history of an image, from the first instruction.

        Raises:
            Failed: docker does not say it.
        """
        printed = self.output("history", "--no-trunc", "--human=false", "--format", "{{json .}}", image)
        try:
            lines = [json.loads(line) for line in printed.splitlines() if line]
            return [HistoryEntry(str(line["CreatedBy"]), int(line["Size"])) for line in reversed(lines)]
        except (ValueError, KeyError, TypeError) as error:
            raise Failed(f"docker history prints something else than expected: {error}") from None

    @contextlib.contextmanager
    def saved(self, image: str) -> Iterator[BinaryIO]:
        """Run `docker save`, and give what it writes.

        Raises:
            Failed: it fails.
        """
        with subprocess.Popen(
            [*self._words, "save", image], stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
        ) as process:
            assert process.stdout
            assert process.stderr
            try:
                yield process.stdout  # type: ignore[misc] # it is a BinaryIO
            except BaseException as error:
                process.kill()
                if isinstance(error, Unreadable) and (
                    complaint := process.stderr.read().decode(errors="replace").strip()
                ):
                    raise Failed(f"`docker save` failed: {_first_line(complaint)}") from error
                raise
            while process.stdout.read(2**20):  # what follows the end of the archive
                pass
            complaint = process.stderr.read().decode(errors="replace").strip()
        if process.returncode:
            raise Failed(f"`docker save` failed: {_first_line(complaint)}")


def _first_line(text: str) -> str:
    return next((line.strip()[:300] for line in text.splitlines() if line.strip()), "it says nothing")
