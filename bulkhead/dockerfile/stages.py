"""Find what a build uses: stages, base images, and what it copies from the context.

The rules are those of BuildKit's frontend/dockerfile/dockerfile2llb. The builder before BuildKit also builds the stages that the
target does not use, and is always sent the whole context.
"""

from __future__ import annotations

import csv
import os
import platform as machine
from typing import TYPE_CHECKING, NamedTuple

from bulkhead.dockerfile import words
from bulkhead.dockerfile.patterns import clean
from bulkhead.dockerfile.syntax import DockerfileError, Instruction

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from bulkhead.dockerfile.syntax import Dockerfile

EVERYTHING = ""  # as a path in a context: all of it
_NOTHING = "scratch"  # the base image that is none
_ARCHITECTURES = {
    "x86_64": "amd64",
    "amd64": "amd64",
    "aarch64": "arm64",
    "arm64": "arm64",
    "armv7l": "arm/v7",
    "i686": "386",
}
_ADDRESSES = ("http://", "https://", "git@", "git://", "ssh://")  # sources of ADD that are not in the context
_MOUNTS = ("bind", "cache", "tmpfs", "secret", "ssh")
_MOUNT_KEYS = {
    *("type", "from", "source", "src", "target", "dst", "destination", "readonly", "ro", "readwrite", "rw"),
    *("required", "size", "id", "sharing", "mode", "uid", "gid", "env"),
}


class Options(NamedTuple):
    """What the command line of a build says of its Dockerfile."""

    build_args: Mapping[str, str] = {}
    target: str = ""  # empty: the last stage
    contexts: Mapping[
        str, str
    ] = {}  # of --build-context: a name, and a directory, docker-image://, target: or an address
    platform: str = ""  # empty: this machine's


class Copied(NamedTuple):
    """What an instruction takes from a context: an ADD or a COPY, or a RUN by a bind mount."""

    instruction: Instruction
    paths: tuple[str, ...]  # from the top of the context; they can have wildcards
    context: str = ""  # the name of a --build-context; empty: the context of the build
    unknown: frozenset[str] = frozenset()  # variables in its sources that only a base image can have set


class Stage(NamedTuple):
    """A stage that is used."""

    origin: Instruction  # its FROM
    name: str  # in lower case; empty: it has none
    base: str  # the image that it begins with; empty: another stage, a --build-context, or nothing
    instructions: tuple[Instruction, ...]  # with those that ONBUILD of the stage before it adds
    variables: Mapping[str, str]  # ARG and ENV, as they are at its end
    is_in_result: bool  # it is the target, or one that the target begins with: its layers are the result's


class BuildInputs(NamedTuple):
    """What a build uses."""

    name: str  # of the Dockerfile
    images: tuple[str, ...]  # that it begins with or copies from, once each
    instructions: tuple[Instruction, ...]  # of the stages that are used
    copies: tuple[Copied, ...]  # of the stages that are used
    all_copies: tuple[Copied, ...]  # of every stage: one .dockerignore serves all targets
    all_instructions: tuple[Instruction, ...]
    contexts: Mapping[str, str]  # the --build-context that are used
    stages: tuple[Stage, ...] = ()  # that are used, in their order

    @property
    def runs(self) -> int:
        """Return how many RUN steps there are."""
        return sum(each.name == "RUN" for each in self.instructions)

    def paths(self, context: str = "") -> tuple[str, ...]:
        """Return what BuildKit asks a context for; EVERYTHING alone for all of it.

        Args:
            context: the name of a --build-context; empty: the context of the build.
        """
        found = sorted({path for each in self.copies if each.context == context for path in each.paths})
        return (EVERYTHING,) if EVERYTHING in found else tuple(found)


def read(dockerfile: Dockerfile, options: Options = Options()) -> BuildInputs:  # noqa: B008 # it cannot be changed
    """Return what a build of a Dockerfile uses.

    Raises:
        DockerfileError: Docker refuses the build. The message has the file and the line.
    """
    return _StageReader(dockerfile, options).inputs()


def assigned(texts: Sequence[str]) -> dict[str, str]:
    """Return options of the form NAME=VALUE. One without a value has that of the environment, as docker does it."""
    pairs = (text.partition("=") for text in texts)
    return {name: value if equals else os.environ.get(name, "") for name, equals, value in pairs}


