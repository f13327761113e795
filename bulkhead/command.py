"""Run other programs."""

from __future__ import annotations

import os
import select
import signal

from bulkhead.errors import Failed


def output_of(command: list[str], seconds: float) -> str:
    """What a command prints, whether or not it succeeds.

    As subprocess would do it, whose import alone costs half as much as Python's start.

    Raises:
        OSError: it is not there, does not end in time, or prints nothing but an error.
    """
    name = command[0]
    # cron looks for programs in /usr/bin and /bin only.
    paths = [f"{directory}/{name}" for directory in (*os.get_exec_path(), "/usr/sbin", "/sbin")]
    path = next((path for path in paths if os.access(path, os.X_OK)), paths[-1])
    with open(os.memfd_create("output"), "w+b") as output, open(os.memfd_create("errors"), "w+b") as errors:
        streams = [(os.POSIX_SPAWN_DUP2, output.fileno(), 1), (os.POSIX_SPAWN_DUP2, errors.fileno(), 2)]
        process = os.posix_spawn(path, command, {**os.environ, "LC_ALL": "C"}, file_actions=streams)
        with open(os.pidfd_open(process), "rb") as end:
            if not select.select([end], [], [], seconds)[0]:
                os.kill(process, signal.SIGKILL)  # and not waited for: what waits for a dead device does not end by it
                raise TimeoutError(f"`{name}` did not end within {seconds:g} s")
        os.waitpid(process, 0)
        for stream in (output, errors):
            stream.seek(0)
        printed, wrong = output.read().decode(errors="replace"), errors.read().decode(errors="replace")
    if wrong and not printed:
        raise OSError(f"`{name}` says: {' '.join(wrong.split())[:300]}")
    return printed


def run(*command: str, timeout: float | None = None) -> str:
    """What a command prints.

    Args:
        timeout: seconds that it may take.

    Raises:
        Failed: it did not succeed; with what it said.
    """
    import subprocess  # slow to import, and a check has no use for it

    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="surrogateescape", check=False, timeout=timeout
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"`{' '.join(command[:3])}` did not end within {timeout:.0f} s") from None
    if done.returncode:
        raise Failed(f"`{' '.join(command[:3])}` failed: {(done.stderr or done.stdout).strip()[-500:]}")
    return done.stdout
