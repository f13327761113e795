"""`bulkhead build --bill` and `bulkhead bill`. They need no deployed host.

Where the deploy has been, `bulkhead build --bill` is the guarded build with a bill. Elsewhere it runs docker and makes the bill.
docker's output is read on its way, so it is never a terminal's: BuildKit prints its plain lines.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from bulkhead import config as configuration
from bulkhead import streams
from bulkhead.bill import page, picture, store
from bulkhead.bill.recorder import BillRecorder
from bulkhead.build.arguments import of_options
from bulkhead.build.outcome import NOT_STARTED
from bulkhead.build.progress import say
from bulkhead.config import Config
from bulkhead.errors import PROBLEMS, Problem, in_words
from bulkhead.files import write_output
from bulkhead.storage.space import space_of
from bulkhead.storage.volume import floor_of
from bulkhead.terminal import wants_colour

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from bulkhead.bill.bill import Bill

_COMPARE = "compare"


def build(options: argparse.Namespace) -> int:
    """`bulkhead build --bill`: return the exit code of the build."""
    arguments = of_options(options)
    config = _config()
    recorder = BillRecorder(arguments, options.save, say, _floor(config))
    if config is None:
        code = _run_docker(options, arguments.command, recorder)
    else:
        from bulkhead.build import commands  # what it needs is there on Linux alone

        code = commands.run(config, options, recorder)
    if recorder.has_begun:
        # Until the bill is kept: reading the image can take minutes, and be interrupted.
        with contextlib.suppress(OSError):
            store.note_missing()
        try:
            _show(recorder.finish(code))
        except Exception as error:  # whatever it is, the exit code is that of the build
            why = in_words(error) if isinstance(error, PROBLEMS) else repr(error)
            say(f"there is no bill of this build: {why}")
    return streams.exit_code(recorder.output, code)


def _config() -> Config | None:
    """Return the configuration of this host; None: docker-bulkhead is not deployed here."""
    try:
        return Config.load()
    except Problem:
        if os.path.exists(configuration.PATH):
            raise
        return None


def _floor(config: Config | None) -> int:
    """Return the bytes that the guard keeps free; 0 without a guard, or without its volume, where no build starts."""
    with contextlib.suppress(OSError):
        return floor_of(config.guard_floor, space_of(config.volume_mount).size) if config else 0
    return 0


def _run_docker(options: argparse.Namespace, command: Sequence[str], recorder: BillRecorder) -> int:
    """Run docker where nothing guards it, and return its exit code."""
    needs = [f"--{name}" for name in ("need", "limit", "wait", "snapshot") if getattr(options, name)]
    if needs:
        say(f"{', '.join(needs)}: this works only on a host that docker-bulkhead is deployed to. Nothing was built")
        return NOT_STARTED
    if not shutil.which(command[0]):
        say(f"{command[0]} is not installed")
        return NOT_STARTED
    recorder.begin()
    running: list[subprocess.Popen[bytes]] = []
    is_to_end = False

    def end(*_: object) -> None:
        nonlocal is_to_end
        is_to_end = True
        for process in running:
            process.terminate()

    # From before the start: a signal in between would end this program alone, and docker would go on.
    before = signal.signal(signal.SIGTERM, end)
    try:
        with subprocess.Popen(command, stdout=recorder.streams[1], stderr=recorder.streams[2]) as process:
            running.append(process)
            if is_to_end:
                process.terminate()
            recorder.started()
            while True:
                try:
                    code = process.wait()
                    break
                except KeyboardInterrupt:  # docker got it too, and ends
                    continue
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)  # reading the image can take minutes
        recorder.ended()
    return code if code >= 0 else 128 - code  # as shells report it


def _show(bill: Bill) -> None:
    """Keep a new bill, and show it on standard error: standard output is docker's."""
    try:
        bill = store.keep(bill)
    except OSError as error:
        say(f"the bill could not be kept: {in_words(error)}")
    colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    print(f"\n{page.render(bill, colour, shutil.get_terminal_size().columns)}\n", file=sys.stderr)
    if bill.number:
        say(f"`bulkhead bill {bill.number}` shows this again, `bulkhead gate {bill.number}` holds it to limits")


def run(options: argparse.Namespace) -> int:
    """`bulkhead bill`."""
    if options.list:
        return _list(options)
    if options.bills[:1] == [_COMPARE]:
        if len(options.bills) != 3:
            options.parser.error("compare takes two bills: numbers, images or files")
        return _compare(options, *options.bills[1:])
    if options.svg:
        options.parser.error("--svg needs compare")
    if len(options.bills) > 1:
        options.parser.error(f"it has no argument {' '.join(options.bills[1:])}")
    bill = store.find(options.bills[0] if options.bills else "")
    if options.json:
        print(json.dumps(bill.as_json(), indent=4))
    else:
        print(page.render(bill, wants_colour(), shutil.get_terminal_size().columns))
    return 0


def _list(options: argparse.Namespace) -> int:
    wanted = options.bills[0] if options.bills else ""
    bills = [bill for bill in store.load() if wanted in ("", bill.key, bill.name)]
    if options.json:
        print(json.dumps([bill.as_json() for bill in bills], indent=4))
    else:
        print(page.render_list(bills) if bills else "there is no bill yet")
    return 0


def _compare(options: argparse.Namespace, *wanted: str) -> int:
    bills = store.load()
    first, second = (store.find(each, bills) for each in wanted)
    if options.svg:
        write_output(options.svg, picture.draw(first, second))
    if options.json:
        rows = {row.key: [getattr(bill, row.key) for bill in (first, second)] for row in page.ROWS}
        print(json.dumps({"bills": [first.as_json(), second.as_json()], "figures": rows}, indent=4))
    else:
        print(page.render_comparison(first, second, wants_colour(), shutil.get_terminal_size().columns))
        if options.svg:
            print(f"{options.svg} is written")
    return 0