def familiar(image: str) -> str:
    """Return the name of an image as `--build-context` knows it.

    >>> familiar("docker.io/library/alpine:latest"), familiar("example.org/library/a:1")
    ('alpine', 'example.org/library/a:1')
    """
    for prefix in ("docker.io/", "index.docker.io/"):
        image = image.removeprefix(prefix)
    return image.removeprefix("library/").removesuffix(":latest")


def default_platform() -> str:
    """Return the platform that a build on this machine is for."""
    return f"linux/{_ARCHITECTURES.get(machine.machine().lower(), machine.machine().lower())}"


class _Stage:
    """A stage, or an image or a context that an instruction names in its place."""

    def __init__(self, number: int, base: str, origin: Instruction) -> None:
        self.number = number  # -1: it is no stage
        self.base = base
        self.origin = origin  # the FROM, or the instruction that names it
        self.parent: _Stage | None = None
        self.context = ""  # the --build-context that takes its place
        self.instructions: list[Instruction] = []  # with those that ONBUILD of its parent adds
        self.needs: list[_Stage] = []
        self.variables: dict[str, str] = {}
        self.copies: list[Copied] = []

    @property
    def has_foreign_base(self) -> bool:
        """Return whether it begins with an image that may have set variables."""
        return self.parent.has_foreign_base if self.parent else self.base != _NOTHING


