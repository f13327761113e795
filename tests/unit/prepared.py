"""A Python that has imported some libraries already, for tests that run a program: to import pyinfra takes longer than most runs.

A process imports them once, and forks for each run. `Prepared.program` takes the place of Python: it has the fork take over its
arguments, directory, environment, standard streams, exit code, and whether Ctrl-C is ignored. Nothing of this project may be
among the libraries: each run imports that itself, as it is then.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import runpy
import signal
import subprocess
import sys
import traceback
from pathlib import Path

_fork, _waitpid = os.fork, os.waitpid  # before gevent replaces them


class Prepared:
    """Such a Python, until the end of the block.

    Args:
        directory: one without a file called python.
        modules: what it imports first.
        python: the interpreter.
    """

    def __init__(self, directory: Path, *modules: str, python: str | Path = sys.executable) -> None:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        line = [python, __file__, *modules]
        self._process = subprocess.Popen(line, env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        self.program = directory / "python"
        self.program.write_text(
            # The fork takes 3 to 5: the shell has others as 0 and 1 for a moment, where it redirects its own commands.
            '#!/bin/sh\nexec 3<&0 4>&1 5>&2\n/usr/bin/mkfifo "$0.$$" || exit\n'
            f"echo $$ >/proc/{self._process.pid}/fd/0 || exit\n"
            'read -r code <"$0.$$"\nexit "${code:-255}"\n'
        )
        self.program.chmod(0o755)

    def __enter__(self) -> Prepared:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()


def serve(modules: list[str]) -> None:
    """Fork for each program whose process number comes from standard input, until its end."""
    for name in modules:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # otherwise each fork would copy all that the garbage collector touches
    children = []
    with open(0, "rb", buffering=0, closefd=False) as requests:
        for line in requests:
            if child := _fork():
                children.append(child)
            else:
                take_over(int(line))
    for child in children:
        os.kill(child, signal.SIGKILL)  # one that hangs
        _waitpid(child, 0)


def take_over(pid: int) -> None:
    """Run what a program was called for, and end with it."""
    process = Path("/proc", str(pid))
    _, program, *arguments = (process / "cmdline").read_text().split("\0")[:-1]
    os.chdir(process / "cwd")
    os.environ.clear()
    os.environ.update(line.split("=", 1) for line in (process / "environ").read_text().split("\0")[:-1])
    for stream in range(3):
        os.dup2(os.open(process / "fd" / str(3 + stream), os.O_WRONLY | os.O_APPEND if stream else os.O_RDONLY), stream)
    ended = os.open(fifo := f"{program}.{pid}", os.O_WRONLY)
    os.unlink(fifo)
    # Ctrl-C does what it does to the program, not to the Python that was prepared, which may be in the background of a shell.
    ignored = int((process / "status").read_text().partition("SigIgn:")[2].split()[0], base=16)
    signal.signal(signal.SIGINT, signal.SIG_IGN if ignored & 1 << signal.SIGINT - 1 else signal.default_int_handler)
    sys.dont_write_bytecode = "PYTHONDONTWRITEBYTECODE" in os.environ
    code: object = 1
    try:
        run(arguments)
        code = 0
    except SystemExit as ended_by:
        code = ended_by.code
        if not isinstance(code, int | None):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()  # what Python itself does before it flushes
        sys.stdout.flush()
        os.write(ended, b"%d\n" % (code or 0))
        os._exit(0)


def run(arguments: list[str]) -> None:
    """Do what Python does with these arguments."""
    named = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    sys.path[0:1] = [os.path.dirname(arguments[0]) or os.getcwd(), *named]
    if arguments[0] == "-u":
        del arguments[0]
    how, *sys.argv = arguments if arguments[0] in ("-c", "-m") else ("", *arguments)
    if how == "-m":
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    elif how == "-c":
        text, sys.argv[0] = sys.argv[0], how
        exec(compile(text, "<string>", "exec"), {"__name__": "__main__"})
    else:
        runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    serve(sys.argv[1:])
