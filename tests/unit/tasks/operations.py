"""A host as an operation sees it, what the operation does there, and stand-ins for the programs that its commands call."""

from __future__ import annotations

import base64
import itertools
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pyinfra.api import FactBase, StringCommand
from pyinfra.context import ctx_host
from pyinfra_testing.util import get_command_string

from pyinfra_lvm.collection import Answer, Answers
from tasks.support import gpu


@dataclass(eq=False)
class OperationHost:
    """As much of a host as an operation sees. Of facts that are not given it has the default."""

    facts: dict[type[FactBase[Any]], Any] = field(default_factory=dict)
    name: str = "web-1"
    connector: Any = None
    asked: list[type[FactBase[Any]]] = field(default_factory=list)
    logged: list[str] = field(default_factory=list)
    noops: list[str] = field(default_factory=list)
    state: Any = field(default_factory=lambda: SimpleNamespace(is_executing=True))
    events: list[str] = field(default_factory=list)  # log messages and commands, in their order

    def __post_init__(self) -> None:
        # Forget what was asked of an earlier host of this name, and what was logged on it.
        gpu._running.clear()
        gpu._warned.clear()

    def get_fact(self, fact: type[FactBase[Any]], **arguments: Any) -> Any:
        self.asked.append(fact)
        if fact is Answers:
            return [GivenAnswer(question, [], self) for question in arguments["questions"]]
        return self.given(fact)

    def given(self, fact: type[FactBase[Any]]) -> Any:
        return self.facts[fact] if fact in self.facts else fact().default()

    def log(self, message: str, **_: Any) -> None:
        self.logged.append(message)
        self.events.append(message)

    log_styled = log

    def noop(self, description: str) -> None:
        self.noops.append(description)


@dataclass(frozen=True)
class GivenAnswer(Answer):
    """An answer that is no output of a command, but a fact that is given."""

    host: OperationHost

    def value(self, arguments: dict[str, Any]) -> Any:
        del arguments
        return self.host.given(self.question.fact)


def performed(operation: Callable[..., Any], host: OperationHost, **arguments: Any) -> list[StringCommand]:
    """The commands of an operation on a host."""
    commands = []
    with ctx_host.use(host):
        for command in operation._inner(**arguments):  # type: ignore[attr-defined]
            commands.append(command)
            host.events.append(get_command_string(command) if isinstance(command, StringCommand) else repr(command))
    assert bool(commands) != bool(host.noops), "an operation either does something or says why not"
    return commands


def commands(operation: Callable[..., Any], host: OperationHost, **arguments: Any) -> list[str]:
    """The same as text."""
    return [get_command_string(command) for command in performed(operation, host, **arguments)]


def contents_sent(command: StringCommand) -> list[str]:
    """The contents of files on a command's standard input (`tasks.support.files.sent`)."""
    return [base64.b64decode(line).decode() for line in command.connector_arguments["_stdin"].splitlines()]


def stand_in(directory: Path, name: str, script: str) -> None:
    """A program for `shell`."""
    (directory / name).write_text(f"#!/bin/sh\n{script}\n")
    (directory / name).chmod(0o755)


def shell(command: str, directory: Path, *, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command, with the programs of a directory before the others. What apt says is kept there, not in /run."""
    environment = {"PATH": f"{directory}:{os.environ['PATH']}"} | environment
    line = ["sh", "-c", command.replace("/run/apt-messages", f"{directory}/apt-messages")]
    # In a session of its own, which `noted` ends at a cut.
    return subprocess.run(
        line, env=environment, input=stdin, capture_output=True, text=True, check=False, start_new_session=True
    )


def as_functions(directory: Path) -> str:
    """Return the stand-ins of a directory once more, as functions: for a script that calls them so often that programs take long."""
    scripts = {path.name: path.read_text() for path in directory.iterdir() if path.name.isidentifier()}
    # A function has the caller's options and variables, and a program has not: `noting` counts in n.
    return "".join(
        f"{name}() (\nset +eu; n=\n{script}\n)\n"
        for name, script in scripts.items()
        if script.startswith("#!/bin/sh\n")
    )


# The system's `sync` takes its time, and no unit test looks at a disk.
_SYNC = 'for path; do case $path in -*) ;; *) [ -e "$path" ] || exit 1 ;; esac; done'


def noting(directory: Path, name: str) -> str:
    """Shell code with which a stand-in notes its call in ``directory``/calls.

    The call of the number in $CUT is the last: the power is cut before the program has done anything. The shell code in
    $BEFORE runs at that moment of each call, with its number in $n.
    """
    return (
        f'echo "{name} $*" >>{directory}/calls\n'
        f'[ -z "$CUT$BEFORE" ] || while read -r _; do n=$((n + 1)); done <{directory}/calls\n'
        '[ -z "$CUT" ] || [ "$n" -ne "$CUT" ] || kill -9 0\n'
        'eval "$BEFORE"\n'
    )


def noted(directory: Path, *programs: str, before: str = "") -> None:
    """Programs for `shell` that note each call, and then do what the system's programs do.

    Args:
        before: shell code that runs before each call.
    """
    for name in programs:
        does = _SYNC if name == "sync" else f'exec {shutil.which(name)} "$@"'
        stand_in(directory, name, f"{noting(directory, name)}{before}\n{does}")


def after_cuts(top: Path, run: Callable[..., subprocess.CompletedProcess[str]]) -> Iterator[int]:
    """Put a directory back as a cut at each of the `noted` calls of a run leaves it, and yield the number of the call.

    Of calls between which no file changes, which all leave the same, the last is yielded.

    Args:
        top: the directory. Programs may be in its `bin`.
        run: takes shell code for `noting` as ``BEFORE``, and comes to its end.
    """
    copying = f"{shutil.which('cp')} -a {top} {top.parent}/$n"  # the system's: that of `noted` would note itself
    assert run(BEFORE=copying).returncode == 0
    left: dict[tuple[object, ...], int] = {}
    for number in itertools.takewhile(lambda number: (top.parent / str(number)).exists(), itertools.count(1)):
        copy = top.parent / str(number)
        found = sorted((str(path.relative_to(copy)), path.lstat()) for path in copy.rglob("*"))
        state = tuple((name, it.st_mode, it.st_mtime_ns) for name, it in found if not name.startswith("bin"))
        left[state] = number
    for number in left.values():
        shutil.rmtree(top)
        (top.parent / str(number)).rename(top)
        yield number


def calls(directory: Path) -> list[str]:
    """The calls that `noted` programs have noted, which are forgotten."""
    found = (directory / "calls").read_text().splitlines()
    (directory / "calls").unlink()
    return found
