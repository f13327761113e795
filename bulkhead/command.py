"""Run other programs."""

from __future__ import annotations

import os
import select

from bulkhead.errors import Failed

# LVM would write a line for every file descriptor that it inherits, to standard error as if it were an error.
_ENVIRONMENT = {"LVM_SUPPRESS_FD_WARNINGS": "1"}


def output_of(command: list[str], seconds: float) -> str:
    """Return what a command prints, whether it succeeds or not.

    subprocess would do the same, but its import alone costs half as much as Python's start.

    Args:
        seconds: that the command may take.

    Raises:
        OSError: the program is not installed, does not end in time, or prints only errors.
    """
    name = command[0]
    # cron looks for programs in /usr/bin and /bin only.
    paths = [f"{directory}/{name}" for directory in (*os.get_exec_path(), "/usr/sbin", "/sbin")]
    path = next((path for path in paths if os.access(path, os.X_OK)), paths[-1])
    environment = {**os.environ, **_ENVIRONMENT, "LC_ALL": "C"}
    with open(os.memfd_create("output"), "w+b") as output, open(os.memfd_create("errors"), "w+b") as errors:
        streams = [(os.POSIX_SPAWN_DUP2, output.fileno(), 1), (os.POSIX_SPAWN_DUP2, errors.fileno(), 2)]
        process = os.posix_spawn(path, command, environment, file_actions=streams)
        with open(os.pidfd_open(process), "rb") as end:
            if not select.select([end], [], [], seconds)[0]:
                # It is not waited for: a process that waits for a dead device does not end even so.
                import signal  # slow to import, and rarely needed

                os.kill(process, signal.SIGKILL)
                raise TimeoutError(f"`{name}` did not end within {seconds:g} s")
        os.waitpid(process, 0)
        for stream in (output, errors):
            stream.seek(0)
        printed, complaints = output.read().decode(errors="replace"), errors.read().decode(errors="replace")
    if complaints and not printed:
        raise OSError(f"`{name}` says: {' '.join(complaints.split())[:300]}")
    return printed


def run(*command: str, timeout: float | None = None) -> str:
    """Return what a command prints.

    Args:
        timeout: seconds that it may take.

    Raises:
        Failed: the command fails, or does not end in time. The message has its error.
    """
    import subprocess  # slow to import, and a check has no use for it

    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            check=False,
            timeout=timeout,
            env={**os.environ, **_ENVIRONMENT},
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"`{' '.join(command[:3])}` did not end within {timeout:.0f} s") from None
    if done.returncode:
        raise Failed(f"`{' '.join(command[:3])}` failed: {(done.stderr or done.stdout).strip()[-500:]}")
    return done.stdout
