"""What a command line of Docker's asks for: whether it builds or pulls, and the options that choose its engine. Pure."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

BUILD, PULL = "build", "pull"  # what a client has Docker do; pull includes load and import

DOCKER, COMPOSE, BUILDX = "docker", "docker-compose", "docker-buildx"
CLIENTS = (DOCKER, COMPOSE, BUILDX)
_GROUPS = ("builder", "buildx", "compose", "image")  # commands that have commands
_GROUPS_OF_BUILDX = ("dap", "debug")
_BUILDING = ("build", "b", "bake", "f")  # b and f are buildx's short forms
_PULLING = ("pull", "load", "import")
_BUILDX = {"builder", "buildx"}  # docker builder build is docker buildx build
_LONG = {"-H": "--host", "-c": "--context"}
_CHOOSE_ENGINE = ("--host", "--context", "--config", "--builder")
_TRUE = ("1", "t", "true")  # in any case, as Go reads it

# Options that take the next word. Those before the command: of docker, compose, buildx and its debugger.
VALUED = {
    *("--host", "-H", "--context", "-c", "--config", "--log-level", "-l", "--tlscacert", "--tlscert", "--tlskey"),
    *("--file", "-f", "--project-name", "-p", "--project-directory", "--workdir", "--profile", "--env-file"),
    *("--parallel", "--ansi", "--progress", "--builder", "--invoke", "--on", "--root", "--server-config"),
}
# Those of `compose run`: what follows the service is the container's command line.
_VALUED_BY_RUN = {
    *("--env", "-e", "--env-from-file", "--volume", "-v", "--user", "-u", "--workdir", "-w", "--publish", "-p"),
    *("--name", "--entrypoint", "--label", "-l", "--pull", "--cap-add", "--cap-drop"),
}


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
    program = os.path.basename(words[0]) if words else ""
    if program not in CLIENTS:
        return None
    rest = iter(words[1:])
    path, options = _command(program, rest)
    following = [*rest]
    does = _does(path, following)
    if not does:
        return None
    stays = "compose" in path and path[-1] not in (*_BUILDING, *_PULLING)
    options |= {name: value for name, value in _options(iter(following), {"--builder"}) if name == "--builder"}
    return DockerCommand(program, does, stays, options)


def _without_python(words: list[str]) -> list[str]:
    """Return a command line as it is without the interpreter: the first docker-compose is written in Python."""
    if not words or not os.path.basename(words[0]).startswith("python"):
        return words
    return words[1:] if words[1:2] != ["-u"] else words[2:]


def _command(program: str, following: Iterator[str]) -> tuple[list[str], dict[str, str]]:
    """Return the words of the command, as `["docker", "buildx", "build"]`, and the options among them."""
    path = [program.removeprefix("docker-")]
    options = {}
    for name, value in _options(following, VALUED):
        if (name := _LONG.get(name, name)) in _CHOOSE_ENGINE:
            options[name] = value
        elif not name and value not in path:  # docker starts a plugin with the plugin's name as the first word
            is_group = value in (_GROUPS_OF_BUILDX if _BUILDX & {*path} else _GROUPS)
            path.append(value)
            if not is_group:
                return path, options
    return [], {}


def _does(path: list[str], following: list[str]) -> str:
    command = path[-1] if path else ""
    if command in _BUILDING and ("compose" not in path or command == "build"):
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
                if (name := f"-{letter}") in valued:
                    yield name, word[position:].removeprefix("=") or next(following, "")
                    break
                yield name, ""
        else:
            yield "", word
