"""Run pyinfra's command with the output of a fleet: `scripts/deploy` calls it.

pyinfra prints some lines for each host and operation. Here they are held back: a terminal shows how far the run is, and at
its end there is a line for each host. pyinfra's own arguments follow, and `-v` among them shows its own output too.

    python -m fleet [--json] PYINFRA_ARGUMENTS... INVENTORY deploy.py
"""

from __future__ import annotations

import logging
import os
import sys
import time
from typing import Any, TextIO

import pyinfra.progress
from pyinfra import logger
from pyinfra.api import State
from pyinfra_cli import cli
from pyinfra_cli.main import main as pyinfra_main

from fleet import verdicts
from fleet.record import HostLog, is_dry, split, take_over, verdicts_of
from fleet.speed import spare

_INTERVAL = 0.1  # seconds between two updates of the terminal


class RunProgress:
    """Show the step of the run, and on how many hosts it is done.

    Args:
        stream: a terminal, where one line is rewritten; elsewhere each step gets a line.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.hosts = 0  # of the run
        self._step = ""
        self._done: set[str] = set()
        self._drawn = 0.0

    def begin(self, step: str) -> None:
        """Show the next step."""
        self._step, self._done = step, set()
        if self.stream.isatty():
            self._draw()
        else:
            print(step, file=self.stream, flush=True)

    def done(self, host: str) -> None:
        """Count a host. Of its messages in one step only the first counts."""
        self._done.add(host)
        if self.stream.isatty() and time.monotonic() > self._drawn + _INTERVAL:
            self._draw()

    def end(self) -> None:
        """Clear the terminal's line."""
        if self.stream.isatty():
            print("\r\033[K", end="", file=self.stream, flush=True)

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        count = f"{len(self._done)}/{self.hosts}  " if self.hosts else ""
        width = os.get_terminal_size(self.stream.fileno()).columns or 80  # a terminal without a size
        print(f"\r\033[K{f'{count}{self._step}'[: width - 1]}", end="", file=self.stream, flush=True)


class FleetLog(HostLog):
    """Hold back what pyinfra logs for each host, remember it, and feed the progress.

    Args:
        shows_all: hold nothing back.
    """

    def __init__(self, progress: RunProgress, *, shows_all: bool) -> None:
        super().__init__()
        self.progress = progress
        self.shows_all = shows_all
        self.unmatched: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        super().filter(record)
        host, message = split(record)
        _, is_unmatched, pattern = message.partition("No host matches found for --limit pattern: ")
        if is_unmatched:
            self.unmatched.append(pattern)
            return False
        if self.shows_all:
            return True
        if host:
            self.progress.done(host)
        elif record.levelno == logging.INFO and message.startswith("--> "):
            step = message.removeprefix("--> ").removeprefix("Starting operation: ").strip()
            if step != "Results:":
                self.progress.begin(step)
        return not host and record.levelno >= logging.WARNING


class Fleet:
    """A run of pyinfra's command, without what it prints and asks.

    Args:
        inventory: as on the command line.
        shows_all: show pyinfra's own output too.
    """

    def __init__(self, inventory: str, *, shows_all: bool) -> None:
        self.inventory = inventory
        self.state: State | None = None
        self.progress = RunProgress(sys.stderr)
        self.log = FleetLog(self.progress, shows_all=shows_all)
        self._connect_all = cli.connect_all
        cli.connect_all = self.connect_all
        cli.print_run_json = _nothing
        pyinfra.progress.TERMINAL_WIDTH = 0  # its line would list every host, anew for each that is done
        logger.addFilter(self.log)

    def connect_all(self, state: State) -> None:
        """Connect to the hosts, unless there is none.

        Raises:
            SystemExit: a limit matches no host, or the inventory has none. pyinfra itself ends with 0 then.
        """
        if self.log.unmatched:
            limits = ", ".join(f"--limit {one}" for one in self.log.unmatched)
            sys.exit(f"scripts/deploy: no host of {self.inventory} matches {limits}. Nothing was changed")
        hosts = state.limit_hosts if state.limit_hosts is not None else list(state.inventory)
        if not hosts:
            sys.exit(f"scripts/deploy: there is no host in {self.inventory}. Nothing was changed")
        self.state, self.progress.hosts = state, len(hosts)
        take_over(state)
        self._connect_all(state)

    def run(self, arguments: list[str]) -> int | str | None:
        """Run pyinfra. Return how it exits: a number, or a message."""
        # With --json pyinfra prints no tables and never waits for Enter.
        sys.argv = ["pyinfra", "--json", *arguments]
        try:
            pyinfra_main()
        except SystemExit as ended:
            return ended.code
        finally:
            self.progress.end()
        return 0

    def print_verdicts(self, *, as_json: bool, explained: bool) -> int:
        """Print the verdict on each host. Return the exit code that they make.

        Args:
            explained: pyinfra has printed an error. Where no host was examined, that is all there is to say.
        """
        if self.state is None:
            return 0
        dry = is_dry(self.state)
        found = verdicts_of(self.state, self.log)
        if as_json:
            print(verdicts.as_json(found, dry=dry))
        elif not explained or self.state.failed_hosts or any(self.state.ops.values()):
            lines = [*verdicts.host_lines(found, dry=dry), *verdicts.detail_lines(found, dry=dry)]
            print("\n".join([*lines, "", verdicts.summary(found, dry=dry)]))
        return verdicts.exit_code(found)


def _nothing(*_: Any, **_arguments: Any) -> None:
    """Print nothing."""


def main(arguments: list[str]) -> int | str:
    """Run pyinfra with these arguments, and print the verdict on each host."""
    as_json = arguments[0] == "--json"
    arguments = arguments[as_json:]
    spare()
    fleet = Fleet(arguments[-2], shows_all=any(one.startswith("-v") for one in arguments))
    ended = fleet.run(arguments)
    code = fleet.print_verdicts(as_json=as_json, explained=bool(ended))
    return ended or code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