class _StageReader:
    def __init__(self, dockerfile: Dockerfile, options: Options) -> None:
        self._file = dockerfile
        self._options = options
        self._contexts = {familiar(name): source for name, source in options.contexts.items()}
        self._stages: list[_Stage] = []
        self._by_name: dict[str, _Stage] = {}
        self._places: dict[str, _Stage] = {}  # images and contexts that are no stages
        self._globals: dict[str, str] = {}

    def inputs(self) -> BuildInputs:
        self._split()
        target = self._target()
        for stage in self._stages:
            stage.needs = [self._place(name, each) for each in stage.instructions for name in self._origins(each)]
        used = self._used(target)
        for stage in self._stages:
            self._evaluate(stage, is_used=stage in used)
        if target.context:
            target.copies.append(Copied(target.origin, (EVERYTHING,), target.context))
        ordered = [stage for stage in self._stages if stage in used]
        places = [*ordered, *(place for place in self._places.values() if place in used)]
        names = {place.context for place in places} - {""}
        return BuildInputs(
            name=self._file.name,
            images=tuple(dict.fromkeys(image for place in places if (image := self._image(place)))),
            instructions=tuple(each for stage in ordered for each in stage.instructions),
            copies=tuple(each for stage in ordered for each in stage.copies),
            all_copies=tuple(each for stage in self._stages for each in stage.copies),
            all_instructions=self._file.instructions,
            contexts={name: self._contexts[name] for name in sorted(names)},
            stages=tuple(self._stage(stage, target) for stage in ordered),
        )

    def _stage(self, stage: _Stage, target: _Stage) -> Stage:
        result: _Stage | None = target
        while result and result is not stage:
            result = result.parent
        return Stage(
            stage.origin,
            _alias(stage.origin),
            self._image(stage),
            tuple(stage.instructions),
            stage.variables,
            bool(result),
        )

    def _error(self, line: int, text: object) -> DockerfileError:
        return DockerfileError(f"{self._file.name}:{line}: {text}")

    def _expand(self, text: str, variables: Mapping[str, str], instruction: Instruction) -> words.Words:
        try:
            return words.expand(text, variables, self._file.escape)
        except words.WordError as error:
            raise self._error(instruction.line, error) from None

    # -- the stages

    def _split(self) -> None:
        instructions = self._file.instructions
        froms = [each for each in instructions if each.name == "FROM"]
        if not froms:
            raise DockerfileError(f"{self._file.name} has no FROM")
        first = instructions.index(froms[0])
        for each in instructions[:first]:
            if each.name != "ARG":
                raise self._error(each.line, f"{each.name} comes before the first FROM: only ARG can stand there")
        self._set_globals(instructions[:first], self._options.target or _alias(froms[-1]))
        for each in instructions[first:]:
            if each.name == "FROM":
                self._add(each)
            elif not self._stages[-1].context:
                self._stages[-1].instructions.append(each)

    def _set_globals(self, instructions: Sequence[Instruction], target: str) -> None:
        given = self._options.build_args
        defaults = {
            **_platform_args("BUILD", default_platform()),
            **_platform_args("TARGET", self._options.platform or default_platform()),
            "TARGETSTAGE": target or "default",
        }
        self._globals = {name: given.get(name, value) for name, value in defaults.items()}
        for each in instructions:
            for argument in each.arguments:
                name, equals, default = argument.partition("=")
                if name in given:
                    self._globals[name] = given[name]
                elif equals:
                    self._globals[name] = self._expand(default, self._globals, each).text

    def _add(self, instruction: Instruction) -> None:
        base, name = instruction.arguments[0], _alias(instruction)
        text = self._expand(base, self._globals, instruction).text
        if not text:
            raise self._error(instruction.line, f"`{base}` is empty. Give its variable a default, or a --build-arg")
        self._expand(instruction.flag("platform"), self._globals, instruction)
        stage = _Stage(len(self._stages), text, instruction)
        if familiar(name) in self._contexts:
            stage.context = familiar(name)
        else:
            # A stage's name counts in lower case alone, unlike with COPY --from (dispatchStates.addState).
            stage.parent = self._by_name.get(text)
            if not stage.parent and familiar(text) in self._contexts:
                stage.parent = self._place(text, instruction)
            if stage.parent:
                stage.instructions += (each.trigger for each in stage.parent.instructions if each.trigger)
        if name:
            self._by_name[name] = stage
        self._stages.append(stage)

    def _place(self, name: str, instruction: Instruction) -> _Stage:
        """Return what a name means: a stage, a --build-context or an image."""
        if instruction.name == "COPY" and name.isdecimal():
            if int(name) >= len(self._stages):
                raise self._error(instruction.line, f"there is no stage {name}")
            return self._stages[int(name)]
        if stage := self._by_name.get(name.lower()):
            return stage
        key = familiar(name)
        if key not in self._places:
            self._places[key] = _Stage(-1, name, instruction)
            self._places[key].context = key if key in self._contexts else ""
        return self._places[key]

    def _target(self) -> _Stage:
        if not self._options.target:
            return self._stages[-1]
        stage = self._by_name.get(self._options.target.lower())
        if not stage:
            known = f"It has {', '.join(self._by_name)}" if self._by_name else "None of its stages has a name"
            raise DockerfileError(f"{self._file.name} has no stage {self._options.target}. {known}")
        return stage

    def _origins(self, instruction: Instruction) -> Iterator[str]:
        """Yield the names of the stages, images and contexts that an instruction copies from or mounts."""
        advice = "can have no variables. Begin a stage with that image, and give the stage a name"
        if instruction.name == "COPY" and (name := instruction.flag("from")):
            if self._expand(name, {}, instruction).text != name:
                raise self._error(instruction.line, f"--from {advice}")
            yield name
        if instruction.name == "RUN":
            for mount in self._mounts(instruction):
                name = mount.get("from", "")
                if "$" in name[:-1]:
                    raise self._error(instruction.line, f"from= {advice}")
                if name:
                    yield name

    def _used(self, target: _Stage) -> set[_Stage]:
        used: set[_Stage] = set()
        waiting = [target]
        while waiting:
            stage = waiting.pop()
            if stage not in used:
                used.add(stage)
                waiting += [*stage.needs, stage.parent] if stage.parent else stage.needs
        return used

    def _image(self, place: _Stage) -> str:
        """Return the image that a stage begins with; empty: it begins with none, or with another stage."""
        if place.context:
            kind, _, image = self._contexts[place.context].partition("docker-image://")
            return "" if kind else image
        return "" if place.parent or place.base == _NOTHING else place.base

    # -- what a stage copies

    def _evaluate(self, stage: _Stage, is_used: bool) -> None:
        if stage.parent:
            stage.variables = dict(stage.parent.variables)
            if stage.parent.context:
                stage.copies.append(Copied(stage.origin, (EVERYTHING,), stage.parent.context))
        for each in stage.instructions:
            try:
                stage.copies += self._copied(each, stage)
            except DockerfileError:
                if is_used:
                    raise

    def _copied(self, instruction: Instruction, stage: _Stage) -> Iterable[Copied]:
        if instruction.name in ("ADD", "COPY"):
            return self._copied_by_name(instruction, stage)
        if instruction.name == "RUN":
            return self._mounted(instruction, stage)
        if instruction.name in ("ARG", "ENV"):
            self._set(instruction, stage)
        return ()

    def _set(self, instruction: Instruction, stage: _Stage) -> None:
        is_arg, given = instruction.name == "ARG", self._options.build_args
        for argument in instruction.arguments:
            name, equals, text = argument.partition("=")
            if is_arg and name in given:
                stage.variables[name] = given[name]
            elif equals:
                value = self._expand(text, stage.variables, instruction)
                name = name if is_arg else self._expand(name, stage.variables, instruction).text
                stage.variables[name] = value.text
                if value.unset and stage.has_foreign_base:
                    del stage.variables[name]  # what uses it is unknown too
            elif name in self._globals:
                stage.variables[name] = self._globals[name]

    def _context_of(self, name: str, instruction: Instruction, stage: _Stage) -> str | None:
        """Return the context that an instruction takes something from; None: it takes it from a stage or an image."""
        if not name:
            return ""
        place = self._place(name, instruction)
        if place.number >= stage.number:
            raise self._error(instruction.line, f"the stage {name} must come before the stage that copies from it")
        return place.context or None

    def _copied_by_name(self, instruction: Instruction, stage: _Stage) -> Iterator[Copied]:
        context = self._context_of(instruction.flag("from"), instruction, stage)
        expanded = [self._expand(source, stage.variables, instruction) for source in instruction.sources]
        unknown = frozenset(name for each in expanded for name in each.unset if stage.has_foreign_base)
        paths = tuple(in_context(each.text) for each in expanded if not each.text.startswith(_ADDRESSES))
        if paths and context is not None:
            yield Copied(instruction, (EVERYTHING,) if unknown else paths, context, unknown)

    def _mounted(self, instruction: Instruction, stage: _Stage) -> Iterator[Copied]:
        for mount in self._mounts(instruction):
            values = {key: self._expand(value, stage.variables, instruction) for key, value in mount.items()}
            kind = values["type"].text.lower() if "type" in values else "bind"
            if kind not in _MOUNTS:
                raise self._error(instruction.line, f"--mount has no type {kind}. It has {', '.join(_MOUNTS)}")
            name = mount.get("from", "")
            context = self._context_of(name, instruction, stage)
            # BuildKit counts a tmpfs without from= as a mount of the whole context (dispatchRunMounts).
            if context is None or not (name or kind in ("bind", "tmpfs")):
                continue
            source = values.get("source") or values.get("src") or words.expand("", {})
            unknown = source.unset if stage.has_foreign_base else frozenset()
            yield Copied(instruction, (EVERYTHING if unknown else in_context(source.text),), context, unknown)

    def _mounts(self, instruction: Instruction) -> Iterator[dict[str, str]]:
        for flag, text in instruction.flags:
            if flag == "mount":
                pairs = (field.partition("=") for field in next(csv.reader([text]), []))
                mount = {key.lower(): value for key, _, value in pairs}
                if wrong := [key for key in mount if key not in _MOUNT_KEYS]:
                    raise self._error(instruction.line, f"--mount has no key {wrong[0] or text}")
                yield mount


def _alias(instruction: Instruction) -> str:
    """Return the name that a FROM gives its stage; empty if it gives none."""
    return instruction.arguments[2].lower() if len(instruction.arguments) == 3 else ""


def in_context(source: str) -> str:
    """Return the path from the top of a context that a source of COPY means.

    >>> in_context("./a/"), in_context("/../b"), in_context(".")
    ('a', 'b', '')
    """
    return clean("/" + source)[1:]


def _platform_args(prefix: str, name: str) -> dict[str, str]:
    system, architecture, variant = [*name.split("/"), "", ""][:3]
    return {
        f"{prefix}PLATFORM": name,
        f"{prefix}OS": system,
        f"{prefix}OSVERSION": "",
        f"{prefix}ARCH": architecture,
        f"{prefix}VARIANT": variant,
    }
