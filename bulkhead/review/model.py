"""What is reviewed, what a rule is, and what it finds."""

from __future__ import annotations

import csv
import os
import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from bulkhead.docker.redaction import without_secrets
from bulkhead.dockerfile import words
from bulkhead.review.cargo import Cargo, weigh
from bulkhead.review.shell import Call, calls_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from bulkhead.context.proposal import Proposal
    from bulkhead.context.survey import Survey
    from bulkhead.dockerfile.ignore import IgnoreRules
    from bulkhead.dockerfile.stages import BuildInputs, Copied, Stage
    from bulkhead.dockerfile.syntax import Instruction

ERROR, WARNING, INFO = LEVELS = ("error", "warning", "info")  # the worst first
_WORK = re.compile(r"(dev|devel|development|devcontainer|debug|build|builder|test|tests|testing|lint|ci)")
_WORKSHOPS = re.compile(r"devcontainers/|vscode/|gitpod/|buildpack-deps")  # base images of images to work in

# Returns the bytes that an instruction has written into the image; None: nobody has measured it.
Measure: TypeAlias = "Callable[[Instruction], int | None]"


def nothing_measured(_: Instruction) -> None:
    """Return what is known without an image and without a bill: nothing."""


class ImageFinding(NamedTuple):
    """What a rule finds."""

    rule: str
    level: str
    line: int
    end: int
    message: str
    bytes: int | None = None  # that the image would be smaller by; None: unknown
    is_measured: bool = False
    instead: str = ""  # lines for the Dockerfile or the .dockerignore
    reason: str = ""  # of the waiver that allows it


class Layer(NamedTuple):
    """An instruction of the result."""

    instruction: Instruction
    calls: tuple[Call, ...]  # of a RUN
    directory: str  # the WORKDIR
    variables: Mapping[str, str]
    caches: tuple[str, ...]  # where the mounts of a RUN are that leave nothing in the image
    binds: tuple[tuple[str, str], ...]  # of a RUN: a path in the context, and where it is mounted
    sources: tuple[str, ...]  # of a COPY or an ADD: paths from the top of the context
    target: str  # of a COPY or an ADD: a path in the image; with a slash at its end if the instruction has one

    @property
    def name(self) -> str:
        return self.instruction.name

    def runs(self, *names: str) -> Iterator[Call]:
        """Yield the commands of these names that certainly run."""
        return (call for call in self.calls if call.name in names and call.is_certain)

    def removes(self, path: str) -> bool:
        """Return whether a RUN removes or moves a file itself, as far as that can be known."""
        words = (
            _joined(call.directory, word) for call in self.calls if call.name in ("rm", "mv") for word in call.operands
        )
        return any(below(path, word.rstrip("*")) or fnmatchcase(path, word) for word in words)


@dataclass
class Image:
    """The image that a target becomes."""

    context: str  # a directory
    inputs: BuildInputs
    rules: IgnoreRules
    survey: Survey
    proposal: Proposal
    is_work: bool  # it is made to work in, or to build with
    layers: tuple[Layer, ...]
    builders: Mapping[
        str, tuple[Layer, ...]
    ]  # the layers of other stages that are used, by the names that COPY --from has
    measured: Measure
    _cargos: dict[tuple[str, ...], Cargo] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        context: str,
        file: str,
        inputs: BuildInputs,
        rules: IgnoreRules,
        survey: Survey,
        proposal: Proposal,
        measured: Measure = nothing_measured,
    ) -> Image:
        """Return the image of a target.

        Args:
            context: the directory.
            file: the path of the Dockerfile; empty: it has none.
            measured: of a bill or an image.
        """
        copies = {each.instruction: each for each in inputs.copies if not each.context}
        layers: list[Layer] = []
        builders = {}
        for stage in inputs.stages:
            if stage.is_in_result:
                layers += _layers(stage, copies, layers[-1].directory if layers else "/")
            elif stage.name:
                builders[stage.name] = tuple(_layers(stage, copies, "/"))
        return cls(context, inputs, rules, survey, proposal, _is_work(inputs, file), tuple(layers), builders, measured)

    @property
    def result(self) -> tuple[Stage, ...]:
        """Return the stages that the result consists of, the first one first."""
        return tuple(stage for stage in self.inputs.stages if stage.is_in_result)

    def named(self, name: str) -> Iterator[Layer]:
        """Yield the layers of an instruction."""
        return (layer for layer in self.layers if layer.name == name)

    def cargo(self, paths: tuple[str, ...]) -> Cargo:
        """Return what is sent of these paths of the context."""
        if paths not in self._cargos:
            self._cargos[paths] = weigh(self.context, self.rules, paths)
        return self._cargos[paths]

    def file_of(self, path: str, before: Layer) -> str:
        """Return the path in the context of a file in the image, as a layer has it; empty: it did not come from there."""
        layers = next(each for each in (self.layers, *self.builders.values()) if before in each)
        for layer in reversed(layers[: layers.index(before) + 1]):
            pairs = [*layer.binds, *((source, layer.target) for source in layer.sources)]
            for source, target in reversed(pairs):
                whole = os.path.join(self.context, source)
                if os.path.isdir(whole):
                    inner = below(path, target)
                    found = os.path.join(source, inner) if inner else ""
                else:
                    place = target + os.path.basename(source) if target.endswith("/") else target
                    found = source if os.path.normpath(place) == path else ""
                if found and os.path.isfile(os.path.join(self.context, found)) and not self.rules.is_ignored(found):
                    return found
        return ""


