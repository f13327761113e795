"""Standard output and error that may be closed, full, or read by nobody: a command goes on to its end without them."""

from __future__ import annotations

import errno
import io
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

# As shells report a command that SIGPIPE has ended, which Python ignores.
BROKEN_PIPE = 128 + 13


class Stream(io.FileIO):
    """A descriptor that drops what cannot be written, and keeps the first error."""

    error: OSError | None = None

    def write(self, data: Any, /) -> int:
        try:
            while (written := super().write(data)) is None:  # another process has made it non-blocking
                import select

                select.select([], [self], [])
        except OSError as error:
            self.error = self.error or error
            return len(data)
        return written


def replace() -> Stream:
    """Replace sys.stdin, sys.stdout and sys.stderr by ones that never fail.

    Returns:
        Standard output's descriptor: its `error` says what went wrong.
    """
    # In place of a closed descriptor, the next file that is opened would become standard output, of our children too. Writes
    # to this one fail as on the closed one (gnulib's stdopen does the same).
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDONLY), True)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115 # as long as the program lives
    output = Stream(1, "w", closefd=False)
    sys.stdout = _text(output, sys.stdout)
    sys.stderr = _text(Stream(2, "w", closefd=False), sys.stderr)
    return output


def _text(stream: Stream, former: TextIO | None) -> io.TextIOWrapper:
    encoding = (former and former.encoding) or "utf-8"
    is_error = stream.fileno() == 2
    # Names of files are any bytes.
    return io.TextIOWrapper(
        io.BufferedWriter(stream), encoding, "backslashreplace", line_buffering=is_error or stream.isatty()
    )


def exit_code(output: Stream, code: int, unprinted: int | None = None) -> int:
    """Flush standard output and standard error, and return the exit code.

    Args:
        output: standard output.
        code: the command's.
        unprinted: the code of a command that has failed if it could not print.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    if output.error is None:
        return code
    # systemd's services: the journal may have lost their output, and what counts is what they did (systemd.exec(5)).
    if unprinted is None and "INVOCATION_ID" in os.environ:
        return code
    is_pipe = output.error.errno == errno.EPIPE
    if not is_pipe:
        print(f"bulkhead: standard output cannot be written to: {output.error.strerror}", file=sys.stderr)
    if unprinted is not None:
        return unprinted
    return code or (BROKEN_PIPE if is_pipe else 1)
