"""What a command line of Docker's asks for: its command, whether that builds or pulls, and the options before it. Pure."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

BUILD, PULL = "build", "pull"  # what a client has Docker do; pull includes load and import

DOCKER, COMPOSE, BUILDX = "docker", "docker-compose", "docker-buildx"
CLIENTS = (DOCKER, COMPOSE, BUILDX)
_GROUPS = ("builder", "buildx", "compose", "image")  # commands that have commands
_GROUPS_OF_BUILDX = ("dap", "debug")
_BUILDING = ("build", "b", "bake", "f")  # b and f are buildx's short forms
_PULLING = ("pull", "load", "import")
_BUILDX = {"builder", "buildx"}  # docker builder build is docker buildx build
_LONG = {"-H": "--host", "-c": "--context", "-f": "--file", "-p": "--project-name"}
_CHOOSE_ENGINE = ("--host", "--context", "--config", "--builder")
_TRUE = ("1", "t", "true")  # in any case, as Go reads it

# The options before the command: of docker, of compose (also hidden ones, and those of the first docker-compose), of buildx
# and its debugger (also of earlier versions). From docker/cli, cli/flags/options.go and cli/cobra.go; docker/compose,
# cmd/compose/compose.go; docker/buildx, commands/root.go and commands/debug.go. First those that take the next word.
_VALUED = {
    *("--host", "-H", "--context", "-c", "--config", "--log-level", "-l", "--tlscacert", "--tlscert", "--tlskey"),
    *("--file", "-f", "--project-name", "-p", "--project-directory", "--workdir", "--profile", "--env-file"),
    *("--parallel", "--ansi", "--progress", "--insecure-registry"),
    *("--builder", "--invoke", "--on", "--root", "--server-config"),
}
_FLAGS = {
    *("--debug", "-D", "--tls", "--tlsverify", "--help", "-h", "--version", "-v"),
    *("--all-resources", "--compatibility", "--dry-run", "--no-ansi", "--verbose", "--skip-hostname-check"),
    "--detach",
}
# Options of `compose run` that take the next word: what follows the service is the container's command line.
_VALUED_BY_RUN = {
    *("--env", "-e", "--env-from-file", "--volume", "-v", "--user", "-u", "--workdir", "-w", "--publish", "-p"),
    *("--name", "--entrypoint", "--label", "-l", "--pull", "--cap-add", "--cap-drop"),
}


class SplitLine(NamedTuple):
    """A command line of Docker's, split at its command."""

    path: tuple[str, ...]  # the command, after those that it belongs to: ("buildx", "build"). Empty: there is none
    options: tuple[tuple[str, str], ...]  # before the command: long names and values
    unknown: str  # the first option before the command that may take the next word: it is not in the table
    following: tuple[str, ...]  # after the command


class DockerCommand(NamedTuple):
    """A command line of Docker's that builds or pulls."""

    program: str  # "docker", "docker-compose" or "docker-buildx"
    does: str  # BUILD or PULL
    # Compose starts containers after the build, and stays with them. Interrupted, it can stop those that run already.
    stays: bool
    options: Mapping[str, str]  # that choose the engine: --host, --context, --config, --builder


def parse(words: list[str]) -> DockerCommand | None:
    """Return what a command line has Docker do; None if it neither builds nor pulls, or is not Docker's.

    >>> parse("docker --host tcp://h buildx --builder b build .".split()).options
    {'--host': 'tcp://h', '--builder': 'b'}
    >>> parse("docker stats build".split()) is None
    True
    """
    words = _without_python(words)
    if not is_client(words):
        return None
    path, before, _, following = split(words)
    does = _does(path, following)
    if not does:
        return None
    stays = "compose" in path and path[-1] not in (*_BUILDING, *_PULLING)
    options = {name: value for name, value in before if name in _CHOOSE_ENGINE}
    options |= {name: value for name, value in _options(iter(following), {"--builder"}) if name == "--builder"}
    return DockerCommand(os.path.basename(words[0]), does, stays, options)


def is_client(words: Sequence[str]) -> bool:
    """Return whether a command line is one of docker, of docker-compose or of docker-buildx."""
    return bool(words) and os.path.basename(words[0]) in CLIENTS


def split(words: Sequence[str]) -> SplitLine:
    """Split a command line of Docker's at its command.

    >>> split("docker --debug buildx --builder b build .".split())[:3]
    (('buildx', 'build'), (('--debug', ''), ('--builder', 'b')), '')
    """
    program, following = os.path.basename(words[0]), iter(words[1:])
    path = [program.removeprefix("docker-")] if program != DOCKER else []
    options, unknown = [], ""
    for name, value in _options(following, _VALUED):
        if name:
            options.append((_LONG.get(name, name), value))
            unknown = unknown or ("" if value or name in _VALUED | _FLAGS else name)
        elif value not in path:  # docker starts a plugin with the plugin's name as the first word
            is_group = value in (_GROUPS_OF_BUILDX if _BUILDX & {*path} else _GROUPS)
            path.append(value)
            if not is_group:
                return SplitLine(tuple(path), tuple(options), unknown, tuple(following))
    return SplitLine((), tuple(options), unknown, ())


def is_build(path: Sequence[str]) -> bool:
    """Return whether a command, as `split` returns it, builds and does nothing else."""
    return bool(path) and path[-1] in _BUILDING and ("compose" not in path or path[-1] == "build")


def _without_python(words: list[str]) -> list[str]:
    """Return a command line as it is without the interpreter: the first docker-compose is written in Python."""
    if not words or not os.path.basename(words[0]).startswith("python"):
        return words
    return words[1:] if words[1:2] != ["-u"] else words[2:]


def _does(path: Sequence[str], following: Sequence[str]) -> str:
    command = path[-1] if path else ""
    if is_build(path):
        return BUILD
    if command in _PULLING and not _BUILDX & {*path}:
        return PULL
    if "compose" not in path:
        return ""
    if command == "watch":
        return BUILD
    if command in ("up", "create", "run"):
        given = {}
        for name, value in _options(iter(following), _VALUED_BY_RUN if command == "run" else set()):
            if not name and command == "run":
                break
            given[name] = value.lower() in ("", *_TRUE)
        if any(given.get(name) for name in ("--build", "--watch", "-w")):  # -w of `run` has a directory for a value
            return BUILD
    return ""


def _options(following: Iterator[str], valued: set[str]) -> Iterator[tuple[str, str]]:
    """Yield the options of a command line with their values, and its other words with "" for a name.

    Args:
        valued: the options that take the next word if they have no value of their own.
    """
    for word in following:
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            yield name, value if equals or name not in valued else next(following, "")
        elif word.startswith("-") and word != "-":
            for position, letter in enumerate(word[1:], 2):
                name, rest = f"-{letter}", word[position:]
                if rest.startswith("="):
                    yield name, rest[1:]
                    break
                if name in valued:
                    yield name, rest or next(following, "")
                    break
                yield name, ""
        else:
            yield "", word