class Rule(NamedTuple):
    """A rule."""

    name: str
    level: str  # of most of what it finds
    title: str  # what is wrong
    check: Callable[[Image], Iterable[ImageFinding]] | None = None
    needs_context: bool = False  # what it finds depends on the files that are there
    is_whole: bool = False  # all that an instruction writes is what it finds
    same: tuple[str, ...] = ()  # rules of hadolint that find the same

    def finding(
        self,
        instruction: Instruction,
        message: str,
        *,
        instead: str = "",
        bytes: int | None = None,  # noqa: A002 # what it is
        is_measured: bool = False,
        level: str = "",
    ) -> ImageFinding:
        """Return a finding of this rule at an instruction, without secrets in addresses: reports of findings go far."""
        return ImageFinding(
            self.name,
            level or self.level,
            instruction.line,
            instruction.end,
            without_secrets(message),
            bytes,
            is_measured,
            without_secrets(instead),
        )


def below(path: str, directory: str) -> str:
    """Return a path from a directory that it is in; `.` for the directory itself; empty: it is not in there.

    >>> below("/app/a/b", "/app/"), below("/app", "/app"), below("/application", "/app")
    ('a/b', '.', '')
    """
    directory = os.path.normpath(directory)
    if path == directory:
        return "."
    prefix = directory.rstrip("/") + "/"
    return path[len(prefix) :] if path.startswith(prefix) else ""


# -- layers


def _is_work(inputs: BuildInputs, file: str) -> bool:
    """Return whether an image is made to work in, by the names of its Dockerfile, target and base, or because it ships nothing."""
    result = [stage for stage in inputs.stages if stage.is_in_result]
    directory, name = os.path.split(file.lower())
    names = [*re.split(r"[-_.]", name), re.split(r"[-_.]", result[-1].name)[0], os.path.basename(directory).strip(".")]
    if any(map(_WORK.fullmatch, names)) or _WORKSHOPS.search(result[0].base):
        return True
    instructions = [each for stage in result for each in stage.instructions]
    return not any(each.name in ("CMD", "ENTRYPOINT", "COPY", "ADD") for each in instructions)


def _layers(stage: Stage, copies: Mapping[Instruction, Copied], directory: str) -> Iterator[Layer]:
    shell: tuple[str, ...] = ()
    for each in stage.instructions:
        if each.name == "WORKDIR":
            directory = _joined(directory, _expanded(each.arguments[0], stage.variables))
        elif each.name == "SHELL":
            shell = each.arguments
        calls: tuple[Call, ...] = ()
        mounts: list[dict[str, str]] = []
        if each.name == "RUN":
            calls = calls_of(each, directory, stage.variables, shell)
            mounts = [*_mounts(each, stage.variables)]
        copied = copies.get(each)
        target = _expanded(each.arguments[-1], stage.variables) if each.name in ("COPY", "ADD") else ""
        yield Layer(
            each,
            calls,
            directory,
            stage.variables,
            tuple(_joined(directory, mount["target"]) for mount in mounts if mount["type"] in ("cache", "tmpfs")),
            tuple(
                (mount["source"].strip("/"), _joined(directory, mount["target"]))
                for mount in mounts
                if mount["type"] == "bind" and not mount["from"]
            ),
            copied.paths if copied and not copied.unknown and each.name != "RUN" else (),
            _joined(directory, target) + "/" * (target.endswith(("/", ".")) and target != "/") if target else "",
        )


def _joined(directory: str, path: str) -> str:
    return os.path.normpath(os.path.join(directory, path))


def _expanded(text: str, variables: Mapping[str, str]) -> str:
    try:
        return words.expand(text, variables).text
    except words.WordError:
        return text


def _mounts(instruction: Instruction, variables: Mapping[str, str]) -> Iterator[dict[str, str]]:
    for flag, text in instruction.flags:
        if flag == "mount":
            pairs = (part.partition("=") for part in next(csv.reader([text]), []))
            mount = {key.lower(): _expanded(value, variables) for key, _, value in pairs}
            target = mount.get("target") or mount.get("dst") or mount.get("destination") or ""
            source = mount.get("source") or mount.get("src") or ""
            yield {
                "type": mount.get("type", "bind").lower(),
                "from": mount.get("from", ""),
                "source": source,
                "target": target,
            }
