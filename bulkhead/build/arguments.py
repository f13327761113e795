"""Read the command line of a build: the arguments of `docker build`, or a command of docker's that builds."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple

from bulkhead.docker import command_lines
from bulkhead.docker.redaction import without_secrets
from bulkhead.dockerfile.context import dockerfile_of
from bulkhead.dockerfile.stages import Options, assigned
from bulkhead.errors import Problem

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from bulkhead.docker.command_lines import SplitLine

# Options of `docker build`, `docker buildx bake` and `docker compose build` without a value; all others take one.
_FLAGS = {
    *("check", "compress", "debug", "disable-content-trust", "force-rm", "help", "load", "no-cache", "pull", "push"),
    *("quiet", "rm", "squash", "stream", "print", "with-dependencies", "no-rm", "parallel", "dry-run", "detach"),
    *("list-targets", "list-variables"),
}

_LETTERS = {"t": "tag", "f": "file", "q": "quiet", "D": "debug", "h": "help"}
_BAKES = ("bake", "f")
_REMOTE = re.compile(r"[a-z+-]+://|git@|github\.com/")


class Arguments(NamedTuple):
    """The command line of a build, and what of it matters to the space that it needs."""

    command: tuple[str, ...] = ()  # what runs
    kind: str = "build"  # or "bake" or "compose"
    tag: str = ""  # the first one
    file: str = ""  # as given with --file
    context: str = ""
    targets: tuple[str, ...] = ()  # of bake, or services of compose
    directory: str = ""  # of a compose project
    progress: str = ""
    options: Options = Options()  # that the Dockerfile is read with

    @classmethod
    def of(cls, words: Sequence[str]) -> Arguments:
        """Read what stands after `--` on the command line of `bulkhead build`.

        Raises:
            Problem: it is a command of docker's that does more than build.
        """
        command = _command(words)
        kind = _kind(command.path) if command else "build"
        options, places = _options(command.following if command else words)
        general = _by_name(command.options) if command else {}
        given = {**general, **options}
        is_build = kind == "build"
        return cls(
            command=tuple(words) if command else ("docker", "build", *words),
            kind=kind,
            tag=options.get("tag", [""])[0],
            file=given.get("file", [""])[-1],
            context=without_secrets(places[-1]) if places and is_build else "",
            targets=() if is_build else tuple(map(without_secrets, places)),
            directory=general.get("project-directory", general.get("workdir", [""]))[-1],
            progress="quiet" if "quiet" in options else given.get("progress", [""])[-1],
            options=Options(
                build_args=assigned(options.get("build-arg", [])),
                target=options.get("target", [""])[-1],
                contexts=assigned(options.get("build-context", [])),
                platform=options.get("platform", [""])[-1].partition(",")[0],
            ),
        )

    @property
    def name(self) -> str:
        """Return what people call this build."""
        return self.tag or self.context or self.key

    @property
    def is_local(self) -> bool:
        """Return whether the context is a directory of this host."""
        return self.context not in ("", "-") and (os.path.isdir(self.context) or not _REMOTE.match(self.context))

    @property
    def dockerfile(self) -> str:
        """Return the path of the Dockerfile; empty if it is not a file of this host."""
        if self.file == "-" or not self.is_local:
            return ""
        return dockerfile_of(self.context, self.file)

    @property
    def key(self) -> str:
        """Return the key that its builds are remembered by; empty if there is neither a tag nor a context.

        >>> Arguments.of(["-t", "registry:5000/app:1.2", "."]).key
        'registry:5000/app'
        >>> Arguments.of("docker compose --project-directory /srv/app build web".split()).key
        'compose build web in /srv/app'
        """
        if self.kind != "build":
            command = "compose build" if self.kind == "compose" else self.kind
            file = ["-f", without_secrets(self.file)] if self.file else []
            return " ".join([command, *file, *self.targets, "in", os.path.abspath(self.directory)])
        if self.tag:
            path, slash, name = self.tag.rpartition("/")
            return path + slash + name.partition(":")[0]
        if self.is_local:
            return f"{os.path.abspath(self.context)} {os.path.abspath(self.dockerfile or self.file)}"
        return self.context if self.context != "-" else ""


def of_options(options: argparse.Namespace) -> Arguments:
    """Return what follows `--` on the command line. End the program with a message if it does more than build."""
    try:
        return Arguments.of(options.arguments)
    except Problem as problem:
        options.parser.error(str(problem))
        raise


def _command(words: Sequence[str]) -> SplitLine | None:
    """Return a command of docker's that builds, split; None if the words are arguments of `docker build`.

    Raises:
        Problem: it does more than build, or has an option before the command that is not known.
    """
    if len(words) < 2 or not command_lines.is_client(words):
        return None
    command = command_lines.split(words)
    if not command.unknown and command_lines.is_build(command.path):
        return command
    has_only_options = not command.path or (command.unknown and len(command.path) == 1)  # whose value it then is
    if words[1].startswith("-") and has_only_options:
        return None  # `docker build docker -t app`: the context is called docker
    if command.unknown:
        raise Problem(
            f"the option {command.unknown} before the command is not known, and may take the next word: write "
            f"{command.unknown}=VALUE, or {command.unknown}=true if it takes none"
        )
    raise Problem(
        f"`{' '.join(words[:3])}` does more than build. What can be guarded: docker build, docker buildx build, docker buildx "
        "bake, docker compose build"
    )


def _kind(path: Sequence[str]) -> str:
    if "compose" in path:
        return "compose"
    return "bake" if path[-1] in _BAKES else "build"


def _by_name(options: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    """Return the values of options by their names, without the dashes."""
    found: dict[str, list[str]] = {}
    for name, value in options:
        found.setdefault(name.lstrip("-"), []).append(value)
    return found


def _options(words: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Return the options with their values, and the other words."""
    options: dict[str, list[str]] = {}
    places: list[str] = []
    following = iter(words)
    for word in following:
        if word == "--":
            places += following
        elif word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            if not equals and name not in _FLAGS:
                value = next(following, "")
            options.setdefault(name, []).append(value)
        elif word.startswith("-") and word != "-":
            letters = word[1:]
            while letters:
                name, letters = _LETTERS.get(letters[0], letters[0]), letters[1:]
                if name not in _FLAGS:
                    options.setdefault(name, []).append(letters.removeprefix("=") or next(following, ""))
                    break
                options.setdefault(name, []).append("")
        else:
            places.append(word)
    return options, places
